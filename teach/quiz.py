"""Quick questions as Markdown that needs no script: each answer folds out and says why."""

import random
import textwrap
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "questions"
INTRO = "Click an answer to see whether it is right, and why.\n\n"
TEN = """\
# A quiz of ten

For the end of a lab or of a unit. Answers fold out in a browser; read them out where there is none.
Made from `teach/questions/ten.yaml` by `python -m teach cells`.

"""


@cache
def questions(name: str) -> list[dict[str, Any]]:
    """The questions of a notebook (its stem), or `ten`."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def answers(question: dict[str, Any]) -> list[tuple[bool, str, str]]:
    """(whether right, answer, why) in an order that does not give the right one away."""
    listed = [(True, *question["right"]), *((False, *wrong) for wrong in question["wrong"])]
    return random.Random(question["ask"]).sample(listed, len(listed))


def markdown(name: str) -> str:
    """All questions of a page."""
    parts = []
    for number, question in enumerate(questions(name), 1):
        parts.append(f"**Question {number}.** {question['ask']}")
        for letter, (right, answer, why) in zip("abcd", answers(question), strict=False):
            choice = f"{letter}) {escape(answer, quote=False)}"
            parts += [
                f"<details><summary>{choice}</summary>",
                f"**{'Right' if right else 'No'}.** {why}",
            ]
            parts.append("</details>")
    return INTRO + "\n\n".join(map(_wrapped, parts))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 96, break_long_words=False, break_on_hyphens=False)


def page_of_ten() -> str:
    """teach/quiz.md."""
    return f"{TEN}{markdown('ten').removeprefix(INTRO)}\n"
