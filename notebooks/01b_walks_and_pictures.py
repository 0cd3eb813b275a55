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
# # 01b Excursion: walks, pictures, and the authors' judge
#
# Read this when you like; the lessons go on without it. The paper has four tasks, and the lessons
# follow one, cards as text. Here are the others: a walk through a city by written directions, and
# both games again with a picture in place of words. The page ends with the table of differences
# between the paper's judge, the authors' code, and ours.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## A walk through a city
#
# The paper's other task is navigation. An agent stands somewhere in a city, has a route described
# in sentences, and says at each position what to do next: walk on, turn, stop. Here is a route of
# our training city.

# %%
from sftrl_lib.tasks.navigation import Navigation
from study import maps, plots
from worlds import cities

walk = Navigation(rule="absolute", ood_rule="relative")
route = walk.routes("id_unseen")[0]
steps = walk.positions("id_unseen", route, seed)
city = cities.city_of(route.start)
plots.show(maps.city_map(city, route))

# %% [markdown]
# What the agent is asked at the first crossing, and the answer of an expert:

# %%
import random

import pandas as pd

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
# Keep that in mind until notebook 05.
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
from sftrl_lib.experiment import Experiment
from sftrl_lib.rollout import rollout
from sftrl_lib.runner import start_policy
from sftrl_lib.runs import episode_row
from study.widgets import episode_viewer

exp = Experiment(method="init", preset=preset, precision=precision, seed=seed)
base = start_policy(exp)
walked = rollout(base, walk, list(steps), tries=2, max_new_tokens=exp.model.max_new_tokens)
records = [episode_row(walk.prompt(e.item), e, index=i) for i, e in enumerate(walked)]
episode_viewer(records, lambda e: plots.html(*seen(steps[e["index"]], 320)))

# %%
tries = [[turn.verdict.ok for turn in e.turns] for e in walked]
plots.show(maps.city_map(city, route, [*zip((s.position for s in steps), tries, strict=True)]))

# %% [markdown]
# ## Cards in pictures
#
# Both games have a twin whose question does not say what there is to see: a picture shows it. The
# hand lies on a table, as black cards in training and as red ones in the visual test. (Red is new
# to post-training, not to the model: in pre-training one hand in twenty was red.)

# %%
from dataclasses import replace

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
from worlds.card_texts import answer

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
# ## Whose judge?
#
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
# | wrong instruction | | -1.75, never used | not judged; `scheme=quoted`: 0 for a right action |
# | tries run out | -1 | -1; cards at one answer more | -1 in both environments, not in RL |
#
# RL leaves the last row out because the recorded runs were trained without it; a last try that
# fails is worth less than one that succeeds as it is.

# %%
from sftrl_lib import verify_formula
from worlds.verifier import REWARDS

formulas = ["(10-4)*(6-2)", "(10-4)*6-2", "(11-4)*(6-2)", "4*6", "(10-4)*(6-2", "((10-4"]
judged = {s: [verify_formula(f, (10, 4, 6, 2), scheme=s) for f in formulas] for s in REWARDS}
both = {s: [v.reward for v in judged[s]] for s in ("paper", "authors")}
pd.DataFrame(both | {"the authors' message": [v.message for v in judged["authors"]]}, formulas)

# %% [markdown]
# The card game is a Gymnasium environment, so that other tools can play it:

# %%
import gymnasium

env = gymnasium.make("sftrl/GeneralPoints-v0", rule="ten", tries=2, render_mode="ansi")
question, _ = env.reset(seed=seed)
reply, reward, ended, _, info = env.step("no idea")
print(env.render())
print(reward, ended, info)
