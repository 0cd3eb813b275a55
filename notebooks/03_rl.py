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
# # 03 RL with verification: what an outcome reward teaches
#
# Now nobody shows a correct answer. The model tries, the verifier says what was wrong, the model
# tries again, and what it did is made more or less likely by the reward it led to. After this
# notebook you can
#
# * compute the advantage of every try of an episode, and check it against the library;
# * say why this is GRPO where the paper used PPO, and what that changes;
# * see how much of an early batch teaches nothing, and what the library saves by knowing so;
# * train an RL arm live, and place it on the recorded curves.
#
# | | tiny tier | llama-11b tier |
# |---|---|---|
# | time | about seven minutes on two CPU cores | depends on the GPU: not measured by us |
# | memory | under 2 GB | one GPU of 24 GB |
# | needs | `data/` | gated weights, a token, `SFTRL_ONLINE=1` |
# | writes | `runs/` (four live runs) | the same |

# %% tags=["parameters"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 12  # optimizer steps of the live run
live_batch = 128  # episodes a step
episodes = 200  # episodes a measurement

# %%
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## An episode, and what a try is worth
#
# An episode is a conversation of up to $k$ tries. Try $t$ earns the verdict's reward $r_t$; what
# it is worth is its **return**, the reward from there on, discounted once for each further try:
#
# $$
# G_t = r_t + \gamma G_{t+1}
# $$
#
# The question of policy-gradient methods is: worth, compared with *what*? PPO, which the paper
# uses, trains a second network to predict the return and compares with that. **GRPO** plays the
# same deal several times, a *group*, and compares the episodes with one another. We use GRPO,
# because
#
# * it needs no value network: nothing of the policy's own size to hold, and nothing to train first;
# * TRL's maintained trainer is GRPO's; its PPO trainer is gone;
# * a deal can be played again at no cost, which is what a group takes.
#
# So the *learner* differs from the paper's, while reward, verifier and tries are the same. One
# batch makes one update, so the probability ratio of PPO is 1 and its clipping never binds.

# %% [markdown] exercise="returns"
# **Exercise 03.1. What a try is worth** (easy, 5 minutes)
#
# Compute the return of each try of an episode: its reward, plus the return of the next try,
# discounted once, $G_t = r_t + \gamma G_{t+1}$.
#
# <details><summary>Hint</summary>
#
# Go through the rewards from the last to the first.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def returns(rewards: list[float], discount: float) -> list[float]:
#     """The return of each try."""
#     found, ahead = [], 0.0
#     for reward in reversed(rewards):
#         ahead = reward + discount * ahead
#         found.append(ahead)
#     return found[::-1]
# ```
#
# A failed first try has a positive return where success follows.
#
# </details>

# %% exercise="returns"
from teach import check


def returns(rewards: list[float], discount: float) -> list[float]:
    """The return of each try."""
    ...  # your code


check("03.1", returns)

# %% [markdown]
# ## The advantage, written out
#
# For each try: its return minus the mean return of *the same try* in the group, over one scale
# for all.


# %%
import math


def advantages(group: list[list[float]], discount: float) -> list[list[float]]:
    """Advantage of each try; `group` holds the rewards of each episode of one deal."""
    returns = []
    for rewards in group:
        ahead = [0.0]
        for reward in reversed(rewards):
            ahead.append(reward + discount * ahead[-1])
        returns.append(ahead[:0:-1])
    squares, freedom, means = 0.0, 0, []
    for t in range(max(map(len, returns))):
        same_try = [g[t] for g in returns if t < len(g)]
        means.append(sum(same_try) / len(same_try))
        squares += sum((g - means[t]) ** 2 for g in same_try)
        freedom += len(same_try) - 1
    scale = math.sqrt(squares / max(freedom, 1))
    if scale < 1e-6:
        return [[0.0] * len(g) for g in returns]
    return [[(x - means[t]) / (scale + 1e-4) for t, x in enumerate(g)] for g in returns]


# %% [markdown]
# A group of six: four solved at once, one failed and then solved, one failed twice.

# %%
from sftrl_lib.methods.grpo import group_advantages

example = [[5.0]] * 4 + [[-1.0, 5.0], [-1.0, -1.0]]
for rewards, credit in zip(example, advantages(example, 0.9), strict=True):
    print(f"rewards {str(rewards):14} advantages {[round(x, 2) for x in credit]}")

# %% [markdown]
# Look at the fifth episode. Its second try is praised; its first is not, although success
# followed, since most of its group were right at once: failing first gains nothing. This is
# **credit per try**. The library's function gives the same numbers on any group:

# %%
import random

rng = random.Random(seed)
for _ in range(500):
    tries = [rng.randint(1, 5) for _ in range(8)]
    group = [[rng.choice((-3.0, -2.0, -1.0)) for _ in range(n - 1)] for n in tries]
    group = [rewards + [rng.choice((5.0, -1.0))] for rewards in group]
    for a, b in zip(advantages(group, 0.9), group_advantages(group, 0.9), strict=True):
        assert all(math.isclose(x, y, abs_tol=1e-9) for x, y in zip(a, b, strict=True))
print("500 random groups: the same advantages")

# %% [markdown]
# Move a slider: what does one better answer change for the other seven?

# %%
from study import touch

touch.advantage_sliders()

# %% [markdown]
# And the gradient? With one update a batch, GRPO's objective is the plain policy gradient: over
# all tokens that the model wrote, the mean of advantage times log-probability. The verifier's
# messages are read, not written: their tokens have mask 0.

# %% [markdown] exercise="episode_credit"
# **Exercise 03.2. Credit for the whole episode** (medium, 10 minutes)
#
# The notebook gives credit per try. Give it per episode instead: every try of an episode gets
# the advantage of the *first* try, that is its return minus the mean of the group's first
# returns, over their standard deviation (with n - 1) plus 0.0001. If the deviation is zero,
# all advantages are.
#
# <details><summary>Hint</summary>
#
# Compute one number for each episode, then repeat it for each of its tries.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def episode_credit(group: list[list[float]], discount: float) -> list[list[float]]:
#     """Advantages from the rewards of each episode of one deal, one list an episode."""
#     first = [sum(r * discount**t for t, r in enumerate(rewards)) for rewards in group]
#     mean = sum(first) / len(first)
#     spread = (sum((g - mean) ** 2 for g in first) / (len(first) - 1)) ** 0.5
#     shared = [(g - mean) / (spread + 1e-4) if spread > 1e-6 else 0.0 for g in first]
#     return [[a] * len(rewards) for a, rewards in zip(shared, group, strict=True)]
# ```
#
# A second try that solves the hand is now blamed for the first one. All tries of an episode
# share one number, right or wrong.
#
# </details>

# %% exercise="episode_credit"
from teach import check


def episode_credit(group: list[list[float]], discount: float) -> list[list[float]]:
    """Advantages from the rewards of each episode of one deal, one list an episode."""
    ...  # your code


check("03.2", episode_credit)

# %% [markdown] exercise="clipped"
# **Exercise 03.3. PPO's clip** (medium, 10 minutes)
#
# The paper's learner, PPO, maximises for each token the smaller of $\rho A$ and
# $\text{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A$, where $\rho$ is the probability of the
# token now over that when it was sampled, and $A$ its advantage. Write it.
#
# <details><summary>Hint</summary>
#
# Try a negative advantage: which of the two terms is the smaller one then?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def clipped(ratio: float, advantage: float, epsilon: float) -> float:
#     """PPO's objective of one token."""
#     inside = min(max(ratio, 1 - epsilon), 1 + epsilon)
#     return min(ratio * advantage, inside * advantage)
# ```
#
# In this book each batch makes one update, so the ratio is 1 and the clip never binds. The
# paper makes four passes over a batch, and there it does.
#
# </details>

# %% exercise="clipped"
from teach import check


def clipped(ratio: float, advantage: float, epsilon: float) -> float:
    """PPO's objective of one token."""
    ...  # your code


check("03.3", clipped)

# %% [markdown]
# ## Groups without a signal
#
# If all episodes of a group earn the same, every advantage is 0: the group teaches nothing. How
# often is that so at the start? Here is the init on deals of the training stream, eight episodes
# a deal.

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.rollout import rollout
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks.general_points import GeneralPoints

exp = Experiment(
    method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
task = GeneralPoints(rule=exp.task.rule, ood_rule=exp.task.ood_rule)
deals = [task.item("train", seed, i // exp.method.group) for i in range(exp.method.batch)]
played = rollout(
    start_policy(exp), task, deals, tries=exp.method.tries, temperature=exp.method.temperature,
    max_new_tokens=exp.model.max_new_tokens, progress=True,
)  # fmt: skip

# %%
import pandas as pd

groups = [played[i : i + exp.method.group] for i in range(0, len(played), exp.method.group)]


def with_signal(scheme: str, tries: int) -> float:
    """Share of groups in which at least one try has an advantage."""
    judge = GeneralPoints(rule=exp.task.rule, ood_rule=exp.task.ood_rule, scheme=scheme)
    found = 0
    for group in groups:
        rewards = [
            [judge.verify(e.item, turn.text).reward for turn in e.turns[:tries]] for e in group
        ]
        found += any(any(credit) for credit in group_advantages(rewards, exp.method.discount))
    return found / len(groups)


schemes, lengths = ("binary", "paper"), (1, exp.method.tries)
shares = {s: {f"tries: {n}": with_signal(s, n) for n in lengths} for s in schemes}
pd.DataFrame(shares).style.format("{:.0%}")

# %% [markdown]
# The paper's scheme also grades failures, so more groups can differ; whether grading failures
# teaches what we want is another question (exercise 2). Rows without an advantage need no
# backward pass: the library leaves them out, counts them in `compute` as the paper's formula
# does, and counts what it really executed in `compute_done`.

# %% [markdown] exercise="silent"
# **Exercise 03.4. Silent groups** (easy, 5 minutes)
#
# With rewards of 0 and 1 a group teaches nothing if all its episodes agree. How likely is
# that, if each episode is solved with the same chance, whatever the others do?
#
# <details><summary>Hint</summary>
#
# All can be solved, and all can fail.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def silent(chance: float, group: int) -> float:
#     """The probability that all episodes of a group earn the same."""
#     return chance**group + (1 - chance) ** group
# ```
#
# Deals that are far too hard and deals that are far too easy are silent. RL learns where the
# model succeeds now and then.
#
# </details>

# %% exercise="silent"
from teach import check


def silent(chance: float, group: int) -> float:
    """The probability that all episodes of a group earn the same."""
    ...  # your code


check("03.4", silent)

# %% [markdown] exercise="praised_failure"
# **Exercise 03.5. Praise for failure** (medium, 10 minutes)
#
# Find a group of failed episodes in which a try is praised all the same: under the paper's
# rewards (-1 wrong value, -2 wrong numbers, -3 no formula, +5 solved) it has a positive
# advantage. Under `binary` rewards the same group would be silent.
#
# <details><summary>Hint</summary>
#
# Let the whole group fail, some of it more gracefully.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def praised_failure() -> list[list[float]]:
#     """Rewards of the episodes of one deal, one list an episode."""
#     return [[-1.0], [-1.0], [-2.0], [-3.0]]
# ```
#
# A legal wrong formula is praised although nothing was solved. Form is taught before content
# and, once form is there, perhaps instead of it.
#
# </details>

# %% exercise="praised_failure"
from teach import check


def praised_failure() -> list[list[float]]:
    """Rewards of the episodes of one deal, one list an episode."""
    ...  # your code


check("03.5", praised_failure)

# %% [markdown]
# ## Live: an RL arm
#
# TRL's `GRPOTrainer` with our rollout and our advantages; the deals are the ones SFT draws from.

# %%
from study.notebook import live

run = live(exp)

# %%
from study import figures, plots
from study.notebook import recorded_log

logs = {"RL, this session": run.metrics()} | recorded_log("rl", preset, seed)
plots.show(plots.training_log(logs, columns=["reward", "solved", "trained_rows"]))

# %%
from sftrl_lib.results import load_results

results = load_results(preset=preset)
plots.show(figures.success_against_compute(results, live=run.evals()))

# %%
plots.show(figures.mechanism(results, live=run.evals()))

# %% [markdown]
# ## The same on a walk
#
# A group in navigation is one position of one route, answered by eight episodes of up to two tries.
# Nothing else changes: a wrong action is not carried out, so the next position does not depend on
# it, and each position is a deal of its own. Which positions teach anything at the start?

# %%
from sftrl_lib.tasks import make_task

walk_exp = Experiment(
    task="virl-l", method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=max(1, episodes // 10),
)  # fmt: skip
walk = make_task(walk_exp)
places = [walk.item("train", seed, i // exp.method.group) for i in range(2 * walk_exp.method.batch)]
walked = rollout(
    start_policy(walk_exp), walk, places, tries=walk_exp.method.tries, progress=True,
    temperature=walk_exp.method.temperature, max_new_tokens=walk_exp.model.max_new_tokens,
)  # fmt: skip

# %%
rows = []
for i in range(0, len(walked), exp.method.group):
    group = walked[i : i + exp.method.group]
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
# to learn is at the turns. The live arm, over the recorded ones:

# %%
walk_run = live(walk_exp)
results_here = walk_run.evals()
plots.show(figures.success_against_compute(results, live=results_here, task="virl-l"))

# %%
plots.show(figures.mechanism(results, live=results_here, task="virl-l"))

# %% [markdown]
# ## The same with eyes
#
# In the image tasks an answer can fail before it calculates: it names a card that is not there. The
# verifier says so, and takes 1.5 for it, more than for a wrong result (1) and less than for
# numbers that are not the cards' (2). How often does the init fail in which way, what does it get
# for it, and what becomes of the next try?

# %%
look_exp = Experiment(
    task="gp-vl", method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=2, eval_episodes=episodes,
)  # fmt: skip
cards = make_task(look_exp)
hands = [cards.item("train", seed, i // exp.method.group) for i in range(2 * look_exp.method.batch)]
looked = rollout(
    start_policy(look_exp), cards, hands, tries=look_exp.method.tries, progress=True,
    temperature=look_exp.method.temperature, max_new_tokens=look_exp.model.max_new_tokens,
)  # fmt: skip


# %%
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
# picture is the same. Remember it for notebook 04. The live arm, over the recorded ones:

# %%
look_run = live(look_exp)
looks = look_run.evals()
plots.show(figures.success_against_compute(results, live=looks, task="gp-vl"))

# %%
plots.show(figures.mechanism(results, live=looks, task="gp-vl"))

# %% [markdown]
# On a walk with street views the verifier judges the action, and of what the answer observes only
# whether there is a crossing. What would you expect to become of the landmarks? First, what does it
# earn an answer of the init to have seen something rightly?

# %%
from worlds.walks import observed, sighted

street_exp = Experiment(
    task="virl-vl", method="rl", preset=preset, precision=precision, seed=seed,
    steps=max(1, live_steps // 2), batch=live_batch, eval_points=2,
    eval_episodes=max(1, episodes // 20),
)  # fmt: skip
streets = make_task(street_exp)
places = [
    streets.item("train", seed, i // exp.method.group) for i in range(4 * street_exp.method.batch)
]
strolled = rollout(
    start_policy(street_exp), streets, places, tries=street_exp.method.tries, progress=True,
    temperature=street_exp.method.temperature, max_new_tokens=street_exp.model.max_new_tokens,
)  # fmt: skip

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
# and of so few answers that another seed gives another number. The live arm, over the recorded
# ones:

# %%
street_run = live(street_exp)
streets_here = street_run.evals()
plots.show(figures.success_against_compute(results, live=streets_here, task="virl-vl"))

# %%
plots.show(figures.mechanism(results, live=streets_here, task="virl-vl"))

# %% [markdown]
# RL comes to see crossings a little better and says nearly every turn in the words asked for; of
# landmarks it gets a few more right. SFT, which is shown them, gets more than twice as many. In the
# paper it is RL that improves the eyes. But RL can only learn what pays, so the question to ask of
# a task is what seeing is worth in it. Notebook 04 measures that.

# %% [markdown]
# ## What to inspect
#
# * `trained_rows`: which share of the episodes carries a gradient, and does it grow or shrink?
# * In the curves: which arm is faster in distribution at equal compute? RL pays for its rollouts.
# * Value reading: RL is never told what a card counts as. What keeps, or does not keep, the
#   reading alive under a rule that it does not see in training either?
# * On the walk: what RL learns at turns in absolute words, does it help with relative ones? Which
#   half of a right turn would have to be shared for that?

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (More
# exercises stand in the sections above.)

# %% [markdown] exercise="baseline"
# **Exercise 03.6. On paper: why a mean may be subtracted** (hard, 20 minutes)
#
# Show that subtracting a baseline $c$ from the return does not change the expected policy
# gradient, if $c$ does not depend on the answer. GRPO subtracts the mean of the group, in
# which the answer itself has a share. By which factor does that shrink the expected gradient
# for a group of size $G$?
#
# <details><summary>Hint</summary>
#
# $\sum_a \pi_\theta(a \mid q) = 1$ for every $\theta$. For the second question write the
# group's mean as $\tfrac{1}{G}$ of the own return plus $\tfrac{1}{G}$ of the others'.
#
# </details>
#
# <details><summary>Solution</summary>
#
# The expected gradient of the baseline's term is
#
# $$
# \mathbb{E}_{a \sim \pi_\theta} \left[ c \, \nabla \log \pi_\theta(a \mid q) \right]
# = c \sum_a \nabla \pi_\theta(a \mid q) = c \, \nabla 1 = 0
# $$
#
# The returns of the other episodes of a group do not depend on the answer, so their share
# drops out. What is left of $R_a - \bar R$ is $R_a - \tfrac{1}{G} R_a$: the expected gradient
# is the right one times $1 - \tfrac{1}{G}$. That only rescales the learning rate. (Dividing
# by the group's standard deviation is another matter: it weighs deals unequally.)
#
# </details>

# %% [markdown] exercise="leash"
# **Exercise 03.7. A leash** (hard, 20 minutes)
#
# `kl_weight` adds the KL to the init to the loss. Train the live run twice more, with
# `exp.replace(kl_weight=0.05)` and with a weight too small to matter, and compare where the
# two end on KL and on OOD success. Why may the paper do without it?
#
# <details><summary>Hint</summary>
#
# `live(exp.replace(kl_weight=0.05), kl=True)` returns the run; its `evals()` hold the KL.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# for weight in (1e-6, 0.05):
#     rows = live(exp.replace(kl_weight=weight), kl=True).evals()
#     rows = rows.query("metric in ('kl_to_init', 'success')")
#     last = rows.groupby(["split", "metric", "tries"]).value.last()
#     print(weight, last.round(3).to_dict())
# ```
#
# On-policy data keeps a policy near to where it was, even without a leash.
#
# </details>

# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="03_rl"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** What is a try compared with in GRPO?
#
# <details><summary>a) The same try of other episodes of the same deal</summary>
#
# **Right.** The group says what was to be expected, so no value network is needed.
#
# </details>
#
# <details><summary>b) The expert's answer</summary>
#
# **No.** RL never sees one.
#
# </details>
#
# <details><summary>c) A fixed reward of zero</summary>
#
# **No.** Then an easy deal would always be praised.
#
# </details>
#
# **Question 2.** All eight episodes of a deal fail in the same way. What does RL learn from it?
#
# <details><summary>a) To avoid these answers</summary>
#
# **No.** An answer is blamed only if others did better.
#
# </details>
#
# <details><summary>b) Nothing</summary>
#
# **Right.** All advantages are zero, so the rows carry no gradient.
#
# </details>
#
# <details><summary>c) As much as from other deals</summary>
#
# **No.** Only groups that differ have a signal.
#
# </details>
#
# **Question 3.** Who writes the tokens of the verifier's message, and are they trained?
#
# <details><summary>a) The environment does; they are read, not trained</summary>
#
# **Right.** A mask of 0 leaves them out of the loss.
#
# </details>
#
# <details><summary>b) The model</summary>
#
# **No.** It answers the message, but does not write it.
#
# </details>
#
# <details><summary>c) The environment does, and they are trained</summary>
#
# **No.** That would be imitation of the verifier.
#
# </details>
#
# **Question 4.** Why can RL with an outcome reward improve how cards are read in pictures?
#
# <details><summary>a) The verifier shows the cards to the model</summary>
#
# **No.** It names the fault, not the cards.
#
# </details>
#
# <details><summary>b) Where misreading is what fails, reading better is what pays</summary>
#
# **Right.** Nobody says what lies there, but answers that read it succeed more often.
#
# </details>
#
# <details><summary>c) RL trains only the vision tower</summary>
#
# **No.** It trains the same weights as SFT does.
#
# </details>
#
# **Question 5.** What can RL not learn?
#
# <details><summary>a) What the policy never tries</summary>
#
# **Right.** It makes more likely what it did and was rewarded for.
#
# </details>
#
# <details><summary>b) Anything that takes several tries</summary>
#
# **No.** Several tries in one episode are what it trains on.
#
# </details>
#
# <details><summary>c) Anything that the init does already</summary>
#
# **No.** That is what it learns most easily.
#
# </details>

# %% [markdown]
# ## Summary
#
# RL here is three short functions: play, judge, compare with the group. Its credit goes to tries;
# groups that agree are silent; its data is its own, so it changes only what the policy already
# does now and then. That last sentence is also its limit: what is never tried is never learned.
#
# ## Further reading
#
# * Chu, Zhai et al., arXiv 2501.17161, sections 3.2 and 5.4 (verification iterations).
# * Shao et al., *DeepSeekMath*, arXiv 2402.03300: GRPO.
# * Shenfeld et al., *RL's Razor*, arXiv 2509.04259: why on-policy training moves less.
# * Next: `04_ood_evaluation`.
