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
# # 06 Ablations: what does the result hang on?
#
# A result that holds for one setting is an anecdote. This notebook turns single knobs and looks
# at what the conclusion does. After it you can
#
# * say what the number of verification tries in training changes, and how sure we are;
# * say how far the result hangs on the start and on the learning rate;
# * explore every recorded run with a widget;
# * turn a knob yourself, live, and see it over the recorded curves.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about two minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/` | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (one live run) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 12  # optimizer steps of the live run
live_batch = 128  # episodes a step
episodes = 200  # episodes a measurement
knob = "tries"  # any setting of Experiment
turned = 1  # its value in the live run

# %%
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## Verification tries
#
# The paper trains RL with 1, 3, 5 or 10 tries an episode, at the same budget, and finds that OOD
# growth rises with the tries (Fig. 10). Why could that be? With one try, an episode ends with a
# verdict that nobody reads. With more, the model can *use* the verdict, and a hand is an occasion
# to learn even after a failure. But tries cost compute: they are tokens. How many, in a world
# where each try succeeds with probability $p$, whatever was said before?


# %%
def expected(p: float, tries: int) -> tuple[float, float]:
    """(chance that an episode of up to `tries` tries is solved, mean number of its answers)."""
    solved = 1 - (1 - p) ** tries
    return solved, solved / p  # mean of a geometric variable, cut off at `tries`


for tries in (1, 3, 5, 10):
    solved, answers = expected(0.1, tries)
    print(f"{tries:2} tries: {solved:4.0%} of the episodes solved, {answers:.1f} answers each")

# %% [markdown]
# So "at equal steps" and "at equal compute" are different questions. The protocol asks the second:
# these runs differ in the tries, and in as many steps as spend about the same compute. The figure's
# dots are seeds, beside the paper's own curve.

# %%
from sftrl_lib.results import load_results
from study import figures, plots

results = load_results(preset=preset)
plots.show(figures.training_tries(results))

# %%
from sftrl_lib.registry import ABLATIONS

ends = ABLATIONS["tries"].rows(results.query("preset == @preset"))
ends = ends[(ends.split == "rule_ood") & (ends.metric == "success")]
ends = ends[ends.step == ends.groupby("run_id").step.transform("max")]
table = ends.pivot_table(index="train_tries", columns="tries", values="value")
cost = ends.groupby("train_tries")[["step", "compute"]].mean()
table.join(cost.rename(columns={"step": "updates"})).style.format(
    dict.fromkeys(table.columns, "{:.1%}") | {"updates": "{:.0f}", "compute": "{:.2e}"}
)

# %% [markdown]
# Rows: tries in training, with what they cost (updates, FLOPs); columns: tries in the test. Along a
# row the verifier helps at test time; down a column, see whether tries in training did.
#
# As in the paper, one try in training gives the least; from three on our curve is flat, where the
# paper's goes on rising. (The claim `gp-l.fig10`, ten tries against one, has the right sign, but is
# not significant after correction.) Where does the gain come from? Look down the first column: of
# *first* answers, one try in training makes as many right as ten. The rows part in the second and
# third column. What parts them lies in what is answered *after* a verdict. Is the verdict read,
# then, or is it enough not to repeat oneself? Ours cannot tell these apart; a verifier that says
# only "wrong" could. (An earlier foundation model, pre-trained longer, on cards alone, showed the
# opposite order: ten tries ended 3.3 points [-5.8, -0.9] behind one. Its rows are in
# `data/first_foundation.csv`. How much a start can still learn from a verdict is a property of the
# start.)
#
# It is not a matter of more updates: an episode of ten tries costs as many tokens as five of one
# try, so the same budget buys a fifth of the updates. The curve of three tries passes the same
# numbers of updates on its way:

# %%
path = ABLATIONS["tries"].rows(results.query("preset == @preset"))
path = path[(path.split == "rule_ood") & (path.metric == "success") & (path.tries == 3)]
at_updates = path.pivot_table(index="step", columns="train_tries", values="value")
at_updates.style.format("{:.1%}", na_rep="").format_index("{} updates")

# %% [markdown]
# Compare each end with its neighbours in the column of three tries (300 episodes a seed there, so
# two points either way are noise). And keep an eye on what "compute" counts: every token of a
# conversation once, as the paper does. When these runs were recorded, the rollout read the
# conversation again at each try, so a run of ten tries took about six times as long as one of one.

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
# ## The start and the learning rate
#
# Settings were chosen before the recorded runs, on two other seeds (100 and 101), by what the
# claims look at, measured on unseen items of the *training* rule. (The test seeds had been run once
# before, on `constant-900`: its outcome was known when `h48-500` was made.) Every attempt is a row
# of `data/tuning.csv`. An attempt is a foundation model, the length of the init that follows it, an
# arm and its learning rate:

# %%
import json

import pandas as pd

from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import TASKS
from sftrl_lib.stats import tries_of
from study.grids import TUNING_TABLE


def attempts(task: str, metric: str):
    """The mean of each attempt's last measurements, and the number of its runs."""
    usual = Experiment(task=task, method="init")
    tried = pd.read_csv(TUNING_TABLE).query("task == @task and metric == @metric")
    tried = tried[tried.tries == tries_of(metric, usual.evaluation.eval_tries)]
    tried["init steps"] = [
        json.loads(c).get("init_steps", usual.method.steps) for c in tried.condition
    ]
    arms = ["foundation", "init steps", "method", "lr"]
    chart = tried.pivot_table(index=arms, columns="split", values="value", aggfunc="mean")
    chart["runs"] = tried[tried.split == "rule_ood"].groupby(arms).size()
    return chart.style.format("{:.1%}", subset=[name for name in chart if name != "runs"])


attempts("gp-l", TASKS["gp-l"].headline)

# %% [markdown]
# Most rows are one or two runs of a few hundred episodes: a map, not a result. The first three
# foundation models were pre-trained on cards alone: `constant-900` (900 steps), `constant-1300`
# (trained longer), `annealed-1200` (learning rate taken down to zero at the end). `h48-500` is the
# one in this book: 500 steps of cards and walks.
#
# The map says two things. *The learning rate decides what SFT loses*: from every start on which
# three were tried the highest takes most or all of the new rule away, and the lowest takes least.
# *The start decides what RL can gain*: most from `constant-900` and `h48-500`, which still had to
# learn things that both rules share, such as using each number once; next to nothing from the
# others, at the learning rates that do not cost success on the training rule. The book's headline
# is one point of this map. (How long the arms train was not chosen by this criterion: it was set
# when curves under the new rule had been seen on these two seeds.)

# %%
attempts("virl-l", TASKS["virl-l"].headline)

# %% [markdown]
# `w16-700` saw fewer walks, and in most of them an answer was the bare action; the `h48` models
# (500, 600, 700 steps) saw more, and quote the sentence that is due before they act on it. Three
# things can be read here:
#
# * *How a model tracks decides what carries over.* `w16-700` picks the word straight from the
#   route; what RL teaches it about absolute words does not help with relative ones, and SFT loses
#   them. A model that first quotes the sentence does the same work under both rules, and there
#   more of the gain carries over.
# * *The start decides what can be seen.* `h48-600` and `h48-700` walk almost without a mistake
#   right after the init. `h48-500` was taken because its start is right at about 80% of the steps
#   under both rules. This was a choice of design: the curves of `w16-700` had been seen, under the
#   new rule too.
# * *RL is not safe at every rate.* On the training rule its higher rates do no better than its
#   lowest, and under the new one they do clearly worse.
#
# And SFT? Its highest rate is the best on unseen routes, so it is the book's. The next table looks
# at one half of a turn: is it said in the words that are asked for?

# %%
attempts("virl-l", "words_right")

# %% [markdown]
# Here SFT forgets, the more so the higher the rate. RL's words stay at its lower rates, and not at
# its highest. Per-step accuracy hides what SFT forgets, because the other half, finding the turn
# that is due, gets better meanwhile:

# %%
attempts("virl-l", "turn_found")

# %% [markdown]
# With pictures, on the book's foundation model:

# %%
attempts("gp-vl", TASKS["gp-vl"].headline)

# %%
attempts("gp-vl", "hand_read")

# %% [markdown]
# RL's highest rate costs it hands that the lower ones go on reading; SFT's rates differ in what
# they do to red ones. (Not tried, since their neighbours ruled them out: RL at 1e-3, SFT at 3e-5.)
# On street views RL's two lower rates lie close; one seed spoke for the one, the second for the
# other, and their mean decided:

# %%
attempts("virl-vl", TASKS["virl-vl"].headline)

# %%
attempts("virl-vl", "landmark_seen")

# %% [markdown]
# Here the verifier never asks which landmark was seen, and under RL's higher rates naming it can be
# lost; SFT, which is told the landmark in every row, learns to name it.

# %% [markdown]
# ## The explorer
#
# Every recorded row, any metric, any axis. Compare two arms, leave seeds out, and click a point to
# read its episodes. (In the HTML book the page *Explorer* does this without a kernel.)

# %%
from study.widgets import explorer

explorer(load_results(), preset)

# %%
plots.show(plots.explore(results, split="rule_ood", metric="success", x="id_unseen"))

# %% [markdown]
# Behind each row stand episodes; every recorded run has kept a sample of them (three are printed in
# notebook 00):

# %%
from study.notebook import recorded_run
from study.widgets import episode_viewer

episode_viewer(recorded_run("rl", preset, seed).episodes())

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
# ## Live: turn a knob
#
# One setting changed, everything else as in the recorded RL arm, drawn under a name of its own.
# `knob` and `turned` are parameters of this notebook: try `"scheme"` and `"binary"`, `"credit"`
# and `"episode"`, `"temperature"` and `0.7`, `"kl_weight"` and `0.05`.

# %%
from study.notebook import live

settings = dict(
    method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
run = live(Experiment(**settings | {knob: turned}))

# %%
from study.knobs import knob_figure

name = f"live RL, {knob}={turned}"
plots.show(knob_figure({name: run}, results, preset=preset))

# %%
plots.show(plots.training_log({name: run.metrics()}, ["reward", "solved", "trained_rows"]))

# %% [markdown]
# ## Any knob, in the background
#
# The panel holds every setting of a run, says what the run would cost, and trains it in a process
# of its own: the notebook stays usable, Stop saves, and Start goes on from there. The run grows
# over the recorded seeds of its arm, and stays in the list under its name, to be compared with the
# next one. The first one it offers is estimated at about half a minute of one free core.

# %%
from study.panel import panel

panel(results, preset)

# %% [markdown]
# The panel draws what `knob_figure` draws. The live run again, by its rewards, step by step:

# %%
plots.show(knob_figure({name: run}, results, split="training", metric="reward", preset=preset))

# %% [markdown]
# ## What to inspect
#
# * The tries figure: is there a trend, and do the intervals of 1 and 10 tries part?
# * In the table: does training with tries help at *one* test try, or only with the verifier at
#   hand?
# * In the explorer: choose `value_reading` against KL. Which arm reads worse at equal distance?
# * The live run is short. What would you have to run to turn it into a claim?

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

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
# ## Summary
#
# Tries in training are the first knob, because the paper names it. The explorer shows what was
# recorded; the command line records more. A knob that was turned after looking at the result
# needs new seeds.
#
# ## Further reading
#
# * Chu, Zhai et al., arXiv 2501.17161, section 5.4 and Figs. 10, 16, 17.
# * Shenfeld et al., *RL's Razor*, arXiv 2509.04259, and *Retaining by Doing*, arXiv 2510.18874.
# * `data/tuning.csv`: every setting that was tried on the development seeds, and what it gave.
