"""Exercises: solutions pass, wrong answers fail in the case that is about their mistake, and the
notebooks hold exactly what teach/ says."""

import math
import random

import jupytext
import pytest
import torch

from commons.errors import SftrlError
from sftrl_lib.registry import TASKS
from sftrl_lib.tasks.base import Verdict
from teach import check, contract, quiz
from teach.cells import NOTEBOOKS, QUIZ, content, fill, question_cell
from teach.exercise import LEVELS, exercises, outcome, same, shown
from teach.exercises import (
    ablations,
    environments,
    evaluation,
    followups,
    memory,
    rl,
    scaling,
    sft,
    start,
)

CHECKED = {e.key: e for e in exercises().values() if e.checked}


def sft_loss(logits, labels):
    """The notebook's."""
    log_probs, target = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    written = target != -100
    picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -(picked * written).sum() / written.sum()


def undetached(logits, labels):
    log_probs, target = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    written = target != -100
    picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -(picked.exp() * picked * written).sum() / written.sum()


class Unstated(environments.MyTask):
    def prompt(self, item):
        return f"Write these in order, with spaces between: {', '.join(map(str, item[1]))}."


class Forgetful(environments.MyTask):
    def item(self, split, seed, index):
        return "ascending", tuple(random.sample(range(100), 5))


class OneItem(environments.MyTask):
    def item(self, split, seed, index):
        return super().item(split, 0, 0)


class Lenient(environments.MyTask):
    def verify(self, item, text):
        return Verdict(True, 1.0, "solved", "that is right")


class Fragile(environments.MyTask):
    def verify(self, item, text):
        given = [int(word) for word in text.split()]
        ok = given == sorted(item[1], reverse=item[0] == "descending")
        return Verdict(ok, float(ok), "solved" if ok else "wrong_order", "so it is")


def lazy_player(numbers, rng):
    return "+".join(map(str, numbers))


def bonferroni(p):
    return [min(1.0, x * len(p)) for x in p]


def zipped(init, arm):
    half = evaluation.paired(init, arm)[1]
    return sum(a - b for a, b in zip(arm.values(), init.values(), strict=True)) / len(arm), half


def whole_routes(routes):
    tries = [t for route in routes for position in route for t in position]
    return sum(tries) / len(tries)


def second_try_credited(group, discount):
    firsts = rl.episode_credit(group, discount)
    return [[row[0]] + [0.0] * (len(row) - 1) for row in firsts]


def everyone(init, arm, init_greedy, arm_greedy):
    gains = [sum(b.values()) - sum(a.values()) for a, b in ((init, arm), (init_greedy, arm_greedy))]
    return gains[1] / gains[0]


def nearest(distances, values, level):
    return values[min(range(len(values)), key=lambda i: abs(distances[i] - level))]


# What a reader may well write, and a word of the case in which it must fail.
WRONG = [
    (start.numbers_of, lambda cards, rule: [rule.get(c, 1) for c in cards], "training rule"),
    (start.numbers_of, lambda cards, rule: start.numbers_of(cards, start.TEN), "test rule"),
    (start.gives_away, lambda cards, *_: any(c in "JQK" for c in cards), "trained on"),
    (start.rise, lambda a, b: (b - a, b / a - 1), "doubling"),
    (start.rise, lambda a, b: (100 * (b - a), 100 * (b - a) / b), "doubling"),
    (start.sft_tokens, lambda d_rl, d_buffer: d_rl + d_buffer, "collected only"),
    (environments.can_make, lambda n, target=24: solvable_in_floats(n, target), "fractions"),
    (environments.can_make, lambda n, target=24: True, "too small"),
    (environments.each_once, lambda said, dealt: set(said) == set(dealt), "pair used once"),
    (environments.each_once, lambda said, dealt: sum(said) == sum(dealt), "same sum"),
    (environments.reward_of, lambda v, u, d: 5.0 if v == 24 else -1.0, "no formula"),
    (environments.reward_of, lambda v, u, d: environments.reward_of(v or None, u, d), "zero"),
    (environments.blind_player, lazy_player, "different numbers"),
    (environments.blind_player, lambda n, rng: str(rng.choice(n)), "different numbers"),
    (environments.turn_to, lambda a, b: "right" if b > a else "left", "north to north-east"),
    (environments.MyTask, Unstated, "the rule is stated"),
    (environments.MyTask, Forgetful, "same seed"),
    (environments.MyTask, OneItem, "items differ"),
    (environments.MyTask, Lenient, "wrong answers"),
    (environments.MyTask, Fragile, "wrong answers|any text"),
    (sft.labels_of, lambda q, a, end: q + a + [end], "a question and an answer"),
    (sft.labels_of, lambda q, a, end: [-100] * len(q) + a, "a question and an answer"),
    (sft.dft_loss, lambda *batch: 0.5 * sft_loss(*batch), "confident and one doubtful"),
    (sft.dft_loss, sft_loss, "confident and one doubtful"),
    (sft.dft_loss, undetached, "confident and one doubtful"),
    (sft.dft_loss, lambda *b: sft.dft_loss(*b).detach(), "confident and one doubtful"),
    (sft.loss_by_kind, lambda x, k: sft.loss_by_kind(x[:1], k[:1]), "different lengths|lacks"),
    (sft.draw_rule, lambda rng: tuple(rng.randint(1, 13) for _ in range(3)), "draws"),
    (sft.draw_rule, lambda rng: (1, 2, 3), "draws"),
    (rl.returns, lambda r, d: [sum(r[t:]) for t in range(len(r))], "then success"),
    (rl.returns, lambda r, d: r, "then success"),
    (rl.episode_credit, second_try_credited, "second try that succeeds"),
    (rl.clipped, lambda r, a, e: min(max(r, 1 - e), 1 + e) * a, "less probable"),
    (rl.clipped, lambda r, a, e: min(r, 1 + e) * a, "blamed, and far less"),
    (rl.silent, lambda p, g: p**g, "fair coin"),
    (rl.silent, lambda p, g: 0.5, "hard deal"),
    (rl.praised_failure, lambda: [[-1.0], [-1.0]], "that you found"),
    (rl.praised_failure, lambda: [[5.0], [-1.0]], "that you found"),
    (evaluation.episodes_needed, lambda a, b: evaluation.episodes_needed(a, b) // 2, "large"),
    (evaluation.paired, zipped, "another order|lacks"),
    (evaluation.at_level, lambda x, y, at: y[min(range(len(x)), key=lambda i: abs(x[i] - at))],
     "between two"),
    (evaluation.corrected, bonferroni, "three claims"),
    (evaluation.corrected, lambda p: sorted(evaluation.corrected(p)), "another order"),
    (memory.read_by_value, lambda pairs: memory.read_by_value(
        [(said, stated) for stated, said in pairs]), "one value"),
    (memory.read_by_value, lambda pairs: memory.read_by_value(
        [p for p in pairs if None not in p]), "breaks off"),
    (memory.never_there, lambda labels, field, words: [
        w for w in words if not any(w in str(label) for label in labels)], "another field"),
    (memory.never_there, lambda labels, field, words: [
        w for w in words if not any(w in label.get(field, "") for label in labels)],
     "word within a word"),
    (memory.never_there, lambda labels, field, words: memory.never_there(
        [{field: label[field]} for label in labels], field, words), "without the field"),
    (memory.halves, lambda turns, asked: (
        sum(new == said for _, new, said in turns) / len(turns),
        memory.halves(turns, asked)[1]), "old words"),
    (memory.halves, lambda turns, asked: (memory.halves(turns, asked)[0],) * 2, "old words"),
    (memory.per_step, whole_routes, "lost at the first|second try"),
    (followups.peak_and_loss, lambda c: (c[-1][0], 0.0), "up and down"),
    (followups.peak_and_loss, lambda c: (max(c, key=lambda p: p[::-1])[0], 0.3), "up and down|two"),
    (followups.sharpened, lambda p, t: [x / sum(p) for x in p], "sharper"),
    (followups.sharpened, lambda p, t: [x ** (1 / t) for x in p], "sharper"),
    (followups.share_left, lambda a, b, c, d: b[1] - a[1], "half"),
    (followups.share_left, everyone, "a seed that one lacks"),
    (followups.at_distance, nearest, "halfway|nearer"),
    (followups.at_distance, lambda d, v, x: sum(v[:2]) / 2, "nearer"),
    (ablations.answers_played, lambda p, k: 1 / p, "one try"),
    (ablations.answers_played, lambda p, k: k, "two tries"),
    (ablations.solved_within, lambda c, k: 1 - (1 - sum(c) / len(c)) ** k, "easy and hopeless"),
    (ablations.knobs, lambda a, b, d: {k for k in a | b if a.get(k) != b.get(k)}, "written out"),
    (ablations.kl_to_init, lambda p, q: sum(
        b * math.log(b / a) for a, b in zip(p, q, strict=True) if a and b), "sharper policy"),
    (scaling.training_bytes, lambda f, b, t: f * b / 8 + 4 * t, "all trained"),
    (scaling.training_bytes, lambda f, b, t: f * b + 16 * t, "16 bits"),
    (scaling.cache_bytes, lambda *n: math.prod(n), "one of everything"),
    (scaling.quantised, lambda block, levels: levels[
        (block[:, None] - levels).abs().argmin(1)], "on the levels"),
    (scaling.quantised, lambda block, levels: scaling.quantised(block, levels) if block.max() == (
        block.abs().max()) else -scaling.quantised(block, levels), "largest is negative"),
    (scaling.adapter_size, lambda shapes, r: sum(r * m for m, n in shapes), "square"),
]  # fmt: skip


def solvable_in_floats(numbers, target):
    if len(numbers) == 1:
        return numbers[0] == target
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
            made = [a + b, a - b, a * b] + ([float(a) / b] if b else [])
            if i != j and any(solvable_in_floats([*rest, v], target) for v in made):
                return True
    return False


@pytest.mark.parametrize("key", CHECKED)
def test_solution_stands_alone_and_passes(key):
    names = {"__name__": "reader"}
    exec(CHECKED[key].code, names)
    assert CHECKED[key].check(names[key]).state == "solved"


@pytest.mark.parametrize("key", CHECKED)
def test_stub_runs_and_is_not_solved_yet(key, capsys):
    exec(CHECKED[key].stub, {"__name__": "reader"})
    assert capsys.readouterr().out == f"{CHECKED[key].number} is not solved yet.\n"
    assert CHECKED[key].stub.count("\n") < 25


@pytest.mark.parametrize(
    ("solution", "answer", "case"),
    WRONG,
    ids=[f"{s.__name__}-{i}" for i, (s, *_) in enumerate(WRONG)],
)
def test_wrong_answer_fails_in_the_case_about_its_mistake(solution, answer, case):
    found = CHECKED[solution.__name__]
    named = [c.name for c in found.cases if any(word in c.name for word in case.split("|"))]
    state, message = found.check(answer)
    assert state == "wrong" and any(f'"{name}"' in message for name in named), message


def test_every_exercise_has_a_wrong_answer_that_fails():
    assert {solution.__name__ for solution, *_ in WRONG} == set(CHECKED)


def test_there_are_enough_and_two_are_on_paper():
    assert len(CHECKED) >= 24
    assert sum(e.title.startswith("On paper") for e in exercises().values()) == 2
    assert all(e.level in LEVELS and e.minutes > 0 for e in exercises().values())


def test_an_answer_that_raises_is_told_where_and_what(capsys):
    check("03.1", lambda rewards, discount: rewards[9])
    said = capsys.readouterr().out
    assert "IndexError" in said and '"one try"' in said


def test_unknown_number_is_one_sentence():
    with pytest.raises(SftrlError, match="the exercise is '99.1'.*02.1"):
        outcome("99.1", None)


def test_an_answer_may_change_what_it_is_given():
    def greedy(rewards, discount):
        found, ahead = [], 0.0
        while rewards:
            ahead = rewards.pop() + discount * ahead
            found.insert(0, ahead)
        return found

    assert CHECKED["returns"].check(greedy).state == "solved"


@pytest.mark.parametrize(("got", "expected", "equal"), [
    (1.0000001, 1, True), (1.01, 1, False), (True, 1, False), (1, True, False),
    ([1, 2], (1, 2), True), ([1], [1, 2], False), ({"a": 1}, {"a": 1.0}, True),
    ({}, {"a": 1}, False),
    (torch.tensor([1.0, 2.0]), [1, 2], True), ("1", 1, False), (None, 1, False), (1, "1", False),
])  # fmt: skip
def test_values_are_compared_as_a_reader_would(got, expected, equal):
    assert same(got, expected) == equal


def test_values_are_shown_in_one_short_line():
    assert shown([1 / 3, (1, "a")]) == "[0.333333, (1, 'a')]"
    assert "\n" not in shown(torch.zeros(40, 40)) and len(shown("x" * 999)) < 210


@pytest.mark.parametrize("name", TASKS)
def test_the_contract_holds_for_the_tasks_of_the_library(name):
    faults = [contract.play(TASKS[name], *case.args) for case in contract.CASES]
    assert faults == [""] * len(contract.CASES)


# --- In the notebooks -----------------------------------------------------------------------------
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_holds_its_exercises_as_they_are_in_teach(path):
    assert fill(path).strip() == path.read_text().strip(), "run `python -m teach cells`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_all_its_exercises_in_order_and_five_questions(path):
    cells = jupytext.read(path).cells
    marked = [(c.metadata["exercise"], c.cell_type) for c in cells if "exercise" in c.metadata]
    mine = [e for e in exercises().values() if e.notebook == path.stem]
    kinds = [(e.key, kind) for e in mine for kind in ("markdown", "code")[: 1 + e.checked]]
    assert marked == kinds
    assert [c.metadata["quiz"] for c in cells if "quiz" in c.metadata] == [path.stem]
    assert len(quiz.questions(path.stem)) == 5


def test_a_cell_of_an_unknown_exercise_is_refused():
    cell = jupytext.reads('# %% exercise="nonsense"\n1\n', fmt="py:percent").cells[0]
    with pytest.raises(SftrlError, match="nonsense"):
        content(cell, "02_sft")


def test_each_exercise_folds_hint_and_solution():
    for e in exercises().values():
        text = question_cell(e)
        assert text.count("<details>") == text.count("</details>") == 2
        assert "Solution" not in question_cell(e, solution=False)


@pytest.mark.parametrize("name", [*(p.stem for p in NOTEBOOKS), "ten"])
def test_every_answer_of_a_question_is_explained_and_one_is_right(name):
    for question in quiz.questions(name):
        rows = quiz.answers(question)
        assert sum(right for right, *_ in rows) == 1 and len(rows) >= 3
        assert all(len(why) > 10 and answer for _, answer, why in rows)
        assert len({answer for _, answer, _ in rows}) == len(rows)


def test_right_answers_do_not_always_stand_in_one_place():
    asked = [q for p in NOTEBOOKS for q in quiz.questions(p.stem)]
    places = [[right for right, *_ in quiz.answers(q)].index(True) for q in asked]
    assert all(5 <= places.count(place) <= 20 for place in range(3))


def test_the_quiz_of_ten_is_a_page():
    assert len(quiz.questions("ten")) == 10
    assert QUIZ.read_text() == quiz.page_of_ten()
