"""What an instructor uses: notebooks without solutions, grading, slides, the check of a machine,
and pages that hold no number which a rerun would change."""

import csv
import json
import re
import sys

import jupytext
import nbformat
import pytest

from commons.errors import SftrlError
from sftrl_lib.places import ROOT
from study import book
from teach import grading, ready, slides
from teach.__main__ import main
from teach.cells import NOTEBOOKS
from teach.exercise import exercises
from teach.student import without_solutions

TEACH = ROOT / "teach"
PAGES = sorted(TEACH.glob("*.md"))
STEMS = [path.stem for path in NOTEBOOKS]


# --- For students ---------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=NOTEBOOKS, ids=STEMS)
def given_out(request):
    return request.param, without_solutions(request.param)


def test_students_get_hints_and_no_solution(given_out):
    path, nb = given_out
    text = "\n".join(cell.source for cell in nb.cells)
    mine = [e for e in exercises().values() if e.notebook == path.stem]
    assert "<summary>Solution</summary>" not in text
    assert text.count("<summary>Hint</summary>") == len(mine)
    for e in mine:
        answer = e.code if e.checked else e.solution
        assert answer not in text and (not e.checked or e.stub in text)


def test_students_get_everything_else_unchanged(given_out):
    path, nb = given_out
    ours = lambda c: not {"exercise", "quiz"} & set(c.metadata)  # noqa: E731
    whole = [c.source for c in jupytext.read(path).cells if ours(c)]
    assert [c.source for c in nb.cells if ours(c)] == whole
    nbformat.validate(nb)


def test_student_command_writes_every_notebook(tmp_path):
    assert main(["student", "--to", str(tmp_path)]) == 0
    assert sorted(p.stem for p in tmp_path.glob("*.ipynb")) == [p.stem for p in book.NOTEBOOKS]


# --- Grading --------------------------------------------------------------------------------------
def hand_in(folder, stem, answers):
    """A student's notebook: that of `make student`, some of its exercises answered."""
    nb = without_solutions(ROOT / "notebooks" / f"{stem}.py")
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.metadata.get("exercise") in answers:
            cell.source = answers[cell.metadata["exercise"]]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, folder / f"{stem}.ipynb")


def test_only_exercise_cells_are_taken_from_a_submission(tmp_path):
    hand_in(tmp_path, STEMS[0], {"rise": "rise = print"})
    answers = grading.answers_of(tmp_path / f"{STEMS[0]}.ipynb")
    assert answers["rise"] == "rise = print"
    assert set(answers) == {
        e.key for e in exercises().values() if e.checked and "00" < e.number < "01"
    }


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"nbformat": 4, "cells": [7]}'])
def test_a_notebook_that_cannot_be_read_counts_as_empty(tmp_path, text):
    (tmp_path / "x.ipynb").write_text(text)
    assert grading.answers_of(tmp_path / "x.ipynb") == {}
    assert grading.answers_of(tmp_path / "absent.ipynb") == {}


def test_each_exercise_has_a_locked_cell_worth_one_point():
    cells = grading.assignment(STEMS[0], {}).cells
    marks = [c.metadata["nbgrader"] for c in cells]
    judged = [m for m in marks if m["grade"]]
    assert len(marks) == 2 * len(judged) and all(m["locked"] and m["points"] == 1 for m in judged)
    assert all(m["solution"] and not m["locked"] for m in marks if not m["grade"])


def test_a_folder_without_submissions_is_one_sentence(tmp_path, capsys):
    assert main(["grade", str(tmp_path), "--to", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "folder of its own" in said and said.count("\n") == 1


def test_a_missing_nbgrader_is_told_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.apps", None)
    hand_in(tmp_path / "in" / "ann", STEMS[0], {})
    with pytest.raises(SftrlError, match="make grade"):
        grading.grade(tmp_path / "in", tmp_path / "out", only="00")


@pytest.mark.slow
def test_a_perfect_an_empty_and_a_half_right_submission(tmp_path):
    pytest.importorskip("nbgrader", reason="`make grade` and `make test-slow` install it")
    right = {e.key: e.code for e in exercises().values() if e.notebook == STEMS[0] and e.checked}
    half = {
        "numbers_of": right["numbers_of"],
        "gives_away": "def gives_away(cards, trained, stated):\n    return True",
        "rise": "def rise(before, after:",  # no Python
        "sft_tokens": right["sft_tokens"] + "\nraise SystemExit('and yet it counts')",
    }
    hand_in(tmp_path / "in" / "perfect", STEMS[0], right)
    hand_in(tmp_path / "in" / "empty", STEMS[0], {})
    hand_in(tmp_path / "in" / "half", STEMS[0], half)
    hand_in(tmp_path / "in" / "killer", STEMS[0], {"rise": "import os\nos._exit(1)"})
    (tmp_path / "in" / "absent").mkdir()
    table = grading.grade(tmp_path / "in", tmp_path / "out", only="00")
    rows = {row.pop("student"): row for row in csv.DictReader(table.open())}
    assert {name: row["total"] for name, row in rows.items()} == {
        "perfect": "4", "empty": "0", "half": "2", "absent": "0", "killer": "0",
    }  # fmt: skip
    assert [rows["half"][n] for n in ("00.1", "00.2", "00.3", "00.4")] == ["1", "0", "0", "1"]
    assert rows["killer"]["note"].startswith("not graded: ") and not rows["half"]["note"]
    feedback = "".join(p.read_text() for p in (tmp_path / "out/feedback/half").rglob("*.html"))
    assert "no face card" in feedback and "trained.get(card)" not in feedback


# --- Slides ---------------------------------------------------------------------------------------
def test_the_lecture_is_one_file_with_its_figures_and_what_they_show():
    text = slides.SOURCE.read_text()
    page = slides.page(text)
    figures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert 10 <= page.count("<section>") <= 14 and len(figures) >= 5
    assert page.count('src="data:image/png') == len(figures)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "<!--" not in page
    for name in figures:
        alt = (TEACH / name).resolve().with_suffix(".alt.txt").read_text().strip()
        assert alt[:40].replace("'", "&#x27;") in page


def test_a_missing_figure_is_one_sentence():
    with pytest.raises(SftrlError, match="make book"):
        slides.page("# A\n\n![x](../figures/none.png)")


# --- Is the machine ready? ------------------------------------------------------------------------
def test_the_check_of_a_machine_says_what_is_missing_in_plain_words(monkeypatch, capsys):
    monkeypatch.setattr(ready, "memory", lambda: 2.0)
    monkeypatch.setattr(ready, "packages", lambda: ["torch missing (wanted 2.13.0)"])
    assert ready.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("NO    memory    2.0 GB; 4 GB are needed") for line in said)
    assert any("torch missing" in line and "make lab" in line for line in said)
    assert said[-1].startswith("Not ready")


def test_a_model_that_gives_no_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ready, "ANSWER", "import time; time.sleep(60)")
    monkeypatch.setattr(ready, "PATIENCE", 0.3)
    assert ready.forward_pass() == (
        False, "gave no answer in 0.3 seconds; close other programs and try again"
    )  # fmt: skip


def test_the_check_needs_nothing_but_the_standard_library():
    code = (TEACH / "ready.py").read_text()
    imported = set(re.findall(r"^(?:from|import) (\w+)", code.split('ANSWER = """')[0], re.M))
    assert imported <= set(sys.stdlib_module_names)


@pytest.mark.slow
def test_the_model_answers_on_this_machine(monkeypatch):
    monkeypatch.setattr(ready, "PATIENCE", 300)  # tests share their cores
    well, words = ready.forward_pass()
    assert well and words.startswith("answers a question in"), words


# --- Pages ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere_and_exercises_exist(path):
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for number in re.findall(r"\b\d\d\.\d\b", re.sub(r"\d{4}\.\d{5}", "", text)):
        assert number in exercises(), number
    for title in re.findall(r'exercise[s]? on paper, "([^"]+)" in', text):
        assert any(title.lower() in e.title.lower() for e in exercises().values())


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_no_result_of_ours_is_written_as_a_number(path):
    """They would go out of date with the next recorded runs; the figures do not."""
    text = path.read_text()
    found = re.findall(
        r"[+-]?\d+\.\d+ points|\d+(?:\.\d+)?% of (?:the )?(?:hands|face|routes)", text
    )
    assert {*found} <= {"5.99 points"}  # the paper's


def test_the_lab_fills_its_ninety_minutes():
    spans = re.findall(r"^\| (\d+)-(\d+) \|", (TEACH / "lab.md").read_text(), re.MULTILINE)
    ends = [(int(a), int(b)) for a, b in spans]
    assert ends[0][0] == 0 and ends[-1][1] == 90
    assert all(a[1] == b[0] for a, b in zip(ends, ends[1:], strict=False))


def test_every_notebook_has_its_goals():
    table = (TEACH / "README.md").read_text().split("## Learning goals")[1].split("##")[0]
    assert re.findall(r"^\| (\d\d) ", table, re.MULTILINE) == [stem[:2] for stem in STEMS]


def test_files_for_the_cloud_name_files_that_exist_and_say_that_nobody_tried_them():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (
        container["postCreateCommand"] == "make .venv/.installed" and "never" in container["name"]
    )
    binder = (ROOT / "binder" / "requirements.txt").read_text()
    assert "-r ../requirements.txt" in binder and "never tried" in binder
    assert "never run there" in (TEACH / "README.md").read_text()
