"""Predictions: a reader says what will come out before it is shown, and sees both at the end.

`predict` asks and records, `predictions` holds what was said against what the rows say. Both work
without a widget: `predict(..., answer="RL")` records at once. In the HTML book, where nobody can
answer, `fold` puts each question with its truth into one folded part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
from IPython.display import HTML, display

from commons.errors import SftrlError, check
from sftrl_lib.places import writable
from sftrl_lib.runs import write_atomic

from .notebook import live_root

ASKED, TRUTHS = "sftrl-prediction", "sftrl-truths"  # in the metadata of an output, for `fold`
NOTHING = "nothing recorded"


@dataclass(frozen=True)
class Question:
    """What was asked: one of several options, or a whole number in a range."""

    text: str
    options: tuple[str, ...] = ()
    low: int = 0
    high: int = 0
    unit: str = ""

    def checked(self, answer: Any) -> str | int:
        """An answer as it is kept; SftrlError for one that was not offered."""
        if self.options:
            check("the prediction", answer, answer in self.options, self.options)
            return answer
        whole = isinstance(answer, int) and not isinstance(answer, bool)
        allowed = f"a whole number from {self.low} to {self.high}"
        check("the prediction", answer, whole and self.low <= answer <= self.high, allowed)
        return answer

    def said(self, answer: Any) -> str:
        """An answer, or a truth, in words; a share is rounded as the reader's is."""
        return f"{answer:.0f}{self.unit}" if isinstance(answer, int | float) else str(answer)


@dataclass(frozen=True)
class Truth:
    """What the rows say: the option that holds, or the number; and where that can be seen."""

    value: Any
    seen: str = ""


_questions: dict[str, Question] = {}  # of this session


def file() -> Path:
    """Where this reader's predictions are kept: beside the live runs."""
    return live_root() / "predictions.json"


def recorded() -> dict[str, Any]:
    """{key: what the reader said}; SftrlError where the file is no such table."""
    path = file()
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise SftrlError(f"{path} holds no predictions that can be read; delete it to start again.")
    return told


def record(key: str, answer: Any) -> str:
    """Keep an answer to a question of this session, in place of an earlier one; what to say."""
    question = _questions[key]
    told = recorded() | {key: question.checked(answer)}
    writable(file().parent)
    write_atomic(file(), json.dumps(told, indent=1, sort_keys=True) + "\n")
    return f"Recorded: {question.said(answer)}."


def predict(
    key: str, text: str, options: Sequence[str] | tuple[int, int], unit: str = "",
    answer: Any = None,
) -> None:  # fmt: skip
    """Ask for a prediction, as a menu of `options`, or as a slider from one whole number to
    another. `key` is NOTEBOOK.NAME, for instance "02.king". With an `answer` there is no menu, and
    nothing to click."""
    ranged = len(options) == 2 and all(isinstance(end, int) for end in options)
    low, high = options if ranged else (0, 0)
    question = Question(text, () if ranged else tuple(options), low, high, unit)
    _questions[key] = question
    about = {ASKED: {"key": key, "text": text, "options": list(question.options)}}
    if answer is not None:
        said = f"<p>{escape(text)}</p><p>{escape(record(key, answer))}</p>"
        display(HTML(said), metadata=about)
        return
    display(_form(key, question, recorded().get(key)), metadata=about)


def _form(key: str, question: Question, before: Any) -> ipywidgets.Widget:
    """The question, a field, a button: all of them reached and worked with the keyboard."""
    wide = ipywidgets.Layout(width="auto", max_width="40em")
    look: dict[str, Any] = dict(layout=wide, style={"description_width": "initial"})
    field: ipywidgets.ValueWidget
    if question.options:
        first = before if before in question.options else None
        name = "I say"
        field = ipywidgets.RadioButtons(
            options=question.options, value=first, description=name, **look
        )
    else:
        held = isinstance(before, int) and question.low <= before <= question.high
        first = before if held else (question.low + question.high) // 2
        name = f"I say ({question.unit})" if question.unit else "I say"
        field = ipywidgets.IntSlider(first, question.low, question.high, description=name, **look)
    button = ipywidgets.Button(description="Record my prediction", layout={"width": "auto"})
    state = ipywidgets.HTML(_status(question.said(before) if before is not None else NOTHING))

    def keep(_: Any) -> None:
        if field.value is None:
            state.value = _status("choose an answer first")
            return
        state.value = _status(record(key, field.value))

    button.on_click(keep)
    asked = ipywidgets.HTML(f"<p><b>Your prediction.</b> {escape(question.text)}</p>")
    return ipywidgets.VBox([asked, field, ipywidgets.HBox([button, state])])


def _status(words: str) -> str:
    """Words that a screen reader says when they change."""
    return f'<span role="status">{escape(words)}</span>'


def verdict(question: Question, said: Any, truth: Truth) -> str:
    """How far a prediction was right; of nothing, nothing."""
    if said is None:
        return ""
    if question.options:
        return "right" if said == truth.value else "not what happened"
    off = abs(round(truth.value) - said)
    return f"off by {off}" if off else "right"


def compared(notebook: str, truth: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(question, what the reader said, what the rows say, verdict) of a notebook's predictions.
    Truths are options, numbers or `Truth`s; each must have been asked for, and each question must
    have one."""
    asked = {key for key in _questions if key.startswith(f"{notebook}.")}
    if asked != set(truth):
        odd = ", ".join(sorted(asked ^ set(truth)))
        raise SftrlError(
            f"questions and truths of notebook {notebook} differ in {odd}; run the notebook from "
            "its top, and give each question its truth."
        )
    told, rows = recorded(), []
    for key, found in truth.items():
        question, said = _questions[key], told.get(key)
        found = found if isinstance(found, Truth) else Truth(found)
        if question.options:
            check(f"the truth of {key}", found.value, found.value in question.options,
                  question.options)  # fmt: skip
        true = question.said(found.value) + (f" ({found.seen})" if found.seen else "")
        mine = NOTHING if said is None else question.said(said)
        rows.append((question.text, mine, true, verdict(question, said, found)))
    return rows


def predictions(notebook: str, truth: Mapping[str, Any]) -> None:
    """Show what the reader predicted in a notebook beside what the rows say."""
    rows = compared(notebook, truth)
    truths = {key: (text, true) for key, (text, _, true, _) in zip(truth, rows, strict=True)}
    display(HTML(table(rows)), metadata={TRUTHS: truths})


def table(rows: Sequence[Sequence[str]]) -> str:
    """Predictions and truths as a table, of two columns where there is no reader to quote; all of
    its text is escaped."""
    known = len(rows[0]) > 2
    head = ("question", "you said", "the rows say", "") if known else ("question", "the rows say")
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    what = "Your predictions, and what happened" if known else "The questions, and what happened"
    caption = f"<caption>{what}</caption>"
    return (
        f'<table class="dataframe predictions">{caption}<thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


# --- For the HTML book --------------------------------------------------------------------------
def folded(asked: Mapping[str, Any], truth: str) -> str:
    """A question that opens to what the rows say."""
    choice = f" ({', '.join(asked['options'])})" if asked["options"] else ""
    return (
        f'<details class="prediction"><summary><b>Predict:</b> {escape(asked["text"])}'
        f"{escape(choice)}</summary><p>{escape(truth)}</p></details>"
    )


def fold(nb: nbformat.NotebookNode) -> None:
    """In an executed notebook, replace each form by its question, folded with its truth, and leave
    out what a reader said, whom a page does not know."""
    outputs = [out for cell in nb.cells for out in cell.get("outputs", [])]
    truths: dict[str, Sequence[str]] = {}
    for out in outputs:
        if found := out.get("metadata", {}).get(TRUTHS):
            truths |= found
            out.data = nbformat.from_dict({"text/html": table(list(found.values()))})
    for out in outputs:
        if asked := out.get("metadata", {}).get(ASKED):
            _, truth = truths.get(asked["key"], ("", "The notebook did not run to its end."))
            out.data = nbformat.from_dict({"text/html": folded(asked, truth)})
