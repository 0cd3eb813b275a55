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
# # 00 Start here: does it learn the rule, or the examples?
#
# Two ways to train a language model after pre-training: let it *imitate* correct answers
# (supervised fine-tuning, SFT), or let it *try*, and reward what a verifier accepts
# (reinforcement learning, RL). Chu, Zhai and others asked what each of them learns, and their
# title is the answer that they found: *SFT memorizes, RL generalizes*. This book lets you hold
# that sentence against an experiment that fits on two CPU cores. After this notebook you can
#
# * say what "in distribution" and "out of distribution" mean here, exactly;
# * read the main figure of the book, and say what it does not show;
# * watch the same hand being played by three models.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about two minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/`, nothing else | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (one live run) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 8  # optimizer steps of the live run
live_batch = 128  # episodes a step
episodes = 200  # episodes a measurement

# %%
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## The question
#
# The game is GeneralPoints: make 24 from four cards. The question states how much J, Q and K
# count. All training happens under one rule; the test changes that sentence, and nothing else:

# %%
from sftrl_lib.tasks.general_points import GeneralPoints

task = GeneralPoints(rule="ten", ood_rule="eleven_twelve_thirteen")
for split in ("id_paired", "rule_paired"):
    deal = task.item(split, seed, 0)
    print(f"{split}: {deal.rule.name}\n{task.prompt(deal)}\nOne solution: {deal.solutions()[0]}\n")

# %% [markdown]
# Same cards, another rule, another solution. A model that has learned "*read the rule, then
# calculate*" does not care. A model that has learned "*a face card is a ten*" was right
# throughout its training, and fails now. Both look alike in distribution. That is the whole idea
# of the study:
#
# 1. a **foundation model** that follows any stated rule, somewhat;
# 2. a short **init** that teaches the answer's format, the same for both arms;
# 3. two arms from that one checkpoint, at equal compute: **SFT** and **RL with verification**;
# 4. a test under the training rule and under a new one, on hands that no training has seen.
#
# On this tier the foundation model is our own, so we know what it has seen: many random rules,
# but never the training rule nor the test rule.

# %% [markdown] exercise="numbers_of"
# **Exercise 00.1. Read the rule** (easy, 3 minutes)
#
# Give the numbers that a hand stands for. An ace counts as 1, a number card as its number,
# and J, Q and K as the rule says.
#
# <details><summary>Hint</summary>
#
# `rule.get(card)` is `None` for a card that the rule does not mention.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def numbers_of(cards: list[str], rule: dict[str, int]) -> list[int]:
#     """The numbers of cards such as ["A", "7", "J"] under a rule such as {"J": 10, "Q": ...}."""
#     return [(rule | {"A": 1}).get(card) or int(card) for card in cards]
# ```
#
# Following the rule means no more than this. A model that has learned it needs no second
# training run for another rule.
#
# </details>

# %% exercise="numbers_of"
from teach import check


def numbers_of(cards: list[str], rule: dict[str, int]) -> list[int]:
    """The numbers of cards such as ["A", "7", "J"] under a rule such as {"J": 10, "Q": ...}."""
    ...  # your code


check("00.1", numbers_of)

# %% [markdown] exercise="gives_away"
# **Exercise 00.2. Give the memoriser away** (easy, 5 minutes)
#
# A model has learned the training rule by heart: it uses the training values whatever the
# question states. Which hands show that? Write a test for one hand.
#
# <details><summary>Hint</summary>
#
# Look for a card to which the two rules give different values.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def gives_away(cards: list[str], trained: dict[str, int], stated: dict[str, int]) -> bool:
#     """Whether using the `trained` values on this hand is a mistake under the `stated` rule."""
#     return any(trained.get(card) != stated.get(card) for card in cards)
# ```
#
# Under the training rule no hand gives the memoriser away. So no measurement in distribution
# can tell it from a model that reads the rule.
#
# </details>

# %% exercise="gives_away"
from teach import check


def gives_away(cards: list[str], trained: dict[str, int], stated: dict[str, int]) -> bool:
    """Whether using the `trained` values on this hand is a mistake under the `stated` rule."""
    ...  # your code


check("00.2", gives_away)

# %% [markdown]
# ## The recorded result
#
# This page reads the rows of `data/results.csv`. They come from seeds 0 to 4, by a protocol that
# was fixed before these runs. The seeds themselves were not new: on an earlier foundation model
# they had been run once before, and its rows stand in `data/first_foundation.csv` (under the new
# rule RL +4.4 points, SFT -3.9). Ten of the 40 recorded runs of the two arms were made on code with
# uncommitted changes, as their manifests say. From left to right the test moves away from training:
# hands that were dealt in training, hands that never were, and such hands under the new rule. On
# the right stand the paper's own numbers, hatched: another model, thousands of times larger,
# another reward scale, so compare *directions*, not heights.

# %%
from sftrl_lib.results import load_results
from study import figures, plots

results = load_results(preset=preset)
plots.show(figures.changes_from_init(results))

# %%
plots.show(figures.success_against_compute(results))

# %% [markdown]
# Where an arm falls, what does it do wrong? An answer says aloud what each card counts as before it
# calculates, so we can ask two things: is each face card read as the rule says (left, middle)? And
# does the formula then use the numbers that the rule gives (right)?

# %%
plots.show(figures.mechanism(results))

# %% [markdown]
# The paper's second task is a walk through a city by written directions. Its rule is what a turn is
# called: in training the direction to face then ("northeast"), in the test the way to turn
# ("slightly right"). Notebook 01 walks a route.

# %%
plots.show(figures.changes_from_init(results, task="virl-l"))

# %% [markdown] exercise="rise"
# **Exercise 00.3. Points and per cent** (easy, 3 minutes)
#
# Success rises from one rate to another. Say by how many percentage points, and by how many
# per cent of where it started. (The paper prints points. Accounts of it often do not say
# which they mean.)
#
# <details><summary>Hint</summary>
#
# Points are a difference of rates; per cent of the start are that difference, divided.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def rise(before: float, after: float) -> tuple[float, float]:
#     """(percentage points, per cent of the start); rates are between 0 and 1, before is not 0."""
#     return 100 * (after - before), 100 * (after - before) / before
# ```
#
# From a low start a small rise in points is a large one in per cent. This book uses points.
#
# </details>

# %% exercise="rise"
from teach import check


def rise(before: float, after: float) -> tuple[float, float]:
    """(percentage points, per cent of the start); rates are between 0 and 1, before is not 0."""
    ...  # your code


check("00.3", rise)

# %% [markdown]
# ## Ask the models yourself
#
# Choose what J, Q and K count as, and four cards; the init and the ends of both arms answer. Is
# each face card read as *your* rule says? (The HTML book's page *Playground* does the same in the
# browser.)

# %%
from study import touch

touch.playground()

# %% [markdown]
# ## Three episodes
#
# The same hand under the new rule, played by the init and by both arms at the end of training. The
# hand is chosen, by a rule: the first kept deal of this seed on which the first answers differ as
# the averages above do, so that the init and RL use the right numbers and SFT does not. (If a tier
# has no such deal, the first that all three have kept.)
#
# Look at `"number"`, then at the formula. All three read the king as 13, which is right. SFT's
# first formula leaves the 13 out, and so do its other two. RL solves the hand at its second try,
# and that is not typical: of the 60 deals kept over five seeds RL solves 6, the init 2, SFT none.
# On 16 of them the first answers differ as they do here.

# %%
from IPython.display import HTML, display

from study.notebook import recorded_episodes
from study.widgets import render_episode

played = {m: recorded_episodes(m, "rule_ood", preset, seed) for m in ("init", "sft", "rl")}


def right_numbers(method: str, index: int) -> bool:
    """Whether a first answer uses the numbers that the rule gives."""
    return played[method][index]["verdicts"][0]["reason"] in ("solved", "wrong_value")


shared = sorted(set.intersection(*(set(by_index) for by_index in played.values())))
wanted = {"init": True, "sft": False, "rl": True}
telling = [i for i in shared if {m: right_numbers(m, i) for m in played} == wanted]
index = (telling or shared)[0]
for method, by_index in played.items():
    display(HTML(f"<h4>{plots.name_of(method)}</h4>" + render_episode(by_index[index])))

# %% [markdown]
# ## Live: a minute of RL
#
# Nothing above was computed in front of you. This is: a few RL steps from the same init, with the
# same learning rate, drawn dashed and open over the recorded curves. (Run it twice: the second
# time it is loaded, and says so. Delete the folder it names to train again.)

# %%
from sftrl_lib.experiment import Experiment
from study.notebook import live

exp = Experiment(
    method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
run = live(exp)
plots.show(figures.success_against_compute(results, live=run.evals()))

# %% [markdown]
# ## What to inspect
#
# * **The bars.** Is the change of each arm larger than its interval? Are ID and OOD moving
#   together?
# * **The curves.** Where along the way does an arm turn? Would you have stopped there, had you
#   only seen the ID panel?
# * **Reading and using.** Which of the two goes first, and does it go before, with or after OOD
#   success?
# * **The walk.** Does the second task tell the same story? Notebook 04 takes a turn apart.
# * **The live run.** It is noisy: it has few episodes. Which recorded seeds does it lie between?
#
# The book's claims, one by one, supported or not, are in notebook 04; what they hang on is in 05.

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

# %% [markdown] exercise="sft_tokens"
# **Exercise 00.4. Equal compute** (medium, 10 minutes)
#
# The paper counts $6N$ operations for each token that is trained, and for RL another $2N$
# for each token that is read or written in a rollout:
#
# $$
# X_\text{SFT} = 6N (D_\text{init} + D_\text{SFT}), \qquad
# X_\text{RL} = 6N (D_\text{init} + D_\text{RL}) + 2N D_\text{buffer}
# $$
#
# An RL run trained on $D_\text{RL}$ tokens and collected $D_\text{buffer}$. On how many
# tokens may the SFT arm train, so that both have spent the same?
#
# <details><summary>Hint</summary>
#
# Set the two equal. Both the size of the model and the init cancel.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def sft_tokens(d_rl: float, d_buffer: float) -> float:
#     """D_SFT for which both arms spend the same compute."""
#     return d_rl + d_buffer / 3
# ```
#
# A token of rollout costs a third of a token of training.
#
# </details>

# %% exercise="sft_tokens"
from teach import check


def sft_tokens(d_rl: float, d_buffer: float) -> float:
    """D_SFT for which both arms spend the same compute."""
    ...  # your code


check("00.4", sft_tokens)

# %% [markdown] exercise="other_explanation"
# **Exercise 00.5. The other explanation** (hard, 10 minutes)
#
# "RL generalizes" might only mean "RL moved less". Which figure of this book could tell the
# two apart, and what would it have to show?
#
# <details><summary>Hint</summary>
#
# Plot OOD success not against compute, but against a measure of how far a model has moved.
#
# </details>
#
# <details><summary>Solution</summary>
#
# OOD success against ID success, and against the KL to the init. If the RL curve lies above
# the SFT curve at *equal* ID success, or at equal KL, then "it moved less" is not enough.
#
# ```python
# plots.show(figures.ood_against_id_and_kl(results))
# ```
#
# </details>

# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="00_start_here"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** What does "out of distribution" mean for the card task of this book?
#
# <details><summary>a) The question states another value for J, Q and K than in training</summary>
#
# **Right.** The format, the game and the target stay. Only the stated rule changes.
#
# </details>
#
# <details><summary>b) The model has never seen cards</summary>
#
# **No.** It has played under many random rules in pre-training.
#
# </details>
#
# <details><summary>c) The hands are larger than in training</summary>
#
# **No.** Every hand has four cards, in training and in the test.
#
# </details>
#
# **Question 2.** Why do SFT and RL start from the same init?
#
# <details><summary>a) Because SFT cannot start from a foundation model</summary>
#
# **No.** The init itself is SFT on the foundation model.
#
# </details>
#
# <details><summary>b) To save compute</summary>
#
# **No.** It does save some, but a fair comparison is the reason.
#
# </details>
#
# <details><summary>c) So that a difference between their ends was made by the two arms</summary>
#
# **Right.** The init teaches the answer's format once. Whatever happens after it is the arm's
# doing.
#
# </details>
#
# **Question 3.** A model calls every face card a ten. On which hands does it fail?
#
# <details><summary>a) On hands with a face card under the new rule</summary>
#
# **Right.** Under the training rule ten is right; without a face card there is nothing to
# misread.
#
# </details>
#
# <details><summary>b) On all hands it has not seen in training</summary>
#
# **No.** Unseen hands under the training rule are read correctly.
#
# </details>
#
# <details><summary>c) On every hand with a face card</summary>
#
# **No.** Under the training rule its reading is right.
#
# </details>
#
# **Question 4.** A live run of a few steps is drawn over the recorded curves. What may you
# conclude from it?
#
# <details><summary>a) That the recorded runs are right</summary>
#
# **No.** It may agree with them by chance.
#
# </details>
#
# <details><summary>b) That it trains, and roughly where it starts to move</summary>
#
# **Right.** One seed and few episodes. The recorded seeds show how much such a curve can vary.
#
# </details>
#
# <details><summary>c) Which arm is better</summary>
#
# **No.** For that you need several seeds and intervals.
#
# </details>
#
# **Question 5.** Why should you compare directions with the paper's bars, and not heights?
#
# <details><summary>a) The paper has more seeds</summary>
#
# **No.** It has one; this book has several.
#
# </details>
#
# <details><summary>b) The paper measures something else</summary>
#
# **No.** Success and per-step accuracy are measured as in the paper.
#
# </details>
#
# <details><summary>c) The model, its size and the length of training all differ</summary>
#
# **Right.** A model thousands of times smaller starts and ends elsewhere.
#
# </details>

# %% [markdown]
# ## Summary
#
# One model, one init, two arms, one changed sentence. In distribution the arms may look alike; the
# new rule tells reading from remembering. Everything else in this book is about making that
# comparison fair, and about finding where it stops being true.
#
# ## Further reading
#
# * Chu, Zhai et al., *SFT Memorizes, RL Generalizes*, arXiv 2501.17161.
# * Lu et al., *RL Fine-Tuning Heals OOD Forgetting in SFT*, arXiv 2509.12235, and *Debunk the
#   Myth of SFT Generalization*, arXiv 2510.00237: two answers to the paper.
# * Next: `01_environments`.
