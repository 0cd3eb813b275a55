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
# # 02 SFT: the copyist
#
# A copyist writes out solved hands, thousands of them. Each is correct, each was written by a
# perfect solver, and the copyist is corrected at every letter. What could go wrong?
#
# In none of these hands does a king count as anything but ten. The copyist is never told that this
# is a rule, and never sees it broken. After some time, which of these has been learned: to play, to
# read the rule, or the hands themselves?
#
# Supervised fine-tuning is that copyist. This notebook trains one live, and looks for what it
# forgets while its loss falls. Its forgetting takes a turn that the usual story leaves out.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 50  # optimizer steps of the live run
live_batch = 64  # answers a step
episodes = 300  # episodes a measurement

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## One training row
#
# The expert draws one of all correct solutions of a hand. The model learns from tokens, and only
# from those of the answer: the question is given, and nobody wants it imitated. The labels of the
# question are therefore -100, which the loss ignores.

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks import make_task
from study.registration import confirmed, registration

as_recorded = registration()["common"] if preset == "tiny" else {}  # start, temperature, hands
exp = Experiment(
    method="sft", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, lr=1e-3, eval_points=2, eval_episodes=episodes, eval_tries=1, **as_recorded,
)  # fmt: skip
task, policy = make_task(exp), start_policy(exp)
row = expert_row(exp, policy, task, 0)
learned = [label for label in row["labels"] if label != -100]
print(len(row["input_ids"]), "tokens, of which", len(learned), "are learned:")
print(policy.decode(learned))

# %% [markdown] exercise="labels_of"
# **Exercise 02.1. Learn the answer, not the question** (easy, 5 minutes)
#
# Make the labels of one training row. The question and the answer are token ids; the answer
# ends with an end token, which must be learned too. The loss ignores the label -100.
#
# <details><summary>Hint</summary>
#
# Labels are as long as the row: question, answer, end token.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def labels_of(question: list[int], answer: list[int], end: int) -> list[int]:
#     """Labels of the row question + answer + [end]."""
#     return [-100] * len(question) + answer + [end]
# ```
#
# A model that never learns the end token goes on writing after its answer.
#
# </details>
# %% exercise="labels_of"
from teach import check


def labels_of(question: list[int], answer: list[int], end: int) -> list[int]:
    """Labels of the row question + answer + [end]."""
    ...  # your code


check("02.1", labels_of)
# %% [markdown]
# ## The loss, written out
#
# For a question $q$ and an expert's answer $a = (a_1, \ldots, a_T)$, which ends with an end token,
# SFT minimises the mean over all answer tokens of a batch of
#
# $$
# -\log \pi_\theta(a_t \mid q, a_1, \ldots, a_{t-1})
# $$
#
# (paper, section 3.1). The logits at place $t$ predict the token at $t+1$, hence the shift by one.

# %%
import torch


def sft_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of answer tokens; logits (B, T, V), labels (B, T), -100 elsewhere."""
    log_probs = logits[:, :-1].float().log_softmax(-1)
    target = labels[:, 1:]
    written = target != -100
    picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -(picked * written).sum() / written.sum()


# %% [markdown]
# Here is the first batch of the live run, through these six lines:

# %%
total = written = 0
for i in range(exp.method.batch):
    row = expert_row(exp, policy, task, i)
    ids, labels = (
        torch.tensor([row[name]], device=policy.device) for name in ("input_ids", "labels")
    )
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits
    size = int((labels != -100).sum())
    total += size * sft_loss(logits, labels).item()
    written += size
by_hand = total / written
print(f"loss of the first batch, by hand: {by_hand:.4f}")

# %% [markdown] exercise="dft_loss"
# **Exercise 02.2. Weigh each token by its own probability** (medium, 15 minutes)
#
# DFT (arXiv 2508.05629) scales the loss of each token by the token's own probability, which
# it takes as a constant: no gradient flows through the weight. Write it, starting from
# `sft_loss`. The mean is over answer tokens.
#
# <details><summary>Hint</summary>
#
# `picked.exp().detach()` is the probability without its gradient.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
#
# def dft_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
#     """Mean of -p log p over answer tokens, p held constant; logits (B, T, V), labels (B, T)."""
#     log_probs = logits[:, :-1].float().log_softmax(-1)
#     target = labels[:, 1:]
#     written = target != -100
#     picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
#     return -(picked.exp().detach() * picked * written).sum() / written.sum()
# ```
#
# SFT pulls hardest at tokens that the model finds improbable. DFT pulls at them least, and so
# changes less of what the model knew.
#
# </details>
# %% exercise="dft_loss"
import torch

from teach import check


def dft_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of -p log p over answer tokens, p held constant; logits (B, T, V), labels (B, T)."""
    ...  # your code


check("02.2", dft_loss)
# %% [markdown]
# ## Before you train it
#
# The init solves few hands of either kind. The recorded SFT arm then copies more than a hundred
# thousand answers. Say where it ends.

# %%
from study.predict import Truth, predict, predictions

predict("02.seen", "Hands that it has copied, within three tries: solved?", (0, 100), "%")

# %%
predict("02.unseen", "New hands under the same rule, within three tries: solved?", (0, 100), "%")

# %%
predict(
    "02.king", "The question says that a king counts as 13. SFT's first answers most often say",
    ["13", "10", "something else"],
)  # fmt: skip

# %% [markdown]
# ## Live: an SFT arm
#
# From here on the library does it, with TRL's `SFTTrainer`, the same rows, and AdamW. The log of
# the first step must be the number above. This run is far shorter than the recorded ones and uses
# ten times their learning rate, so that you see within a minute what takes them a quarter of an
# hour.

# %%
from study.notebook import live

policy = None  # let go: the live run loads a model of its own, and a GPU may have room for one
run = live(exp)
log = run.metrics()
assert abs(log.loss[0] - by_hand) < 2e-3, (log.loss[0], by_hand)
print(f"loss of the first batch, by TRL:  {log.loss[0]:.4f}")

# %%
from study import figures, plots

plots.show(plots.training_log({"SFT, this session": log}, columns=["loss"]))

# %% [markdown]
# The loss falls, as it should. Nothing in this picture warns you. Now ask the same model to play
# under the new rule, and look at two things: is each face card read as the *question* says (left,
# middle), and does the formula use the numbers that the rule gives (right)?

# %%
from sftrl_lib.results import load_results

results = load_results()
cards = confirmed(results, "gp-l")
plots.show(figures.mechanism(cards, live=run.evals()))

# %% [markdown]
# The live arm is dashed, with open marks. It falls faster than the recorded arms, along the same
# way: under the new rule its formulas lose the right numbers, while the loss was falling.
#
# ## Two kinds of memory
#
# About a quarter of all hands is never dealt in training. So a memory of *hands* shows between the
# first panel and the second, where the rule is the same. What becomes of the *rule* shows in the
# third, as a change from the init. (Recorded runs, at the end of training; the paper's bars are
# hatched.)

# %%
plots.show(figures.changes_from_init(cards))

# %% [markdown]
# The copyist has learned hands. It solves nearly all of those that it has seen, and fewer new ones
# than it could before. So it fails under the new rule for one reason already: the hands are new.
#
# ## The surprise
#
# And the rule? Look at what is said before anything is calculated. If SFT recited its rule, it
# would call every face card a ten, whatever the question states. These are kept first answers under
# the new rule, with cards as text:

# %%
import pandas as pd

from study import hero

read = {split: hero.readings(cards, "gp-l", split) for split in hero.RULES}


def claims(method: str, read: pd.DataFrame) -> pd.DataFrame:
    """Share of first answers that claim a value, by the value that is right."""
    table = read.query("method == @method")
    claimed = table.said.map(lambda v: "none" if pd.isna(v) else str(int(v)))
    shares = pd.crosstab(table.true.rename("stated"), claimed, normalize="index")
    return shares[sorted(shares, key=lambda c: (not c.isdigit(), c.zfill(2)))]


for method in ("init", "sft"):
    shown = claims(method, read["rule_ood"]).round(2).to_string()
    print(f"{plots.name_of(method)}\n{shown}\n")

# %% [markdown]
# Something of the kind is there: many a queen is called a ten. But most face cards are still read
# as the question says, and some are called by a neighbour, an eleven by twelve. That is not a model
# with one value in its head. Ask it with another new rule, in which all face cards count as five:

# %%
print(f"SFT\n{claims('sft', read['rule_five']).round(2).to_string()}")

# %% [markdown]
# No training has ever stated this rule, and SFT reads it. A five stands in thousands of the answers
# that it copied, as the value of a number card; an eleven, a twelve or a thirteen stands in none.
# What comes after the reading shows the same. Here are all hands, not only the kept ones:

# %%
from sftrl_lib.stats import last

rules = {"rule_ood": "11, 12, 13", "rule_five": "5, 5, 5"}
steps_of_an_answer = {
    "value_reading": "says the right value",
    "numbers_right": "its formula uses the right numbers",
}
ends = {
    plots.name_of(m): {
        (rule, words): last(cards, m, split, metric, 1).value.mean()
        for split, rule in rules.items()
        for metric, words in steps_of_an_answer.items()
    }
    for m in ("init", "sft", "rl")
}
pd.DataFrame(ends).style.format("{:.1%}")

# %% [markdown]
# With cards as *pictures* the same training does recite under 11, 12, 13. (These are runs of the
# first edition, a third as long.) Read the column `10`:

# %%
pictures = hero.readings(results, "gp-vl", "rule_ood")
for method in ("init", "sft"):
    print(f"{plots.name_of(method)}\n{claims(method, pictures).round(2).to_string()}\n")

# %% [markdown]
# ## Why
#
# SFT raises the probability of every token that the expert wrote, and lowers that of every other
# one in the same place. Among these others are, all the time, the numbers that no answer of the
# training holds. So the model goes on reading the rule wherever what it states may be said, and
# loses the words that nobody ever wrote there. With pictures the value must be found in the
# question for a card that was seen elsewhere, which the init does less surely, and there the
# constant wins.
#
# This reading fits the rows, and does not prove itself. A test would change the training: mix other
# rules in, and see whether the numbers come back. Exercise 02.4 builds the first half of it, and
# notebook 05 puts all suspects in a row.

# %% [markdown]
# ## Your predictions

# %%
three = {
    s: 100 * last(cards, "sft", s, "success", 3).value.mean() for s in ("id_seen", "id_unseen")
}
kings = claims("sft", read["rule_ood"]).loc[13]
said = {"13": kings.get("13", 0), "10": kings.get("10", 0)}
said["something else"] = 1 - sum(said.values())
shown = ", ".join(f"{value} {share:.0%}" for value, share in said.items())
predictions("02", {
    "02.seen": three["id_seen"],
    "02.unseen": three["id_unseen"],
    "02.king": Truth(max(said, key=said.get), shown),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Two more stand
# in the sections above.)

# %% [markdown] exercise="loss_by_kind"
# **Exercise 02.3. Where is the loss?** (medium, 10 minutes)
#
# The loss of a row sums over different kinds of token: names of cards, their values, the
# formula. Split it: the mean loss of each kind, over all rows.
#
# <details><summary>Hint</summary>
#
# Collect the losses of each kind in a list first, over all rows.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def loss_by_kind(losses: list[list[float]], kinds: list[list[str]]) -> dict[str, float]:
#     """{kind: mean loss of its tokens}, from the loss and the kind of each token, row by row."""
#     found: dict[str, list[float]] = {}
#     for row, names in zip(losses, kinds, strict=True):
#         for loss, name in zip(row, names, strict=True):
#             found.setdefault(name, []).append(loss)
#     return {name: sum(values) / len(values) for name, values in found.items()}
# ```
#
# The mean over a batch hides where the loss still falls. A kind that is constant in training,
# such as the value of a face card, can reach zero without having been understood.
#
# </details>
# %% exercise="loss_by_kind"
from teach import check


def loss_by_kind(losses: list[list[float]], kinds: list[list[str]]) -> dict[str, float]:
    """{kind: mean loss of its tokens}, from the loss and the kind of each token, row by row."""
    ...  # your code


check("02.3", loss_by_kind)
# %% [markdown] exercise="draw_rule"
# **Exercise 02.4. Is it the data, not the method?** (hard, 20 minutes)
#
# *Debunk the Myth* (arXiv 2510.00237) finds that SFT on diverse rules generalises. Draw a
# training rule at random, and keep the test a test: the rules that have a name, and the 30
# held-out mappings, must never be drawn.
#
# <details><summary>Hint</summary>
#
# `NAMED_RULES` holds `Rule` objects with fields `j`, `q`, `k`; `HELD_OUT_MAPPINGS` holds
# triples. Draw until the triple is in neither.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import random
# from worlds.deals import HELD_OUT_MAPPINGS, NAMED_RULES
#
#
# def draw_rule(rng: random.Random) -> tuple[int, int, int]:
#     """Random values of J, Q and K, 1 to 13 each, under which no test is made."""
#     named = {(r.j, r.q, r.k) for r in NAMED_RULES.values()}
#     while True:
#         rule = (rng.randint(1, 13), rng.randint(1, 13), rng.randint(1, 13))
#         if rule not in named and rule not in HELD_OUT_MAPPINGS:
#             return rule
# ```
#
# To train on them, override `GeneralPoints.item` for the split `train`. There the *hand* must
# not be held out under the new rule, either.
#
# </details>
# %% exercise="draw_rule"
import random

from teach import check


def draw_rule(rng: random.Random) -> tuple[int, int, int]:
    """Random values of J, Q and K, 1 to 13 each, under which no test is made."""
    ...  # your code


check("02.4", draw_rule)
# %% [markdown] exercise="sft_as_rl"
# **Exercise 02.5. On paper: SFT as reinforcement learning** (hard, 20 minutes)
#
# Let $a$ be the one answer that the expert gives to $q$. Show that the gradient of the SFT
# loss is a policy gradient: an expectation over the model's *own* answers $b \sim
# \pi_\theta(\cdot \mid q)$. Which reward does it correspond to? What does that reward do when
# the model finds the expert's answer improbable?
#
# <details><summary>Hint</summary>
#
# Write $\nabla \log \pi_\theta(a \mid q)$ as a sum over all answers $b$, in which only $b =
# a$ counts, and multiply by $\pi_\theta(b \mid q) / \pi_\theta(b \mid q)$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# $$
# \nabla \log \pi_\theta(a \mid q)
# = \sum_b \mathbb{1}[b = a] \, \nabla \log \pi_\theta(b \mid q)
# = \mathbb{E}_{b \sim \pi_\theta} \left[ \frac{\mathbb{1}[b = a]}{\pi_\theta(b \mid q)} \,
# \nabla \log \pi_\theta(b \mid q) \right]
# $$
#
# The reward is $1 / \pi_\theta(a \mid q)$ for the expert's answer and 0 for any other, also
# for other correct ones. It grows without bound as the answer becomes improbable, so the rows
# that the model understands least move it most. DFT multiplies by $\pi_\theta(a \mid q)$ (per
# token), which leaves the reward 1 for a match.
#
# </details>
# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="02_sft"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** Why are the labels of the question -100?
#
# <details><summary>a) The model should learn the answer and not to write the question</summary>
#
# **Right.** The loss ignores -100. The question is still read.
#
# </details>
#
# <details><summary>b) The question is not shown to the model</summary>
#
# **No.** It is; only its tokens have no loss.
#
# </details>
#
# <details><summary>c) To give rare tokens more weight</summary>
#
# **No.** All answer tokens weigh the same in SFT.
#
# </details>
#
# **Question 2.** The loss of SFT keeps falling. What does that say about OOD success?
#
# <details><summary>a) Nothing: it may rise or fall meanwhile</summary>
#
# **Right.** The loss is computed on the training rule, and memory lowers it as well as
# understanding does.
#
# </details>
#
# <details><summary>b) It rises too</summary>
#
# **No.** Lower loss on one rule does not imply more success under another.
#
# </details>
#
# <details><summary>c) It falls too</summary>
#
# **No.** It may, but the loss does not tell.
#
# </details>
#
# **Question 3.** A face card counts as ten in every training row. What can lower the loss?
#
# <details><summary>a) Only reading the rule</summary>
#
# **No.** Saying ten without reading is right in every row.
#
# </details>
#
# <details><summary>b) Only remembering</summary>
#
# **No.** Reading works as well in training.
#
# </details>
#
# <details><summary>c) Reading the rule and remembering the value do so equally</summary>
#
# **Right.** The rows cannot tell the two apart, and neither can the loss.
#
# </details>
#
# **Question 4.** Which test shows that hands were memorised, and not the rule?
#
# <details><summary>a) Seen against unseen hands under the training rule</summary>
#
# **Right.** The rule is the same on both sides; only the hands differ.
#
# </details>
#
# <details><summary>b) Seen hands under the training rule alone</summary>
#
# **No.** One number has nothing to be compared with.
#
# </details>
#
# <details><summary>c) Unseen hands under the two rules</summary>
#
# **No.** There the rule differs, and no hand was seen.
#
# </details>
#
# **Question 5.** What does DFT change?
#
# <details><summary>a) The training rows</summary>
#
# **No.** They are the same as in SFT.
#
# </details>
#
# <details><summary>b) Improbable tokens pull less</summary>
#
# **Right.** Each token's loss is multiplied by its probability, without a gradient through it.
#
# </details>
#
# <details><summary>c) The learning rate</summary>
#
# **No.** A common factor would do that; DFT's factor differs from token to token.
#
# </details>
# %% [markdown]
# ## What next
#
# The loss cannot tell reading a rule from never needing it, nor a hand that is understood from one
# that is known by heart. Notebook 03 gives the same init a
# verdict and no solutions. The excursion *03b* shows both arms on pictures and on walks.
#
# * Chu, Zhai et al., arXiv 2501.17161, sections 3.1 and 5: the same arm for a larger model.
# * Wu et al., *On the Generalization of SFT*, arXiv 2508.05629 (DFT): other weights.
# * *Debunk the Myth of SFT Generalization*, arXiv 2510.00237: more varied rows for SFT.
