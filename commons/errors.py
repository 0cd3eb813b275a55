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
            f"{name} is {shown(given)}, but it must be {what}; change {change} and try again."
        )


def shown(given: object) -> str:
    """One line, of a length that a hostile file does not decide."""
    if isinstance(given, int) and abs(given) > 10**100:  # Python refuses to write out huge ones
        return "a number of more than 100 digits"
    if isinstance(given, (list, dict, set)) and given:  # may hold itself, or a billion references
        return f"a {type(given).__name__}"
    text = repr(given)
    return text if len(text) <= 200 else f"{text[:200]}..."
