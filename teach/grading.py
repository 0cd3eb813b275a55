"""Grading with nbgrader: the exercises of a submission run in a kernel of their own, and each is
worth one point.

A submission is a folder with notebooks of `make student`. Only the cells of its exercises are
taken, so that nothing is trained while grading, and put into an assignment of nbgrader's, which
runs them, judges each by a locked cell that the student has not written, and keeps the points.
"""

import csv
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from commons.errors import SftrlError
from sftrl_lib.places import ROOT, writable

from .cells import NOTEBOOKS
from .exercise import Exercise, exercises, outcome

ASSIGNMENT = "exercises"
CELL_TIMEOUT = 60  # seconds, for a function that never ends
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def assert_solved(number: str, answer: Any) -> None:
    """The locked cell's question: AssertionError, with the words of `check`, unless solved."""
    state, message = outcome(number, answer)
    assert state == "solved", message


def assignment(stem: str, answers: dict[str, str]) -> nbformat.NotebookNode:
    """The exercises of a notebook as nbgrader wants them: a cell to fill in and a locked one."""
    nb = new_notebook(metadata={"kernelspec": KERNEL})
    for e in exercises(stem).values():
        if e.checked:
            nb.cells += [_answer(e, answers.get(e.key, e.stub)), _judge(e)]
    return nb


def _answer(e: Exercise, source: str) -> nbformat.NotebookNode:
    about = {"grade": False, "solution": True, "locked": False}
    return _cell(source, e.key, about)


def _judge(e: Exercise) -> nbformat.NotebookNode:
    source = f"from teach.grading import assert_solved\n\nassert_solved({e.number!r}, {e.key})"
    about = {"grade": True, "solution": False, "locked": True, "points": 1}
    return _cell(source, f"{e.key}-judged", about)


def _cell(source: str, name: str, about: dict[str, Any]) -> nbformat.NotebookNode:
    marks = {"schema_version": 3, "grade_id": name, "task": False} | about
    return new_code_cell(source, id=name, metadata={"nbgrader": marks})


def answers_of(path: Path) -> dict[str, str]:
    """{exercise: source of its cell} of a notebook that was handed in; {} where there is none or it
    cannot be read."""
    try:
        cells = nbformat.read(path, 4).cells
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):
        return {}
    code = [c for c in cells if c.cell_type == "code" and "exercise" in c.metadata]
    return {c.metadata["exercise"]: c.source for c in code}


def grade(submissions: Path, to: Path, only: str = "") -> Path:
    """Grade submissions/STUDENT/*.ipynb: a table `grades.csv` in `to`, and what each student may
    read under feedback/. `only`: notebooks whose name starts so. Returns the table."""
    students = sorted(p for p in Path(submissions).glob("*") if p.is_dir())
    if not students:
        raise SftrlError(
            f"{submissions} has no folder of a student; put each submission's notebooks into a "
            "folder of its own there, named after the student."
        )
    stems = [p.stem for p in NOTEBOOKS if p.stem.startswith(only)]
    course = writable(to) / "course"
    shutil.rmtree(course, ignore_errors=True)
    for stem in stems:
        _write(course / "source" / ASSIGNMENT, stem, {})
        for folder in students:
            handed_in = answers_of(folder / f"{stem}.ipynb")
            _write(course / "submitted" / folder.name / ASSIGNMENT, stem, handed_in)
    table = to / "grades.csv"
    with _environment():
        _write_table(table, _run(course, [folder.name for folder in students]))
    shutil.rmtree(to / "feedback", ignore_errors=True)
    if (course / "feedback").exists():  # somebody could be graded
        shutil.copytree(course / "feedback", to / "feedback")
    print(table.read_text(encoding="utf-8"))
    print(f"Points in {table}; what to hand back in {to / 'feedback'}/STUDENT/")
    return table


def _write(folder: Path, stem: str, answers: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(assignment(stem, answers), folder / f"{stem}.ipynb")


def _run(course: Path, students: list[str]) -> list[dict[str, Any]]:
    """Let nbgrader generate, run and judge; one row a student. A submission that cannot be run to
    its end, because it kills its kernel, gets a note and stops no other."""
    api = _nbgrader(course)
    if failed := _failure(api.generate_assignment(ASSIGNMENT)):
        raise SftrlError(f"nbgrader could not make the assignment ({failed}); see {course}.")
    rows: list[dict[str, Any]] = []
    for student in students:
        failed = _failure(api.autograde(ASSIGNMENT, student))
        failed = failed or _failure(api.generate_feedback(ASSIGNMENT, student))
        points = {} if failed else _points(api, student)
        note = f"not graded: {failed}" if failed else ""
        rows.append({"student": student, "note": note, "total": sum(points.values())} | points)
    return rows


def _failure(result: dict[str, Any]) -> str:
    """What nbgrader says of the error that ended a job; "" if none did."""
    if result["success"]:
        return ""
    lines = (result.get("error") or result.get("log") or "").strip().splitlines()
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["no message"])[0]


def _points(api: Any, student: str) -> dict[str, float]:
    """{exercise: points} of a graded submission."""
    with api.gradebook as book:
        return {
            g.name.removesuffix("-judged"): g.score
            for notebook in book.find_submission(ASSIGNMENT, student).notebooks
            for g in notebook.grades
        }


@contextmanager
def _environment() -> Iterator[None]:
    """nbgrader calls a program of its own by name, and kernels import this package."""
    before = dict(os.environ)
    for name, place in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", ROOT)):
        os.environ[name] = os.pathsep.join(filter(None, (str(place), before.get(name))))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _nbgrader(course: Path) -> Any:
    try:
        from nbgrader.apps import NbGraderAPI
    except ImportError as error:
        raise SftrlError(
            "nbgrader is not installed; run `make grade`, which installs it, or `pip install -r "
            "requirements-grade.txt`."
        ) from error
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    config.ExecutePreprocessor.timeout = CELL_TIMEOUT
    config.ExecutePreprocessor.iopub_timeout = CELL_TIMEOUT  # of a busy machine
    config.ExecutePreprocessor.interrupt_on_timeout = True
    return NbGraderAPI(config=config)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    graded = {key for row in rows for key in row}
    numbers = {e.key: e.number for e in exercises().values() if e.key in graded}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "total", *numbers.values(), "note"])
        for row in rows:
            points = [f"{row[key]:g}" if key in row else "" for key in ("total", *numbers)]
            table.writerow([row["student"], *points, row["note"]])
