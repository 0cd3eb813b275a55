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
# # 05 What exactly is memorised? A detective story
#
# The victim was in good health. On routes that it had never walked, SFT took nearly every step
# rightly. Then one sentence of the question changed: a turn should now be called *left* or
# *right*, and no longer *north* or *east*. The city was the same. Now SFT loses nearly every route
# at its first turn.
#
# Everybody knows who did it: SFT *memorises*. But what has it memorised? Four suspects have been
# seen near the place.
#
# * **The hand** (or the route): it knows its own by heart, and is lost on others.
# * **The eyes**: it no longer sees what is there.
# * **The rule**: it has learned that a king is a ten, and reads no rule any more.
# * **The words**: it can no longer say what no label ever said.
#
# Two of them have been at it. Only one was there every time, and it is not quite the one whom you
# will suspect.

# %% tags=["parameters", "hide-cell"]
preset = "tiny"  # tiny | llama-11b
precision = "auto"  # auto | full | lora | qlora
seed = 0

# %% jupyter={"source_hidden": true} tags=["hide-cell"]
from study.notebook import setup

setup(preset, precision, seed)

# %% [markdown]
# ## The hand
#
# If SFT knew its routes by heart, it should fail on new ones. Here are the registered arms of the
# second edition, which train three times as long as the first edition's:

# %%
from sftrl_lib.results import load_results
from study import figures, lessons, plots
from study.registration import confirmed

results = load_results(preset=preset)
plots.show(figures.changes_from_init(confirmed(results, "virl-l"), task="virl-l"))

# %% [markdown]
# New routes do not trouble SFT, and other cities trouble it little. The fall is in one panel, that
# of the new words. (It is so deep because the measure ends a route at the first turn that is lost.
# Counted over all positions SFT still takes most steps rightly: exercise 05.4.)
#
# Cards are another matter. There SFT does know its own hands by heart. A *paired* test deals the
# very same new hands under both rules. (Cards as text are the second edition's runs, too; pictures
# are still the first's.)

# %%
import pandas as pd

from sftrl_lib import stats

pictures = stats.main_grid(results.query("task == 'gp-vl'"))
cards = {"gp-l": confirmed(results, "gp-l"), "gp-vl": pictures}
looks = {"gp-l": "text", "gp-vl": "pictures"}


def measured(splits: dict[str, str], metric: str, tries: int, methods=("init", "sft", "rl")):
    """Means over seeds of a metric on cards: a row a task and split, a column a method."""
    rows = {
        (looks[task], words): {
            plots.name_of(m): stats.last(grid, m, split, metric, tries).value.mean()
            for m in methods
        }
        for task, grid in cards.items()
        for split, words in splits.items()
    }
    return pd.DataFrame(rows).T.style.format("{:.1%}")


measured({"id_paired": "training rule", "rule_paired": "same hands, new rule"}, "success", 3)

# %% [markdown]
# Nobody has trained on these hands. As text SFT solves next to none of them, under *either* rule:
# it has copied answers until it could no longer play. So the hand has done this, and no new rule
# was needed. But then success tells us nothing of the rule: who solves no new hand cannot fail more
# under another rule. From here on we look at the parts of an answer. Does it still *read*, and say
# what it has read?

# %% [markdown]
# ## Eyes or reasoning?
#
# With cards in pictures there is one more thing to lose. The paper's explanation of its largest
# numbers is recognition: RL improves the eyes, SFT spoils them. So put success beside what was
# seen, at every checkpoint of both arms:

# %%
plots.show(figures.recognition_and_success(results, task="gp-vl"))

# %% [markdown]
# Follow SFT in the middle panel. It goes to the *right*: it sees black cards better than the init,
# since every label says card by card what lies there. And it goes down. It sees nearly everything
# under the new rule and solves next to nothing. The eyes have an alibi.
#
# ## Can a verdict teach eyes?
#
# RL is never told what lies on the table. Can it improve the eyes at all? In the right panel, red
# cards that no training shows, it does not. This is what the init takes red cards for:

# %%
from sftrl_lib.experiment import Experiment
from sftrl_lib.tasks import make_task
from study.notebook import recorded_episodes

hands, pairs = make_task(Experiment(task="gp-vl")), []
for dealt in sorted(set(cards["gp-vl"].seed)):
    kept = recorded_episodes("init", "visual_ood", preset, dealt, "gp-vl", results)
    for index, episode in kept.items():
        deal = hands.item("visual_ood", dealt, index)
        pairs += hands.read_cards(deal, episode["turns"][0])
ranks = ["A", *map(str, range(2, 11)), "J", "Q", "K"]
plots.show(plots.confusion(pairs, ranks, "Red cards, as the init reads them"))

# %% [markdown]
# A slip here and there, and a hand has four cards: most red hands have one read wrongly. A control
# turns the colours round: now both arms train on red cards.

# %%
from study.predict import Truth, predict, predictions

predict(
    "05.eyes", "Both arms train on red cards. SFT's labels name each card; RL hears only verdicts. "
    "Who comes to read more red hands?", ["both", "SFT only", "RL only", "neither"],
)  # fmt: skip

# %%
red = '{"color": "red"}'  # the setting in which these runs differ from the grid's
control = results.query("source == 'ours' and condition == @red")
eyes = {
    words: {m: stats.last(control, m, split, "hand_read", 1) for m in ("init", "rl", "sft")}
    for split, words in {"id_unseen": "red hands: trained", "visual_ood": "black hands"}.items()
}
title = "Red cards in training: whole hands seen right"
caption = "one seed; bars: 95% interval of the hands; black hands are not trained here"
plots.show(lessons.shares_of(eyes, title, caption, "whole hands seen right (%)"))

# %% [markdown]
# RL's eyes do improve, and nobody told it what to see. Where misreading is what fails, reading is
# what pays. With black cards it was calculating that failed, and RL's eyes stayed as they were. (Of
# the black hands, which this training no longer shows, both arms lose many. And one seed is a hint,
# not a claim.)

# %% [markdown]
# ## The rule
#
# Now the prime suspect. With cards in pictures SFT calls most jacks, queens and kings a ten,
# although the question says 11, 12, 13. It looks like a model that has stopped reading rules.
#
# So state another rule that it has never trained on: jack, queen and king all count as five.

# %%
predict(
    "05.five", "Cards in pictures, J = Q = K = 5, a rule that no training states: what share of "
    "the face cards does SFT read as five?", (0, 100), "%",
)  # fmt: skip

# %%
rules = {"rule_ood": "11, 12, 13", "rule_five": "5, 5, 5", "rule_random": "held-out rules"}
measured(rules, "value_reading", 1)

# %% [markdown]
# A model that no longer reads rules would say ten here, too. It says five. As text it reads nearly
# every five, although it has unlearned to play. So look at the answers by the *value* that is
# stated. A label of the training holds any number from one to ten, as the value of some card. No
# label holds 11, 12, 13.

# %%
from study import hero

new_rules = ("rule_ood", "rule_five", "rule_random", "rule_known", "rule_stated")
read = {
    f"cards as {looks[task]}": pd.concat(
        [hero.readings(rows, task, split) for split in new_rules]
    ).query("method != 'rl'")
    for task, rows in cards.items()
}
plots.show(lessons.by_value(read, training=10))

# %% [markdown]
# There is a step, and in pictures it is a cliff. There SFT reads more than half of what its labels
# can say, and hardly anything that they cannot. (Ten proves nothing, since whoever recites says
# ten, too. And the rule is not quite innocent: below ten SFT reads less than the init does, in
# pictures much less. But a model that ignores rules would draw another picture.) As text a part of
# the reading survives beyond the step, and the next part of the answer breaks the more: does the
# formula use the numbers that the rule gives?

# %%
measured(rules, "numbers_right", 1)

# %% [markdown]
# No formula of the training holds 11, 12, 13, and under that rule SFT's formulas go wrong far more
# often than the init's. Under fives they are right nearly as often as the init's, in pictures more.

# %% [markdown]
# ## The words
#
# That leaves the words, and they look guilty. SFT forgets what its labels never say. It is a fine
# solution: simple, and it fits all cards.
#
# Walks can test it. There the new words *are* in the labels. Here is what SFT learned to write, in
# three fields, on the registered run of one seed:

# %%
import json
import random
import re

from study.registration import sections

walked = set(confirmed(results, "virl-l").seed)
arms = [exp for exp in sections()["virl-l"] if exp.method.name == "sft"]
exp = next(arm for arm in arms if arm.seed in walked or not walked)
walk, rng = make_task(exp), random.Random(seed)
labels = [json.loads(walk.expert(walk.item("train", exp.seed, i), rng)) for i in range(2_000)]
holds = {
    field: sum(bool(re.search(r"\b(left|right)\b", label[field])) for label in labels)
    for field in labels[0]
}
pd.Series(holds, name="labels with left or right, of 2,000").to_frame()

# %% [markdown]
# More than half of all labels hold *left* or *right*. SFT has written these words thousands of
# times. So if it forgets only words that it never said, these are safe.

# %%
predict(
    "05.words", "Under the new words of actions, what does SFT write where a turn is due?",
    ["left and right: it has written them all along", "now this, now that",
     "the old words: north, east, ..."],
)  # fmt: skip

# %% [markdown]
# ## The surprise

# %%
from sftrl_lib.runs import RUNS, Run, read_manifest

plots.show(figures.mechanism(confirmed(results, "virl-l"), task="virl-l"))
kept = Run(RUNS / exp.run_id, read_manifest(RUNS / exp.run_id)).episodes()
new_words = [e for e in kept if e["split"] == "rule_ood" and e["step"] == exp.method.steps]
old = r'(?s)(left|right).*"turn_direction\((?:north|south|east|west)'
told = next(e for e in new_words if re.search(old, e["turns"][0]))
print(re.search(r"Actions: .*", told["prompt"])[0], "\n")
print(told["turns"][0], "\n")
print(told["verdicts"][0]["message"])

# %% [markdown]
# The left panel asks whether the due turn is found, in whatever words. The middle one asks whether
# a turn is said in the words asked for. SFT goes on finding many of the turns, and says nearly none
# in the new words. Below the picture stands one answer that was kept, the first of its kind.
#
# It quotes the sentence that says which way to turn, with the very word that is wanted. A few
# tokens later the same word should come again, after `turn_direction(`, and it writes a point of
# the compass. The word is not forgotten. It is one token, the same in both places, and SFT has just
# written it.
#
# And RL? It keeps nearly all words in their places. But that is not the whole truth: its left panel
# falls, too. Take the four turns apart.

# %%
walks = confirmed(results, "virl-l")
turns = {
    turn: {
        m: stats.last(walks, m, "rule_ood", f"says_{turn.replace(' ', '_')}", 1)
        for m in ("init", "rl", "sft")
    }
    for turn in ("left", "right", "slightly left", "slightly right")
}
title = "Which turns are still said where they are due?"
caption = "first tries at turns, new words; of several seeds mean and 95% t interval"
plots.show(lessons.shares_of(turns, title, caption, "said where due (%)"))

# %% [markdown]
# SFT says hardly any of them. RL speaks the new language, and says the wrong turn more often than
# the init it came from. So on this task neither arm has learned the rule. SFT often knows where to
# go and cannot say it. RL can say it, and knows less well where to go.
#
# ## Why
#
# The suspect that is left is not a word. It is a word in a **place** of the answer. On walks the
# labels hold *left* in the quoted sentence, and never in the action. On cards the list of numbers
# holds anything from one to ten, a five among them, and never an eleven; nor does a formula.
# Imitation raises what the expert wrote there, and so lowers everything else *there*, whatever it
# means and however often it stands elsewhere. RL only reweighs what the model says itself.
#
# On walks alone the rule is a suspect still: a model that never looks at the list of actions would
# write the same. What speaks against it are the fives. The place is the one account that fits both.
# But it was made after looking, so it is a suspicion and no verdict. Four experiments, all of them
# registered, would decide. Each suspect predicts a column:
#
# | Training | rule | words | words in a place |
# |---|---|---|---|
# | on 11, 12, 13; test ten | falls | hardly falls | hardly falls |
# | on left and right; test the compass | falls | hardly falls | falls |
# | some rows *calculate* with 11, 12, 13 | falls | heals | falls |
# | some rows under other rules | heals | heals | heals |
#
# No two columns are alike, so the rows will tell. This is what is recorded of them:

# %%
recorded = set(results.run_id)
asked = []
for name in ("reverse-gp-l", "reverse-virl-l", "mixed-gp-l", "mixed-virl-l"):
    there = sum(run.run_id in recorded for run in sections()[name])
    state = f"{there} of {len(sections()[name])} runs" if there else "not run yet"
    command = f"python -m sftrl_lib experiments --section {name} --estimate"
    asked.append({"section": name, "recorded": state, "what it would take": command})
pd.DataFrame(asked).set_index("section").style.set_properties(**{"text-align": "left"})

# %% [markdown]
# ## The second case
#
# RL has lost turns too, and with its words in place none of the four suspects is of use. Look
# at what an answer holds: first the sentence of the instruction that is due, then the action. The
# reward looks at the action. Nobody pays for the sentence.

# %%
predict(
    "05.sentence", "In the words of its training, RL learns to take more turns rightly. And the "
    "sentence that it quotes beside them?",
    ["it is more often the one that is due", "nothing changes", "it is hardly ever the right one"],
)  # fmt: skip

# %%
from study import reasons

told = reasons.along(results, "id_unseen")
plots.show(reasons.draw(told, "id_unseen"))

# %% [markdown]
# SFT copies the expert's reason with the expert's action, and both rise as one line. RL takes more
# turns rightly while the reasons beside them rot away: what is not paid for drifts. In the words of
# the training that costs nothing. Do the turns that are lost under the new words go with the
# reasons?
#
# A test was registered before its first run. One number of the reward is another: a right action
# earns nothing where a wrong sentence stands beside it. That is the third panel. Here are the same
# arms under the new words. The table below asks in another way: it writes the due sentence into the
# answers of three models of one seed, and lets them act.

# %%
from study import playground

plots.show(reasons.draw(reasons.along(results, "rule_ood"), "rule_ood"))
models, told_so = playground.load("virl-l"), {}
for split, words in (("id_unseen", "old words"), ("rule_ood", "new words")):
    asked = [step for step in walk.test_items(split, 10, 60) if step.position.kind == "turn"][:100]
    for name, policy in models.items():
        ways = reasons.as_told(policy, walk, asked)
        told_so[words, plots.name_of(name)] = {"own reason": ways[0], "due sentence": ways[1]}
pd.DataFrame(told_so).T.style.format("{:.0%}")

# %% [markdown]
# SFT quotes the due sentence more often than ever, and writes the old word. RL writes the new
# words, and no longer knows which sentence is due. Paid for its reasons, RL keeps both: it ends
# about where the init was, and far above RL that is paid for actions alone.
#
# But look at the table. In the old words SFT acts on its reason: with the due sentence before it,
# it takes every turn. The init and RL take as many turns as before, whatever stands there. Their
# reasons are no reasons; they are a second answer to one question. So the paid sentence does not
# help by being read. That both need to find their place in the instruction, and that paying for
# one keeps it found for the other, is a guess. What these runs do show: "RL generalizes" is
# nothing that RL has by itself. It keeps what the reward asks for.

# %% [markdown]
# ## Your predictions

# %%
hands = {m: rows.iloc[0] for m, rows in eyes["red hands: trained"].items()}
better = [m for m in ("sft", "rl") if hands[m].lo > hands["init"].hi]
who = {("sft", "rl"): "both", ("sft",): "SFT only", ("rl",): "RL only", (): "neither"}
red_hands = ", ".join(f"{plots.name_of(m)} {end.value:.0%}" for m, end in hands.items())
five = stats.last(cards["gp-vl"], "sft", "rule_five", "value_reading", 1)
kept_words = stats.last(walks, "sft", "rule_ood", "words_right", 1).value.mean()
said = ["the old words: north, east, ...", "now this, now that",
        "left and right: it has written them all along"]  # fmt: skip
rots = ["it is more often the one that is due", "nothing changes",
        "it is hardly ever the right one"]  # fmt: skip
quoted = told["RL"][1]["sentence"].groupby("step").value.mean()
start, end = quoted.iloc[0], quoted.iloc[-1]
predictions("05", {
    "05.eyes": Truth(who[tuple(better)], red_hands),
    "05.five": 100 * five.value.mean(),
    "05.words": Truth(said[int(kept_words * 2.999)], f"{kept_words:.0%} in the new words"),
    "05.sentence": Truth(
        rots[int(start > end) + int(end < start / 2)], f"from {start:.0%} to {end:.0%}"
    ),
})  # fmt: skip

# %% [markdown]
# ## Exercises
#
# `check` holds your function against hidden cases, and names the first that fails.

# %% [markdown] exercise="read_by_value"
# **Exercise 05.1. By the value that is stated** (easy, 5 minutes)
#
# Each face card of an answer gives a pair: the value that the question states, and the value
# that the answer says (`None` where the answer breaks off). Compute, for each stated value,
# the share that was read as stated.
#
# <details><summary>Hint</summary>
#
# Collect the marks of each stated value in a list first.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def read_by_value(pairs: list[tuple[int, int | None]]) -> dict[int, float]:
#     """{stated value: share of its cards that were read as stated}."""
#     marks: dict[int, list[bool]] = {}
#     for stated, said in pairs:
#         marks.setdefault(stated, []).append(said == stated)
#     return {stated: sum(own) / len(own) for stated, own in marks.items()}
# ```
#
# One share over all values would hide where a model fails. By value it can show a step.
#
# </details>

# %% exercise="read_by_value"
from teach import check


def read_by_value(pairs: list[tuple[int, int | None]]) -> dict[int, float]:
    """{stated value: share of its cards that were read as stated}."""
    ...  # your code


check("05.1", read_by_value)

# %% [markdown] exercise="never_there"
# **Exercise 05.2. Never in that place** (medium, 10 minutes)
#
# A label is an answer with named fields, for instance `{"current instruction": "Turn left to
# face north", "action": "turn_direction(north)"}`. Which of the given words does no label
# hold in one field, as a whole word? Return them in the order in which they are given.
#
# <details><summary>Hint</summary>
#
# `re.findall(r\"[a-z]+\", text)` are the words of a text.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import re
#
#
# def never_there(labels: list[dict[str, str]], field: str, words: list[str]) -> list[str]:
#     """The words that no label holds in this field."""
#     there = {word for label in labels for word in re.findall(r"[a-z]+", label.get(field, ""))}
#     return [word for word in words if word not in there]
# ```
#
# *left* stands in the labels all the time, and never in the action. A count over whole labels
# cannot see that.
#
# </details>

# %% exercise="never_there"
from teach import check


def never_there(labels: list[dict[str, str]], field: str, words: list[str]) -> list[str]:
    """The words that no label holds in this field."""
    ...  # your code


check("05.2", never_there)

# %% [markdown] exercise="halves"
# **Exercise 05.3. Found, and said** (medium, 10 minutes)
#
# A turn can be said in two languages. Each triple holds the due turn in the words of the
# training, the same turn in the words that are asked for, and what the model said. Compute
# the share of turns that were *found*, in either language, and the share of answers in *any*
# of the words that are asked for, right turn or not.
#
# <details><summary>Hint</summary>
#
# The two shares are counted independently of each other.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def halves(turns: list[tuple[str, str, str]], asked: set[str]) -> tuple[float, float]:
#     """(share found in either language, share in the words asked for)."""
#     found = sum(said in (old, new) for old, new, said in turns)
#     return found / len(turns), sum(said in asked for *_, said in turns) / len(turns)
# ```
#
# A model that finds all turns and says them in the old words has 1.0 and 0.0. One number, the
# share of right turns, calls it as bad as one that knows nothing.
#
# </details>

# %% exercise="halves"
from teach import check


def halves(turns: list[tuple[str, str, str]], asked: set[str]) -> tuple[float, float]:
    """(share found in either language, share in the words asked for)."""
    ...  # your code


check("05.3", halves)

# %% [markdown] exercise="per_step"
# **Exercise 05.4. What per-step accuracy counts** (medium, 15 minutes)
#
# The paper's per-step accuracy on walks is right answers over *all* answers, and a route ends
# at the first position that is not solved within its tries. A route is given as one list for
# each position, with the verdict on each possible try. Compute the accuracy over all routes.
#
# <details><summary>Hint</summary>
#
# At each position count answers up to the first right one. If there is none, leave the route.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def per_step(routes: list[list[list[bool]]]) -> float:
#     """Right answers over all answers, with early ending."""
#     right = asked = 0
#     for route in routes:
#         for tries in route:
#             used = tries[: tries.index(True) + 1] if True in tries else tries
#             right, asked = right + any(used), asked + len(used)
#             if not any(used):
#                 break
#     return right / asked
# ```
#
# A model that fails at the first turn is never asked about the rest, so one systematic
# mistake takes the measure almost to zero. Count it without early ending, too.
#
# </details>

# %% exercise="per_step"
from teach import check


def per_step(routes: list[list[list[bool]]]) -> float:
    """Right answers over all answers, with early ending."""
    ...  # your code


check("05.4", per_step)

# %% [markdown] exercise="decides"
# **Exercise 05.5. An experiment that decides** (hard, 20 minutes)
#
# Two accounts of the fall on cards are left: SFT has learned the *rule* that a face card is a
# ten, or it no longer writes what no label held in *that place* of the answer. Change the
# training rows, and nothing else, so that the two predict different results under 11, 12, 13.
# What does each predict?
#
# <details><summary>Hint</summary>
#
# Make 11, 12 and 13 stand in that place, while a face card stays a ten.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Add rows in which the numbers 11, 12 and 13 stand in the answer's list, for cards that are
# no face cards, while J, Q and K go on counting as 10. If the place was the reason, the words
# are back, and reading under the new rule heals. If the rule was, nothing in these rows
# contradicts "a face card is a ten", and it falls as before. Rows under other rules would not
# decide: either account expects them to heal. (The registered kind `words` is a cousin of
# this experiment: there 11, 12 and 13 stand in the labels, but in a calculation, that is, in
# another place.)
#
# </details>

# %% [markdown]
# ### Five quick questions

# %% [markdown] quiz="05_what_is_memorised"
# Click an answer to see whether it is right, and why.
#
# **Question 1.** SFT solves new routes as well as those it trained on. Which suspect does that
# acquit?
#
# <details><summary>a) The hand, or the route</summary>
#
# **Right.** Whoever knows routes by heart would be lost on new ones.
#
# </details>
#
# <details><summary>b) The words</summary>
#
# **No.** Both tests ask for the words of the training.
#
# </details>
#
# <details><summary>c) The rule</summary>
#
# **No.** The rule is the same on both; this test cannot touch it.
#
# </details>
#
# **Question 2.** Why is J = Q = K = 5 a sharper test of the rule than 11, 12, 13?
#
# <details><summary>a) Five was a training rule</summary>
#
# **No.** Training states one rule only, in which a face card is a ten.
#
# </details>
#
# <details><summary>b) The rule is new, and its words are not</summary>
#
# **Right.** Under 11, 12, 13 both are new, so a fall has two possible reasons.
#
# </details>
#
# <details><summary>c) Five is easier to calculate with</summary>
#
# **No.** What is counted is reading, not calculating.
#
# </details>
#
# **Question 3.** When did RL's eyes improve without being told what to see?
#
# <details><summary>a) Always: rewards reach the vision tower</summary>
#
# **No.** With black cards RL's eyes stayed as they were.
#
# </details>
#
# <details><summary>b) When misreading was what failed</summary>
#
# **Right.** Then answers that see rightly are the ones that pay.
#
# </details>
#
# <details><summary>c) Never: a verdict names no card</summary>
#
# **No.** It names none, and with red cards they improved.
#
# </details>
#
# **Question 4.** On walks the labels of SFT hold *left* and *right*, and it loses them as
# actions. What follows?
#
# <details><summary>a) SFT has forgotten the two words</summary>
#
# **No.** It writes them in the same answer, in the quoted sentence.
#
# </details>
#
# <details><summary>b) A word that is written elsewhere in the labels is not safe</summary>
#
# **Right.** What counts is what the labels hold in that place.
#
# </details>
#
# <details><summary>c) SFT does not know where to go</summary>
#
# **No.** It still finds many of the turns, in the old words.
#
# </details>
#
# **Question 5.** RL keeps the words under the new actions. Has it learned the rule?
#
# <details><summary>a) One cannot say: nothing was measured</summary>
#
# **No.** Both halves are measured, apart.
#
# </details>
#
# <details><summary>b) No: it finds the due turn less often than its init</summary>
#
# **Right.** Words and turns are two halves, and it keeps one.
#
# </details>
#
# <details><summary>c) Yes: the words are the rule</summary>
#
# **No.** A turn in the right language can be the wrong turn.
#
# </details>

# %% [markdown]
# ## What next
#
# "Memorises" was four suspects in one coat. Hands are memorised on cards, until no new one is
# solved under any rule, and routes are not. The eyes see. The rule is still read, most of the time,
# where its words may stand. What SFT loses is a word in a place; what RL loses is a reason that
# nobody pays for. Notebook 06 turns the knobs on which all this depends.
#
# * Chu, Zhai et al., arXiv 2501.17161, section 5.3: recognition.
# * *Debunk the Myth of SFT Generalization*, arXiv 2510.00237: a variety of rules in training.
# * Shenfeld et al., *RL's Razor*, arXiv 2509.04259: what on-policy training leaves alone.
