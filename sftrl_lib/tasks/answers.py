"""Read the JSON-like answers of both tasks: tolerantly, in linear time, executing nothing."""

from __future__ import annotations

import re

MAX_ANSWER = 10_000  # characters; anything longer is refused unread

# A JSON-like object: single quotes, bare words and a trailing comma are tolerated. Each part ends
# at a character it cannot contain, so that matching takes linear time on any text.
_FIELD = r"""("[^"{}]*"|'[^'{}]*')\s*:\s*(\[[^\[\]{}]*\]|"[^"{}]*"|'[^'{}]*'|[\w.+-]+)"""
_FIELDS = re.compile(_FIELD, re.ASCII)
_OBJECT = re.compile(rf"\{{\s*{_FIELD}(?:\s*,\s*{_FIELD})*\s*(?:,\s*)?\}}", re.ASCII)


def read_fields(text: str) -> dict[str, str] | None:
    """The last JSON-like object in a text: its values, as they are written, by key. None where it
    cannot be read, and for texts of more than MAX_ANSWER characters."""
    start = text.rfind("{")
    end = text.find("}", start) + 1
    if len(text) > MAX_ANSWER or start < 0 or not _OBJECT.fullmatch(text, start, end):
        return None
    return {key[1:-1]: value for key, value in _FIELDS.findall(text, start, end)}


def is_string(value: str) -> bool:
    """Whether a value of `read_fields` is a string: quoted, the quotes being its first and last
    character."""
    return value[:1] in ("'", '"')
