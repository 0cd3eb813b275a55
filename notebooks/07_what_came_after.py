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
# # 07 What came after
#
# A title such as *SFT Memorizes, RL Generalizes* is an invitation, and many accepted it. RL has
# only moved less, said one reply. SFT was only trained too long, said another. RL adds nothing, it
# sharpens. It was the learning rate. It was the loss. It was the data. They cannot all be the whole
# story, and each was measured on other models.
#
# You have what their readers lack: every checkpoint of one study, from a start whose past you know.
# So put them on trial. Four can be heard tonight, from rows that are recorded; one you can run in a
# minute; the rest have code here or none, and are listed as what they are: not run.
#
# | arXiv | It says | Here |
# |---|---|---|
# | 2509.04259 | what is forgotten follows the KL to the start, and RL stays near | the surprise |
# | 2509.12235 | OOD peaks early in SFT and declines, which the loss does not show | first trial |
# | 2601.21590 | RL's gains are mostly sharpening, which sampling can do by itself | second trial |
# | 2509.20758 | a small rate keeps other skills, at comparable gain | third trial |
# | 2508.05629 | SFT generalises if each token counts by its probability (DFT) | live |
# | 2510.00237 | SFT on varied instructions generalises | not run |
# | 2510.18874 | data of the policy's own are what protects | not run |
# | 2601.02151 | spare the tokens on which the model confidently disagrees (EAFT) | no code here |
# | 2601.19897 | learn from oneself, with a demonstration in view | no code here |
# | 2512.07783 | RL gains where pre-training has left headroom | notebook 06, in part |
# | 2603.12011 | RL transfers weakly to new interfaces | no code here |
# | 2504.07086 | seeds and decoding move results | second trial; notebook 04 |

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | smol | gpu-small | gpu-vision | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 30  # optimizer steps of each live run
live_batch = 64  # answers a step
episodes = 200  # episodes a measurement
other = "dft"  # dft | sft+kl | rejection: the arm beside SFT

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# Your first bet concerns the reply that is quoted most. If forgetting follows the distance from the
# start, then on cards, where SFT lost the rule and RL did not, SFT must have gone further.

# %%
from study.predict import Truth, predict, predictions

predict(
    "07.far", "On cards as text, which arm ends further from the init, in KL?",
    ["SFT", "RL", "both equally far"],
)  # fmt: skip

# %% [markdown]
# ## First trial: was SFT only trained too long?
#
# *OOD peaks early*, says arXiv 2509.12235: SFT first improves under the new rule, then forgets it,
# while the loss keeps falling. Our first edition stopped SFT on walks after a fixed budget. The
# second carries on to three times its length.

# %%
predict(
    "07.peak", "Walks: after what share of its longer training is SFT best under the new rule?",
    (0, 100), "%",
)  # fmt: skip

# %%
from sftrl_lib.results import load_results
from study import followups, plots

results = load_results(preset=preset)
curves = followups.sft_curves(results, preset)
plots.show(followups.draw_sft_curves(curves))

# %% [markdown]
# The dashed line is where the first edition's budget ended. In the first edition SFT looks
# harmless: it rises a little under the new rule, and has begun to fall. In the second the fall goes
# on, until hardly a step is right. And the dark line, new routes under the training's rule, shows
# none of it.
#
# **Verdict.** Supported here. It also says something about budgets: where one stops decides whether
# SFT forgets a little or everything.

# %% [markdown] exercise="peak_and_loss"
# **Exercise 07.1. When to have stopped** (easy, 5 minutes)
#
# A curve of OOD success along training: (step, value) pairs in order. Give the step at which
# it is highest (the earliest, if several are) and how much is lost from there to the end.
#
# <details><summary>Hint</summary>
#
# `max` with a `key` returns the first of equal items.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def peak_and_loss(curve: list[tuple[int, float]]) -> tuple[int, float]:
#     """(step of the peak, how much lower the end is)."""
#     step, top = max(curve, key=lambda point: point[1])
#     return step, top - curve[-1][1]
# ```
#
# This is the checkpoint that early stopping would keep, if it could look at OOD. Neither the
# training's loss nor ID success points at it.
#
# </details>
# %% exercise="peak_and_loss"
from teach import check


def peak_and_loss(curve: list[tuple[int, float]]) -> tuple[int, float]:
    """(step of the peak, how much lower the end is)."""
    ...  # your code


check("07.1", peak_and_loss)
# %% [markdown]
# ## Second trial: does RL only sharpen?
#
# A model that is mostly right at each word still fails often if it draws every word at random.
# Decode it greedily, and it improves without a single update. *RL's gains arise primarily from such
# sharpening*: this is the view that arXiv 2601.21590 starts from. The test costs nothing: play the
# same weights at several temperatures.

# %%
predict(
    "07.left", "Walks, training's rule: what share of RL's gain at temperature 1 is left greedily?",
    (0, 100), "%",
)  # fmt: skip

# %%
ends = followups.at_temperatures(results)
plots.show(followups.draw_temperatures(ends))

# %% [markdown]
# Under the training's rule follow the init from right to left. Colder sampling alone lifts it, most
# of the way to RL. RL's own line is flat: its answers are already sharp. What is left of the gap at
# temperature 0 is what RL has taught.
#
# **Verdict.** Mostly right on walks, under the training's rule. So a gain of RL that is measured at
# temperature 1 needs the init at its best temperature beside it. (And look at the panel of the new
# rule, *rule OOD*. Which of the three would you call the one that generalises?)

# %% [markdown] exercise="sharpened"
# **Exercise 07.2. Sharpen without training** (medium, 10 minutes)
#
# At temperature $T$ an answer of probability $p$ is drawn in proportion to $p^{1/T}$. Give
# the new probabilities. At temperature 0 the most probable answer has all of them (the first
# one, if several are).
#
# <details><summary>Hint</summary>
#
# Raise, then divide by the sum. Treat 0 apart.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def sharpened(probabilities: list[float], temperature: float) -> list[float]:
#     """The probabilities at another temperature."""
#     if temperature == 0:
#         best = probabilities.index(max(probabilities))
#         return [float(i == best) for i in range(len(probabilities))]
#     powers = [p ** (1 / temperature) for p in probabilities]
#     return [p / sum(powers) for p in powers]
# ```
#
# A model that is often right, but not surely, becomes better by decoding alone. What RL adds
# to *this* is what it has taught.
#
# </details>
# %% exercise="sharpened"
from teach import check


def sharpened(probabilities: list[float], temperature: float) -> list[float]:
    """The probabilities at another temperature."""
    ...  # your code


check("07.2", sharpened)
# %% [markdown] exercise="share_left"
# **Exercise 07.3. How much was sharpening** (medium, 10 minutes)
#
# Accuracies by seed, of the init and of an arm, sampled at temperature 1 and greedily. Which
# share of the arm's mean gain at temperature 1 is left when both answer greedily? Use only
# seeds that all four have.
#
# <details><summary>Hint</summary>
#
# The gain is a mean of differences within seeds; intersect the keys first.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def share_left(
#     init: dict[int, float],
#     arm: dict[int, float],
#     init_greedy: dict[int, float],
#     arm_greedy: dict[int, float],
# ) -> float:
#     """The greedy gain over the gain at temperature 1."""
#     seeds = init.keys() & arm.keys() & init_greedy.keys() & arm_greedy.keys()
#     gain = sum(arm[s] - init[s] for s in seeds)
#     return sum(arm_greedy[s] - init_greedy[s] for s in seeds) / gain
# ```
#
# A share near 1 speaks for something learned, a share near 0 for sharpening. Below 0, the
# arm's most probable answers have become worse.
#
# </details>
# %% exercise="share_left"
from teach import check


def share_left(
    init: dict[int, float],
    arm: dict[int, float],
    init_greedy: dict[int, float],
    arm_greedy: dict[int, float],
) -> float:
    """The greedy gain over the gain at temperature 1."""
    ...  # your code


check("07.3", share_left)
# %% [markdown]
# ## Third trial: was it the learning rate?
#
# *Use a small rate*, says arXiv 2509.20758: it keeps what else a model can do, at comparable gain.
# Notebook 06 has shown what a rate costs. Here is what it loses *for what it gains*: up is better
# under the new rule, right is better under the training's.

# %%
plots.show(followups.draw_trades())

# %% [markdown]
# On walks SFT's lowest rate stands highest and gives up little, as the paper advises, if by a hair.
# On cards the same advice keeps the new rule and does not learn the old one: no rate of SFT brings
# it to the right of its start.
#
# **Verdict.** Open. Each point is one run to three, at the first edition's length, which ends
# before the fall. The second edition tried five rates for each arm, but looked at validation routes
# alone, so that its test stays a test. At the length where SFT collapses, no other rate has been
# measured under the new rule.

# %% [markdown]
# ## Live: a reply of your own
#
# DFT changes one line of the loss (you wrote it in exercise 02.2): each token counts by its own
# probability, so that what the model finds absurd pulls it less. Train it beside SFT, from the same
# init, on the same rows. `other` is a parameter: `"sft+kl"` and `"rejection"` work as well.

# %%
predict(
    "07.live", "New rule, a minute of training: whose formulas keep more of the right numbers?",
    ["the other arm's", "SFT's", "about the same"],
)  # fmt: skip

# %%
from sftrl_lib.experiment import Experiment
from study.notebook import live

plain = Experiment(
    method="sft", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, lr=1e-3, eval_points=2, eval_episodes=episodes, eval_tries=1,
)  # fmt: skip
runs = {plots.name_of(m): live(plain.replace(method=m)) for m in ("sft", other)}

# %%
from study.knobs import knob_figure

shown = dict(method="sft", split="rule_ood", metric="numbers_right", preset=preset)
plots.show(knob_figure(runs, results, **shown))

# %% [markdown]
# Both fall from the same start. Bars that overlap tell you nothing about which fell less; more
# episodes, more steps and more seeds would. One short run is how a hypothesis begins.
#
# ## The surprise
#
# Now the reply that is quoted most. *RL's Razor* finds that what is forgotten follows the KL to the
# start, measured on the new task, whatever the method; and that RL finds solutions that are near.
# We log that KL at every checkpoint. Each panel is a task, each line an arm on its way:

# %%
distances = followups.distances(results, preset)
plots.show(followups.draw_distances(distances))

# %% [markdown]
# On first-edition walks, street views and cards in pictures it is as they say: RL stays near. On
# cards as text it is the other way round. RL goes *further* than SFT, and rises under the new rule,
# while SFT, with the shorter way, falls. At any distance that both have reached, RL is far above.
#
# The second edition's walks turn even that round. RL ends about as far from the init as SFT stands
# at its first checkpoint. There SFT has kept the new words and RL has lost some; SFT loses nearly
# all of them further out, where RL never went.
#
# **Verdict.** Whether RL stays near depends on the task, and on cards and on these walks the
# distance alone does not decide who forgets.

# %% [markdown] exercise="at_distance"
# **Exercise 07.4. At equal distance** (medium, 15 minutes)
#
# A path of an arm: its distance from the init at each checkpoint, rising, and its OOD success
# there. What is the success at a given distance? Go along straight lines between checkpoints;
# before the first and after the last hold their values.
#
# <details><summary>Hint</summary>
#
# Find the two neighbours of the distance, and how far it lies between them.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def at_distance(distances: list[float], values: list[float], level: float) -> float:
#     """The value of a path where it passes a distance."""
#     if level <= distances[0]:
#         return values[0]
#     for i in range(1, len(distances)):
#         if level <= distances[i]:
#             part = (level - distances[i - 1]) / (distances[i] - distances[i - 1])
#             return values[i - 1] + part * (values[i] - values[i - 1])
#     return values[-1]
# ```
#
# Two arms that end at different distances can be compared where both have been. If their
# values differ *there*, the distance is not the reason.
#
# </details>
# %% exercise="at_distance"
from teach import check


def at_distance(distances: list[float], values: list[float], level: float) -> float:
    """The value of a path where it passes a distance."""
    ...  # your code


check("07.4", at_distance)
# %% [markdown]
# ## Why
#
# A KL says how far, not where to. On cards RL changes how answers are written: each number once, a
# formula that counts. That may be a long way, but it is the same way under both rules. SFT moves
# less, and towards formulas in which no number exceeds ten, which is the wrong way under one of
# them.
#
# That is a reading of one panel. It can be wrong in a way that you can check: measure the KL not on
# the training's questions but on those of the new rule, and see whether SFT is the far one there.
# Nobody has, here.

# %% [markdown]
# ## Not run
#
# What has code here, and no recorded run. Hours are for one seed on one core, at the pace of
# recorded SFT; sampling, for *the model's own answers*, comes on top.

# %%
import pandas as pd

pd.set_option("display.max_colwidth", None)
followups.not_run()

# %% [markdown]
# The mixtures answer the question that the paper cannot: is it the rule that SFT memorises, or does
# it forget words that its labels never hold? Rows under other rules hold other rules; rows of
# pre-training hold only the words. Notebook 05 asks the same of what is recorded.

# %% [markdown]
# ## Your predictions

# %%
far = distances["cards"].query("step > 0").groupby(["method", "step"]).x.mean()
nats = {m: far[m].iloc[-1] for m in ("sft", "rl")}
step, top = followups.peak(curves["second edition"]["rule_ood"])
length = curves["second edition"]["rule_ood"].step.max()
gained = followups.gains(ends)
kept = {}
for name, run in runs.items():
    rows = run.evals().query("split == 'rule_ood' and metric == 'numbers_right'")
    kept[name] = 100 * rows.value.iloc[-1]
sft, beside = kept.values()
winner = (
    "the other arm's" if beside > sft + 5 else "SFT's" if sft > beside + 5 else "about the same"
)
said = ", ".join(f"{name} {share:.0f}%" for name, share in kept.items())
predictions("07", {
    "07.far": Truth("RL" if nats["rl"] > nats["sft"] else "SFT",
                    f"RL {nats['rl']:.1f} nats, SFT {nats['sft']:.1f}"),
    "07.peak": Truth(100 * step / length, f"step {step}, {top:.0f}% of the steps right"),
    "07.left": Truth(100 * gained[0.0] / gained[1.0],
                     f"{gained[0.0]:+.1f} of {gained[1.0]:+.1f} points"),
    "07.live": Truth(winner, f"{said}; closer than 5 points counts as the same"),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Four more stand
# in the sections above.)

# %% [markdown] exercise="leashed_sft"
# **Exercise 07.5. Turn the leash** (hard, 20 minutes)
#
# `sft+kl` pays for leaving the init at the tokens that it learns. Train it beside the two
# arms of this notebook at a light and at a heavy weight. Which of your two numbers moves
# first as the weight grows: what it learns, or what it keeps?
#
# <details><summary>Hint</summary>
#
# `live(plain.replace(method="sft+kl", kl_weight=0.3))` trains one.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# for weight in (0.03, 0.3):
#     leashed = live(plain.replace(method="sft+kl", kl_weight=weight))
#     rows = leashed.evals().query("step == step.max() and metric == 'numbers_right'")
#     loss = leashed.metrics().loss.iloc[-1]
#     print(f"weight {weight}: loss {loss:.3f}", dict(zip(rows.split, rows.value.round(2))))
# ```
#
# The loss that is printed holds the anchor, too. Compare the numbers under the training's
# rule with those under the new one.
#
# </details>
# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="07_what_came_after"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** OOD success peaks early in SFT. Which curve of the training would have told you
# to stop?
#
# <details><summary>a) None of those that look at the training's rule</summary>
#
# **Right.** The loss falls and ID success rises on, while OOD success declines.
#
# </details>
#
# <details><summary>b) Success on new hands or routes under the training's rule</summary>
#
# **No.** It rises or stays past the peak.
#
# </details>
#
# <details><summary>c) The training loss</summary>
#
# **No.** It keeps falling past the peak.
#
# </details>
#
# **Question 2.** An init is played greedily, and reaches what RL reaches at temperature 1. What
# follows?
#
# <details><summary>a) Temperature should always be 0</summary>
#
# **No.** That depends on what the model is for, and RL needs variety.
#
# </details>
#
# <details><summary>b) RL has learned nothing</summary>
#
# **No.** Compare both greedily first: something may be left.
#
# </details>
#
# <details><summary>c) That gain of RL may be sharpening alone</summary>
#
# **Right.** Decoding alone gives as much; compare both arms greedily.
#
# </details>
#
# **Question 3.** On one task an arm that moved further forgot less. What does that do to the rule
# "forgetting follows the KL"?
#
# <details><summary>a) It refutes the papers that found it</summary>
#
# **No.** They measured other models, tasks and kinds of forgetting.
#
# </details>
#
# <details><summary>b) It shows that the distance alone does not decide there</summary>
#
# **Right.** How far is one number; in which direction is another question.
#
# </details>
#
# <details><summary>c) Nothing, it is noise</summary>
#
# **No.** Then repeat it on more seeds; several seeds show it here.
#
# </details>
#
# **Question 4.** A small learning rate forgets less. Which comparison tells whether that is worth
# something?
#
# <details><summary>a) What is lost at the end of training</summary>
#
# **No.** The same: the ends are not equally far.
#
# </details>
#
# <details><summary>b) What is lost at equal steps</summary>
#
# **No.** The smaller rate has then also learned less.
#
# </details>
#
# <details><summary>c) What is lost at equal gain</summary>
#
# **Right.** A rate that has hardly moved the model has forgotten nothing and learned nothing.
#
# </details>
#
# **Question 5.** A paper's method helps its authors' model and does nothing on yours within a
# minute. What may you say?
#
# <details><summary>a) What was run, for how long, and that nothing was seen</summary>
#
# **Right.** A short run with one seed can miss an effect.
#
# </details>
#
# <details><summary>b) That the method works, only more slowly</summary>
#
# **No.** Nobody has seen that, either.
#
# </details>
#
# <details><summary>c) That the paper is wrong</summary>
#
# **No.** Model, task, length and seeds all differ.
#
# </details>
# %% [markdown]
# ## What next
#
# Five replies were heard, and none of them is the whole story on one small model. That is what a
# reply looks like from inside a study. If your own machine has a GPU, notebook 08 says which of the
# larger models it can put on trial.
#
# * Shenfeld et al., *RL's Razor*, arXiv 2509.04259.
# * Jin et al., *RL Fine-Tuning Heals OOD Forgetting in SFT*, arXiv 2509.12235.
# * *Scalable Power Sampling*, arXiv 2601.21590.
# * Lin et al., *SFT Doesn't Always Hurt General Capabilities*, arXiv 2509.20758.
# * Wu et al., *On the Generalization of SFT*, arXiv 2508.05629. *Debunk the Myth of SFT
#   Generalization*, arXiv 2510.00237. Chen et al., *Retaining by Doing*, arXiv 2510.18874.
# * `data/registration.json`: what the second edition will decide, written before it ran.
# * `CONTRIBUTING.md`: a method is one file; a reply of your own needs no more.
