"""The one exception that is meant for the reader of a message, not for a debugger."""


class SftrlError(ValueError):
    """A mistake the user can repair; one sentence: what was given, what is allowed, what to do."""
