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
# # 02 SFT: what imitation learns
#
# Supervised fine-tuning shows the model a question and a correct answer, and raises the
# probability of each of the answer's tokens. After this notebook you can
#
# * write the SFT loss in six lines, and check that it is the number that TRL trains on;
# * train an SFT arm live, and place it on the recorded curves;
# * see *what* is memorised beside the solutions of hands: not the same in text and in pictures;
# * see imitation teach the eyes, on cards and on streets, and what that is worth.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about six minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/` | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (four live runs) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 40  # optimizer steps of the live run
live_batch = 128  # answers a step
episodes = 200  # episodes a measurement

# %%
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## One training row
#
# The expert draws one of all correct solutions of a deal. What the model learns from is not text
# but tokens, and only the answer's tokens count: the question is given, nobody wants the model to
# imitate it. `labels` say so with -100, the value that every loss in this ecosystem ignores.

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.methods.sft import expert_row
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks.general_points import GeneralPoints

exp = Experiment(
    method="sft", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
task = GeneralPoints(rule=exp.task.rule, ood_rule=exp.task.ood_rule)
policy = start_policy(exp)
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
# For a deal with question $q$ and expert answer $a = (a_1, \ldots, a_T)$, the last of which is the
# end of the answer, SFT minimises the mean over all answer tokens of a batch of
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
# The first batch that the live run will see, through our six lines, one row after the other: the
# logits of a whole batch can be larger than the model.

# %%
rows = [expert_row(exp, policy, task, i) for i in range(exp.method.batch)]
total = written = 0
for row in rows:
    both = (row["input_ids"], row["labels"])
    ids, labels = (torch.tensor([line], device=policy.device) for line in both)
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
# ## Live: an SFT arm
#
# From here on the library does it: TRL's `SFTTrainer`, the same rows, AdamW, a constant learning
# rate after a short warm-up. Each deal is seen once. The log of its first step must be the number
# above:

# %%
from study.notebook import live

policy = None  # let go: the live run loads a model of its own, and a GPU may have room for one
run = live(exp)
log = run.metrics()
assert abs(log.loss[0] - by_hand) < 2e-3, (log.loss[0], by_hand)
print(f"loss of the first batch, by TRL:  {log.loss[0]:.4f}")

# %%
from sftrl_lib.results import load_results
from study import figures, plots
from study.notebook import recorded_log

logs = {"SFT, this session": log} | recorded_log("sft", preset, seed)
plots.show(plots.training_log(logs, columns=["loss"]))

# %% [markdown]
# The loss falls, as it should: imitation works. What has been learned is not in this picture.
# Drawn over the recorded SFT and RL arms, the live run is the dashed line with open squares:

# %%
results = load_results(preset=preset)
plots.show(figures.success_against_compute(results, live=run.evals()))

# %% [markdown]
# ## Two kinds of memory
#
# About a quarter of all hands is never dealt in training. So memory of *hands* shows between the
# first two panels, where the rule is the same, and memory of the *rule* between the second and the
# third, where no hand was ever seen. (Recorded runs, at the end of training.)

# %%
plots.show(figures.changes_from_init(results))

# %% [markdown]
# ## The mechanism: reading the rule, and using it
#
# Every answer says what its cards count as, before it calculates. So we can ask of each J, Q and K
# whether the claimed value is the one that the *question* states, and of each formula whether it
# uses the numbers that the rule gives:

# %%
plots.show(figures.mechanism(results, live=run.evals()))

# %% [markdown]
# And what does it say instead? Here are the claims of the recorded init and of the recorded SFT
# arms at their ends, under the rule that lets J, Q, K count as 11, 12, 13. A column `10` that fills
# up would be the training rule, recited.

# %%
import pandas as pd

from sftrl_lib.stats import last, main_grid
from sftrl_lib.tasks import make_task
from study.notebook import recorded_episodes


def claims(method: str, name: str) -> pd.DataFrame:
    """Share of first answers that claim a value, for each face card (rule OOD, all seeds)."""
    game, read = make_task(Experiment(task=name)), []
    grid = main_grid(results.query("preset == @preset and task == @name and method == @method"))
    for s in sorted(set(grid.seed)):
        for index, episode in recorded_episodes(method, "rule_ood", preset, s, name).items():
            deal = game.item("rule_ood", s, index)
            read += game.read_values(deal, episode["turns"][0])
    table = pd.DataFrame(read, columns=["card", "claimed", "true"]).query("card in ('J', 'Q', 'K')")
    claimed = table.claimed.map(lambda v: "none" if pd.isna(v) else str(int(v)))
    shares = pd.crosstab(table.card, claimed, normalize="index")
    return shares[sorted(shares, key=lambda c: (not c.isdigit(), c.zfill(2)))]


for method in ("init", "sft"):
    print(f"{plots.name_of(method)}\n{claims(method, 'gp-l').round(2).to_string()}\n")

# %% [markdown]
# It hardly fills: of the 81 face cards in these 60 answers SFT calls 9% a 10, and the init none.
# SFT reads most of them rightly still. But reading and using come apart. In 32 of the 60 answers
# the numbers are wrong, against 21 of the init's. In 18 of the 32 the answer has read every face
# card rightly, and its formula leaves the value of a face card out all the same. A 10 too many, the
# training rule's number, stands in 11 of the 32 formulas. Over all episodes:

# %%
grid = main_grid(results.query("preset == @preset and task == 'gp-l'"))
steps_of_an_answer = {
    "value_reading": "says the right value",
    "numbers_right": "its formula uses the right numbers",
}
ends = {
    plots.name_of(m): {
        words: last(grid, m, "rule_ood", metric, 1).value.mean()
        for metric, words in steps_of_an_answer.items()
    }
    for m in ("init", "sft", "rl")
}
pd.DataFrame(ends).style.format("{:.1%}")

# %% [markdown]
# ## The same on a walk
#
# Navigation is trained by the same functions; only the rows are others: a position of a training
# route, its question, the one right answer. And again something is constant in every row: turns
# are said as directions (*absolute*), never as ways to turn.

# %%
walk_exp = Experiment(
    task="virl-l", method="sft", preset=preset, precision=precision, seed=seed,
    steps=live_steps // 2, batch=live_batch, eval_points=2, eval_episodes=max(1, episodes // 10),
)  # fmt: skip
walk_run = live(walk_exp)

# %%
walked = walk_run.evals()
plots.show(figures.success_against_compute(results, live=walked, task="virl-l"))

# %% [markdown]
# Per-step accuracy is the paper's measure: right actions of all answers until the route is lost.
# Where has the recorded arm come to, on routes it was trained on, on other routes of the same
# city, with the other actions, and in cities it never saw?

# %%
plots.show(figures.changes_from_init(results, task="virl-l"))

# %% [markdown]
# A right turn has two halves: the turn that is due is found, in whatever words, and it is said in
# the words that were asked for. The first half is the same work under both rules. The second *is*
# the rule.

# %%
plots.show(figures.mechanism(results, live=walked, task="virl-l"))

# %% [markdown]
# ## The same with eyes
#
# In the two image tasks the question does not say what there is to see: a picture shows it. The
# expert's answer is the one of the text task. It begins with the names of the cards, and SFT raises
# the probability of all its tokens, so every row also says outright what is in the picture.

# %%
look_exp = Experiment(
    task="gp-vl", method="sft", preset=preset, precision=precision, seed=seed,
    steps=live_steps // 2, batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
policy = start_policy(look_exp)
row = expert_row(look_exp, policy, make_task(look_exp), 0)
learned = [label for label in row["labels"] if label != -100]
plots.show(row["picture"].resize((256, 256), 0), "four cards on a table, as the model sees them")
print(policy.decode(learned))

# %% [markdown]
# Two things are constant in these rows: a face card is a ten, as before, and all cards are black.
# The live arm, over the recorded ones:

# %%
policy = None
look_run = live(look_exp)
looked = look_run.evals()
plots.show(figures.success_against_compute(results, live=looked, task="gp-vl"))

# %% [markdown]
# Seen hands, unseen hands, the new rule, and, one panel further, red cards under the old rule:

# %%
plots.show(figures.changes_from_init(results, task="gp-vl"))

# %% [markdown]
# Is it the eyes, or the rule? The left and the middle panel count cards that the first answer names
# rightly, the right one face cards that it gives the value the rule states. Before you look: which
# of the three would you expect to fall?

# %%
plots.show(figures.mechanism(results, live=looked, task="gp-vl"))

# %% [markdown]
# Here the column `10` does fill up:

# %%
for method in ("init", "sft"):
    print(f"{plots.name_of(method)}\n{claims(method, 'gp-vl').round(2).to_string()}\n")

# %% [markdown]
# With pictures SFT recites the training rule: it calls 84% of the face cards a 10, the init 2%.
#
# SFT's eyes get better, for black cards: it is told, card by card, what it should have seen. (In
# the paper they get worse.) And still it solves no more unseen hands than before, since what it
# does with the cards it sees is bound to the hands and the rule of its training. Better eyes are
# not better rules. Notebook 04 takes the two apart.

# %% [markdown]
# Streets at last: four views, and an expert who says what is in them before he says what is due. A
# sign shows the kind of a landmark and not its name, so the kind is what he names.

# %%
street_exp = Experiment(
    task="virl-vl", method="sft", preset=preset, precision=precision, seed=seed,
    steps=max(1, live_steps // 4), batch=live_batch, eval_points=2,
    eval_episodes=max(1, episodes // 20),
)  # fmt: skip
streets = make_task(street_exp)
drawn = (streets.item("train", seed, i).position for i in range(100))
there = next(i for i, position in enumerate(drawn) if position.at_intersection)
policy = start_policy(street_exp)
row = expert_row(street_exp, policy, streets, there)
shown = row["picture"].resize((256, 256), 0)
plots.show(shown, "front and right above, back and left below, as the model sees them")
print(policy.decode([label for label in row["labels"] if label != -100]))

# %%
policy = None
street_run = live(street_exp)
strolled = street_run.evals()
plots.show(figures.success_against_compute(results, live=strolled, task="virl-vl"))

# %%
plots.show(figures.changes_from_init(results, task="virl-vl"))

# %%
plots.show(figures.mechanism(results, live=strolled, task="virl-vl"))

# %% [markdown]
# The expert names the landmark in every answer, and SFT comes to name it too, though the action
# seldom depends on it. What becomes of the words of actions that no row of its training has shown
# differs from seed to seed: here, too, SFT finds the turn, and may then say it in the old words.
# And other cities, which are to be a test of the eyes? SFT gains there nearly as much as at home.
# Notebook 04 asks how new these cities are.

# %% [markdown]
# ## What to inspect
#
# * Does the loss still fall where OOD success has long begun to? The training loss cannot warn you.
# * Seen and unseen hands have the same rule. What would a model have to learn to rise on the first
#   and not on the second? Would an ordinary test set, drawn like the training set, have told you?
# * In the tables of claims: is the wrong value spread out, or is it one value? In text, with
#   pictures?
# * On the walk: which half of a right turn does SFT teach, and which does it take away?
# * With pictures: the loss of a row sums over names, values and formula. Which part can still fall
#   when the eyes are good, and what does it then teach?

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

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
# ## Summary
#
# SFT raises the probability of expert tokens, all of them, also of those that happen to be
# constant in the training set. A face card's value is such a constant. The loss rewards reading
# the rule no more than remembering it.
#
# ## Further reading
#
# * Chu, Zhai et al., arXiv 2501.17161, sections 3.1 and 5.
# * Wu et al., *On the Generalization of SFT*, arXiv 2508.05629 (DFT).
# * *Debunk the Myth of SFT Generalization*, arXiv 2510.00237.
# * Next: `03_rl`.
