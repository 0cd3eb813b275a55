"""Read the JSON-like answers of both tasks: tolerantly, in bounded time, executing nothing.

The reader mends punctuation alone: quotes, commas, comments, escapes. (json_repair also cuts what
it cannot place: it makes the solution "(10-4)*(6-2)" of `"(10-4)*(6-2)" - 1`.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

MAX_ANSWER = 100_000  # characters; of a longer text, the end is read
MAX_MENDED = 3_000  # characters of an object whose punctuation is mended
# Objects that open where an answer can begin are tried from the last one backwards: so many at
# most, and no more once this many characters were read in vain (mended ones count tenfold).
MOST_OBJECTS, MOST_READ = 100, 2 * MAX_ANSWER

# JSON's escapes would take \times for a tab.
_LATEX = re.compile(r"\\{1,2}(times|cdot|div|left|right)(?![A-Za-z])")
_LATEX_SIGNS = {"times": "*", "cdot": "*", "div": "/", "left": "", "right": ""}

_QUOTES = ('"', "'", "“”„", "‘’")
_KEY = "|".join(rf"[{q}][^{q}{{}}]{{1,99}}[{q}]" for q in _QUOTES)
_OPENING = re.compile(rf"\{{(?=\s*+(?:{_KEY}|\w{{1,99}})\s*+:)")
_STRING = "|".join(rf"[{q}]((?:[^{q}\\]|\\.)*+)[{q}]" for q in _QUOTES)
_MARK = len(_QUOTES) + 1  # the group of brackets and signs
_TOKEN = re.compile(rf"{_STRING}|([{{}}\[\]:,])|([\w.+-]++)|\s++|//[^\n]*+", re.DOTALL)
_LITERAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null")
_ESCAPE = re.compile(r'\\(.)|"', re.DOTALL)


_DECODER = json.JSONDecoder(strict=False)  # control characters are let pass


def plain_signs(text: str) -> str:
    """LaTeX's signs for operations and the sizes of its brackets, as plain signs."""
    return _LATEX.sub(lambda sign: _LATEX_SIGNS[sign[1]], text) if "\\" in text else text


def _escape(found: re.Match[str]) -> str:
    """What stands for a character after a backslash, or for a quote without one, in JSON."""
    if found[1] is None:
        return '\\"'
    if found[1] in "'’‘“”„":
        return found[1]
    return found[0] if found[1] in '"\\/bfnrtu' else "\\" + found[0]


def _mended(text: str) -> tuple[str, int]:
    """The object that a text begins with, in JSON's own punctuation, and how far it was read; an
    empty one where it does not end or holds what is no token."""
    parts, at, depth = [], 0, 0
    while found := _TOKEN.match(text, at):
        at, kind = found.end(), found.lastindex
        if kind is None:  # space or comment
            continue
        token = found[kind]
        if kind <= len(_QUOTES):
            parts.append(f'"{_ESCAPE.sub(_escape, token)}"')
        elif kind == _MARK:
            if token in "}]" and parts[-1] == ",":
                parts.pop()
            parts.append(token)
            depth += (token in "{[") - (token in "}]")
        else:
            parts.append(token if _LITERAL.fullmatch(token) else f'"{token}"')
        if depth == 0:
            return " ".join(parts), at
    return "", at


def _object(text: str, start: int) -> tuple[Any, int, int]:
    """What opens at `start`, where it ends (None and 0 if it cannot be read), and the effort."""
    try:
        fields, end = _DECODER.raw_decode(text, start)
        return fields, end, 0
    except json.JSONDecodeError as error:
        effort = error.pos - start
    except (ValueError, RecursionError):
        effort = MAX_ANSWER
    mended, length = _mended(text[start : start + MAX_MENDED])
    try:
        return _DECODER.decode(mended), start + length, 10 * length
    except (ValueError, RecursionError):
        return None, 0, effort + 10 * length


def read_fields(text: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The last complete JSON-like object of a text that has all `keys`, whatever stands before,
    after or inside it; of nested ones the outermost. None if there is none.

    Single and typographic quotes, bare words, trailing commas, comments and wrong escapes are
    tolerated.
    """
    text = plain_signs(text[-MAX_ANSWER:])
    latest = min(map(text.rfind, keys))
    openings = [found.start() for found in _OPENING.finditer(text) if found.start() < latest]
    last, end, left = None, 0, MOST_READ
    for start in reversed(openings[-MOST_OBJECTS:]):
        fields, stop, effort = _object(text, start)
        if stop > end and fields.keys() >= set(keys):
            last, end = fields, stop
        left -= effort
        if left < 0:
            break
    return last
