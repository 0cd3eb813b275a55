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
# # 01 Environments: what is asked, and who decides
#
# Before anything is trained: two games, the rule of each that will change, the judge, and the test.
# After this notebook you can
#
# * deal a hand under any rule, and solve it exactly;
# * say what the verifier answers to a formula, and why that answer *is* the reward;
# * tell four kinds of "new" apart: a new deal, a new hand, a new rule, a new hand under a new rule;
# * read a conversation as the model reads it: token by token;
# * follow a route through a city, in words and in street views, under two sets of actions.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about two minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/foundation/` | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (one live run) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 30  # optimizer steps of the live run
live_batch = 128  # answers a step
episodes = 200  # episodes a measurement

# %%
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## The game
#
# Four cards; every value once; plus, minus, times, divided by; make 24. What makes it a test of
# *rules* is a sentence in the question: how much J, Q and K count. A deal is a hand, a rule and a
# target.

# %%
from sftrl_lib.tasks.general_points import GeneralPoints

task = GeneralPoints(rule="ten", ood_rule="eleven_twelve_thirteen")
deal = task.item("train", seed, 7)
print(task.prompt(deal))

# %% [markdown]
# Deal 7 of seed 0 is the same deal on every machine and whatever the batch size: each deal draws
# from a random stream of its own. The same hand under another rule is another question:

# %%
from dataclasses import replace

from worlds.deals import NAMED_RULES

hand = task.item("id_paired", seed, 2)
for rule in NAMED_RULES.values():
    same = replace(hand, rule=rule)
    print(f"{rule.name:24} {same.cards} -> {same.numbers}  {same.solutions()[:2]}")

# %% [markdown]
# The solver works with fractions, not with floats: `8/(3-8/3)` makes 24, and rounding would lose
# it. How many hands can be solved at all? There are 1,820 multisets of four values from 1 to 13,
# and 715 from 1 to 10; the training rule `ten` can only ever show the second kind.

# %%
from itertools import combinations_with_replacement

from worlds.solver import solvable, solve

for highest in (13, 10):
    hands = list(combinations_with_replacement(range(1, highest + 1), 4))
    print(f"1..{highest}: {sum(map(solvable, hands)):,} of {len(hands):,} multisets make 24")
print(solve((3, 3, 8, 8)))

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
# ## The verifier
#
# The verifier reads the whole answer, judges it and says why. It never runs model text: a formula
# is cut into tokens and computed with two stacks. First, written out, the heart of it for a
# formula in postfix notation, where no brackets are needed:

# %%
from fractions import Fraction


def value_of(postfix: str) -> Fraction:
    """Exact value of e.g. "8 3 8 3 / - /": numbers are pushed, an operator takes two of them."""
    stack = []
    for token in postfix.split():
        if token.isdigit():
            stack.append(Fraction(int(token)))
            continue
        b, a = stack.pop(), stack.pop()
        match token:
            case "+":
                stack.append(a + b)
            case "-":
                stack.append(a - b)
            case "*":
                stack.append(a * b)
            case "/":
                stack.append(a / b)
    return stack.pop()


# %% [markdown]
# The library's `verify_formula` reads brackets, refuses everything that is no formula, and checks
# that each card was used once. Both agree:

# %%
from sftrl_lib import verify_formula

verdict = verify_formula("8/(3-8/3)", numbers=(3, 3, 8, 8))
assert verdict.ok and verdict.value == value_of("8 3 8 3 / - /") == 24
verdict

# %% [markdown]
# Now whole answers. The task's format is JSON-like, and the last complete object that has its keys
# counts: thinking before it, LaTeX after it, single quotes or a trailing comma are forgiven, since
# the question is whether the model can play, not whether it can quote.

# %%
import random

import pandas as pd

from worlds.card_texts import answer

misread = replace(hand, rule=NAMED_RULES["five"])
answers = {
    "expert": task.expert(hand, random.Random(0)),
    "misread": answer(hand.cards, misread.numbers, misread.solutions()[0]),
    "wrong value": answer(hand.cards, hand.numbers, "+".join(map(str, hand.numbers))),
    "no formula": answer(hand.cards, hand.numbers, "24-*1"),
    "no answer": "I would rather not.",
}
verdicts = {name: task.verify(hand, text) for name, text in answers.items()}
assert [v.reason for v in verdicts.values()] == [
    "solved", "wrong_numbers", "wrong_value", "illegal_formula", "unreadable",
]  # fmt: skip
pd.DataFrame(
    [(n, answers[n], v.reason, v.reward, v.message) for n, v in verdicts.items()],
    columns=["what", "answer", "reason", "reward", "message to the model"],
)

# %% [markdown]
# `reward` is what RL will get, `reason` what the evaluation counts, `message` what the model is
# told: one function decides in training, evaluation and the widgets. The rewards, in one table
# (`paper` is what the paper states, `binary` the outcome alone, and `authors` the authors' code,
# which adds up the rewards of all faults):

# %%
from worlds.verifier import REWARDS

pd.DataFrame(REWARDS)

# %% [markdown]
# The authors' code differs from their text, and ours from both, in what follows. Runs with
# `scheme=authors` show what that difference is worth; with `feedback=reason` a failed try is told
# its kind of fault only, with `feedback=wrong` only that it failed.
#
# | | paper's text | authors' code | here |
# |---|---|---|---|
# | right answer | cards +5, walks +1 | the same | the same |
# | wrong value | -1 | -1; floats: `8/(3-8/3)` earns 0 | -1; fractions |
# | its message | | the longest beginning that a solution shares | the value |
# | wrong numbers | -2 | -2 too many, -2 missing: one wrong one costs -4 | -2 |
# | its message | | invalid ones, else overused ones; and missing ones | the first of these |
# | illegal formula | -3 | -3 for each sign out of place | -3 |
# | formula without a value | | +1 if a solution begins like it, else -1 | -3 |
# | `formula=value` | | what stands before `=` is judged | the same |
# | `number` | | not judged | judged like the formula's numbers |
# | misread cards (pictures) | -1.5 | -1.5 | -1.5 |
# | unreadable answer | | cards -3; walks by the fields found | cards -3, walks -1 |
# | wrong action | -1 | -1 | -1 |
# | and wrong about an intersection | -1.5 | -1.5, by the word alone | -1.5; denials understood |
# | wrong instruction | | -1.75, never used | not judged |
# | tries run out | -1 | -1; cards at one answer more | -1 in both environments, not in RL |
#
# RL leaves the last row out because the recorded runs were trained without it; a last try that
# fails is worth less than one that succeeds as it is.

# %%
formulas = ["(10-4)*(6-2)", "(10-4)*6-2", "(11-4)*(6-2)", "4*6", "(10-4)*(6-2", "((10-4"]
judged = {s: [verify_formula(f, (10, 4, 6, 2), scheme=s) for f in formulas] for s in REWARDS}
both = {s: [v.reward for v in judged[s]] for s in ("paper", "authors")}
pd.DataFrame(both | {"the authors' message": [v.message for v in judged["authors"]]}, formulas)

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
# Judge formulas of your own: the box shows each step, the verdict and the reward.

# %%
from study import touch

touch.verifier_box()

# %% [markdown]
# ## Four kinds of new
#
# | split | rule | hand | asks |
# |---|---|---|---|
# | `train`, `id_seen` | training | seen in training | did it learn anything? |
# | `id_unseen` | training | never seen | did it learn to *solve*? |
# | `rule_ood` | new | never seen, a face card in it | did it learn to *read the rule*? |
# | `id_paired`, `rule_paired` | each | the same hands under both | the same, with equal hands |
# | `rule_five`, `rule_random` | other new ones | never seen | is it this one rule only? |
#
# The hands are split by a fixed hash of their values: about a quarter is never shown by any
# training, pre-training included. That is what the paper's evaluation could not separate: a model
# can be good at a known hand without being able to solve one.

# %%
from worlds.deals import held_out

rows = []
for split in task.splits:
    deals = [task.item(split, seed, i) for i in range(400)]
    rows.append(
        {
            "split": split,
            "rules": len({d.rule for d in deals}),
            "held out": sum(held_out(d.numbers) for d in deals) / len(deals),
            "with a face card": sum(max(d.ranks) > 10 for d in deals) / len(deals),
            "distinct hands": len({tuple(sorted(d.numbers)) for d in deals}),
            "solutions a hand": sum(len(d.solutions()) for d in deals) / len(deals),
        }
    )
pd.DataFrame(rows).set_index("split").style.format(precision=2)

# %% [markdown]
# The same task is a Gymnasium environment, so that other tools can play it:

# %%
import gymnasium

env = gymnasium.make("sftrl/GeneralPoints-v0", rule="ten", tries=2, render_mode="ansi")
question, _ = env.reset(seed=seed)
reply, reward, ended, _, info = env.step("no idea")
print(env.render())
print(reward, ended, info)

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

# %% [markdown]
# ## The model's side: an episode
#
# Now a policy meets the task: the foundation model of this tier, before anything has been trained
# on the task. An episode is answer, verdict, message, answer, up to a number of tries. Answers are
# sampled, here as everywhere in the book: a model that always repeats itself learns nothing from a
# second try.

# %%
from sftrl_lib.evaluate import evaluate
from sftrl_lib.experiment import Experiment
from sftrl_lib.policies import load_policy

exp = Experiment(
    method="init", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=1, eval_episodes=episodes,
)  # fmt: skip
base = load_policy(exp)
was, played = evaluate(base, task, exp, {"id_unseen": episodes})
before = played["id_unseen"]

# %%
from IPython.display import HTML

from sftrl_lib.runs import episode_row
from study.widgets import render_episode

longest = max(before[:20], key=lambda e: len(e.turns))
HTML(render_episode(episode_row(task.prompt(longest.item), longest)))

# %% [markdown]
# And what of that conversation does the model really see? Tokens. On the tiny tier the constant
# sentences are one token each, so that what varies (cards, rule, numbers, signs) is most of what it
# reads; on the other tiers the same text costs a few hundred tokens.

# %%
turn = before[0].turns[0]
spelled = base.tokenizer.convert_ids_to_tokens([*turn.prompt_ids, *turn.completion_ids])
print(len(turn.prompt_ids), "tokens read,", len(turn.completion_ids), "written")
print(" | ".join(token.replace("Ċ", "").replace("Ġ", " ") for token in spelled))

# %% [markdown]
# ## Live: the init
#
# The paper starts both arms from one checkpoint that was fine-tuned *a little*, until the answers
# can be read. Here is that step, live and short: SFT on the training rule, from the foundation
# model.

# %%
from study.notebook import live

base = None  # let go: the live run loads a model of its own, and a GPU may have room for one
run = live(exp)

# %%
from study import plots
from study.notebook import recorded_log

logs = {"init, this session": run.metrics()} | recorded_log("init", preset, seed)
plots.show(plots.training_log(logs, columns=["loss"]))

# %% [markdown]
# Before and after, on the same unseen hands: which answers can be read and are legal formulas,
# which use the right numbers, which read the face cards right, and which are solved, within 1, 2,
# 3 tries.

# %%
now = run.evals().query("split == 'id_unseen' and step == @live_steps")
both = {
    name: rows[rows.metric != "kl_to_init"].set_index(["metric", "tries"]).value
    for name, rows in {"foundation model": pd.DataFrame(was), "after the live init": now}.items()
}
pd.DataFrame(both).style.format("{:.1%}")

# %% [markdown]
# ## A second game: a walk through a city
#
# The paper's other task is navigation. An agent stands somewhere in a city, has a route described
# in sentences, and says at each position what to do next: walk on, turn, stop. Here is a route of
# our training city.

# %%
from sftrl_lib.tasks.navigation import Navigation
from study import maps
from worlds import cities

walk = Navigation(rule="absolute", ood_rule="relative")
route = walk.routes("id_unseen")[0]
steps = walk.positions("id_unseen", route, seed)
city = cities.city_of(route.start)
plots.show(maps.city_map(city, route))

# %% [markdown]
# What the agent is asked at the first crossing, and the answer of an expert:

# %%
crossing = next(step for step in steps if step.position.at_intersection)
print(walk.prompt(crossing))
print(walk.expert(crossing, random.Random(0)))

# %% [markdown]
# The rule that will change is in the second line. A turn can be said as the direction to face then
# (*absolute*: eight words) or as the way to turn (*relative*: four). Every sentence of the
# instruction holds both words, so everything needed is there; what is asked for decides which of
# them is right. The same positions under both rules:

# %%
other = walk.positions("rule_ood", route, seed)
pd.DataFrame(
    [
        (a.position.kind, a.position.observation, a.position.sentence, a.action, b.action)
        for a, b in zip(steps, other, strict=True)
    ],
    columns=["kind", "observed", "sentence that is due", "absolute", "relative"],
)

# %% [markdown]
# So there are two things to do at a crossing: *track*, that is find the sentence that is due, and
# *translate*, that is take the word that was asked for. The first is the same under both rules.
# Keep that in mind until notebook 04.
#
# The verifier knows the right action, and it notices whether the answer saw the intersection:

# %%
from worlds import walk_texts as texts

here = crossing.position
tried = {
    "expert": (here.observation, crossing.action),
    "the other words": (here.observation, here.relative),
    "walks on": (here.observation, texts.FORWARD),
    "blind": ("No landmarks nearby;", texts.FORWARD),
}
verdicts = {
    name: walk.verify(crossing, texts.answer(seen, here.sentence, action))
    for name, (seen, action) in tried.items()
}
assert [v.reason for v in verdicts.values()] == [
    "solved", "wrong_action", "wrong_action", "wrong_observation",
]  # fmt: skip
pd.DataFrame(
    [(name, tried[name][1], v.reason, v.reward, v.message) for name, v in verdicts.items()],
    columns=["what", "action", "reason", "reward", "message to the model"],
)

# %% [markdown]
# A wrong action is never carried out: after two failed tries the route is lost, and until then the
# agent stands where it stood. So a question depends on the route, the position and the failed tries
# there, and on nothing else; all positions of all routes can be asked at once. Several counts come
# from the same answers:
#
# | metric | what is counted |
# |---|---|
# | `per_step` | right actions of all answers, until the route is lost: the paper's number |
# | `per_step_full` | right first answers, at all positions |
# | `turn_accuracy` | the same, where a turn is due |
# | `success` | routes walked to the end |
#
# Which of them would you believe? Here are three players that understand nothing, or next to it:
# one always walks on, one says any action of the list, one knows the route perfectly and says
# compass words whatever it was asked for.

# %%
from sftrl_lib.stats import clustered_interval
from study.baselines import BASELINES, baseline_metrics

rows = {
    (name, split): {
        metric: clustered_interval(*zip(*counts, strict=True)).value
        for metric, counts in baseline_metrics(walk, split, name, seed, 100).items()
    }
    for name in BASELINES
    for split in ("id_unseen", "rule_ood")
}
pd.DataFrame(rows).T.style.format("{:.1%}")

# %% [markdown]
# `per_step_full` flatters: more than half of all positions want `forward()`. `turn_accuracy` does
# not, and `per_step` is stern in its own way, since one lost crossing ends the route.
#
# In pictures the same position looks like this: front and right above, back and left below. The
# sign says which landmark stands there. Other cities are *visual* OOD: other streets, façades,
# skies, names.

# %%
from worlds.drawing import street_views


def seen(step, size=560):
    """The street view at a position, and what it shows in words."""
    town = cities.city_of(step.position.location)
    place, heading = town.position(step.position.location), step.position.heading
    return street_views(town, place, heading, size), step.position.observation


plots.show(*seen(crossing))

# %%
foreign = walk.positions("visual_ood", walk.routes("visual_ood")[120], seed)
plots.show(*seen(next(step for step in foreign if step.position.at_intersection)))

# %% [markdown]
# Now the foundation model walks one route, before any training on the task. In JupyterLab the
# viewer steps through its positions; the map below it is for everybody.

# %%
from sftrl_lib.rollout import rollout
from study.widgets import episode_viewer

base = load_policy(exp)
walked = rollout(base, walk, list(steps), tries=2, max_new_tokens=exp.model.max_new_tokens)
records = [episode_row(walk.prompt(e.item), e, index=i) for i, e in enumerate(walked)]
episode_viewer(records, lambda e: plots.html(*seen(steps[e["index"]], 320)))

# %%
tries = [[turn.verdict.ok for turn in e.turns] for e in walked]
plots.show(maps.city_map(city, route, [*zip((s.position for s in steps), tries, strict=True)]))

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

# %% [markdown]
# ## The same games in pictures
#
# Both games have a twin whose question does not say what there is to see: a picture shows it. The
# hand lies on a table, as black cards in training and as red ones in the visual test. (Red is new
# to post-training, not to the model: in pre-training one hand in twenty was red.)

# %%
from sftrl_lib.tasks.general_points import GeneralPointsVL

pictured = GeneralPointsVL()
deal = pictured.item("train", seed, 0)
print(pictured.prompt(deal))
hand_as = {
    color: pictured.draw(replace(deal, suits=suits), 560)
    for color, suits in {"black": deal.suits, "red": ("H", "D", "D", "H")}.items()
}
plots.show(hand_as["black"], f"black cards: {', '.join(deal.cards)}")

# %%
plots.show(hand_as["red"], f"the same as red cards: {', '.join(deal.cards)}")

# %% [markdown]
# Now an answer can fail in one more way: it must name the cards, and the verifier notices a card
# that was misread before it looks at the formula. That costs 1.5, more than a wrong result.

# %%
misread = answer(("A", *deal.cards[1:]), deal.numbers, deal.solutions()[0])
verdict = pictured.verify(deal, misread)
assert verdict.reason == "misread_cards"
print(misread, verdict.reward, verdict.message, sep="\n")

# %% [markdown]
# That is 560 pixels, the size of the paper's model. Ours sees 64, of cards and of streets; can
# *you* still read them? Below each picture stands what the foundation model reads, before any
# training on the task.

# %%
looks = [*(pictured.item("id_unseen", seed, i) for i in range(3))]
looks += [pictured.item("visual_ood", seed, i) for i in range(3)]
seen_by = rollout(base, pictured, looks, max_new_tokens=exp.model.max_new_tokens)
read = [
    ", ".join(str(said) for _, said in pictured.read_cards(e.item, e.turns[0].text))
    for e in seen_by
]
pictures = [(e.picture, f"read: {cards}") for e, cards in zip(seen_by, read, strict=True)]
plots.show(plots.gallery(pictures, "What the foundation model reads"))

# %% [markdown]
# ## What to inspect
#
# * In the table of splits of the cards and in the table of players: which number would a player
#   without understanding be proud of?
# * In the table of the live init: did form (`legal`) change more, or content (`success`)? And value
#   reading?
# * In the episode: does a message change the next answer, or does the model repeat itself?
# * In the table of splits: `id_unseen` and `rule_ood` differ in more than the rule. In what, and
#   which splits repair that?

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

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
# ## Summary
#
# A deal is a hand, a rule and a target, seeded one by one; a position is a route, a place on it and
# a set of actions. One verifier a task gives reward, metric and feedback. "Out of distribution" is
# a fact here: a card rule and hands that no training, pre-training included, has seen; actions that
# no training of the task has asked for; cities that it never entered. The next notebook trains by
# imitation.
#
# ## Further reading
#
# * Chu, Zhai et al., *SFT Memorizes, RL Generalizes*, arXiv 2501.17161: sections 3 and 4,
#   appendix on GeneralPoints.
# * Snell et al., *Scaling LLM Test-Time Compute Optimally*, arXiv 2408.03314: sequential
#   revision.
# * The Gymnasium documentation on environments and text spaces.
