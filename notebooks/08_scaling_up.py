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
# # 08 Scaling up: from 1.6 million parameters to 11 billion
#
# Everything so far ran on a model that fits into an e-mail. The same functions train the paper's
# own, Llama-3.2-11B-Vision, on one GPU. After this notebook you can
#
# * say what changes between the tiers, and what does not;
# * work out whether a stage fits into your GPU before you load anything;
# * pack weights into four bits by hand, and say what LoRA trains instead of them;
# * say why our rates and our rank are what they are, and what they might hide;
# * work out what the paper's runs and ours would cost, and say which number of that is a guess.
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
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## What changes
#
# One word. A preset names a model, how hard each method pushes it, and how many rows go side by
# side. Prompts, environments, verifier, trainers, evaluation and figures have no tiers. So one file
# can describe an experiment for both models:

# %%
from sftrl_lib.places import ROOT

file = ROOT / "configs" / "gp-vl.yaml"
print(file.read_text())

# %% [markdown]
# Of the two experiments that it becomes, these are all the settings that differ:

# %%
import pandas as pd

from sftrl_lib.experiment import Experiment, read_settings

given = {name: values[0] for name, values in read_settings(file).items()}
both = {
    (method, tier): Experiment(lenient=True, **given, method=method, preset=tier)
    for method in ("sft", "rl")
    for tier in ("tiny", "llama-11b")
}
table = pd.DataFrame({arm: exp.flat for arm, exp in both.items()})
table[(table["sft"].nunique(axis=1) > 1) | (table["rl"].nunique(axis=1) > 1)]

# %% [markdown]
# And what the word `auto`, which is the same in both, comes to:

# %%
for (method, tier), exp in both.items():
    if method == "rl":
        print(f"{tier}: precision {': '.join(exp.model.resolved)}")

# %% [markdown]
# ## Does it fit?
#
# 10.7 billion weights in the usual 16 bits take 20 GB before the first token is read. Training all
# of them takes, for each, the weight, its gradient and two running means of AdamW, in 32 bits: 16
# bytes. **QLoRA** changes both numbers: the linear layers of the language model are packed into 4
# bits and never change, and a small adapter beside them is trained. The planner adds it up from the
# model's configuration, without loading a weight:

# %%
from engine.memory import GB, render
from sftrl_lib.planning import plan

big = Experiment(task="gp-vl", preset="llama-11b", method="rl")
stages = ("evaluate", "sft", "rl")
print(render([plan(big, stage, 24 * GB) for stage in stages]))

# %% [markdown]
# And without QLoRA, all weights trained:

# %%
from study import figures, plots

whole = big.replace(precision="full")
plans = {
    name: [plan(exp, stage, 24 * GB) for stage in stages]
    for name, exp in (("qlora", big), ("full", whole))
}
plots.show(figures.memory(plans))

# %% [markdown]
# Which line is the largest in each column, and which of them grow with the number of rows? The
# cache of the picture deserves a look: eight layers look at 6,404 patches, for every answer that is
# being written.
#
# The same on the command line, with an exit code for scripts: `python -m sftrl_lib plan
# --gpu-memory 24GB`. The lines for GPUs are arithmetic: no GPU was at hand to measure them on.

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
# y = W x + \frac{\alpha}{r} B A x, \qquad
# A \in \mathbb{R}^{r \times n},\; B \in \mathbb{R}^{m \times r}
# $$
#
# $B$ starts at zero, so training starts from the model as it was. With rank $r = 16$ that is:

# %%
from engine.memory import Shape
from sftrl_lib.planning import architecture

for name in ("tiny", "llama-11b"):
    exp = Experiment(preset=name)
    shape = Shape(architecture(exp), exp.model.rank)
    share = shape.adapter / shape.parameters
    print(f"{name:10} {shape.parameters:14,} parameters, adapter {shape.adapter:11,} ({share:.1%})")

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
# ## Rates and rank, and why
#
# Nobody has run a grid of rates on this model with these adapters. The preset's numbers are
# reasoned, not tuned, and this is the reasoning.
#
# **The paper** trains all weights at a rate of $10^{-6}$ in both arms (with pictures SFT at half of
# it, and RL on the walks at a tenth).
#
# **SFT and init: 1e-4.** The best rate of an adapter lies about ten times above that of full
# fine-tuning (Schulman et al.). From the paper's rate that makes 1e-5. But $10^{-6}$ is low even
# for full fine-tuning, where 1e-5 is common, and adapters beside NF4 weights are usually trained at
# 1e-4 to 2e-4 (Dettmers et al.). We take the lower end of what is usual.
#
# **RL: 2e-5.** The paper uses the same order of rate for both arms. Ours for RL is lower, since its
# gradient is noisy (256 episodes of 32 deals) and one step too large spoils the format, after which
# nothing is rewarded any more. It is still twenty times the paper's.
#
# **Rank 16 on all linear layers, $\alpha = 2r$.** That *every* linear layer has an adapter matters
# more than its rank (the same two). With $\alpha = 2r$ the factor $\alpha / r$ is always 2, so the
# same rate is a first guess at another rank. At 16 the adapter, its gradient and its optimiser take
# less than a gigabyte.
#
# **What this may hide.** An adapter of low rank at a low rate learns less and forgets less
# (Biderman et al.). The paper's finding *is* a forgetting: SFT loses the rule. If SFT at rank 16
# does not fall under the new rule, that does not refute the paper; it may only show how small a
# step was taken. The setting that should show the fall has a rank 16 times as high and twice the
# rate; here from the authors' own init, in text:
#
#     python -m sftrl_lib sft --preset llama-11b --task gp-l --start tianzhechu/GP-L-Init \
#         --rank 256 --lr 2e-4
#
# With all weights trained, where they fit, it is the paper's own: `--precision full --lr 1e-6`. And
# a verdict on the two arms needs one grid of rates for both, as in notebook 06.

# %%
from sftrl_lib.planning import smallest

sft = Experiment(task="gp-l", preset="llama-11b", method="sft")
for changes in ({"rank": 16}, {"rank": 256, "lr": 2e-4}, {"precision": "full", "lr": 1e-6}):
    print(f"{changes}: {smallest(sft.replace(**changes), 'sft'):.0f} GB at least")

# %% [markdown]
# An arm goes on with the adapter of its init, so `--rank 256` needs an init of that rank (`init
# --rank 256`), or a start that has no adapter, as above.
#
# **What a merge does.** With `qlora` the adapter was trained beside NF4 weights, which are rounded.
# `merge` adds it to the 16-bit weights that they were rounded from. That is a slightly different
# function, so measure again after merging. It takes the memory of all weights in 16 bits, for the
# 11B model 22 GB: of the machine, not of the GPU.

# %% [markdown]
# ## Live: the paper's recipe on our model
#
# Nothing about QLoRA needs a GPU: bitsandbytes has CPU kernels. So here is the SFT arm of notebook
# 02 twice from the same init: all weights trained, and 4 bits with an adapter at three times the
# rate. (On the 11B tier both are packed, and differ in the rate alone.)

# %%
from study.notebook import live

settings = dict(
    preset=preset, method="sft", seed=seed, steps=live_steps, batch=live_batch, eval_points=2,
    eval_episodes=episodes,
)  # fmt: skip
first = Experiment(precision=precision, **settings)
arms = [first, first.replace(precision="qlora", lr=3 * first.method.lr)]
names = [f"{exp.model.resolved[0]}, rate {exp.method.lr:.1g}" for exp in arms]
runs = {name: live(exp, kl=True) for name, exp in zip(names, arms, strict=True)}

# %%
logs = {name: run.metrics() for name, run in runs.items()}
plots.show(plots.training_log(logs, columns=["loss", "seconds"]))

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
# ## A real language model, as small as they come
#
# Between 1.6 million parameters and 11 billion lies `preset="smol"`: SmolLM2-135M-Instruct, whose
# English comes from elsewhere and which nobody taught to calculate with cards. Each stage has been
# recorded once, with an adapter, on two cores, and as short as that makes it: what is printed first
# says how short. *Base* is the model as it is delivered. (Of the first answers: form, numbers, face
# cards read as the rule says; at last the hands solved within three tries.)

# %%
from engine.presets import PRESETS
from sftrl_lib.results import load_results

small = load_results().query("source == 'ours' and preset == 'smol' and task == 'gp-l'")
shown = {"legal": 1, "numbers_right": 1, "value_reading": 1, "success": 3}
table = {}
for split in ("id_unseen", "rule_ood"):
    for method in ("base", "init", "sft", "rl"):
        rows = small[(small.split == split) & (small.method == method)]
        ends = rows[rows.step == rows.step.max()].set_index(["metric", "tries"])
        if len(ends):
            found = {m: f"{ends.value[m, n]:.0%}" for m, n in shown.items()}
            table[split, method] = found | {"hands": ends.n["success", 3]}
print({m: PRESETS["smol"].methods[m] for m in ("init", "sft", "rl")})
pd.DataFrame(table).T

# %% [markdown]
# As delivered it writes no answer that can be read: *zero-shot* there is nothing that RL could
# reward. Less than two hundred worked answers teach it the form. Of the face cards it then gives
# about half the value that they have in training, and of those under the new rule, which the
# question states, a quarter: some of the rule is read, most is not. SFT goes on for as long again
# and RL has two steps, the first of them warm-up at rate zero; nobody has solved a hand, and
# sixteen hands cannot tell the three rows apart. What this tier shows is that a real model goes
# through every stage, and what the init is for; what the arms do to it takes more steps than two
# cores have in an hour.

# %% [markdown]
# ## What would it cost?
#
# The paper's measure of compute: $6 N$ operations for a trained token, $2 N$ for one that is read
# or written in a rollout. $N$ counts the weights that a token passes: the layers that look at the
# picture only where there is one. (With adapters it is $6 N$ too: the frozen weights need no
# gradient, and the forward pass is done twice, since what its layers computed is not kept.)

# %%
shape = Shape(architecture(big), big.model.rank)
text, vision = shape.text, architecture(big).vision_config
own = 1 - shape.cross_layers / text.num_hidden_layers  # share of the layers that read text alone
head = text.vocab_size * text.hidden_size
N = {"gp-l": shape.linear * own + head, "gp-vl": shape.linear + head}
print({task: f"{weights / 1e9:.1f} billion" for task, weights in N.items()})

# %% [markdown]
# A picture costs on top. The tower passes every patch through its weights, 2 operations each, and
# compares every patch with every other in each layer. It always has four tiles to look at; those
# that a picture does not fill are computed and masked. Then eight layers of the language model make
# keys and values of all patches, for every row anew.

# %%
from transformers import MllamaVisionModel

with torch.device("meta"):  # sizes, without weights
    modules = list(MllamaVisionModel._from_config(vision).modules())
linear = sum(m.weight.numel() for m in modules if isinstance(m, torch.nn.Linear))
linear += vision.vision_output_dim * text.hidden_size  # the projector behind it
layers = vision.num_hidden_layers + vision.num_global_layers

look = 2 * linear * shape.patches + 4 * shape.patches**2 * vision.hidden_size * layers
keys = 2 * text.hidden_size * shape.keys * shape.cross_layers * shape.patches
print(f"{shape.patches:,} patches, {linear / 1e6:.0f} million weights: {look:.1e} to look once")
print(f"keys and values {keys:.1e}; a token read {2 * N['gp-vl']:.1e}")
print(f"one look costs as much as reading {look / (2 * N['gp-vl']):,.0f} tokens")

# %% [markdown]
# The runs. The paper's: init and SFT of 400 steps of 128 answers (the length of its SFT arm is our
# assumption), and RL of 20 updates with 256 generations on each of 8 GPUs, up to 5 tries, and 4
# epochs of PPO over what was generated; all weights trained, the tower's too. Ours: the preset,
# with adapters. An answer has about 60 tokens of this model's tokenizer and a verdict as many; both
# are estimates, and so is the question's length where there is no tokenizer at hand.

# %%
from sftrl_lib.planning import conversation
from sftrl_lib.registry import METHODS

ANSWER, VERDICT, EPOCHS = 60, 60, 4
PAPER = {"init": dict(steps=400, batch=128), "sft": dict(steps=400, batch=128)}
PAPER["rl"] = dict(steps=20, batch=8 * 256, tries=5)
priced = {}
for task in N:
    for method, numbers in PAPER.items():
        ours = Experiment(task=task, preset="llama-11b", method=method)
        priced[task, "paper", method] = ours.replace(precision="full", **numbers)
        priced[task, "ours", method] = ours


def lengths(exp: Experiment) -> list[int]:
    """Tokens of the conversation up to the end of each try's answer."""
    asked = conversation(exp)[0] - exp.model.max_new_tokens
    return [asked + ANSWER + t * (VERDICT + ANSWER) for t in range(getattr(exp.method, "tries", 1))]


# %% [markdown]
# What a run does, counted as if nobody solved a deal before the last try:
#
# * SFT trains each row once: a question and its answer.
# * RL here trains an episode as one row, the whole conversation; each try before that reads the
#   conversation again.
# * RL in the paper: we take a generation for one answer, with the conversation so far, of middle
#   length, which each epoch trains as a row of its own.
# * A frozen tower looks once a row in SFT and once a *deal* in RL: the library keeps what it saw
#   for the deals of a step. A trained one changes, so it looks for each answer, and three times
#   (forward, backward twice) for each row.


# %%
def counted(exp: Experiment) -> dict[str, float]:
    """Rows and tokens trained, answers and tokens of rollouts, looks at a picture."""
    upto, own, whole = lengths(exp), exp.method, exp.model.precision == "full"
    n, mean = own.steps * own.batch, sum(upto) / len(upto)
    if own.name != "rl":
        rows, tokens, answers, read, looks = n, n * upto[0], 0, 0, n
    elif whole:
        rows, tokens, answers, read = EPOCHS * n, EPOCHS * n * mean, n, n * mean
    else:
        rows, tokens, answers, read = n, n * upto[-1], n * own.tries, n * sum(upto)
        looks = n / own.group
    if whole:
        looks = 3 * rows + answers
    shown = exp.task.name == "gp-vl"
    return {
        "million tokens trained": tokens / 1e6, "million read": read / 1e6,
        "thousand looks": shown * looks / 1e3,
        "FLOPs of text": N[exp.task.name] * (6 * tokens + 2 * read),
        "of the picture": shown * (looks * look + (3 * rows + answers) * keys),
    }  # fmt: skip


work = pd.DataFrame({name: counted(exp) for name, exp in priced.items()}).T
work.style.format("{:.1f}").format("{:.1e}", subset=["FLOPs of text", "of the picture"])

# %% [markdown]
# Now the hours. A data sheet says what a card could do in 16 bits; how much of that a run reaches
# is the guess here: 30%. **It moves every hour below, in proportion, and nothing else**: neither
# the operations nor what fits. Training may reach it; writing answers one token at a time waits for
# memory, and with four-bit weights may reach a tenth of it, so RL's hours are the least certain.
#
# The planner says what fits, with one row at a time. Adapters have a whole model on each card. All
# weights of the paper's runs fit on no card; on eight they are taken as spread evenly.

# %%
SHARE = 0.3  # of the peak: a guess
CARDS = {  # GB of a card, cards, FLOPs a second of a card
    "1 x 24 GB (RTX 4090)": (24, 1, 165e12),
    "1 x 80 GB (H100)": (80, 1, 989e12),
    "8 x 80 GB (H100)": (80, 8, 989e12),
}
hours = {}
for name, exp in priced.items():
    least = smallest(exp, METHODS[exp.method.name].stage)
    flops = work.loc[name, ["FLOPs of text", "of the picture"]].sum()
    hours[name] = {"GB at least": f"{least:.0f}", "FLOPs": f"{flops:.1e}"}
    for card, (memory, cards, peak) in CARDS.items():
        fits = least <= memory * (cards if exp.model.precision == "full" else 1)
        took = flops / (SHARE * cards * peak) / 3600
        hours[name][card] = f"{took:.2g} h" if fits else "does not fit"
pd.DataFrame(hours).T

# %% [markdown]
# Not counted: attention among the tokens of text and from them to the patches (a twentieth or so),
# PPO's value network, loading, and measuring. Measuring is no trifle: the full battery of a task
# with pictures, before and after training, comes to more than our RL arm. And five seeds of both
# arms multiply all of it.

# %% [markdown]
# ## When you run it
#
# 1. Accept the licence on the model's page, make a token, `export HF_TOKEN=...` and
#    `SFTRL_ONLINE=1`; or give a local copy: `--model FOLDER`.
# 2. `make gpu-check` looks at the card, runs the tiny tier on it, the 4-bit kernels, and, if there
#    are weights, one step of the 11B model. On CUDA the head that TRL fuses with the loss is
#    compiled by Triton, which needs a C compiler and Python's headers (`gcc`, `python3-dev`).
# 3. `python -m sftrl_lib init --preset llama-11b --task gp-vl`, then `sft` and `rl`, by settings on
#    the command line or `--config configs/gp-vl.yaml`.
# 4. The adapter is in the run's `weights/`, in PEFT's format; `python -m sftrl_lib merge
#    runs/yours/RUN/weights FOLDER` makes one checkpoint of it and its base.
# 5. Several cards: `accelerate launch --config_file configs/ddp.yaml --num_processes 8 -m sftrl_lib
#    sft ...`. By this command two processes on a CPU learn on the tiny tier what one learns (that
#    is tested); on GPUs it is not validated. Each card holds a whole model. Several machines: the
#    head of `configs/ddp.yaml`.
#
# **Another start.** The authors published their inits. `--start tianzhechu/GP-L-Init` and its three
# siblings (see the authors' page) replace step 3's `init`, with `SFTRL_ONLINE=1`; `--start FOLDER`
# is the same for weights or an adapter of yours. Give both arms the same start. Theirs learned from
# the paper's prompts, ours are in our words: look at what an RL run measures at step 0, before you
# train on.
#
# **What resumes how.** The same command goes on; there is no other switch.
#
# * *Ctrl-C* ends the step, saves it, and stops; a second one stops at once.
# * *A killed run* goes on from its last checkpoint. One is written after every step that ends more
#   than 45 seconds after the one before, and at every point of the curve: adapter, optimiser,
#   counters. What came after it is done again, with the same deals and the same random streams.
# * *A finished run* is only opened. `experiments my.yaml` skips those, and goes on with the rest.
# * *Another setting* is another run: a folder's name ends in a hash of all settings that decide the
#   result. Delete a folder to train it again.
# * *From another machine*: copy the run's folder into `runs/yours`; explorer and figures find it.

# %% [markdown]
# ## Where to look when it does not fit
#
# A run that cannot fit is refused before it loads anything, with the numbers that would fit. Then,
# in this order:
#
# 1. `python -m sftrl_lib plan --gpu-memory 24GB --task gp-vl`: which line is the largest? A run's
#    `manifest.json` has what was really reached, as `peak_gpu_memory_mb`.
# 2. Fewer rows side by side cost time and change no result: `--generation_batch_size` where the
#    rollout is the larger part (every run is measured, SFT too), `--micro_batch` where the training
#    step is. They are no part of what a run is: an init made with other sizes is found too.
# 3. `--max_new_tokens`: caches and logits are planned for answers of that length. The answers here
#    have some 60 tokens; one that is cut off counts as illegal.
# 4. Text before pictures: `gp-l` needs neither the tower's activations nor a cache of 6,404 patches
#    in eight layers.
# 5. `--precision qlora`, if it was another.
#
# The picture's size is not a knob. 560 pixels and four tiles are what the tower was trained with; a
# smaller picture would be another model.

# %% [markdown]
# ## What to inspect
#
# * In the plans: which stage decides whether your card is large enough?
# * In the table of the live runs: which of the two moved less, and did it forget less *for what it
#   learned*?
# * In the table of work: where is the picture the larger part, and why is it so small in our RL?
# * In the table of hours: what would the share of 30% have to be for your conclusion to change?

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

# %% [markdown] exercise="forget_or_learn"
# **Exercise 08.5. Does the adapter forget less, or only learn less?** (hard, 20 minutes)
#
# Train the adapter at three times the rate, and compare value reading under the new rule at
# the same loss.
#
# <details><summary>Hint</summary>
#
# `live(arms[1].replace(lr=3 * arms[1].method.lr))` trains it.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# faster = live(arms[1].replace(lr=3 * arms[1].method.lr))
# for name, run in (runs | {"a faster adapter": faster}).items():
#     rows = run.evals().query("metric == 'value_reading' and split == 'rule_ood'")
#     loss = run.metrics().loss.iloc[-1]
#     print(f"{name:22} loss {loss:.3f}, read right {rows.value.iloc[-1]:.0%}")
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
# ## Summary
#
# The tiers share one path, and every branch of it runs on a CPU. What has not been seen by us is a
# GPU: the plans, the hours and the presets' rates for 11 billion parameters are arithmetic and
# reasoning, to be held against the first real run.
#
# ## Further reading
#
# * Dettmers et al., *QLoRA*, arXiv 2305.14314: all linear layers, and the usual rates. Hu et al.,
#   *LoRA*, arXiv 2106.09685.
# * Schulman et al., *LoRA Without Regret*, Thinking Machines Lab, 2025: rates, and which layers.
# * Biderman et al., *LoRA Learns Less and Forgets Less*, arXiv 2405.09673: rank, rate, forgetting.
# * Chu, Zhai et al., arXiv 2501.17161, appendix on training set-ups.
