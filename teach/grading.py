"""Grading with nbgrader: the exercises of a submission run in a kernel of their own, and each is
worth one point.

A submission is a folder with notebooks of `make student`. Only the cells of its exercises are
taken, so that nothing is trained while grading, and put into an assignment of nbgrader's, which
runs them, judges each by a locked cell that the student has not written, and keeps the points.
"""

import csv
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from sftrl_lib.errors import SftrlError
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
    shutil.copytree(course / "feedback", to / "feedback")
    print(table.read_text(encoding="utf-8"))
    print(f"Points in {table}; what to hand back in {to / 'feedback'}/STUDENT/")
    return table


def _write(folder: Path, stem: str, answers: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(assignment(stem, answers), folder / f"{stem}.ipynb")


def _run(course: Path, students: list[str]) -> list[dict[str, Any]]:
    """Let nbgrader generate, run and judge; one row a student."""
    api = _nbgrader(course)
    _done(api.generate_assignment(ASSIGNMENT), "the assignment")
    for student in students:
        _done(api.autograde(ASSIGNMENT, student), f"the submission of {student}")
        _done(api.generate_feedback(ASSIGNMENT, student), f"the feedback for {student}")
    rows = []
    with api.gradebook as book:
        for student in students:
            points = {
                g.name.removesuffix("-judged"): g.score
                for notebook in book.find_submission(ASSIGNMENT, student).notebooks
                for g in notebook.grades
            }
            rows.append({"student": student, "total": sum(points.values())} | points)
    return rows


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
    config.ExecutePreprocessor.interrupt_on_timeout = True
    return NbGraderAPI(config=config)


def _done(result: dict[str, Any], what: str) -> None:
    if not result["success"]:
        last = (result.get("error") or result.get("log") or "").strip().splitlines()[-1:]
        raise SftrlError(f"nbgrader could not finish {what} ({' '.join(last)}); see its log above.")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    names = {e.key: e.number for e in exercises().values() if e.checked and e.key in rows[0]}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["student", "total", *names.values()])
        for row in rows:
            table.writerow([row["student"], f"{row['total']:g}", *(f"{row[k]:g}" for k in names)])
