"""Exercises of notebook 01: verdicts, players, turns, and a task of your own."""

import random
from collections import Counter
from fractions import Fraction

from sftrl_lib import verify_formula
from sftrl_lib.tasks.base import Task, Verdict

from .. import contract
from ..exercise import Case, exercise

NOTEBOOK = "01_environments"


@exercise(
    "Can this hand be solved?",
    "hard",
    20,
    statement="""
        Decide exactly whether some numbers can make a target with + - * / and brackets, each used
        once. Floats would lose 8/(3-8/3), so calculate with `Fraction`.
    """,
    hint="""
        Take any two of the numbers, replace them by what they can make together, and ask the same
        question of the shorter list. Subtraction and division have two orders.
    """,
    because="The library's solver also lists all solutions, each written once.",
    cases=[
        Case("brackets and fractions", ([3, 3, 8, 8],), "8/(3-8/3): calculate with fractions."),
        Case("a fraction on the way", ([1, 5, 5, 5],), "5*(5-1/5)"),
        Case("a division in the middle", ([1, 3, 4, 6],), "6/(1-3/4): try both orders."),
        Case("too small", ([1, 1, 1, 1],), "No formula of four ones makes 24."),
        Case("no way", ([1, 1, 11, 11],), "Each number is used once, and all are used."),
        Case("24 from a part of the hand", ([4, 6, 7, 7],), "All numbers must be used."),
        Case("another target", ([2, 3, 7], 1)),
        Case("zero on the way", ([6, 6, 6, 6], 0), "Do not divide by zero."),
    ],
)
def can_make(numbers: list[int], target: int = 24) -> bool:
    """Whether all the numbers, each once, can make the target."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i != j:
                rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
                made = [a + b, a - b, a * b] + ([Fraction(a) / b] if b else [])
                if any(can_make([*rest, value], target) for value in made):
                    return True
    return False


@exercise(
    "Each card once",
    "easy",
    5,
    statement="""
        A formula must use the number of every card exactly once. Decide whether it does, from the
        numbers that it holds and those that were dealt.
    """,
    hint="Order does not matter, and how often a number occurs does.",
    because="`Counter(said) == Counter(dealt)` is another way to compare two multisets.",
    cases=[
        Case("another order", ([4, 10, 6, 2], [10, 4, 6, 2]), "The order does not matter."),
        Case(
            "a pair used once", ([3, 8], [3, 3, 8, 8]), "A set forgets how often a number occurs."
        ),
        Case("one number twice, another left out", ([3, 3, 3, 8], [3, 3, 8, 8])),
        Case("another number with the same sum", ([1, 5, 8, 10], [2, 4, 8, 10])),
        Case("a pair used as a pair", ([8, 3, 8, 3], [3, 3, 8, 8])),
    ],
)
def each_once(said: list[int], dealt: list[int]) -> bool:
    """Whether `said` holds the dealt numbers, each as often as it was dealt."""
    return sorted(said) == sorted(dealt)


@exercise(
    "The reward is the verdict",
    "medium",
    10,
    statement="""
        Write the paper's reward of one formula: +5 if it is right, -1 if it is legal but has
        another value, -2 if its numbers are not those of the cards, -3 if it is no formula. Only
        the first fault counts, and the most serious comes first.
    """,
    hint="Ask in this order: is it a formula? Are the numbers right? Is the value right?",
    because="""
        The order matters: without it a model could earn +5 by writing a formula that makes 24 from
        numbers of its own choice.
    """,
    cases=[
        Case("right", (24, [10, 4, 6, 2], [2, 4, 6, 10])),
        Case("no formula", (None, [], [2, 4, 6, 10]), "A value of None means that there is none."),
        Case("24 from other numbers", (24, [4, 6], [2, 4, 6, 10]), "Check the numbers first."),
        Case("another value", (22, [10, 4, 6, 2], [2, 4, 6, 10])),
        Case("another value from other numbers", (7, [3, 4], [2, 4, 6, 10])),
        Case("value zero", (0, [1, 1, 1, 1], [1, 1, 1, 1]), "Zero is a value; None is not."),
    ],
)
def reward_of(value: int | None, used: list[int], dealt: list[int]) -> float:
    """The paper's reward of a formula with this value (None: illegal) and these numbers."""
    if value is None:
        return -3.0
    if Counter(used) != Counter(dealt):
        return -2.0
    return 5.0 if value == 24 else -1.0


def _formula_fault(got, numbers, *_) -> str:
    if not isinstance(got, list) or not all(isinstance(f, str) for f in got):
        return "a formula must be a text"
    for formula in got:
        verdict = verify_formula(formula, numbers)
        if verdict.reason in ("illegal_formula", "wrong_numbers"):
            return f"the verifier says of {formula!r}: {verdict.message}"
    if len(set(got)) < 10:
        return f"{len(got)} calls gave {len(set(got))} different formulas, for example {got[0]!r}"
    if len({sign for formula in got for sign in formula if sign in "+-*/"}) < 4:
        return "some of the four signs never occur"
    return ""


def _played(player, numbers):
    """Formulas of a player that has a random stream; None where it is not written yet."""
    rng = random.Random(0)
    said = [player(numbers, rng) for _ in range(60)]
    return None if said[0] is None or said[0] is ... else said


@exercise(
    "The best blind player",
    "medium",
    10,
    statement="""
        A baseline belongs beside every metric. Write a player that knows the rules of form but
        cannot calculate: it uses each number once, in random order and with random signs.
    """,
    hint="`rng.sample(numbers, len(numbers))` shuffles; `rng.choice` draws a sign.",
    because="What share of the hands does it solve? That much can be had without understanding.",
    cases=[
        Case("four different numbers", ([1, 2, 3, 4],), "Draw the order and the signs with `rng`."),
        Case("a pair", ([5, 5, 11, 13],)),
    ],
    use=_played,
    judge=_formula_fault,
)
def blind_player(numbers: list[int], rng: random.Random) -> str:
    """A random legal formula, such as "3*1-2+4"."""
    order = rng.sample(numbers, len(numbers))
    return str(order[0]) + "".join(rng.choice("+-*/") + str(n) for n in order[1:])


@exercise(
    "Two words for one turn",
    "medium",
    10,
    statement="""
        The test on walks asks for the way to turn instead of the direction to face. Translate: a
        change of heading of up to 45 degrees is "slightly left" or "slightly right", a larger one
        "left" or "right". Headings are compass degrees, clockwise from north. (About-turns do not
        occur.)
    """,
    hint="Bring the difference between -180 and 180 before you look at its sign.",
    because="""
        The authors' public code forgets that 360 degrees is north again. This exercise does not.
    """,
    cases=[
        Case("east to south", (90, 180), "Clockwise is to the right."),
        Case("north to north-east", (0, 45), "45 degrees are still slight."),
        Case("north to north-west", (0, 315), "From 0 to 315 degrees it is 45 to the left."),
        Case("across north", (350, 80), "From 350 to 80 degrees it is 90 to the right."),
        Case(
            "across north, to the left", (10, 280), "From 10 to 280 degrees it is 90 to the left."
        ),
    ],
)
def turn_to(before: float, after: float) -> str:
    """The relative word for the turn from one heading to another."""
    change = (after - before + 180) % 360 - 180
    word = "left" if change < 0 else "right"
    return word if abs(change) > 45 else f"slightly {word}"


@exercise(
    "A task of your own, in one file",
    "hard",
    45,
    statement="""
        Design a task whose rule can change, for example "write these numbers in ascending order",
        tested with "descending". `examples/countdown.py` is the worked example. Fill in the
        four methods; `train` and `id_unseen` must deal under one rule, `rule_ood` under another.
        The check plays your task: the same seed must give the same item, expert answers must be
        solved, damaged ones must not be, and no text may make it raise.

        Saved as a file of `sftrl_lib/tasks/` with `@register_task("my-task")` above the class, it
        trains, evaluates and plots like the others: `python -m sftrl_lib rl --task my-task`.
    """,
    hint="""
        Let an item be a tuple such as `(rule, numbers)`, drawn with
        `random.Random(f"{split}/{seed}/{index}")`. In `verify`, compare the stripped text with the
        one right answer.
    """,
    because="""
        The prompt states the rule, so that the task can be done without having learned it. A rule
        that is not stated would test clairvoyance.
    """,
    cases=contract.CASES,
    use=contract.play,
    judge=lambda fault, *_: fault,
)
class MyTask(Task):
    """A game with a rule that is stated, and that the test changes."""

    def item(self, split, seed, index):
        """What is dealt: the same for the same (split, seed, index)."""
        rng = random.Random(f"order/{split}/{seed}/{index}")
        rule = "descending" if split == "rule_ood" else "ascending"
        return rule, tuple(rng.sample(range(100), 5))

    def prompt(self, item):
        """The question, in which the rule is stated."""
        rule, numbers = item
        return f"Write in {rule} order, with spaces between: {', '.join(map(str, numbers))}."

    def expert(self, item, rng):
        """A right answer."""
        rule, numbers = item
        return " ".join(map(str, sorted(numbers, reverse=rule == "descending")))

    def verify(self, item, text):
        """Verdict(ok, reward, reason, message); the reason of a right answer is "solved"."""
        if text.strip() == self.expert(item, None):
            return Verdict(True, 1.0, "solved", "that is right")
        return Verdict(False, 0.0, "wrong_order", "that is not the order asked for")
