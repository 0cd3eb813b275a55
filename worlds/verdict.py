"""What a verifier says of an answer, in either world."""

from dataclasses import dataclass
from fractions import Fraction

SEP = ", "
SOLVED, UNREADABLE = "correct", "your answer is not in the format that was asked for"


@dataclass(frozen=True)
class Verdict:
    """What the verifier says of one answer: at once the reward, the metric and the feedback.

    `reason` is a word of the task's; `message` goes back to the model (paper, section 3.2); `value`
    is the exact value of a legal formula; `numbers` the card values the answer claims.
    """

    ok: bool
    reward: float
    reason: str
    message: str
    value: Fraction | None = None
    numbers: tuple[int, ...] | None = None


def reward_schemes(**stated: float) -> dict[str, dict[str, float]]:
    """{scheme: {reason: reward}}: "paper", the rewards that the paper states; "authors", the same
    as the authors' code uses them; "binary", the outcome alone."""
    binary = dict.fromkeys(stated, 0.0) | {"solved": 1.0}
    return {"paper": stated, "authors": stated, "binary": binary}
