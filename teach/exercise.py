"""What an exercise is, and how an answer to it is checked.

An exercise is a solved function under the decorator `exercise`. Everything else follows from it:
the stub that a reader fills in, the folded solution, and what the hidden cases expect.
"""

import ast
import importlib
import inspect
import math
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from commons.errors import check as known

LEVELS = ("easy", "medium", "hard")
TODO = "...  # your code"
_made: list["Exercise"] = []  # in the order of definition


class Case(NamedTuple):
    """One hidden case: what it is about, the arguments, and what an answer that fails it may have
    overlooked."""

    name: str
    args: Sequence[Any] = ()
    why: str = ""


class Outcome(NamedTuple):
    """What came of a check: "solved", "wrong" or "not solved yet", and the words for the reader."""

    state: str
    message: str


def call(function: Callable, *args: Any) -> Any:
    """How a case uses an answer, unless its exercise has another way."""
    return function(*args)


@dataclass
class Exercise:
    """A question with its solution. One without cases is answered on paper, or by a run of one's
    own; its solution is text."""

    title: str
    level: str
    minutes: int
    statement: str
    hint: str
    key: str  # marks its cells in a notebook, whatever its number
    module: ModuleType
    solution: Any  # a function or class; text where there are no cases
    because: str = ""  # what the solution shows
    cases: Sequence[Case] = ()
    # The solution's and the reader's values for a case are compared, as `use(answer, *args)` gets
    # them; or `judge(value, *args)` says what is wrong with the reader's, "" if nothing.
    use: Callable[..., Any] = call
    judge: Callable[..., str] | None = None
    number: str = ""

    @property
    def notebook(self) -> str:
        """The stem of the notebook that it belongs to."""
        return self.module.NOTEBOOK

    @property
    def checked(self) -> bool:
        """Whether there is something to fill in."""
        return bool(self.cases)

    # --- Its code ---------------------------------------------------------------------------------
    @cached_property
    def code(self) -> str:
        """The solution as a cell would have it, imports included."""
        return "\n".join([*self._imports(self._definition), "", "", self._definition]).lstrip("\n")

    @cached_property
    def stub(self) -> str:
        """The cell that the reader fills in: signature, docstring, room for code, and the check."""
        hollow = self._hollow()
        imports = self._imports(hollow)
        own = bool(imports) and "sftrl_lib" in imports[-1]  # these stand in one block with teach
        head = [*imports, *([] if own else [""]), "from teach import check"]
        call = f'check("{self.number}", {self.key})'
        return "\n".join([*head, "", "", hollow, "", "", call]).lstrip("\n")

    @cached_property
    def _source(self) -> str:
        return inspect.getsource(self.module)

    @cached_property
    def _definition(self) -> str:
        """The source of the function or class, without its decorator."""
        body = ast.parse(self._source).body
        node = next(n for n in body if getattr(n, "name", "") == self.key)
        return "\n".join(self._source.splitlines()[node.lineno - 1 : node.end_lineno])

    def _hollow(self) -> str:
        """The definition with nothing in its functions but their docstrings."""
        [node] = ast.parse(self._definition).body
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        lines = self._definition.splitlines()
        for function in reversed([n for n in functions if isinstance(n, ast.FunctionDef)]):
            body = function.body[1:] if ast.get_docstring(function) else function.body
            room = " " * body[0].col_offset + TODO
            lines[body[0].lineno - 1 : body[-1].end_lineno] = [room]
        return "\n".join(lines)

    def _imports(self, code: str) -> list[str]:
        """The module's import lines that a piece of its code needs."""
        used = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
        lines = []
        for node in ast.parse(self._source).body:
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
                node.names = [a for a in node.names if (a.asname or a.name).split(".")[0] in used]
                lines += [ast.unparse(node)] if node.names else []
        return lines

    # --- An answer --------------------------------------------------------------------------------
    def check(self, answer: Any) -> Outcome:
        """Hold an answer against the hidden cases, up to the first that fails."""
        for case in self.cases:
            fault = ""
            try:
                got = self.use(answer, *deepcopy(case.args)) if callable(answer) else answer
            except Exception as error:  # of the reader's code, which may raise anything
                fault = f"your code raised {type(error).__name__}: {error}"
            else:
                if got is None or got is ...:
                    return Outcome("not solved yet", f"{self.number} is not solved yet.")
                fault = self._fault(got, case)
            if fault:
                where = f'{self.number} is not right yet. In the case "{case.name}" {fault}.'
                return Outcome("wrong", f"{where} {case.why}".rstrip())
        return Outcome("solved", f"{self.number} is solved.")

    def _fault(self, got: Any, case: Case) -> str:
        if self.judge:
            return self.judge(got, *deepcopy(case.args)).rstrip(".")
        expected = self.use(self.solution, *deepcopy(case.args))
        if same(got, expected):
            return ""
        return f"{shown(expected)} is expected, and your answer is {shown(got)}"


def exercise(title: str, level: str, minutes: int, **told: Any) -> Callable[[Any], Any]:
    """A decorator that makes an exercise of a solved function or class; `told` are the other fields
    of `Exercise`, whose texts may be indented."""

    def register(solution: Any) -> Any:
        _add(solution.__name__, solution.__module__, solution, title, level, minutes, told)
        return solution

    return register


def question(title: str, level: str, minutes: int, *, key: str, module: str, **told: Any) -> None:
    """An exercise without cases, of the module with that `__name__`."""
    solution = textwrap.dedent(told.pop("solution")).strip()
    _add(key, module, solution, title, level, minutes, told)


def _add(key, module, solution, title, level, minutes, told) -> None:
    known("the level", level, level in LEVELS, LEVELS)
    texts = {k: textwrap.dedent(v).strip() for k, v in told.items() if isinstance(v, str)}
    home = sys.modules[module]
    number = f"{home.NOTEBOOK[:2]}.{1 + sum(e.module is home for e in _made)}"
    _made.append(
        Exercise(
            title, level, minutes, key=key, module=home, solution=solution, number=number,
            **told | texts,
        )
    )  # fmt: skip


@cache
def exercises(notebook: str = "") -> dict[str, Exercise]:
    """The exercises of the notebooks whose name starts so, by number; only their modules are
    imported, since some need torch."""
    for path in sorted((Path(__file__).parent / "exercises").glob("*.py")):
        named = re.search(r'^NOTEBOOK = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if named and named[1].startswith(notebook):
            importlib.import_module(f"{__package__}.exercises.{path.stem}")
    found = [e for e in _made if e.notebook.startswith(notebook)]
    return {e.number: e for e in sorted(found, key=lambda e: e.notebook)}


def outcome(number: str, answer: Any) -> Outcome:
    """What came of an answer to the exercise of that number; SftrlError where there is none."""
    mine = exercises(str(number)[:2])
    if number not in mine:
        known("the exercise", number, False, exercises())
    return mine[number].check(answer)


def check(number: str, answer: Any) -> None:
    """Say whether an answer is right, and if not, in which case it fails and how. Never raises
    because of the answer, so that a notebook with open exercises runs to its end."""
    print(outcome(number, answer).message)


# --- Values ---------------------------------------------------------------------------------------
def same(got: Any, expected: Any) -> bool:
    """Whether two values are equal: numbers nearly, containers part by part, arrays as lists. A
    truth value is no number."""
    got, expected = (v.tolist() if hasattr(v, "tolist") else v for v in (got, expected))
    if isinstance(expected, bool) or isinstance(got, bool):
        return got is expected
    if isinstance(expected, int | float):
        return isinstance(got, Real) and math.isclose(got, expected, rel_tol=1e-5, abs_tol=1e-6)
    if isinstance(expected, Mapping):
        return (
            isinstance(got, Mapping)
            and got.keys() == expected.keys()
            and all(same(got[key], value) for key, value in expected.items())
        )
    if isinstance(expected, list | tuple):
        return (
            isinstance(got, list | tuple)
            and len(got) == len(expected)
            and all(map(same, got, expected))
        )
    return bool(got == expected)


def shown(value: Any) -> str:
    """A value in one line, of readable length."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and len(value) <= 12:
        inside = ", ".join(map(shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
