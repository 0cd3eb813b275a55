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
# # 03 RL with verification: the player
#
# Now nobody shows a solution. The model plays a hand, and hears that its formula makes 27. It
# plays again, and hears that it has used the seven twice. Out of thousands of such attempts some
# succeed, by luck or otherwise, and whatever was done in those becomes a little more probable.
#
# It sounds hopeless. The init solves a few hands in a hundred, and a verdict of right or wrong says
# far less than a solution that is written out. The copyist of notebook 02 has had every advantage.
#
# So here is the bet of this notebook. For the same compute, which has learned more about *new*
# hands: the copyist, who saw thousands of solutions, or the player, who never saw one?

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0
live_steps = 10  # optimizer steps of the live run
live_batch = 128  # episodes a step
episodes = 400  # episodes a measurement

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## What a try is worth
#
# An episode is a conversation of up to $k$ tries. Try $t$ earns the verdict's reward $r_t$. What it
# is worth is its **return**: the reward from there on, discounted once for each further try,
#
# $$
# G_t = r_t + \gamma G_{t+1}
# $$
#
# Policy-gradient methods then ask: worth, compared with *what*? PPO, which the paper uses, trains a
# second network to predict the return. **GRPO** plays the same hand several times, a *group*, and
# compares the episodes with one another. We use GRPO: it needs no second network, and a hand can be
# dealt again at no cost. So our learner differs from the paper's, while reward, verifier and tries
# are the same.

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
# The **advantage** of a try is its return minus the mean return of *the same try* in its group,
# over one scale for all.

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
# Here is a group of six: four solved at once, one failed and then solved, one failed twice.

# %%
from sftrl_lib.methods.grpo import group_advantages

example = [[5.0]] * 4 + [[-1.0, 5.0], [-1.0, -1.0]]
ours, library = (made(example, 0.9) for made in (advantages, group_advantages))
for rewards, credit, same in zip(example, ours, library, strict=True):
    assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(credit, same, strict=True))
    print(f"rewards {str(rewards):14} advantages {[round(x, 2) for x in credit]}")

# %% [markdown]
# Look at the fifth episode. Its second try is praised. Its first is not, although success followed,
# since most of its group were right at once: failing first gains nothing. That is **credit per
# try**. Does one better answer change the others' advantages? Move the sliders:

# %%
from study import touch

touch.advantage_sliders()

# %%
from study import plots

plots.show(touch.advantages(["solved", *["wrong_value"] * (touch.GROUP - 1)]))

# %% [markdown]
# Each batch makes one update, so GRPO's objective is here the plain policy gradient: over all
# tokens that the model wrote, the mean of advantage times log-probability. The verifier's messages
# are read and not written; their tokens are masked.

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
# ## Silence
#
# If all episodes of a group earn the same, every advantage is zero, and the group teaches nothing.
# How often is that so at the start, when the reward is only right or wrong?

# %%
from study.predict import Truth, predict, predictions

predict(
    "03.silent", "Right or wrong, one try, eight answers a hand: what share of hands is silent?",
    (0, 100), "%",
)  # fmt: skip

# %%
import pandas as pd

from sftrl_lib.experiment import Experiment
from sftrl_lib.rollout import rollout
from sftrl_lib.runner import start_policy
from sftrl_lib.tasks.general_points import GeneralPoints
from study.registration import confirmed, registration

as_recorded = registration()["common"] if preset == "tiny" else {}  # start, temperature, hands
exp = Experiment(
    method="rl", preset=preset, precision=precision, seed=seed, steps=live_steps,
    batch=live_batch, eval_points=1, eval_episodes=episodes, **as_recorded,
)  # fmt: skip
task, size = GeneralPoints(rule=exp.task.rule, ood_rule=exp.task.ood_rule), exp.method.group
deals = [task.item("train", seed, i // size) for i in range(2 * exp.method.batch)]
played = rollout(
    start_policy(exp), task, deals, tries=exp.method.tries, temperature=exp.method.temperature,
    max_new_tokens=exp.model.max_new_tokens, progress=True,
)  # fmt: skip

# %%
groups = [played[i : i + size] for i in range(0, len(played), size)]


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


schemes, lengths = {"binary": "right or wrong", "paper": "graded (the paper's)"}, (1, 3)
signal = {words: {n: with_signal(s, n) for n in lengths} for s, words in schemes.items()}
pd.DataFrame(signal).rename_axis("tries").style.format("{:.0%}")

# %% [markdown]
# Two things break the silence: more tries, and a reward that grades failures. A wrong value earns
# less blame than wrong numbers, and wrong numbers less than no formula at all. So a hand that
# nobody solves can still teach something. Whether it teaches what we want is exercise 03.5.

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
# ## Before you train it
#
# RL pays for its attempts: at equal compute it makes far fewer updates than SFT. Both start from
# the same init. Say where the recorded RL arm ends.

# %%
predict(
    "03.new", "New hands under the training's rule, at equal compute: who solves more?",
    ["RL", "SFT", "about the same"],
)  # fmt: skip

# %%
predict(
    "03.gap", "By how many points is RL better on hands that it has seen than on new ones?",
    (0, 70), " points",
)  # fmt: skip

# %% [markdown]
# ## Live: an RL arm
#
# TRL's `GRPOTrainer` with our rollout and our advantages. The hands are those that SFT draws from.

# %%
from study.notebook import live

run = live(exp)

# %%
from sftrl_lib.results import load_results
from study import figures
from study.notebook import recorded_log

cards = confirmed(load_results(), "gp-l")
recorded = recorded_log("rl", seed=int(cards.seed.min()), results=cards)
logs = {"RL, this session": run.metrics()} | recorded
plots.show(plots.training_log(logs, columns=["reward", "solved"]))

# %%
plots.show(figures.success_against_compute(cards, live=run.evals()))

# %% [markdown]
# The live arm is dashed, with open marks, and it is noisy: it is measured on few hands. The thin
# lines of RL are restless for another reason: a policy that trains on its own answers changes what
# it trains on. On new hands under the training's rule SFT sinks, and RL, up and down, stays above
# it.
#
# Does RL rise? The log above says so. But it counts the hands of the training.
#
# ## The surprise
#
# Notebook 02 ended with a copyist who knew its hands by heart. Ask the same of the player:

# %%
from sftrl_lib.stats import last

splits = {
    "id_seen": "hands of the training",
    "id_unseen": "new hands",
    "rule_ood": "new hands, new rule",
}
ends = {
    plots.name_of(m): {
        words: last(cards, m, split, "success", 3).value.mean() for split, words in splits.items()
    }
    for m in ("init", "sft", "rl")
}
pd.DataFrame(ends).T.style.format("{:.1%}")

# %% [markdown]
# The player, too, comes to know its hands. It was never shown a solution, and yet what it gains it
# gains on the hands that it has played: on new ones it is no better than its start, and under the
# new rule it is worse. It memorises, if far less than the copyist does. (At equal compute RL meets
# each hand far less often, too.)
#
# These answers are sampled at temperature 0.2, so they are nearly the most probable ones. RL trains
# at temperature 1. Look there:

# %%
from study.followups import at_temperatures

asked = at_temperatures(load_results(), "gp-l").query("method != 'sft'")
asked.pivot_table(index=["split", "temperature"], columns="method", values="y").round(1)

# %% [markdown]
# At the temperature of its training RL *has* gained, on new hands and under the new rule. The init
# is at its best when it is cold; there bold sampling spoils its answers. So take each at its best,
# and on new hands next to nothing of RL's gain is left, and under the new rule the init is ahead.
# The first edition of this book looked at temperature 1 alone, and saw RL generalise.
#
# ## Why
#
# RL can only make more probable what the policy already does. It keeps no solution that it has not
# found itself, so it forgets little; and what is never tried is never learned, so its ceiling is
# low where SFT's is not. But a hand that comes back is a hand whose solution has been praised
# before. Nothing in the reward asks for a skill that serves all hands.
#
# Is "RL loses less" then only another way to say "RL moved less"? The rows above cannot tell.
# Notebook 04 compares the arms at equal distance from their start.

# %% [markdown]
# ## Your predictions

# %%
new = {m: 100 * last(cards, m, "id_unseen", "success", 3).value.mean() for m in ("rl", "sft")}
known = 100 * last(cards, "rl", "id_seen", "success", 3).value.mean()
ahead = new["rl"] - new["sft"]
who = "about the same" if abs(ahead) < 2 else "RL" if ahead > 0 else "SFT"
predictions("03", {
    "03.silent": 100 * (1 - signal["right or wrong"][1]),
    "03.new": Truth(who, f"RL {new['rl']:.0f}%, SFT {new['sft']:.0f}%"),
    "03.gap": known - new["rl"],
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Five more stand
# in the sections above.)

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
# ## What next
#
# Both arms have run, and the picture is half the paper's: SFT memorises, and RL does not
# generalise. Before you believe any of it, notebook 04 asks how much of it is luck. The excursion
# *03b* plays the same comparison on pictures and on walks, where it turns out less simple.
#
# * Chu, Zhai et al., arXiv 2501.17161, sections 3.2 and 5.4: RL, and more tries.
# * Shao et al., *DeepSeekMath*, arXiv 2402.03300: GRPO.
# * Shenfeld et al., *RL's Razor*, arXiv 2509.04259: why on-policy training moves less.
