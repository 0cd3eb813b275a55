"""The one exception that is meant for the reader of a message, not for a debugger."""

from collections.abc import Iterable


class SftrlError(ValueError):
    """A mistake the user can repair; one sentence: what was given, what is allowed, what to do."""


def check(
    name: str, given: object, allowed: bool, choices: str | Iterable[str], change: str = "it"
) -> None:
    """SftrlError unless `allowed`. `choices`: what is, in words or as a list of names."""
    if not allowed:
        what = choices if isinstance(choices, str) else f"one of {', '.join(choices)}"
        raise SftrlError(
            f"{name} is {given!r}, but it must be {what}; change {change} and try again."
        )
