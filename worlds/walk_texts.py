"""Every text of navigation that a model reads or is taught to write (paper, appendix A)."""

from collections.abc import Sequence

from . import rail
from .rail import FORWARD, STOP
from .rail import turn_action as turn_action
from .routes import COMPASS, SECTORS, TURNS
from .texts import retry as retry
from .verdict import SEP, SOLVED, UNREADABLE

# --- Navigation: the question (paper, appendix A) -------------------------------------------------
_NAV_TASK = (
    "You walk along a route through a city, one position at a time. Compare the instruction with "
    "what you observed and did so far: find the sentence that is due now, and choose the next "
    "action.\n"
)
# The rule of the task: which words turn_direction takes.
_NAV_ACTIONS = {
    space: "Actions: forward() along a street, stop() at the destination, turn_direction(x) at the "
    f"start and at every intersection on the way, where x is {meaning}: {SEP.join(words)}.\n"
    for space, meaning, words in (
        ("absolute", "the direction to face then", COMPASS),
        ("relative", "the way to turn", TURNS),
    )
}
_INSTRUCTION, _HISTORY = "Instruction:", "\nObservations O and actions A so far:"
# As for the cards: the task's own format, and others for the foundation model to know.
FORMATS = {
    "json": "\nComplete the last action. Answer with a JSON object: "
    '{"current observation": "what you observe now", "current instruction": "the sentence that is '
    'due", "action": "the action"}.',
    "due": "\nComplete the last action. Say which sentence is due, then the action.",
    "report": "\nComplete the last action. Say what you observe now, then the sentence that is "
    "due, then the action.",
}

# --- Navigation: pieces of answers ----------------------------------------------------------------
_NAV_JSON = (
    '{"current observation": "', '", "current instruction": "', '", "action": "', '"}',
)  # fmt: skip

_SEEN, _DUE, _SO_ACTION = "Seen: ", "Due: ", " Action: "

# --- Navigation: the verifier's words -------------------------------------------------------------
_WRONG_ACTION = "your action is not the right one at this position"
_AT, _NOT_AT = "you are at an intersection", "you are not at an intersection"

# In place of what a picture shows, as for the cards.
PICTURE_PHRASES = (
    "see the four views (front, right, back, left) for a landmark,",
    " its side",
    " and an intersection;",
)
LOOK = "".join(PICTURE_PHRASES)

# A line number is one token with what stands around it, for as many lines as tiny routes have; the
# full stop of a sentence goes with what follows.
PHRASES = (
    _NAV_TASK, *_NAV_ACTIONS.values(), f"{_INSTRUCTION}\n1. ", *(f".\n{i}. " for i in range(2, 17)),
    f".{_HISTORY}", *(f"\n{kind}_{i}: " for i in range(1, 33) for kind in "OA"),
    *FORMATS.values(), _SEEN, _DUE, f" {_DUE}", f".{_SO_ACTION}",
    rail.FIRST_TURN, rail.TURN, rail.FACE, rail.WALK, rail.WALK_WHERE, rail.WALK_END,
    rail.DESTINATION, rail.IS_ON, f"{rail.STREET};", f"{rail.BARE}; {rail.AT_INTERSECTION}",
    f"; {rail.AT_INTERSECTION}", FORWARD, STOP, rail.TURN_ACTION,
    *_NAV_JSON[:2], f".{_NAV_JSON[2]}", _NAV_JSON[3], _WRONG_ACTION, _AT, _NOT_AT, *COMPASS,
    *SECTORS, *TURNS,
)  # fmt: skip


def prompt(
    actions: str, sentences: Sequence[str], history: Sequence[tuple[str, str]], observed: str,
    answer_format: str = "json",
) -> str:  # fmt: skip
    """The question at one position: task, action space ("absolute" or "relative"), instruction,
    (observation, action) at all earlier positions, what is observed now, how to answer."""
    told = "".join(f"\n{i}. {sentence}" for i, sentence in enumerate(sentences, 1))
    lines = [*history, (observed, "")]
    done = "".join(f"\nO_{i}: {o}\nA_{i}: {a}" for i, (o, a) in enumerate(lines, 1))
    asked = f"{_NAV_TASK}{_NAV_ACTIONS[actions]}{_INSTRUCTION}{told}"
    return f"{asked}{_HISTORY}{done}{FORMATS[answer_format]}"


def look(crossing: bool) -> str:
    """What stands for the observation in a question with a picture; a crossing must be seen."""
    return LOOK


def answer(observed: str, sentence: str, action: str, answer_format: str = "json") -> str:
    """What an expert says; the formats "due" and "report" are for pre-training only."""
    head, instruction, act, end = _NAV_JSON
    return {
        "json": f"{head}{observed}{instruction}{sentence}{act}{action}{end}",
        "due": f"{_DUE}{sentence}{_SO_ACTION}{action}",
        "report": f"{_SEEN}{observed} {_DUE}{sentence}{_SO_ACTION}{action}",
    }[answer_format]


def verdict_message(reason: str, at_intersection: bool, authors: bool = False) -> str:
    """What the verifier, or that of the authors' code, says of an answer at a position that is, or
    is not, at an intersection."""
    if reason == "wrong_observation":
        return _AT if at_intersection else "you are not at any intersection" if authors else _NOT_AT
    if reason == "wrong_action" and authors:
        return "you make incorrect action"
    return {"solved": SOLVED, "wrong_action": _WRONG_ACTION, "unreadable": UNREADABLE}[reason]


# What was wrong, without how (`texts.feedback`).
REASONS = {"wrong_observation": "your observation is not the right one at this position"}
