"""What every task says: how a failed try is answered, and how much of the verdict is told.

The tiny tier's tokenizer makes one token of each constant phrase of the tasks (`PHRASES`), so that
long natural prompts cost it little; ranks, numbers, operators and directions stay tokens of their
own.
"""

from collections.abc import Mapping

RETRY = ("You failed this trial because ", ". Try again.")
# How questions, answers and replies are worded: as in this book, or after the authors' description.
WORDINGS = ("book", "authors")
# How much of a verdict the model is told: what was wrong and how; what was wrong; that it was.
FEEDBACK = ("full", "reason", "wrong")


def feedback(reason: str, message: str, level: str, reasons: Mapping[str, str]) -> str:
    """The part of a verdict's message that one of FEEDBACK tells the model; `reasons` says of some
    what was wrong without saying how."""
    if reason == "solved" or level == "full":
        return message
    return reasons.get(reason, message) if level == "reason" else "your answer is wrong"


def retry(message: str) -> str:
    """The next user turn after a failed try (paper, section 3.2: sequential revision)."""
    return f"{RETRY[0]}{message}{RETRY[1]}"
