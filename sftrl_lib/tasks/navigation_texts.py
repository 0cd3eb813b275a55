"""Every text of navigation that a model reads or is taught to write (paper, appendix A)."""

from collections.abc import Sequence

from .routes import COMPASS, SECTORS, TURNS
from .texts import SEP, SOLVED, UNREADABLE

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

# --- Navigation: pieces of sentences, observations, actions and answers ---------------------------
_FIRST_TURN, _TURN, _FACE = "First, turn ", "Turn ", " to face "
_WALK, _WALK_WHERE, _WALK_END = (
    "Move forward until you reach next intersection",
    "Move forward until you reach next intersection where ",
    "Move forward until you reach destination where ",
)
_DESTINATION, _IS_ON = "The destination ", " is on your "
_STREET, BARE = "No landmarks nearby", "No landmark nearby"
AT_INTERSECTION = "You observe an intersection"
FORWARD, STOP, _TURN_ACTION = "forward()", "stop()", "turn_direction("
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
    _FIRST_TURN, _TURN, _FACE, _WALK, _WALK_WHERE, _WALK_END, _DESTINATION, _IS_ON, f"{_STREET};",
    f"{BARE}; {AT_INTERSECTION}", f"; {AT_INTERSECTION}", FORWARD, STOP, _TURN_ACTION,
    *_NAV_JSON[:2], f".{_NAV_JSON[2]}", _NAV_JSON[3], _WRONG_ACTION, _AT, _NOT_AT, *COMPASS,
    *SECTORS, *TURNS,
)  # fmt: skip

# What a name of the released data may hold, and a line of the prompt or a JSON-like answer may not.
_NAME_SIGNS = str.maketrans('"{}|', "'()/")


def landmark_text(name: str | None, side: str | None, destination: bool = False) -> str:
    """What is seen at a point of the route: "NAME is on your SIDE", or that nothing is there.

    White space in a name becomes one space; quotes, braces and bars are replaced; 200 characters.
    """
    if name is None:
        return BARE
    name = " ".join(name.translate(_NAME_SIGNS).split())[:200]
    return f"{_DESTINATION if destination else ''}{name}{_IS_ON}{side}"


def split_landmark(observed: str) -> tuple[str, str, str]:
    """(name, " is on your ", the rest) of an observation; two empty ones where none is named."""
    return observed.removeprefix(_DESTINATION).partition(_IS_ON)


def observation(landmark: str = _STREET, at_intersection: bool = False) -> str:
    """What the agent observes; without arguments, on the street between two points."""
    return f"{landmark}; {AT_INTERSECTION}" if at_intersection else f"{landmark};"


def turn_sentence(turn: str, direction: str, first: bool) -> str:
    """An instruction's sentence; `turn` is one of TURNS, `direction` one of COMPASS."""
    return f"{_FIRST_TURN if first else _TURN}{turn}{_FACE}{direction}."


def walk_sentence(landmark: str, last: bool) -> str:
    """`landmark` is what `landmark_text` says of the point that is walked to."""
    if landmark == BARE:
        return f"{_WALK}."
    return f"{_WALK_END if last else _WALK_WHERE}{landmark}."


def turn_action(word: str) -> str:
    """The action that turns to a word of COMPASS or TURNS."""
    return f"{_TURN_ACTION}{word})"


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
