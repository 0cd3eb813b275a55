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
# # 03b Excursion: both arms on walks and on pictures
#
# Read this when you like; the lessons go on without it. On cards as text the comparison came out as
# the paper says. Here are the other three tasks, with the recorded runs of both arms. They agree
# less. Each raises one question more: what does an outcome reward pay for?

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_batch = 128  # episodes of RL's start that are played

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## A walk: finding the turn, and saying it
#
# Navigation is trained by the same functions; only the rows are others: a position of a training
# route, its question, the one right answer. And again something is constant in every row: turns
# are said as directions (*absolute*), never as ways to turn.
#
# Per-step accuracy is the paper's measure: right actions of all answers until the route is lost.
# Where have the recorded arms come to, on routes they were trained on, on other routes of the same
# city, with the other actions, and in cities they never saw?

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.results import load_results
from study import figures, plots

results = load_results(preset=preset)
plots.show(figures.changes_from_init(results, task="virl-l"))

# %% [markdown]
# A right turn has two halves: the turn that is due is found, in whatever words, and it is said in
# the words that were asked for. The first half is the same work under both rules. The second *is*
# the rule.

# %%
plots.show(figures.mechanism(results, task="virl-l"))

# %% [markdown]
# ### What the reward pays for
#
# A group in navigation is one position of one route, answered by eight episodes of up to two tries.
# Nothing else changes: a wrong action is not carried out, so the next position does not depend on
# it, and each position is a deal of its own. Which positions teach anything at the start?

# %%
from sftrl_lib.rollout import rollout
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks import make_task


def played(task: str):
    """(experiment, task, episodes): the first two steps of an RL arm, before any training."""
    exp = Experiment(
        task=task, method="rl", preset=preset, precision=precision, seed=seed, batch=live_batch
    )
    one, own = make_task(exp), exp.method
    items = [one.item("train", seed, i // own.group) for i in range(2 * own.batch)]
    return exp, one, rollout(
        start_policy(exp), one, items, tries=own.tries, progress=True,
        temperature=own.temperature, max_new_tokens=exp.model.max_new_tokens,
    )  # fmt: skip


walk_exp, walk, walked = played("virl-l")

# %%
import pandas as pd

from sftrl_lib.methods.grpo import group_advantages

rows = []
for i in range(0, len(walked), walk_exp.method.group):
    group = walked[i : i + walk_exp.method.group]
    credits = group_advantages([e.rewards for e in group], walk_exp.method.discount)
    rows.append(
        {
            "position": group[0].item.position.kind,
            "groups": 1,
            "right at the first try": sum(e.turns[0].verdict.ok for e in group) / len(group),
            "with a signal": any(any(credit) for credit in credits),
        }
    )
kinds = pd.DataFrame(rows).groupby("position")
kinds.mean(numeric_only=False).assign(groups=kinds.size()).style.format(
    "{:.0%}", subset=["right at the first try", "with a signal"]
)

# %% [markdown]
# Most positions want `forward()`, the model knows it, and all eight agree: silence. What there is
# to learn is at the turns.

# %% [markdown]
# ## Cards in pictures: the eyes, or the rule?
#
# The question does not say what there is to see: a picture shows it. An expert's answer begins with
# the names of the cards, and SFT raises the probability of all its tokens, so every row also says
# outright what is in the picture. Two things are constant in these rows: a face card is a ten, as
# before, and all cards are black. The fourth panel has red cards under the old rule.

# %%
plots.show(figures.changes_from_init(results, task="gp-vl"))

# %% [markdown]
# Is it the eyes, or the rule? The left and the middle panel count cards that the first answer names
# rightly, the right one face cards that it gives the value the rule states. Before you look: which
# of the three would you expect to fall?

# %%
plots.show(figures.mechanism(results, task="gp-vl"))

# %% [markdown]
# With pictures SFT recites the training rule: it calls 84% of the face cards a 10, the init 2%.
#
# SFT's eyes get better, for black cards: it is told, card by card, what it should have seen. (In
# the paper they get worse.) And still it solves no more unseen hands than before, since what it
# does with the cards it sees is bound to the hands and the rule of its training. Better eyes are
# not better rules. Notebook 05 takes the two apart.

# %% [markdown]
# ### What the reward pays for
#
# In the image tasks an answer can fail before it calculates: it names a card that is not there. The
# verifier says so, and takes 1.5 for it, more than for a wrong result (1) and less than for
# numbers that are not the cards' (2). How often does the init fail in which way, what does it get
# for it, and what becomes of the next try?

# %%
look_exp, cards, looked = played("gp-vl")

# %%
import math


def credited(played: list, exp: Experiment):
    """(episode, the advantages of its tries) of all episodes, group by group."""
    for i in range(0, len(played), exp.method.group):
        group = played[i : i + exp.method.group]
        credits = group_advantages([e.rewards for e in group], exp.method.discount)
        yield from zip(group, credits, strict=True)


rows = []
for e, credit in credited(looked, look_exp):
    seen = [[a == b for a, b in cards.read_cards(e.item, t.text)] for t in e.turns[:2]]
    better = sum(seen[1]) - sum(seen[0]) if len(seen) > 1 else math.nan
    rows.append((e.turns[0].verdict.reason, e.rewards[0], credit[0], better))
columns = ["first answer", "reward", "advantage", "cards seen right: second minus first"]
fails = pd.DataFrame(rows, columns=columns).groupby("first answer")
fails.mean().assign(share=fails.size() / len(rows)).style.format(
    "{:+.2f}", subset=columns[1:], na_rep=""
).format("{:.0%}", subset=["share"])

# %% [markdown]
# Naming the cards rightly is praised though the formula's value is wrong: this is how an outcome
# reward could come to teach *seeing*, with nobody saying what is in the picture. (Not where the
# formula is illegal or has other numbers: that costs 3 and 2, more than misread cards.) And look at
# the third column: after a verdict the init names fewer cards rightly than before, although the
# picture is the same. What RL makes of that is told on the page *The first edition*.

# %% [markdown]
# ## Street views
#
# Streets at last: four views, and an expert who says what is in them before he says what is due. A
# sign shows the kind of a landmark and not its name, so the kind is what he names. (SFT is shown
# landmarks in every row; RL is told of none.)

# %%
plots.show(figures.changes_from_init(results, task="virl-vl"))

# %%
plots.show(figures.mechanism(results, task="virl-vl"))

# %% [markdown]
# The expert names the landmark in every answer, and SFT comes to name it too, though the action
# seldom depends on it. What becomes of the words of actions that no row of its training has shown
# differs from seed to seed: here, too, SFT finds the turn, and may then say it in the old words.
# And other cities, which are to be a test of the eyes? SFT gains there nearly as much as at home.
# The page *The first edition* says how new these cities are.

# %% [markdown]
# ### What the reward pays for
#
# On a walk with street views the verifier judges the action, and of what the answer observes only
# whether there is a crossing. What would you expect to become of the landmarks? First, what does it
# earn an answer of the init to have seen something rightly?

# %%
from sftrl_lib.tasks.navigation import observed, sighted

street_exp, streets, strolled = played("virl-vl")

# %%
rows = []
for e, credit in credited(strolled, street_exp):
    first = e.turns[0]
    for what, right in sighted(e.item, observed(first.text)).items():
        if what != "recognition":
            rows.append((what, right, first.verdict.ok, credit[0]))
pays = pd.DataFrame(rows, columns=["what", "seen right", "right action", "advantage"])
pays = pays.groupby(["what", "seen right"])
pays.mean().assign(answers=pays.size()).style.format("{:.0%}", subset=["right action"]).format(
    "{:+.2f}", subset=["advantage"]
)

# %% [markdown]
# A crossing that is overlooked, or seen where there is none, is what costs: the action fails with
# it. The verdict never looks at the landmark. Where it earns anything, it is by way of the action,
# and of so few answers that another seed gives another number.

# %% [markdown]
# RL comes to see crossings a little better and says nearly every turn in the words asked for; of
# landmarks it gets a few more right. SFT, which is shown them, gets more than twice as many. In the
# paper it is RL that improves the eyes. But RL can only learn what pays, so the question to ask of
# a task is what seeing is worth in it. Notebook 05 makes it pay.
