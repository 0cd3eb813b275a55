"""Exercises and questions as cells of the notebooks.

A cell says by its metadata what belongs there (`exercise="dft_loss"`, `quiz="02_sft"`), and
`python -m teach cells` fills it: notebooks decide where, this package decides what.
"""

from pathlib import Path

import jupytext
import nbformat

from commons.errors import SftrlError
from sftrl_lib.places import ROOT

from . import quiz
from .exercise import Exercise, exercises

NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")))
QUIZ = ROOT / "teach" / "quiz.md"


def folded(title: str, text: str) -> str:
    """A part that a reader opens: the HTML element, which notebooks and pages both know."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def question_cell(exercise: Exercise, solution: bool = True) -> str:
    """Statement, folded hint and, unless it is for a class, the folded solution."""
    head = f"**Exercise {exercise.number}. {exercise.title}**"
    parts = [f"{head} ({exercise.level}, {exercise.minutes} minutes)", exercise.statement]
    parts.append(folded("Hint", exercise.hint))
    if solution:
        code = f"```python\n{exercise.code}\n```" if exercise.checked else exercise.solution
        parts.append(folded("Solution", "\n\n".join(filter(None, [code, exercise.because]))))
    return "\n\n".join(parts)


def content(cell: nbformat.NotebookNode, notebook: str, solution: bool = True) -> str | None:
    """What a cell of a notebook should hold; None for a cell that is not of this package."""
    mark = cell.metadata.get("exercise")
    if mark is not None:
        found = {e.key: e for e in exercises(notebook).values()}
        if mark not in found or not (found[mark].checked or cell.cell_type == "markdown"):
            raise SftrlError(
                f"a cell is marked exercise={mark!r}, which is no exercise of {notebook} with "
                f"code; mark it with one of {', '.join(found)}."
            )
        exercise = found[mark]
        return exercise.stub if cell.cell_type == "code" else question_cell(exercise, solution)
    return quiz.markdown(cell.metadata["quiz"]) if "quiz" in cell.metadata else None


def fill(path: Path) -> str:
    """The text of a notebook with its marked cells filled."""
    nb = jupytext.read(path)
    for cell in nb.cells:
        made = content(cell, path.stem)
        cell.source = cell.source if made is None else made
    return jupytext.writes(nb, fmt="py:percent")


def fill_all() -> None:
    """Fill all notebooks, and teach/quiz.md."""
    pages = {path: fill(path) for path in NOTEBOOKS} | {QUIZ: quiz.page_of_ten()}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    print(f"filled: {', '.join(path.name for path in pages)}")
