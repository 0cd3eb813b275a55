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
# # 06 Ablations: the sceptic's knob
#
# You have a result: RL rises under the new rule, SFT falls. A sceptic comes to your poster, points
# at one setting, and asks: "And if you turn *this*?" A result that survives at one setting only is
# an anecdote, and she knows it.
#
# An **ablation** is the answer to her. One setting is turned, everything else is held, and the same
# seeds run again. This notebook turns four knobs: how often the model may try, how the compute is
# counted, how fast it learns, and where it starts. One of the four turns the paper's finding upside
# down. Bet on which.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | smol | gpu-small | gpu-vision | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 12  # optimizer steps of the live run
live_batch = 128  # episodes a step
episodes = 200  # episodes a measurement
knob = "tries"  # any setting of Experiment
turned = 1  # its value in the live run

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## The knob of the paper: tries
#
# The paper trains RL with more and more tries an episode, at the same budget, and finds that growth
# under the new rule rises with the tries (its Fig. 10). With one try an episode ends with a verdict
# that nobody reads. With several the model can *use* the verdict. Say what you expect of the first
# answers, which no verdict has helped yet.

# %%
from study.predict import Truth, predict, predictions

predict(
    "06.first", "New rule, first answers only: trained with ten tries instead of one, it has",
    ["more of them right", "as many right", "fewer right"],
)  # fmt: skip

# %%
from sftrl_lib.results import load_results
from study import figures, plots

results = load_results(preset=preset)
plots.show(figures.training_tries(results))

# %% [markdown]
# As in the paper, one try in training gives the least. From three on our curve is flat, where the
# paper's goes on rising. Where does the gain sit? Here are the same ends, by the number of tries
# that the *test* allows:

# %%
from sftrl_lib.registry import ABLATIONS

arms = ABLATIONS["tries"].rows(results.query("preset == @preset"))
ends = arms[(arms.split == "rule_ood") & (arms.metric == "success")]
ends = ends[ends.step == ends.groupby("run_id").step.transform("max")]
table = ends.pivot_table(index="train_tries", columns="tries", values="value")
words = {1: "first answers", 3: "within three tries"}
named = table[[*words]].rename(columns=words).rename_axis("tries in training")
named.rename_axis(columns=None).style.format("{:.1%}")

# %% [markdown]
# Read down the first column: it hardly moves. Tries in training do not teach better first answers.
# They teach what to do *after* a verdict. Whether the verdict is read for that, or only a
# repetition avoided, these rows cannot tell; a verifier that says nothing but "wrong" could.

# %% [markdown] exercise="answers_played"
# **Exercise 06.1. The price of tries** (easy, 5 minutes)
#
# An episode ends when a try succeeds, or when the tries run out. If each try succeeds with
# the same chance, how many answers does an episode have on average?
#
# <details><summary>Hint</summary>
#
# Try t takes place if the t - 1 before it have failed.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answers_played(chance: float, tries: int) -> float:
#     """Mean number of answers of an episode."""
#     return sum((1 - chance) ** t for t in range(tries))
# ```
#
# At equal compute, more tries mean fewer episodes. "Equal steps" and "equal compute" are
# different comparisons.
#
# </details>
# %% exercise="answers_played"
from teach import check


def answers_played(chance: float, tries: int) -> float:
    """Mean number of answers of an episode."""
    ...  # your code


check("06.1", answers_played)
# %% [markdown] exercise="solved_within"
# **Exercise 06.2. Hands are not alike** (medium, 10 minutes)
#
# Some hands are easy and some are hopeless. Given the chance of each hand, what share of the
# hands is solved within so many tries? (Within a hand the tries are independent.)
#
# <details><summary>Hint</summary>
#
# Compute the share for each hand, and take the mean of the shares.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def solved_within(chances: list[float], tries: int) -> float:
#     """Expected share of the hands that are solved within `tries` tries."""
#     return sum(1 - (1 - chance) ** tries for chance in chances) / len(chances)
# ```
#
# It is less than the mean chance would suggest: tries are wasted on hopeless hands. So
# success within several tries cannot be predicted from success at the first.
#
# </details>
# %% exercise="solved_within"
from teach import check


def solved_within(chances: list[float], tries: int) -> float:
    """Expected share of the hands that are solved within `tries` tries."""
    ...  # your code


check("06.2", solved_within)
# %% [markdown]
# ## The knob behind the knob: compute
#
# Tries are tokens, and "at the same budget" therefore means fewer updates for the arm with more
# tries. The paper's formula counts every token of a conversation once. The code of these runs did
# more: at each try it read the conversation again. (Today's reads it once.) And it did less: a
# group whose episodes all earn the same has no gradient, and is skipped.

# %%
predict(
    "06.price", "Equal on paper: how many times as much did ten tries really compute as one try?",
    (1, 10), " times",
)  # fmt: skip

# %%
from study import one_knob

price = one_knob.price_of_tries(arms)
plots.show(one_knob.draw_price(price))

# %% [markdown]
# Hatched bars are nearly equal, as planned. Filled bars are not. So "at equal compute" is a
# sentence with a choice in it, and whoever pays for the machine chooses differently. Our results
# use the paper's count and keep the other beside it, in the column `compute_done`.

# %% [markdown]
# ## The knob that both arms have: the learning rate
#
# A reviewer's first question is whether SFT was trained too hard. Before the recorded runs each arm
# was tried at several rates, on seeds that no result uses.

# %%
predict(
    "06.rate", "At which of three rates does SFT keep most of the new rule?",
    ["the lowest", "the middle one", "the highest"],
)  # fmt: skip

# %%
from sftrl_lib.experiment import Experiment

tried = one_knob.attempts("gp-l", "h48-500", "success", 3)
chosen = {m: Experiment(method=m).method.lr for m in ("sft", "rl")}
titles = {"id_unseen": "ID, unseen", "rule_ood": "rule OOD"}
name = "Cards: success within three tries"
plots.show(one_knob.draw_rates(tried, name, "success (%)", titles, chosen))

# %% [markdown]
# Under the new rule SFT goes from its start's level to nothing, by its rate alone. This is no
# accident of one start. On every foundation model on which three rates were tried, SFT keeps most
# at the lowest and loses most at the highest. But under the training's rule the lowest rate is the
# worst of the three. A rate that forgets nothing may have taught nothing: compare what is lost *for
# what is gained* (notebook 07 draws it so).
#
# There is a flaw in this picture, and you can see it. RL's ring stands at the edge of what was
# tried. Nobody knows what lies beyond, and a choice at an edge is no choice.
#
# ## How a rate should be chosen
#
# The second edition's rule: one grid of rates for both arms, wide enough that no choice lies at its
# edge; judged on validation routes, under the training's rule alone, with no look at OOD.

# %%
from study.registration import registration

tried = one_knob.attempts("virl-l", "two-cities", "per_step", 2)
chosen = {m: registration()["arms"]["virl-l"][m]["lr"] for m in ("sft", "rl")}
name, label = "Walks: both arms on one grid of rates", "per-step accuracy (%)"
plots.show(one_knob.draw_rates(tried, name, label, {"validation": "validation routes"}, chosen))

# %% [markdown]
# Both curves turn down at their ends, so both rings are real choices. They do not agree: what suits
# SFT already harms RL, and one step further RL walks nowhere at all. A comparison that gave both
# arms the same rate would be a comparison of rates.

# %% [markdown] exercise="knobs"
# **Exercise 06.3. One knob at a time** (easy, 5 minutes)
#
# Two runs are compared. Which settings differ? A setting that is absent has its default
# value, which is given.
#
# <details><summary>Hint</summary>
#
# Lay both dictionaries over the defaults.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def knobs(one: dict, other: dict, defaults: dict) -> set[str]:
#     """Names of the settings in which two runs differ."""
#     a, b = defaults | one, defaults | other
#     return {name for name in a | b if a.get(name) != b.get(name)}
# ```
#
# If the answer holds more than one name, the comparison cannot say which one matters.
#
# </details>
# %% exercise="knobs"
from teach import check


def knobs(one: dict, other: dict, defaults: dict) -> set[str]:
    """Names of the settings in which two runs differ."""
    ...  # your code


check("06.3", knobs)
# %% [markdown]
# ## The surprise
#
# Back to tries. Before this book's foundation model there was an earlier one, pre-trained longer
# and on cards alone. The same seeds ran on it, with the same tries at the same budget. Its rows are
# in `data/first_foundation.csv`.

# %%
predict(
    "06.start", "On the earlier model, ten tries in training end",
    ["ahead of one try", "level with one try", "behind one try"],
)  # fmt: skip

# %%
import pandas as pd

init = results.query("preset == @preset and task == 'gp-l' and method == 'init'")
gains = {
    "the model of this book": one_knob.gains_by_tries(plots.stack(arms, init)),
    "an earlier model": one_knob.gains_by_tries(pd.read_csv(one_knob.FIRST_FOUNDATION)),
}
plots.show(one_knob.draw_gains(gains))

# %% [markdown]
# The curves cross. On one start more tries help, on the other they hurt, with the same seeds and
# the same budget. Had we stopped at either model, we would have had a finding, and perhaps a paper.
# The knob that turns the paper's finding round is not on the paper's list: it is the start. (Each
# start has the learning rate that was chosen for it, so strictly two knobs have moved.)
#
# ## Why
#
# RL works on what the start still gets wrong. The earlier model solved more hands before RL began.
# If it had less to learn from a verdict, it did best where the budget bought most updates, with one
# try. The book's model begins lower, and gains by learning to correct itself. That is one reading,
# of two models. It makes a prediction, which is what a reading is for: the gain from tries should
# follow how much a start leaves to a second answer. Testing it takes starts of several strengths,
# by design and not by accident.

# %% [markdown]
# ## Turn one yourself
#
# One setting changed, everything else as in the recorded RL arm. `knob` and `turned` are parameters
# of this notebook: try `"scheme"` and `"binary"`, `"credit"` and `"episode"`, or `"kl_weight"` and
# a small number. It is drawn over the recorded seeds.

# %%
from study.notebook import live

run = live(Experiment(**{
    "method": "rl", "preset": preset, "precision": precision, "seed": seed, "steps": live_steps,
    "batch": live_batch, "eval_points": 2, "eval_episodes": episodes, knob: turned,
}))  # fmt: skip

# %%
from study.knobs import knob_figure

name = f"live RL, {knob}={turned}"
shown = dict(split="training", metric="trained_rows", preset=preset)
plots.show(knob_figure({name: run}, results, **shown))

# %% [markdown]
# With one try fewer rows have an advantage: more groups are silent (notebook 03), and each update
# rests on less. Now any knob. The panel says what a run would cost, trains it in the background,
# and draws it as it grows; Stop saves it, and Start goes on.

# %%
from study.panel import panel

panel(results, preset)

# %% [markdown]
# And every row that was ever recorded, any metric on any axis. Compare two arms, and click a point
# to read its episodes. (In the HTML book the page *Explorer* does this without a kernel.) The
# figure below is one such view: success under the training's rule lies across, under the new rule
# upwards. Whatever its tries, RL moves to the right and up; SFT moves down.

# %%
from study.widgets import explorer

explorer(load_results(), preset)

# %%
plots.show(plots.explore(results, split="rule_ood", metric="success", x="id_unseen"))

# %% [markdown]
# ## Your predictions

# %%
first, spent = table[1], price[one_knob.EXECUTED]
more = 100 * (first[10] - first[1])
moved = "as many right" if abs(more) < 1 else "more of them right" if more > 0 else "fewer right"
cards = one_knob.attempts("gp-l", "h48-500", "success", 3).query("split == 'rule_ood'")
kept = cards[cards.method == "sft"].sort_values("lr").value.to_numpy()
earlier = gains["an earlier model"]
behind = 100 * (earlier[10].mean - earlier[1].mean)
where = "behind" if behind < -1 else "ahead of" if behind > 1 else "level with"
predictions("06", {
    "06.first": Truth(moved, f"{first[1]:.1%} after one, {first[10]:.1%} after ten"),
    "06.price": Truth(spent[10] / spent[1], "see the filled bars"),
    "06.rate": ["the lowest", "the middle one", "the highest"][kept.argmax()],
    "06.start": Truth(f"{where} one try", f"{behind:+.1f} points"),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Three more
# stand in the sections above.)

# %% [markdown] exercise="kl_to_init"
# **Exercise 06.4. How far has it moved?** (easy, 5 minutes)
#
# The distance that this book measures is $\text{KL}(\pi_\text{init} \,\|\, \pi) = \sum_a
# \pi_\text{init}(a) \log \frac{\pi_\text{init}(a)}{\pi(a)}$. Compute it for two distributions
# over a few answers. Answers that the init never gives do not count.
#
# <details><summary>Hint</summary>
#
# Skip the answers that have probability zero under the init.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import math
#
#
# def kl_to_init(init: list[float], policy: list[float]) -> float:
#     """KL of the policy from the init, in nats."""
#     return sum(p * math.log(p / q) for p, q in zip(init, policy, strict=True) if p > 0)
# ```
#
# The KL has a direction: it asks what became of the things that the *init* says. Forgetting
# shows in this direction.
#
# </details>
# %% exercise="kl_to_init"
from teach import check


def kl_to_init(init: list[float], policy: list[float]) -> float:
    """KL of the policy from the init, in nats."""
    ...  # your code


check("06.4", kl_to_init)
# %% [markdown] exercise="your_ablation"
# **Exercise 06.5. Your ablation** (hard, 30 minutes)
#
# Choose a knob that you believe matters. First write down which figure would change, and in
# which direction. Then run it: in this notebook, or for several seeds with `python -m
# sftrl_lib rl`. Were you right, and how sure are you?
#
# <details><summary>Hint</summary>
#
# `python -m sftrl_lib rl --help` lists all settings.
#
# </details>
#
# <details><summary>Solution</summary>
#
# There is no model solution, but there is a check. Does the sentence that you wrote down
# contain a direction, a metric and a split? Only then can it be wrong.
#
# </details>
# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="06_ablations"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** Runs with different numbers of tries are compared at equal compute. What differs
# besides the tries?
#
# <details><summary>a) The init</summary>
#
# **No.** All start from the same one.
#
# </details>
#
# <details><summary>b) Nothing</summary>
#
# **No.** Then the compute would differ.
#
# </details>
#
# <details><summary>c) The number of updates</summary>
#
# **Right.** Longer episodes cost more tokens, so the same budget buys fewer of them.
#
# </details>
#
# **Question 2.** You see a result, turn a knob, and run the same seeds again. Why is the new
# result weaker evidence?
#
# <details><summary>a) The choice of the knob was made with these seeds in view</summary>
#
# **Right.** New seeds have not taken part in the choice.
#
# </details>
#
# <details><summary>b) The seeds are used up by training</summary>
#
# **No.** Seeds can be run again; it is the choice that has seen them.
#
# </details>
#
# <details><summary>c) A second run is noisier</summary>
#
# **No.** It is as noisy as the first.
#
# </details>
#
# **Question 3.** Why are hyperparameters chosen by ID success only?
#
# <details><summary>a) To choose by the test would make the test a part of training</summary>
#
# **Right.** A number that was chosen for cannot be used as evidence.
#
# </details>
#
# <details><summary>b) OOD success cannot be measured in training</summary>
#
# **No.** It can, and this book does measure it.
#
# </details>
#
# <details><summary>c) ID and OOD success always agree</summary>
#
# **No.** They do not; that is the subject of the book.
#
# </details>
#
# **Question 4.** One arm forgets more at its learning rate. What must a fair comparison do?
#
# <details><summary>a) Use the rate at which the difference is largest</summary>
#
# **No.** That would choose the result.
#
# </details>
#
# <details><summary>b) Search the same grid of rates for both arms</summary>
#
# **Right.** Otherwise the comparison is one of rates.
#
# </details>
#
# <details><summary>c) Give both arms the same rate</summary>
#
# **No.** The two losses have different scales.
#
# </details>
#
# **Question 5.** Two settings changed at once, and success rose. Which one was it?
#
# <details><summary>a) The one that changed more</summary>
#
# **No.** Sizes of changes in different settings cannot be compared.
#
# </details>
#
# <details><summary>b) That cannot be told from these runs</summary>
#
# **Right.** It takes a run with each change alone.
#
# </details>
#
# <details><summary>c) Both, half each</summary>
#
# **No.** Effects need not add up.
#
# </details>
# %% [markdown]
# ## What next
#
# A knob that was turned after looking at the result needs new seeds. The second edition registers
# its knobs first (`data/registration.json`). Others have turned knobs of their own since the paper
# came out, and disagree: notebook 07.
#
# * Chu, Zhai et al., arXiv 2501.17161, section 5.4: more tries, and its grids of rates.
# * Zhang et al., arXiv 2512.07783: what RL can gain is decided by what pre-training left to gain.
# * `data/tuning.csv`: every setting that was tried on the development seeds, and what it gave.
