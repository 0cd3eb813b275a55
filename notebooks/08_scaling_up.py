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
# # 08 Scaling up: a card, and an evening
#
# Everything so far ran on a model that fits into an e-mail. You own a graphics card, or may use
# one, and you have an evening. How much of the paper's experiment can you run? Its authors trained
# all weights of a model of eleven billion, Llama 3.2 Vision, on eight of the largest cards.
#
# The same functions that you have used train that model, or a smaller one that your card holds. You
# can know beforehand which, without loading a weight, and this notebook shows the arithmetic.
#
# One thing first, so that you know what you would be doing: **no GPU has run any of this.** What
# was checked was checked on a CPU, on small models or with random weights. You would be the first.
# Bet on what fits.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | smol | gpu-small | gpu-vision | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 30  # optimizer steps of each live run
live_batch = 64  # answers a step
episodes = 200  # episodes a measurement

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## One word changes
#
# A **preset** names a model, how hard each method pushes it, and at which precision. Prompts,
# environments, verifier, trainers, evaluation and figures have no tiers. So one file describes an
# experiment for all of them; here is all that differs between the smallest and the largest.

# %%
import pandas as pd

from sftrl_lib.experiment import Experiment, read_settings
from sftrl_lib.places import ROOT

file = ROOT / "configs" / "gp-vl.yaml"
given = {name: values[0] for name, values in read_settings(file).items()}
tiers = {
    tier: Experiment(lenient=True, **given, method="rl", preset=tier).flat
    for tier in ("tiny", "llama-11b")
}
table = pd.DataFrame(tiers)
table[table.nunique(axis=1) > 1]

# %% [markdown]
# ## Does it fit?
#
# Reading with eleven billion weights is one thing. To *train* a weight takes the weight, its
# gradient, and two running means of the optimiser.

# %%
from study.predict import Truth, predict, predictions

predict(
    "08.full", "RL of the 11B model with pictures, all weights trained, row by row: how much?",
    (10, 400), " GB",
)  # fmt: skip

# %%
from study import costs, figures, plots

plans = {name: [costs.least(name)["rl"]] for name in costs.SETUPS}
plots.show(figures.memory(plans, costs.CARDS))

# %% [markdown]
# The weights are the smaller part of the longest bar. What fills it is the training of them. The
# other bars train an adapter instead, and leave the weights as they are: in 16 bits, or packed into
# four. The planner adds this up from a model's configuration alone, for any model: `python -m
# sftrl_lib plan --gpu-memory 24GB`. It was held against peaks that were measured on a CPU; the
# lines for GPUs are arithmetic.

# %% [markdown] exercise="training_bytes"
# **Exercise 08.1. What training takes** (medium, 10 minutes)
#
# Frozen weights take the bits that they are stored in. Each trained weight takes 16 bytes:
# itself, its gradient, and two running means of AdamW, in 32 bits each. How many bytes does
# that make in all? (Activations come on top.)
#
# <details><summary>Hint</summary>
#
# Eight bits are a byte.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def training_bytes(frozen: int, bits: int, trained: int) -> float:
#     """Bytes of weights, gradients and optimiser."""
#     return frozen * bits / 8 + 16 * trained
# ```
#
# QLoRA reduces both terms: four bits for what is frozen, few weights that are trained.
#
# </details>
# %% exercise="training_bytes"
from teach import check


def training_bytes(frozen: int, bits: int, trained: int) -> float:
    """Bytes of weights, gradients and optimiser."""
    ...  # your code


check("08.1", training_bytes)
# %% [markdown] exercise="cache_bytes"
# **Exercise 08.2. The cache of an answer** (medium, 10 minutes)
#
# While a model writes, it keeps a key and a value for each token read, in each layer and for
# each key-value head. How many bytes is that, for rows that are written side by side?
#
# <details><summary>Hint</summary>
#
# Keys and values: two of each.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def cache_bytes(layers: int, heads: int, head_dim: int, tokens: int, rows: int, size: int) -> int:
#     """Bytes of a cache of numbers that take `size` bytes each."""
#     return 2 * layers * heads * head_dim * tokens * rows * size
# ```
#
# It grows with the rows and with their length. Fewer rows side by side cost only time.
#
# </details>
# %% exercise="cache_bytes"
from teach import check


def cache_bytes(layers: int, heads: int, head_dim: int, tokens: int, rows: int, size: int) -> int:
    """Bytes of a cache of numbers that take `size` bytes each."""
    ...  # your code


check("08.2", cache_bytes)
# %% [markdown]
# ## Four bits, by hand
#
# **NF4** cuts the weights into short blocks, divides each by its largest absolute value, and rounds
# to sixteen fixed levels, which are spaced as normally distributed numbers are: dense near zero.
# Kept are four bits a weight and one scale a block.

# %%
predict(
    "08.error", "Sixteen levels for each weight: how large is the error, in % of their norm?",
    (0, 60), "%",
)  # fmt: skip

# %%
import bitsandbytes as bnb
import torch

torch.manual_seed(seed)
weight = torch.randn(64, 64) * 0.02
packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
levels = state.code


def by_hand(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to NF4 and back; rows are blocks."""
    scale = weight.abs().amax(1, keepdim=True)
    nearest = (weight / scale)[..., None].sub(levels).abs().argmin(-1)
    return levels[nearest] * scale


theirs = bnb.functional.dequantize_4bit(packed, state)
assert torch.allclose(by_hand(weight), theirs, atol=1e-6)
error = (theirs - weight).norm() / weight.norm()
print("levels:", [round(level, 2) for level in levels.tolist()])
print(f"{packed.numel()} bytes for {weight.numel()} weights, and {state.absmax.numel()} scales")

# %% [markdown] exercise="quantised"
# **Exercise 08.3. Four bits, by hand** (medium, 15 minutes)
#
# Quantise a block of weights: divide it by its largest absolute value, replace each result by
# the nearest of the given levels, and multiply by the scale again. A block of zeros stays as
# it is.
#
# <details><summary>Hint</summary>
#
# `(scaled[:, None] - levels).abs().argmin(1)` finds the nearest level of each.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
#
# def quantised(block: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
#     """The block as it is after rounding to the levels and back."""
#     scale = block.abs().max()
#     if scale == 0:
#         return block
#     nearest = ((block / scale)[:, None] - levels).abs().argmin(1)
#     return levels[nearest] * scale
# ```
#
# One outlier sets the scale of its whole block, and coarsens the other weights in it. That is
# why blocks are short.
#
# </details>
# %% exercise="quantised"
import torch

from teach import check


def quantised(block: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The block as it is after rounding to the levels and back."""
    ...  # your code


check("08.3", quantised)
# %% [markdown]
# ## LoRA, by hand
#
# The packed matrix $W$ stays. Beside it a product of two thin matrices is trained:
#
# $$
# y = W x + \frac{\alpha}{r} B A x, \qquad A \in \mathbb{R}^{r \times n},\; B \in \mathbb{R}^{m
# \times r}
# $$
#
# $B$ starts at zero, so training starts from the model as it was. Together, four bits and an
# adapter are called **QLoRA**. The larger the model, the smaller the share that is trained:

# %%
costs.adapters()

# %% [markdown] exercise="adapter_size"
# **Exercise 08.4. The size of an adapter** (easy, 5 minutes)
#
# LoRA trains two thin matrices beside each weight matrix of m by n: one of m by r, one of r
# by n. How many numbers does it train for the given matrices?
#
# <details><summary>Hint</summary>
#
# r (m + n) for each matrix.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def adapter_size(shapes: list[tuple[int, int]], rank: int) -> int:
#     """Numbers that LoRA trains for weight matrices of these shapes."""
#     return sum(rank * (m + n) for m, n in shapes)
# ```
#
# It grows with the sum of the sides, while the matrix grows with their product.
#
# </details>
# %% exercise="adapter_size"
from teach import check


def adapter_size(shapes: list[tuple[int, int]], rank: int) -> int:
    """Numbers that LoRA trains for weight matrices of these shapes."""
    ...  # your code


check("08.4", adapter_size)
# %% [markdown]
# ## Your card, your model
#
# The smallest card on which all three stages fit with one row at a time, and where that path has
# been run. A larger card runs more rows side by side, in less time. The third column never says
# GPU.

# %%
pd.set_option("display.max_colwidth", None)
costs.cards()

# %% [markdown]
# The first two rows are the presets `gpu-small` and `gpu-vision`, made for an evening on a card of
# your own; the others are `llama-11b`, at a `--precision` of `qlora`, `lora` or `full`. To fit is
# not to finish: on the smallest card that holds it, one seed of the 11B model in four bits takes
# days, and of the first two an evening. So says the forecast on the page *Tiers*. Nobody has
# watched the clock.
#
# Between them and the tiny model lies `smol`, a small language model that others have pre-trained.
# It runs on two cores, and each stage was recorded once, with few steps. *Base* is the model as it
# is delivered:

# %%
from sftrl_lib.results import load_results

small = load_results().query("source == 'ours' and preset == 'smol' and task == 'gp-l'")
shown = {"legal": "a legal formula", "value_reading": "face cards read as stated"}
found = {}
for method in ("base", "init", "sft", "rl"):
    rows = small[(small.split == "rule_ood") & (small.method == method) & (small.tries == 1)]
    ends = rows[rows.step == rows.step.max()].set_index("metric").value
    found[plots.name_of(method)] = {words: ends.get(name) for name, words in shown.items()}
pd.DataFrame(found).T.style.format("{:.0%}", na_rep="none to read")

# %% [markdown]
# As delivered it writes nothing that can be read, so there is nothing that RL could reward. That is
# what an init is for: less than two hundred worked answers teach the form. What the arms then do
# takes more steps than two cores have in an hour.
#
# ## What would it cost?
#
# The paper's measure: $6 N$ operations for a trained token, $2 N$ for one that is read or written
# in a rollout, with $N$ the weights that a token passes. A picture costs on top. It is cut into
# patches, and the **tower**, the part of the model that sees, passes every patch through its
# weights and compares every patch with every other.

# %%
predict(
    "08.look", "One look at a picture costs the 11B model as much as reading how many tokens?",
    (0, 5000), " tokens",
)  # fmt: skip

# %%
costs.hours()

# %% [markdown]
# *Paper*: its own settings, all weights, the tower's too, spread over its cards, which this library
# does not do; the length of its SFT is our assumption.
# *Ours*: the preset, with adapters. What is a guess is how much of a card's peak a run reaches
# (`costs.SHARE`). It moves every hour here in proportion, and nothing else. **Take them as a floor
# and not as a forecast.** Writing answers token by token waits for memory and for Python, and
# reaches far less, so RL's hours are the least certain; measuring, which writes answers too, is not
# counted and is no trifle. (The forecast on the page *Tiers* counts both.) On a GPU the library
# therefore records a decode step once, as a CUDA graph, and replays it without Python; what that
# saves, no GPU has shown.
#
# Why is the picture so cheap in our RL? A frozen tower sees the same hand the same way each time,
# so the library looks once a deal, and not once an answer.
#
# ## When you run it
#
# 1. `make gpu-check` looks at the card, runs the tiny tier on it, then the packed kernels, and,
#    where there are weights, a step of the large model.
# 2. Gated models: accept the licence on the model's page, `export HF_TOKEN=...` and
#    `SFTRL_ONLINE=1`; or give a local copy, `--model FOLDER`.
# 3. `python -m sftrl_lib init --preset gpu-small --task gp-l`, then the same with `sft` and `rl`.
#    With `--preset llama-11b` the authors' own inits are starts, too: `--start
#    tianzhechu/GP-L-Init --wording authors`.
# 4. It stops? The same command goes on, from the last checkpoint. Another setting is another run.
# 5. It does not fit? A run that cannot fit is refused before it loads anything, with numbers that
#    would. Fewer rows side by side (`--generation_batch_size`, `--micro_batch`) cost time and
#    change no result. Text before pictures; `--precision qlora` before a smaller model.
# 6. Several cards: `accelerate launch --config_file configs/ddp.yaml -m sftrl_lib sft ...`. Each
#    holds a whole model, trains on a share of the rows and plays a share of each measurement.
# 7. `python -m sftrl_lib merge runs/yours/RUN/weights FOLDER` makes one checkpoint of an adapter
#    and its base.
#
# The rates of the presets are reasoned and not tuned: an adapter's best rate lies about ten times
# above that of full training, and RL's gradient is noisy, so its rate is lower. A verdict on two
# arms needs one grid of rates for both, as in notebook 06.
#
# ## The surprise
#
# Nothing about QLoRA needs a GPU. So here is the copyist of notebook 02, live, twice from one init:
# all weights trained, and packed into four bits with an adapter. This is the recipe with which most
# owners of one card will repeat the paper.

# %%
predict(
    "08.keeps", "As many steps, the same rate. New rule: which keeps more of the right numbers?",
    ["all weights trained", "the adapter", "about the same"],
)  # fmt: skip

# %%
from study.notebook import live

first = Experiment(
    preset=preset, precision=precision, method="sft", seed=seed, steps=live_steps,
    batch=live_batch, lr=1e-3, eval_points=1, eval_episodes=episodes, eval_tries=1,
)  # fmt: skip
arms = {"all weights": first, "adapter": first.replace(precision="qlora")}
runs = {name: live(exp, kl=True) for name, exp in arms.items()}

# %%
logs = {name: run.metrics() for name, run in runs.items()}
plots.show(plots.training_log(logs, columns=["loss"]))

# %% [markdown]
# By the loss at the end you could not tell the two apart: four bits and an adapter learn the
# training's rows as well. Now the new rule:

# %%
measures = {
    "right numbers, new rule": ("rule_ood", "numbers_right"),
    "face cards read, new rule": ("rule_ood", "value_reading"),
    "KL to the init": ("id_unseen", "kl_to_init"),
}
found = {}
for name, run in runs.items():
    rows = run.evals().query("step == step.max()").set_index(["split", "metric"]).value
    found[name] = {words: rows[which] for words, which in measures.items()}
pd.DataFrame(found).style.format("{:.2f}")

# %% [markdown]
# The adapter has moved a fraction as far, and forgets much less. Had you repeated the paper in this
# way, on the one card that you own, you would have seen SFT fit its rows and keep the rule, and you
# would have written that the paper is wrong.
#
# ## Why
#
# An adapter of low rank learns less and forgets less (arXiv 2405.09673), and the paper's finding
# *is* a forgetting: SFT loses the rule. So an SFT arm on an adapter that does not fall does not
# refute the paper. It may only show how small a step was taken. Look at the KL before you conclude,
# and train until it is as large. The setting that should show the fall has a higher rank and a
# higher rate (not run by anybody here):
#
#     python -m sftrl_lib sft --preset llama-11b --task gp-l --start tianzhechu/GP-L-Init \
#         --wording authors --rank 256 --lr 2e-4
#
# And a merged adapter is not the model that was trained: it was learned beside rounded weights, and
# is added to unrounded ones. Measure again after merging.

# %% [markdown]
# ## Your predictions

# %%
kept = {name: 100 * column["right numbers, new rule"] for name, column in found.items()}
ahead = kept["adapter"] - kept["all weights"]
names = {"all weights": "all weights trained", "adapter": "the adapter"}
best = "about the same" if abs(ahead) < 5 else names[max(kept, key=kept.get)]
predictions("08", {
    "08.full": Truth(costs.least("11B, pictures, all weights")["rl"].peak / 2**30, "planned"),
    "08.error": 100 * float(error),
    "08.look": Truth(costs.tokens_of_a_look(), "counted"),
    "08.keeps": Truth(best, ", ".join(f"{name} {share:.0f}%" for name, share in kept.items())),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Four more stand
# in the sections above.)

# %% [markdown] exercise="forget_or_learn"
# **Exercise 08.5. Does the adapter forget less, or only learn less?** (hard, 20 minutes)
#
# Train the adapter at three times the rate. If it still forgets less than training all
# weights does: does it forget less *for what it learned*? Compare the right numbers under the
# new rule at the same loss, and at the same KL.
#
# <details><summary>Hint</summary>
#
# `live(arms["adapter"].replace(lr=3 * first.method.lr), kl=True)` trains it.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# faster = live(arms["adapter"].replace(lr=3 * first.method.lr), kl=True)
# for name, run in (runs | {"a faster adapter": faster}).items():
#     rows = run.evals().query("step == step.max()").set_index(["split", "metric"]).value
#     kept, kl = rows["rule_ood", "numbers_right"], rows["id_unseen", "kl_to_init"]
#     print(f"{name:17} loss {run.metrics().loss.iloc[-1]:.3f}, KL {kl:.2f}, {kept:.0%} kept")
# ```
#
# </details>
# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="08_scaling_up"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** What does LoRA train?
#
# <details><summary>a) Two thin matrices beside each weight matrix</summary>
#
# **Right.** The matrix itself stays as it is.
#
# </details>
#
# <details><summary>b) A smaller copy of the model</summary>
#
# **No.** Nothing is copied.
#
# </details>
#
# <details><summary>c) The last layers only</summary>
#
# **No.** Adapters stand beside the linear layers of all blocks.
#
# </details>
#
# **Question 2.** Where does QLoRA save most of the memory of full fine-tuning?
#
# <details><summary>a) It leaves out activations</summary>
#
# **No.** They are still there, and grow with the rows.
#
# </details>
#
# <details><summary>b) Gradients and optimiser are kept for the adapter alone</summary>
#
# **Right.** Frozen weights need neither, and they take four bits each.
#
# </details>
#
# <details><summary>c) It trains on fewer tokens</summary>
#
# **No.** The data are the same.
#
# </details>
#
# **Question 3.** An adapter of low rank forgets little. Why is that not yet evidence against the
# paper?
#
# <details><summary>a) Adapters cannot forget</summary>
#
# **No.** They can, at higher rates and ranks.
#
# </details>
#
# <details><summary>b) It may also have learned little</summary>
#
# **Right.** Compare what is forgotten for what is learned.
#
# </details>
#
# <details><summary>c) The paper used adapters too</summary>
#
# **No.** It trained all weights.
#
# </details>
#
# **Question 4.** Why does one outlier harm its whole block in four bits?
#
# <details><summary>a) It is stored in 16 bits</summary>
#
# **No.** Only the scale is; the outlier has four bits like the others.
#
# </details>
#
# <details><summary>b) The largest value sets the scale of the block</summary>
#
# **Right.** The other weights then share the few levels near zero.
#
# </details>
#
# <details><summary>c) It overflows</summary>
#
# **No.** Dividing by the largest value prevents that.
#
# </details>
#
# **Question 5.** Fewer rows go side by side. What changes?
#
# <details><summary>a) Time and memory, and not what is learned</summary>
#
# **Right.** The gradient of a step is the same sum over the same rows.
#
# </details>
#
# <details><summary>b) The identity of the run</summary>
#
# **No.** It is part of the price of a run and not of its identity.
#
# </details>
#
# <details><summary>c) The batch of a step</summary>
#
# **No.** It is made of more, smaller parts.
#
# </details>
# %% [markdown]
# ## What next
#
# The tiers share one path, and every branch of it runs on a CPU. What nobody here has seen is a
# GPU. The plans, the hours and the presets' rates are reasoning, to be held against the first real
# run. If that is yours, please tell us what `make gpu-check` said.
#
# * Dettmers et al., *QLoRA*, arXiv 2305.14314; Hu et al., *LoRA*, arXiv 2106.09685.
# * Schulman et al., *LoRA Without Regret*, Thinking Machines Lab, 2025: rates, and which layers.
# * Biderman et al., *LoRA Learns Less and Forgets Less*, arXiv 2405.09673.
# * The page "Tiers" of the book: which presets there are, and what ran where.
