"""The one exception that is meant for the reader of a message, as the whole project raises it."""

from worlds.errors import SftrlError, check, shown

__all__ = ["SftrlError", "check", "shown"]
