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
# # 00 Start here: the bet
#
# Two copies of one small model prepare for the same exam, a card game. In every game that they
# practise, a jack, a queen and a king count as ten. One copy is shown solved games, and learns to
# write what the solver wrote: supervised fine-tuning, **SFT**. The other has to play; a program
# judges each answer, and what was judged well becomes more probable: reinforcement learning,
# **RL**. Both work equally hard.
#
# Then the exam changes one sentence. Jacks, queens and kings now count as 11, 12 and 13, and the
# first line of the question says so. Nothing else is new.
#
# Does either copy read that line? In 2025 Chu, Zhai and others answered with a title, *SFT
# Memorizes, RL Generalizes*. This book repeats their experiment on a model that trains on your
# laptop. You may bet against the title, and you will see who wins.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## One hand, two rules
#
# The game is GeneralPoints: use each card once, and make 24. Here is one hand as the model meets
# it, first under the rule of the training, then under the rule of the exam.

# %%
from sftrl_lib.tasks.general_points import GeneralPoints

task = GeneralPoints(rule="ten", ood_rule="eleven_twelve_thirteen")
for split in ("id_paired", "rule_paired"):
    deal = task.item(split, seed, 0)
    print(f"{split}: {deal.rule.name}\n{task.prompt(deal)}\nOne solution: {deal.solutions()[0]}\n")

# %% [markdown]
# The cards are the same and the solution is not. A model that *reads the rule and then calculates*
# does not mind. A model that has learned *a face card is a ten* was right all through its training,
# and fails now. On the games they practised, the two look exactly alike. A test like the training
# is called **in distribution** (ID); a test under a new rule is **out of distribution** (OOD).

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
# ## Place your bet
#
# Two more facts first. Both copies start from one checkpoint, the **init**, which knows the format
# of an answer and plays badly. And each is tested on hands that it trained on, on new hands, and on
# new hands under the new rule. Record what you expect; your answers stay in your own runs folder,
# and come back at the end of the page.

# %%
from study.predict import Truth, predict, predictions

predict(
    "00.winner", "Under the new rule, which model solves more hands?",
    ["RL", "SFT", "the init, which neither has trained"],
)  # fmt: skip

# %%
predict(
    "00.seen", "And on the very hands that they trained on?",
    ["RL", "SFT", "the init, which neither has trained"],
)  # fmt: skip

# %%
predict(
    "00.read", "Under the new rule, what share of the face cards does SFT still read as it says?",
    (0, 100), "%",
)  # fmt: skip

# %% [markdown]
# ## What happened
#
# These are recorded runs of both arms, trained from one start. Follow the lines from left to right:
# each test is one step further from the training. The bars beside them count what the answers *say*
# a face card counts as, before they calculate with it: under the rule of the exam, and under yet
# another one, in which a face card counts as five.

# %%
from sftrl_lib.results import load_results
from study import hero, plots
from study.registration import confirmed

results = load_results()
cards = confirmed(results, "gp-l")
read = {split: hero.readings(cards, "gp-l", split) for split in hero.RULES}
plots.show(hero.hero(cards, read))

# %% [markdown]
# At the left end SFT is far ahead: it knows nearly all of its hands by heart. One step to the
# right, on hands that it has not seen, it is *behind* the model that it started from, and under the
# new rule it solves next to nothing. RL gains less at the left end, and loses less in the middle.
# At the right end it has fallen, too. Ahead of both stands the init, which nobody has trained.
#
# ## The surprise
#
# Now the bars. The usual story says that SFT *recites*: it has learned that a king is a ten, and
# reads no rule any more. Then it should say ten under every new rule. But when a face card counts
# as five, a rule that no training ever stated, SFT reads it as five. Only eleven, twelve and
# thirteen come out wrong, and then the model often says ten.
#
# What sets these numbers apart? A five stands in thousands of the answers that SFT has copied, for
# other cards. An eleven stands in none. So it still reads the rule, and can no longer say what its
# answers never said. "Memorises" has two meanings on this one page: SFT knows its hands by heart,
# and it has unlearned words. Notebook 05 follows both.
#
# The bars come from recorded answers. Ask the models yourself: choose what J, Q and K count as, and
# four cards. (In the HTML book, the page *Playground* does the same in your browser.)

# %%
from study import touch

touch.playground()

# %% [markdown]
# Here is the hand with which the playground opens. SFT reads the king, and calls the queen a ten.
# Then let all three count as five, in the playground: the same model reads them. (The two arms that
# answer are the ends of one seed's recorded runs.)

# %%
from study import playground as play

policies = play.load()
hand = touch.deal_of(touch.FIRST, play.RULE)
plots.show(play.draw(play.answers(policies, task, hand), touch.titled(hand)))

# %% [markdown]
# ## Three episodes
#
# An answer that fails gets the verifier's message and another try. So see one hand played to its
# end by all three. It is chosen by a rule: the first kept deal of the first seed on which the first
# answers differ as the averages do, so that the init and RL use the right numbers and SFT does not.
# (Where there is no such deal, it is the first that all three have kept.)

# %%
from IPython.display import HTML, display

from study.notebook import recorded_episodes
from study.widgets import render_episode

first = int(cards.seed.min())
played = {
    m: recorded_episodes(m, "rule_ood", "tiny", first, "gp-l", cards) for m in ("init", "sft", "rl")
}


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
# Read `"number"` first, then the formula. All three first answers read the queen as 12, which is
# right. SFT's formulas leave the 12 out, all of them, and use a card twice in its place. RL's use
# every number, and miss the target all the same: it is a small model, and 24 is a hard game.
#
# And look at what else RL writes. Its lists name cards that do not lie on the table, and behind
# this model's answers there is a tail of brackets. The verifier looks at numbers and formula, and
# nobody pays for the rest. Keep that in mind for notebook 05.
#
# ## Why
#
# Nothing in the training tells "read the rule" from "it is a ten": both are right in every game.
# What decides between them is how a method uses its data. SFT raises the probability of every token
# that the solver wrote. RL only reweighs what the model already does, and a model that reads rules
# keeps doing so as long as it pays. That is a hypothesis, and the rest of the book tests it.
#
# ## The second bet: a walk
#
# Here is its first test. A model follows written directions through a city, and at a corner it says
# where to turn. In training it says *north* or *southwest*. In the exam it has to say *left* or
# *slightly right*, and the question lists these words. On new routes, in the old words, SFT is now
# right nearly always: it has learned to walk.

# %%
predict(
    "00.walk", "Turns have new names now. What share of SFT's actions is right?", (0, 100), "%",
)  # fmt: skip

# %%
walked = confirmed(results, "virl-l")
plots.show(hero.walks(walked))

# %% [markdown]
# SFT falls from the top of the chart to the bottom. (The measure is the paper's: a walk ends at the
# first turn that is lost. The bars count every corner.) It has not lost its way: at more than half
# of the corners it still finds the right turn, and says it in the words of its training.
#
# RL does use the new words. But it finds fewer turns than the init did. So here RL loses too, if
# far less, and the hypothesis above is at best half of the truth. The safe bet on the title was
# half of it: SFT memorizes. That RL *generalizes* we see on neither task.
#
# The seeds of these runs, their tests and the rules of judgement were written down before the first
# run: see the page *Results*. Notebook 05 finds out what SFT knows by heart, and why RL
# loses its way and what brings it back.

# %% [markdown]
# ## Your predictions

# %%
from sftrl_lib.stats import last

names = {"rl": "RL", "sft": "SFT", "init": "the init, which neither has trained"}


def winner(split: str) -> Truth:
    """The model that solves most hands within three tries, and the shares."""
    shares = {m: 100 * last(cards, m, split, "success", 3).value.mean() for m in names}
    seen = ", ".join(f"{plots.name_of(m)} {share:.0f}%" for m, share in shares.items())
    return Truth(names[max(shares, key=shares.get)], seen)


still_read = last(cards, "sft", "rule_ood", "value_reading", 1).value.mean()
still_walks = last(walked, "sft", "rule_ood", "per_step", 2).value.mean()
predictions("00", {
    "00.winner": winner("rule_ood"),
    "00.seen": winner("id_seen"),
    "00.read": 100 * still_read,
    "00.walk": 100 * still_walks,
})  # fmt: skip

# %% [markdown]
# These are means over seeds. Notebook 04 asks how sure they let us be.

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails. (Two more stand
# in the first section.)

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
# from study import figures
#
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
# ## What next
#
# One model, one start, two ways to train, one changed sentence. Notebook 01 introduces the judge,
# 02 the imitator and 03 the player; then 04 asks how much of this is luck.
#
# * Chu, Zhai et al., *SFT Memorizes, RL Generalizes*, arXiv 2501.17161: the study.
# * Lu et al., *RL Fine-Tuning Heals OOD Forgetting in SFT*, arXiv 2509.12235, and *Debunk the
#   Myth of SFT Generalization*, arXiv 2510.00237: two answers to it.
