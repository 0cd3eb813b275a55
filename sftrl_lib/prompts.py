"""Every text the model reads or is taught to write, in one place, the same for all tiers.

The tiny tier's tokenizer makes one token of each constant phrase (`PHRASES`, `NAV_PHRASES`), so
that long natural prompts cost it little; ranks, numbers, operators and directions stay tokens of
their own.
"""

from collections.abc import Sequence

from .tasks.routes import COMPASS, SECTORS, TURNS

_TASK = (
    "You are given playing cards. Build one formula whose value is the target. Use the value of "
    "every card exactly once, with +, -, *, / and brackets.\n"
)
_TARGET, _TARGET_END = "Target: ", ".\n"
_RULE_J, _RULE_Q, _RULE_K = "Rule: A counts as 1, J counts as ", ", Q counts as ", ", K counts as "
_CARDS = "Cards: "
_SEP = ", "

# How the answer is to be written. The task's own format is "json"; the others exist so that the
# tiny foundation model, like a pretrained LLM, knows many ways to answer (DESIGN.md, section 2).
FORMATS = {
    "json": 'Answer with a JSON object: {"cards": [the cards], "number": [their values], '
    '"formula": "the formula"}.',
    "equation": "Answer with the formula alone.",
    "values": "First write the values of the cards, then the formula.",
    "steps": "First write the values, then calculate step by step, then write the formula.",
    "named": "Say what each card counts as, then give the formula.",
}
# The pieces of those formats that are constant.
_JSON = ('{"cards": ["', '", "', '"], "number": [', '], "formula": "', '"}')
_VALUES, _SO, _COUNTS = "Values: ", ". Formula: ", " is "

_RETRY = ("You failed this trial because ", ". Try again.")
_WRONG_VALUE = ("your formula equals ", " and not ")
_WRONG_NUMBERS = ("you used invalid numbers: ", "; the values of the cards must each be used once")
_ILLEGAL = "your formula is not a legal formula"
_UNREADABLE = "your answer is not in the format that was asked for"
_MISREAD = "you recognized wrong cards"
# In place of what a picture shows, and where its words would stand: the tiny tier reads them, never
# writes them, and puts there what it sees, for the layers that read text to find.
_PICTURED = tuple(f"card {n} of the picture" for n in range(1, 6))
_LOOK = (
    "see the four views (front, right, back, left) for a landmark,", " its side",
    " and an intersection;",
)  # fmt: skip
LOOK = "".join(_LOOK)
PICTURE_PHRASES = (*_PICTURED[:4], *_LOOK)
_SOLVED = "correct"

PHRASES = (
    _TASK, _TARGET, _TARGET_END, _RULE_J, _RULE_Q, _RULE_K, _CARDS, _SEP, *FORMATS.values(), *_JSON,
    _VALUES, _SO, _COUNTS, *_RETRY, *_WRONG_VALUE, *_WRONG_NUMBERS, _ILLEGAL, _UNREADABLE,
)  # fmt: skip


def gp_prompt(deal, answer_format: str = "json", cards: bool = True) -> str:
    """The question of a deal: task, target, card rule, cards (or that a picture shows them), and
    how to answer."""
    rule, shown = deal.rule, deal.cards if cards else _PICTURED[: len(deal.cards)]
    return (
        f"{_TASK}{_TARGET}{deal.target}{_TARGET_END}"
        f"{_RULE_J}{rule.j}{_RULE_Q}{rule.q}{_RULE_K}{rule.k}{_TARGET_END}"
        f"{_CARDS}{_SEP.join(shown)}{_TARGET_END}{FORMATS[answer_format]}"
    )


def gp_answer(
    cards: Sequence[str], numbers: Sequence[int], formula: str, answer_format: str = "json",
    steps: Sequence[str] = (),
) -> str:  # fmt: skip
    """A worked answer. `steps` (e.g. "10*3=30") are used by the format "steps" only."""
    head, quote, number, form, end = _JSON
    listed = _SEP.join(map(str, numbers))
    named = _SEP.join(f"{c}{_COUNTS}{n}" for c, n in zip(cards, numbers, strict=True))
    return {
        "json": f"{head}{quote.join(cards)}{number}{listed}{form}{formula}{end}",
        "equation": formula,
        "values": f"{_VALUES}{listed}{_SO}{formula}",
        "steps": f"{_VALUES}{listed}{_TARGET_END}{_SEP.join(steps)}{_SO}{formula}",
        "named": f"{named}{_SO}{formula}",
    }[answer_format]


def claimed_values(text: str, answer_format: str) -> str:
    """The part of an answer that states the cards' values, in card order ("" in "equation")."""
    if answer_format == "json":
        return text.partition(_JSON[2])[2].partition("]")[0]
    if answer_format == "named":
        return _SEP.join(part.rpartition(_COUNTS)[2] for part in text.partition(_SO)[0].split(_SEP))
    return text.partition(_VALUES)[2].partition(".")[0]


def verdict_message(reason: str, **facts) -> str:
    """What the verifier says. Facts: wrong_value -> value, target; wrong_numbers -> used, and in
    place of which dealt ones, if any.

    No words but PHRASES: told in others ("you used 9 too often"), the tiny tier's init answers
    unreadably twice as often.
    """
    if reason == "solved":
        return _SOLVED
    if reason == "wrong_value":
        return f"{_WRONG_VALUE[0]}{facts['value']}{_WRONG_VALUE[1]}{facts['target']}"
    if reason == "wrong_numbers":
        used, dealt = (_SEP.join(map(str, facts[which])) for which in ("used", "dealt"))
        told = f"{used}{_WRONG_VALUE[1]}{dealt}" if dealt else used
        return f"{_WRONG_NUMBERS[0]}{told}{_WRONG_NUMBERS[1]}"
    fixed = {"illegal_formula": _ILLEGAL, "unreadable": _UNREADABLE, "misread_cards": _MISREAD}
    return fixed[reason]


# How much of a verdict the model is told: what was wrong and how; what was wrong; that it was.
FEEDBACK = ("full", "reason", "wrong")
_REASONS = {
    "wrong_value": "your formula does not equal the target",
    "wrong_numbers": _WRONG_NUMBERS[1].removeprefix("; "),
    "illegal_formula": _ILLEGAL,
    "wrong_observation": "your observation is not the right one at this position",
}


def feedback(reason: str, message: str, feedback: str) -> str:
    """The part of a verdict's message that one of FEEDBACK tells the model."""
    if reason == "solved" or feedback == "full":
        return message
    return _REASONS.get(reason, message) if feedback == "reason" else "your answer is wrong"


def retry(message: str) -> str:
    """The next user turn after a failed try (paper, section 3.2: sequential revision)."""
    return f"{_RETRY[0]}{message}{_RETRY[1]}"


# --- Navigation: the question (paper, appendix A) -------------------------------------------------
_NAV_TASK = (
    "You walk along a route through a city, one position at a time. Compare the instruction with "
    "what you observed and did so far: find the sentence that is due now, and choose the next "
    "action.\n"
)
# The rule of the task: which words turn_direction takes.
_NAV_ACTIONS = {
    space: "Actions: forward() along a street, stop() at the destination, turn_direction(x) at the "
    f"start and at every intersection on the way, where x is {meaning}: {_SEP.join(words)}.\n"
    for space, meaning, words in (
        ("absolute", "the direction to face then", COMPASS),
        ("relative", "the way to turn", TURNS),
    )
}
_INSTRUCTION, _HISTORY = "Instruction:", "\nObservations O and actions A so far:"
# As for the cards: the task's own format, and others for the foundation model to know.
NAV_FORMATS = {
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

# A line number is one token with what stands around it, for as many lines as tiny routes have; the
# full stop of a sentence goes with what follows.
NAV_PHRASES = (
    _NAV_TASK, *_NAV_ACTIONS.values(), f"{_INSTRUCTION}\n1. ", *(f".\n{i}. " for i in range(2, 17)),
    f".{_HISTORY}", *(f"\n{kind}_{i}: " for i in range(1, 33) for kind in "OA"),
    *NAV_FORMATS.values(), _SEEN, _DUE, f" {_DUE}", f".{_SO_ACTION}",
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
    return f"{_FIRST_TURN if first else _TURN}{turn}{_FACE}{direction}."


def walk_sentence(landmark: str, last: bool) -> str:
    """`landmark` is what `landmark_text` says of the point that is walked to."""
    if landmark == BARE:
        return f"{_WALK}."
    return f"{_WALK_END if last else _WALK_WHERE}{landmark}."


def turn_action(word: str) -> str:
    return f"{_TURN_ACTION}{word})"


def nav_prompt(
    actions: str, sentences: Sequence[str], history: Sequence[tuple[str, str]], observed: str,
    answer_format: str = "json",
) -> str:  # fmt: skip
    """The question at one position: task, action space ("absolute" or "relative"), instruction,
    (observation, action) at all earlier positions, what is observed now, how to answer."""
    told = "".join(f"\n{i}. {sentence}" for i, sentence in enumerate(sentences, 1))
    lines = [*history, (observed, "")]
    done = "".join(f"\nO_{i}: {o}\nA_{i}: {a}" for i, (o, a) in enumerate(lines, 1))
    asked = f"{_NAV_TASK}{_NAV_ACTIONS[actions]}{_INSTRUCTION}{told}"
    return f"{asked}{_HISTORY}{done}{NAV_FORMATS[answer_format]}"


def nav_answer(observed: str, sentence: str, action: str, answer_format: str = "json") -> str:
    head, instruction, act, end = _NAV_JSON
    return {
        "json": f"{head}{observed}{instruction}{sentence}{act}{action}{end}",
        "due": f"{_DUE}{sentence}{_SO_ACTION}{action}",
        "report": f"{_SEEN}{observed} {_DUE}{sentence}{_SO_ACTION}{action}",
    }[answer_format]


def nav_message(reason: str, at_intersection: bool, authors: bool = False) -> str:
    """What the verifier, or that of the authors' code, says of an answer at a position that is, or
    is not, at an intersection."""
    if reason == "wrong_observation":
        return _AT if at_intersection else "you are not at any intersection" if authors else _NOT_AT
    if reason == "wrong_action" and authors:
        return "you make incorrect action"
    return {"solved": _SOLVED, "wrong_action": _WRONG_ACTION, "unreadable": _UNREADABLE}[reason]
