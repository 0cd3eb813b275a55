"""Exercises of the notebook on ablations: tries, distances, and one knob at a time."""

import math

from ..exercise import Case, exercise, question

NOTEBOOK = "06_ablations"


@exercise(
    "The price of tries",
    "easy",
    5,
    statement="""
        An episode ends when a try succeeds, or when the tries run out. If each try succeeds with
        the same chance, how many answers does an episode have on average?
    """,
    hint="Try t takes place if the t - 1 before it have failed.",
    because="""
        At equal compute, more tries mean fewer episodes. "Equal steps" and "equal compute" are
        different comparisons.
    """,
    cases=[
        Case("one try", (0.3, 1), "A single try is always one answer."),
        Case("two tries", (0.5, 2), "The second takes place only if the first failed."),
        Case("ten tries, rare success", (0.05, 10)),
        Case("ten tries, frequent success", (0.6, 10), "Most episodes end early."),
    ],
)
def answers_played(chance: float, tries: int) -> float:
    """Mean number of answers of an episode."""
    return sum((1 - chance) ** t for t in range(tries))


@exercise(
    "Hands are not alike",
    "medium",
    10,
    statement="""
        Some hands are easy and some are hopeless. Given the chance of each hand, what share of the
        hands is solved within so many tries? (Within a hand the tries are independent.)
    """,
    hint="Compute the share for each hand, and take the mean of the shares.",
    because="""
        It is less than the mean chance would suggest: tries are wasted on hopeless hands. So
        success within several tries cannot be predicted from success at the first.
    """,
    cases=[
        Case("equal hands", ([0.2, 0.2], 3)),
        Case("one try", ([0.0, 1.0], 1)),
        Case("easy and hopeless", ([0.0, 1.0], 3), "The mean chance does not tell what is solved."),
        Case("a mixture", ([0.05, 0.1, 0.6], 5)),
    ],
)
def solved_within(chances: list[float], tries: int) -> float:
    """Expected share of the hands that are solved within `tries` tries."""
    return sum(1 - (1 - chance) ** tries for chance in chances) / len(chances)


@exercise(
    "One knob at a time",
    "easy",
    5,
    statement="""
        Two runs are compared. Which settings differ? A setting that is absent has its default
        value, which is given.
    """,
    hint="Lay both dictionaries over the defaults.",
    because="If the answer holds more than one name, the comparison cannot say which one matters.",
    cases=[
        Case("one knob", ({"tries": 3}, {"tries": 10}, {"tries": 3, "lr": 1e-4})),
        Case(
            "a default that is written out", ({"tries": 3}, {}, {"tries": 3}), "That is no change."
        ),
        Case(
            "a knob that only one run names",
            ({}, {"lr": 3e-4, "tries": 1}, {"tries": 3, "lr": 1e-4}),
            "Absent means default.",
        ),
    ],
)
def knobs(one: dict, other: dict, defaults: dict) -> set[str]:
    """Names of the settings in which two runs differ."""
    a, b = defaults | one, defaults | other
    return {name for name in a | b if a.get(name) != b.get(name)}


@exercise(
    "How far has it moved?",
    "easy",
    5,
    statement=r"""
        The distance that this book measures is $\text{KL}(\pi_\text{init} \,\|\, \pi) = \sum_a
        \pi_\text{init}(a) \log \frac{\pi_\text{init}(a)}{\pi(a)}$. Compute it for two distributions
        over a few answers. Answers that the init never gives do not count.
    """,
    hint="Skip the answers that have probability zero under the init.",
    because="""
        The KL has a direction: it asks what became of the things that the *init* says. Forgetting
        shows in this direction.
    """,
    cases=[
        Case("nothing moved", ([0.5, 0.5], [0.5, 0.5])),
        Case("a sharper policy", ([0.5, 0.5], [0.9, 0.1]), "Weigh by the init's probabilities."),
        Case("an answer that is new", ([1.0, 0.0], [0.5, 0.5]), "0 log 0 counts as 0."),
    ],
)
def kl_to_init(init: list[float], policy: list[float]) -> float:
    """KL of the policy from the init, in nats."""
    return sum(p * math.log(p / q) for p, q in zip(init, policy, strict=True) if p > 0)


question(
    "Your ablation",
    "hard",
    30,
    key="your_ablation",
    module=__name__,
    statement="""
        Choose a knob that you believe matters. First write down which figure would change, and in
        which direction. Then run it: in this notebook, or for several seeds with `python -m
        sftrl_lib rl`. Were you right, and how sure are you?
    """,
    hint="`python -m sftrl_lib rl --help` lists all settings.",
    solution="""
        There is no model solution, but there is a check. Does the sentence that you wrote down
        contain a direction, a metric and a split? Only then can it be wrong.
    """,
)
