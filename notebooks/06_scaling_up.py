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
# # 06 Scaling up: from 1.6 million parameters to 11 billion
#
# Everything so far ran on a model that fits into an e-mail. The same functions train the paper's
# own, Llama-3.2-11B-Vision, on one GPU. After this notebook you can
#
# * say what changes between the tiers, and what does not;
# * work out whether a stage fits into your GPU before you load anything;
# * pack weights into four bits by hand, and say what LoRA trains instead of them;
# * say what a run would cost you, and why nobody should take our word for it yet.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about two minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/` | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (two live runs) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | smol | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 20  # optimizer steps of each live run
live_batch = 128  # answers a step
episodes = 200  # episodes a measurement

# %%
from sftrl_lib.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## What changes
#
# One word. A preset names a model, how hard each method pushes it, and how many rows go side by
# side; here are two of them, whole. Prompts, environments, verifier, trainers, evaluation and
# figures have no tiers.

# %%
import pandas as pd

from sftrl_lib.config import PRESETS

pd.DataFrame({name: PRESETS[name] for name in ("tiny", "llama-11b")}).fillna("").style

# %% [markdown]
# ## Does it fit?
#
# 10.7 billion weights in the usual 16 bits take 20 GB before the first token is read. Training all
# of them takes, for each, the weight, its gradient and two running means of AdamW, in 32 bits: 16
# bytes. **QLoRA** changes both numbers: the linear layers of the language model are packed into 4
# bits and never change, and a small adapter beside them is trained. The planner adds it up from the
# model's configuration, without loading a weight:

# %%
from sftrl_lib.config import Experiment
from sftrl_lib.plan import GB, plan, render

big = Experiment(task="gp-vl", preset="llama-11b", method="rl")
stages = ("evaluate", "sft", "rl")
print(render([plan(big, stage, 24 * GB) for stage in stages]))

# %% [markdown]
# And without QLoRA, all weights trained:

# %%
from sftrl_lib import figures

whole = big.but(precision="full")
plans = {
    name: [plan(exp, stage, 24 * GB) for stage in stages]
    for name, exp in (("qlora", big), ("full", whole))
}
figures.show(figures.memory(plans))

# %% [markdown]
# Which line is the largest in each column, and which of them grow with the number of rows? The
# cache of the picture deserves a look: eight layers look at 6,404 patches, for every answer that is
# being written.
#
# The same on the command line, with an exit code for scripts: `python -m sftrl_lib plan
# --gpu-memory 24GB`. The lines for GPUs are arithmetic: no GPU was at hand to measure them on.

# %% [markdown]
# ## Four bits, by hand
#
# NF4 cuts the weights into blocks of 64, divides each block by its largest absolute value, and
# rounds to 16 fixed levels, which are spaced as normally distributed numbers are: dense near zero.
# What is kept: 4 bits a weight and one scale a block (which *double quantisation* packs once more).

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
print("levels:", [round(level, 2) for level in levels.tolist()])
print(f"{packed.numel()} bytes for {weight.numel()} weights, and {state.absmax.numel()} scales")
print(f"error: {(theirs - weight).norm() / weight.norm():.1%} of the weights' norm")

# %% [markdown]
# ## LoRA, by hand
#
# The packed matrix $W$ stays. Beside it a product of two thin matrices is trained:
#
# $$
# y = W x + \frac{\alpha}{r} B A x, \qquad
# A \in \mathbb{R}^{r \times n},\; B \in \mathbb{R}^{m \times r}
# $$
#
# $B$ starts at zero, so training starts from the model as it was. With rank $r = 16$ that is:

# %%
from sftrl_lib.plan import Shape, architecture

for name in ("tiny", "llama-11b"):
    exp = Experiment(preset=name)
    shape = Shape(architecture(exp), exp.rank)
    share = shape.adapter / shape.parameters
    print(f"{name:10} {shape.parameters:14,} parameters, adapter {shape.adapter:11,} ({share:.1%})")

# %% [markdown]
# ## Live: the paper's recipe on our model
#
# Nothing about QLoRA needs a GPU: bitsandbytes has CPU kernels. So here is the SFT arm of notebook
# 02 twice from the same init, all weights trained, and 4 bits with an adapter. An adapter of low
# rank at a low learning rate is known to forget less (and to learn less); its rate here is three
# times that of the full run.

# %%
from sftrl_lib.notebook import live

settings = dict(
    preset=preset, method="sft", seed=seed, steps=live_steps, batch=live_batch, eval_points=2,
    eval_episodes=episodes,
)  # fmt: skip
runs = {"all weights": live(Experiment(precision=precision, **settings))}
runs["4 bits and an adapter"] = live(Experiment(precision="qlora", lr=1e-3, **settings))

# %%
logs = {name: run.metrics() for name, run in runs.items()}
figures.show(figures.training_log(logs, columns=["loss", "seconds"]))

# %%
shown = [("id_unseen", "success"), ("rule_ood", "value_reading"), ("id_unseen", "kl_to_init")]
table = {}
for name, run in runs.items():
    rows = run.evals().query("step == step.max()")
    for split, metric in shown:
        found = rows[(rows.split == split) & (rows.metric == metric)]
        table[split, metric] = table.get((split, metric), {}) | {name: found.value.iloc[-1]}
pd.DataFrame(table).style.format("{:.3f}")

# %% [markdown]
# ## What would it cost?
#
# The paper's measure of compute again: $6 N$ operations for a trained token, $2 N$ for one that
# is read or written in a rollout. Below: our presets for the 11B model, tokens as in the planner,
# and cards that reach 30% of what their data sheets promise for 16 bits. That share is the shaky
# number: generation with four-bit weights may reach a tenth of it.

# %%
from sftrl_lib.plan import conversation

TENSOR = {"1 x 24 GB (RTX 4090)": 165e12, "1 x 80 GB (H100)": 989e12}
TENSOR["8 x 80 GB (H100)"] = 8 * TENSOR["1 x 80 GB (H100)"]
costs = {}
for method in ("init", "sft", "rl"):
    exp = Experiment(task="gp-vl", preset="llama-11b", method=method)
    first, conversation_tokens = conversation(exp)
    tokens = exp.steps * exp.batch * (conversation_tokens if method == "rl" else first)
    weights = Shape(architecture(exp), exp.rank).linear  # of the language model
    flops = weights * tokens * (6 + 2 * (method == "rl"))
    hours = {card: flops / (0.3 * peak) / 3600 for card, peak in TENSOR.items()}
    costs[method] = {"steps": exp.steps, "million tokens": tokens / 1e6, "FLOPs": flops, **hours}
pd.DataFrame(costs).T.style.format("{:.1f}").format("{:.1e}", subset=["FLOPs"])

# %% [markdown]
# Hours, in the last three columns. Five seeds of both arms and an evaluation of 1,500 episodes at
# each end multiply that; the grid of this book on the 11B model is days on one card.
#
# ## When you run it
#
# 1. Accept the licence on the model's page, make a token, `export HF_TOKEN=...` and
#    `SFTRL_ONLINE=1`; or give a local copy: `--model FOLDER`.
# 2. `make gpu-check` looks at the card, runs the tiny tier on it, the 4-bit kernels, and, if there
#    are weights, one step of the 11B model.
# 3. `python -m sftrl_lib init --preset llama-11b --task gp-vl`, then `sft` and `rl`. Ctrl-C leaves
#    a run that the same command resumes; a killed one too, from its last checkpoint.
# 4. Does not fit? `python -m sftrl_lib plan` says what would: fewer rows side by side
#    (`--micro_batch`, `--chunk`) cost time and change no result.
# 5. The adapter is in the run's `weights/`, in PEFT's format; `python -m sftrl_lib merge
#    runs/yours/RUN/weights FOLDER` makes one checkpoint of it and its base.
# 6. Several cards: `accelerate launch --config_file configs/ddp.yaml --num_processes 8 -m sftrl_lib
#    sft ...`. Two processes on a CPU learn what one learns (that is tested); on GPUs it is not
#    validated.

# %% [markdown]
# ## What to inspect
#
# * In the plans: which stage decides whether your card is large enough?
# * In the table of the live runs: which of the two moved less, and did it forget less *for what it
#   learned*?
# * In the table of costs: what would the share of 30% have to be for your conclusion to change?

# %% [markdown]
# ## Exercises
#
# **1. The smallest card** (easy, 5 minutes). Which memory does an RL run of GP-L (text) need at
# least, with one row at a time?
#
# <details><summary>Hint</summary>
#
# `sftrl_lib.plan.smallest(experiment, "rl")`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# from sftrl_lib.plan import smallest
#
# print(f"{smallest(big.but(task='gp-l'), 'rl'):.1f} GB")
# ```
#
# </details>
#
# **2. Why these levels?** (medium, 10 minutes). Replace NF4's levels by 16 equally spaced ones, and
# compare the error on normally distributed weights.
#
# <details><summary>Hint</summary>
#
# `torch.linspace(-1, 1, 16)` for `levels`; `by_hand` reads that name.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# nf4_error = (by_hand(weight) - weight).norm()
# levels = torch.linspace(-1, 1, 16)
# even_error = (by_hand(weight) - weight).norm()
# print(f"NF4: {nf4_error / weight.norm():.1%}, even levels: {even_error / weight.norm():.1%}")
# assert nf4_error < even_error
# levels = state.code
# ```
#
# </details>
#
# **3. Does the adapter forget less, or only learn less?** (hard, 20 minutes). Train the adapter at
# three times the rate and compare value reading under the new rule at the same loss.
#
# <details><summary>Hint</summary>
#
# `live(Experiment(precision="qlora", lr=3e-3, **settings))`; then compare `metrics().loss` and the
# rows of `evals()`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# faster = live(Experiment(precision="qlora", lr=3e-3, **settings))
# for name, run in (runs | {"a faster adapter": faster}).items():
#     rows = run.evals().query("metric == 'value_reading' and split == 'rule_ood'")
#     loss = run.metrics().loss.iloc[-1]
#     print(f"{name:22} loss {loss:.3f}, read right {rows.value.iloc[-1]:.0%}")
# ```
#
# </details>

# %% [markdown]
# ## Summary
#
# The tiers share one path, and every branch of it runs on a CPU. What has not been seen by us is a
# GPU: the plans, the hours and the presets' rates for 11 billion parameters are arithmetic and
# reasoning, to be held against the first real run.
#
# ## Further reading
#
# * Dettmers et al., *QLoRA*, arXiv 2305.14314. Hu et al., *LoRA*, arXiv 2106.09685.
# * Biderman et al., *LoRA Learns Less and Forgets Less*, arXiv 2405.09673.
# * Chu, Zhai et al., arXiv 2501.17161, appendix on training set-ups.
