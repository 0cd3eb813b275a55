# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Environments: a judge that cannot be talked round
#
# Suppose that you pay a student for every solved problem, and that you never look at the working.
# Sooner or later somebody hands in a formula that makes 24 from numbers of their own choice. If you
# pay for it, that is what you will get more of.
#
# So before anything is trained, this book needs a judge. It is a short program, the **verifier**,
# which computes every formula exactly, checks that each card was used once, and says what is wrong.
# Its verdict is the reward of RL, the measure of every figure, and the message that a model gets
# before it tries again. One function does all three, so nothing can be rewarded that is not also
# counted.
#
# In this notebook you try to fool it, and then let players without any understanding play against a
# language model. Would you bet on the model?

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
episodes = 300  # answers of each player under each rule

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## The game
#
# A deal is a hand, a rule and a target. Deal 7 is the same deal on every machine and whatever the
# batch size, since each deal draws from a random stream of its own.

# %%
from sftrl_lib.tasks.general_points import GeneralPoints

task = GeneralPoints(rule="ten", ood_rule="eleven_twelve_thirteen")
print(task.prompt(task.item("train", seed, 7)))

# %% [markdown]
# The same hand under another rule is another question, with other answers:

# %%
from dataclasses import replace

from sftrl_lib.tasks.general_points import NAMED_RULES

hand = task.item("id_paired", seed, 2)
for rule in NAMED_RULES.values():
    same = replace(hand, rule=rule)
    print(f"{rule.name:24} {same.cards} -> {same.numbers}  {same.solutions()[:2]}")

# %% [markdown]
# The solver and the verifier calculate with fractions and not with floats: `8/(3-8/3)` makes 24,
# and rounding would lose it. Text that a model wrote is never run as code. It is cut into tokens,
# and computed.

# %% [markdown] exercise="can_make"
# **Exercise 01.1. Can this hand be solved?** (hard, 20 minutes)
#
# Decide exactly whether some numbers can make a target with + - * / and brackets, each used
# once. Floats would lose 8/(3-8/3), so calculate with `Fraction`.
#
# <details><summary>Hint</summary>
#
# Take any two of the numbers, replace them by what they can make together, and ask the same
# question of the shorter list. Subtraction and division have two orders.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from fractions import Fraction
#
#
# def can_make(numbers: list[int], target: int = 24) -> bool:
#     """Whether all the numbers, each once, can make the target."""
#     if len(numbers) == 1:
#         return numbers[0] == target
#     for i, a in enumerate(numbers):
#         for j, b in enumerate(numbers):
#             if i != j:
#                 rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
#                 made = [a + b, a - b, a * b] + ([Fraction(a) / b] if b else [])
#                 if any(can_make([*rest, value], target) for value in made):
#                     return True
#     return False
# ```
#
# The library's solver also lists all solutions, each written once.
#
# </details>
# %% exercise="can_make"
from teach import check


def can_make(numbers: list[int], target: int = 24) -> bool:
    """Whether all the numbers, each once, can make the target."""
    ...  # your code


check("01.1", can_make)
# %% [markdown]
# ## Try to fool the judge
#
# Here are five answers to that hand. The first is an expert's; each of the others is wrong in a way
# of its own.

# %%
import random

import pandas as pd

from worlds.card_texts import answer

misread = replace(hand, rule=NAMED_RULES["five"])
answers = {
    "expert": task.expert(hand, random.Random(0)),
    "old habits": answer(hand.cards, misread.numbers, misread.solutions()[0]),
    "wrong value": answer(hand.cards, hand.numbers, "+".join(map(str, hand.numbers))),
    "no formula": answer(hand.cards, hand.numbers, "24-*1"),
    "no answer": "I would rather not.",
}

# %% [markdown]
# "Old habits" follows a rule that the question does not state. Its formula is correct arithmetic,
# and makes the target. What is it worth?

# %%
from study.predict import Truth, predict, predictions

predict(
    "01.own_numbers", "A formula makes the target, from other numbers than the cards'. Its reward?",
    ["+5, as any right formula", "0", "-1, as a wrong value", "-2, worse than a wrong value"],
)  # fmt: skip

# %%
verdicts = {name: task.verify(hand, text) for name, text in answers.items()}
assert [v.reason for v in verdicts.values()] == [
    "solved", "wrong_numbers", "wrong_value", "illegal_formula", "unreadable",
]  # fmt: skip
pd.DataFrame(
    [(n, answers[n], v.reason, v.reward, v.message) for n, v in verdicts.items()],
    columns=["what", "answer", "reason", "reward", "message to the model"],
)

# %% [markdown]
# `reason` is what the evaluation counts, `reward` what RL gets, and `message` what the model is
# told. Numbers are judged before the value, so there is nothing to be gained by inventing them.
# (The table of rewards is the paper's; an excursion, *01b*, says where the authors' code differs.)

# %% [markdown] exercise="each_once"
# **Exercise 01.2. Each card once** (easy, 5 minutes)
#
# A formula must use the number of every card exactly once. Decide whether it does, from the
# numbers that it holds and those that were dealt.
#
# <details><summary>Hint</summary>
#
# Order does not matter, and how often a number occurs does.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def each_once(said: list[int], dealt: list[int]) -> bool:
#     """Whether `said` holds the dealt numbers, each as often as it was dealt."""
#     return sorted(said) == sorted(dealt)
# ```
#
# `Counter(said) == Counter(dealt)` is another way to compare two multisets.
#
# </details>
# %% exercise="each_once"
from teach import check


def each_once(said: list[int], dealt: list[int]) -> bool:
    """Whether `said` holds the dealt numbers, each as often as it was dealt."""
    ...  # your code


check("01.2", each_once)
# %% [markdown] exercise="reward_of"
# **Exercise 01.3. The reward is the verdict** (medium, 10 minutes)
#
# Write the paper's reward of one formula: +5 if it is right, -1 if it is legal but has
# another value, -2 if its numbers are not those of the cards, -3 if it is no formula. Only
# the first fault counts, and the most serious comes first.
#
# <details><summary>Hint</summary>
#
# Ask in this order: is it a formula? Are the numbers right? Is the value right?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# from collections import Counter
#
#
# def reward_of(value: int | None, used: list[int], dealt: list[int]) -> float:
#     """The paper's reward of a formula with this value (None: illegal) and these numbers."""
#     if value is None:
#         return -3.0
#     if Counter(used) != Counter(dealt):
#         return -2.0
#     return 5.0 if value == 24 else -1.0
# ```
#
# The order matters: without it a model could earn +5 by writing a formula that makes 24 from
# numbers of its own choice.
#
# </details>
# %% exercise="reward_of"
from teach import check


def reward_of(value: int | None, used: list[int], dealt: list[int]) -> float:
    """The paper's reward of a formula with this value (None: illegal) and these numbers."""
    ...  # your code


check("01.3", reward_of)
# %% [markdown]
# Now judge formulas of your own. The box shows each step, the verdict and the reward.

# %%
from study import touch

touch.verifier_box()

# %% [markdown]
# ## Two players
#
# A number means little without something to compare it with. The blind player knows what a formula
# looks like and cannot calculate: it shuffles the numbers and draws the signs. The other player is
# the **foundation model** of this tier, which has read many card games under many random rules in
# its pre-training, though never under either rule of this book.

# %% [markdown] exercise="blind_player"
# **Exercise 01.4. The best blind player** (medium, 10 minutes)
#
# A baseline belongs beside every metric. Write a player that knows the rules of form but
# cannot calculate: it uses each number once, in random order and with random signs.
#
# <details><summary>Hint</summary>
#
# `rng.sample(numbers, len(numbers))` shuffles; `rng.choice` draws a sign.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import random
#
#
# def blind_player(numbers: list[int], rng: random.Random) -> str:
#     """A random legal formula, such as "3*1-2+4"."""
#     order = rng.sample(numbers, len(numbers))
#     return str(order[0]) + "".join(rng.choice("+-*/") + str(n) for n in order[1:])
# ```
#
# What share of the hands does it solve? That much can be had without understanding.
#
# </details>
# %% exercise="blind_player"
import random

from teach import check


def blind_player(numbers: list[int], rng: random.Random) -> str:
    """A random legal formula, such as "3*1-2+4"."""
    ...  # your code


check("01.4", blind_player)
# %%
predict(
    "01.solved", "What share of new hands does the foundation model solve at its first try?",
    (0, 100), "%",
)  # fmt: skip

# %%
predict(
    "01.harder", "Nothing is trained yet. Under which rule does it more often use wrong numbers?",
    ["under J, Q, K = 10", "under J, Q, K = 11, 12, 13", "under both alike"],
)  # fmt: skip

# %% [markdown]
# ## Live: they play
#
# Both play the same new hands under both rules, in front of you. It takes some seconds.

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.rollout import rollout
from sftrl_lib.runner import start_policy
from study import lessons, plots


def blind(numbers: tuple[int, ...], rng: random.Random) -> str:
    """A random legal formula."""
    order = rng.sample(numbers, len(numbers))
    return str(order[0]) + "".join(rng.choice("+-*/") + str(n) for n in order[1:])


exp = Experiment(method="init", preset=preset, precision=precision, seed=seed)
model, rng, played = start_policy(exp), random.Random(seed), {}
for split, rule in {"id_unseen": "J, Q, K = 10", "rule_ood": "J, Q, K = 11, 12, 13"}.items():
    deals = task.test_items(split, seed, episodes)
    said = [answer(d.cards, d.numbers, blind(d.numbers, rng)) for d in deals]
    guesses = [task.verify(d, text).reason for d, text in zip(deals, said, strict=True)]
    known = rollout(model, task, deals, temperature=1.0, max_new_tokens=exp.model.max_new_tokens)
    reasons = [e.turns[0].verdict.reason for e in known]
    played[rule] = {"blind player": guesses, "foundation model": reasons}
plots.show(lessons.verdicts(played))

# %% [markdown]
# The model writes formulas nearly always, and they seldom make the target. The blind player, which
# is given the right numbers for free, does only a little worse. That is as it should be: a model
# with nothing to learn teaches nothing about learning.
#
# ## The surprise
#
# Compare the two panels. Nobody has trained this model on either rule, and yet it uses wrong
# numbers far more often under the one that will be the *test*. The new rule is harder from the
# start. So "worse under the new rule than under the old one" proves no memory of anything.
#
# ## Why
#
# More differs than the rule. Every hand of the test has a face card, while many hands of the
# training have none; and in pre-training only a face card could count as more than ten, so such
# numbers were rare. The book therefore never compares a model under two rules. It compares
# *changes*: what training has added to, or taken from, the same start on the same test. These are
# the tests:
#
# | split | rule | hands | asks |
# |---|---|---|---|
# | `id_seen` | training | seen in training | did it learn anything? |
# | `id_unseen` | training | never seen | did it learn to *solve*? |
# | `rule_ood` | new | never seen, with a face card | did it learn to *read the rule*? |
# | `id_paired`, `rule_paired` | each | the same hands under both | the same, with equal hands |
#
# "Never seen" is a fact here. Hands are divided by a fixed hash of their values, and about a
# quarter is held out of everything, pre-training included:

# %%
from worlds.deals import held_out

rows = []
for split in ("train", "id_seen", "id_unseen", "rule_ood", "id_paired", "rule_paired"):
    deals = [task.item(split, seed, i) for i in range(400)]
    rows.append(
        {
            "split": split,
            "held out": sum(held_out(d.numbers) for d in deals) / len(deals),
            "with a face card": sum(max(d.ranks) > 10 for d in deals) / len(deals),
            "solutions a hand": sum(len(d.solutions()) for d in deals) / len(deals),
        }
    )
shares = {"held out": "{:.0%}", "with a face card": "{:.0%}", "solutions a hand": "{:.1f}"}
pd.DataFrame(rows).set_index("split").style.format(shares)

# %% [markdown]
# ## What the model sees
#
# A model reads tokens and not cards. On this tier each constant sentence is one token, so that most
# of what it reads is what varies. Here is one question with the model's answer:

# %%
turn = known[0].turns[0]
spelled = model.tokenizer.convert_ids_to_tokens([*turn.prompt_ids, *turn.completion_ids])
print(len(turn.prompt_ids), "tokens read,", len(turn.completion_ids), "written")
print(" | ".join(token.replace("Ċ", "").replace("Ġ", " ") for token in spelled))

# %% [markdown]
# ## Your predictions

# %%
first, second = played
wrong = {rule: lessons.shares(p["foundation model"])["wrong_numbers"] for rule, p in played.items()}
options = {first: "under J, Q, K = 10", second: "under J, Q, K = 11, 12, 13"}
reward = verdicts["old habits"].reward
predictions("01", {
    "01.own_numbers": {-2: "-2, worse than a wrong value", 0: "0"}[reward],
    "01.solved": lessons.shares(played[first]["foundation model"])["solved"],
    "01.harder": Truth(
        options[max(wrong, key=wrong.get)], "; ".join(f"{r}: {s:.0f}%" for r, s in wrong.items())
    ),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Four more stand
# in the sections above.) The second game of the book is a walk through a city, whose rule is what a
# turn is called; the first exercise needs no more than that, and the excursion *01b* walks a route.

# %% [markdown] exercise="turn_to"
# **Exercise 01.5. Two words for one turn** (medium, 10 minutes)
#
# The test on walks asks for the way to turn instead of the direction to face. Translate: a
# change of heading of up to 45 degrees is "slightly left" or "slightly right", a larger one
# "left" or "right". Headings are compass degrees, clockwise from north. (About-turns do not
# occur.)
#
# <details><summary>Hint</summary>
#
# Bring the difference between -180 and 180 before you look at its sign.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def turn_to(before: float, after: float) -> str:
#     """The relative word for the turn from one heading to another."""
#     change = (after - before + 180) % 360 - 180
#     word = "left" if change < 0 else "right"
#     return word if abs(change) > 45 else f"slightly {word}"
# ```
#
# The authors' public code forgets that 360 degrees is north again. This exercise does not.
#
# </details>
# %% exercise="turn_to"
from teach import check


def turn_to(before: float, after: float) -> str:
    """The relative word for the turn from one heading to another."""
    ...  # your code


check("01.5", turn_to)
# %% [markdown] exercise="MyTask"
# **Exercise 01.6. A task of your own, in one file** (hard, 45 minutes)
#
# Design a task whose rule can change, for example "write these numbers in ascending order",
# tested with "descending". `examples/countdown.py` is the worked example. Fill in the
# four methods; `train` and `id_unseen` must deal under one rule, `rule_ood` under another.
# The check plays your task: the same seed must give the same item, expert answers must be
# solved, damaged ones must not be, and no text may make it raise.
#
# Saved as a file of `sftrl_lib/tasks/` with `@register_task("my-task")` above the class, it
# trains, evaluates and plots like the others: `python -m sftrl_lib rl --task my-task`.
#
# <details><summary>Hint</summary>
#
# Let an item be a tuple such as `(rule, numbers)`, drawn with
# `random.Random(f"{split}/{seed}/{index}")`. In `verify`, compare the stripped text with the
# one right answer.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import random
# from sftrl_lib.tasks.base import Task, Verdict
#
#
# class MyTask(Task):
#     """A game with a rule that is stated, and that the test changes."""
#
#     def item(self, split, seed, index):
#         """What is dealt: the same for the same (split, seed, index)."""
#         rng = random.Random(f"order/{split}/{seed}/{index}")
#         rule = "descending" if split == "rule_ood" else "ascending"
#         return rule, tuple(rng.sample(range(100), 5))
#
#     def prompt(self, item):
#         """The question, in which the rule is stated."""
#         rule, numbers = item
#         return f"Write in {rule} order, with spaces between: {', '.join(map(str, numbers))}."
#
#     def expert(self, item, rng):
#         """A right answer."""
#         rule, numbers = item
#         return " ".join(map(str, sorted(numbers, reverse=rule == "descending")))
#
#     def verify(self, item, text):
#         """Verdict(ok, reward, reason, message); the reason of a right answer is "solved"."""
#         if text.strip() == self.expert(item, None):
#             return Verdict(True, 1.0, "solved", "that is right")
#         return Verdict(False, 0.0, "wrong_order", "that is not the order asked for")
# ```
#
# The prompt states the rule, so that the task can be done without having learned it. A rule
# that is not stated would test clairvoyance.
#
# </details>
# %% exercise="MyTask"
from sftrl_lib.tasks.base import Task
from teach import check


class MyTask(Task):
    """A game with a rule that is stated, and that the test changes."""

    def item(self, split, seed, index):
        """What is dealt: the same for the same (split, seed, index)."""
        ...  # your code

    def prompt(self, item):
        """The question, in which the rule is stated."""
        ...  # your code

    def expert(self, item, rng):
        """A right answer."""
        ...  # your code

    def verify(self, item, text):
        """Verdict(ok, reward, reason, message); the reason of a right answer is "solved"."""
        ...  # your code


check("01.6", MyTask)
# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="01_environments"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** What decides the reward of an answer?
#
# <details><summary>a) The same verdict that decides the metric and the message</summary>
#
# **Right.** One function judges in training, in evaluation and in the widgets.
#
# </details>
#
# <details><summary>b) A second model that grades it</summary>
#
# **No.** The verifier is a program. It computes the formula exactly.
#
# </details>
#
# <details><summary>c) How similar it is to the expert's answer</summary>
#
# **No.** Any correct formula earns the same.
#
# </details>
#
# **Question 2.** A formula makes 24 but leaves a card out. What does the verifier say?
#
# <details><summary>a) The value is wrong</summary>
#
# **No.** The value is right; it is the numbers that are not.
#
# </details>
#
# <details><summary>b) It is solved</summary>
#
# **No.** Every card must be used exactly once.
#
# </details>
#
# <details><summary>c) The numbers are wrong</summary>
#
# **Right.** Numbers are checked before the value, so 24 from other numbers earns nothing.
#
# </details>
#
# **Question 3.** Why are about a quarter of all hands never dealt in training?
#
# <details><summary>a) So that knowing a hand can be told from being able to solve one</summary>
#
# **Right.** Success on seen hands may be memory; success on held-out hands cannot be.
#
# </details>
#
# <details><summary>b) Because they cannot be solved</summary>
#
# **No.** Every hand that is dealt can be solved.
#
# </details>
#
# <details><summary>c) To make training faster</summary>
#
# **No.** The number of training steps does not depend on it.
#
# </details>
#
# **Question 4.** Why does the solver use fractions?
#
# <details><summary>a) Because a float can miss 24 by a rounding error</summary>
#
# **Right.** 8/(3-8/3) is exactly 24, and floats make it slightly less or more.
#
# </details>
#
# <details><summary>b) The cards can be fractions</summary>
#
# **No.** The cards are whole numbers; results on the way may be fractions.
#
# </details>
#
# <details><summary>c) They are faster</summary>
#
# **No.** They are slower.
#
# </details>
#
# **Question 5.** A player always walks forward. On which measure of a walk does it look best?
#
# <details><summary>a) Accuracy at turns</summary>
#
# **No.** It is wrong at every turn.
#
# </details>
#
# <details><summary>b) Whole routes</summary>
#
# **No.** Every route has a turn, so it finishes none.
#
# </details>
#
# <details><summary>c) Accuracy over all positions</summary>
#
# **Right.** Most positions want forward(), so it is right there without understanding anything.
#
# </details>
# %% [markdown]
# ## What next
#
# The judge stands, and the start is mediocre, as it should be. Notebook 02 trains by imitation. The
# excursion *01b* shows the other three tasks: cards in pictures, and walks in words and in street
# views.
#
# * Chu, Zhai et al., arXiv 2501.17161, sections 3 and 4: the same game for a larger model.
# * Snell et al., *Scaling LLM Test-Time Compute Optimally*, arXiv 2408.03314: what a second try
#   after a verdict is worth.
