"""Navigation worded after the authors' description: what `walk_texts` is for the book's wording.

As in `authors_cards`, sections, keys and forms are theirs, and the sentences ours. Instructions,
observations and actions are theirs in either wording (`rail`).
"""

from collections.abc import Sequence

from . import walk_texts
from .rail import AT_INTERSECTION, FORWARD, STOP
from .routes import COMPASS, TURNS
from .texts import RETRY

_TASK = (
    "You find your way through a city by a list of instructions{street}. What you observed and did "
    "so far is given in words. First find the sentence of the instruction that is due, then say "
    "which action it asks for, given what you observe now."
)
_STREET = ", while you see the streets around you"
_VIEWS = (
    "[Observation format]\nYou see a 2x2 grid of street views with these headings:\n"
    "[front, right\n back, left]\nFind out whether it shows a landmark of the instruction.\n\n"
)
_ACTIONS = {
    space: f'"{FORWARD}": go one step ahead\n'
    f'"turn_direction(x)": turn towards x, which is one of {[*words]}\n'
    f'"{STOP}": the walk is over'
    for space, words in (("absolute", COMPASS), ("relative", TURNS))
}
_OUTPUT = (
    '[Output]\n{{\n  "current observation": the last observation {where},\n'
    '  "current instruction": the sentence of the whole instruction that is due,\n'
    '  "action": the action that you choose from the action space,\n}}'
)
_IN_SEQUENCE, _IN_VIEWS = (_OUTPUT.format(where=w) for w in ("of the sequence", "in the grid"))
_AGAIN = "Do not repeat it; answer in the same form:"
_LOOK = "You observe an image of 4 views; "


def look(crossing: bool) -> str:
    """What stands for the observation in a question with a picture: it says whether there is an
    intersection."""
    return _LOOK + AT_INTERSECTION * crossing


def prompt(
    actions: str, sentences: Sequence[str], history: Sequence[tuple[str, str]], observed: str
) -> str:
    """The question at one position: as `walk_texts.prompt`; one about a picture, if what is
    observed is `look`."""
    shown = observed.startswith(_LOOK)
    told = "\n".join(f"{i}. {sentence}" for i, sentence in enumerate(sentences, 1))
    lines = enumerate([*history, (observed, "")], 1)
    done = "\n".join(f"O_{i}: {seen}\nA_{i}: {action}" for i, (seen, action) in lines)
    return (
        f"\n[Task Description]\n{_TASK.format(street=_STREET if shown else '')}\n\n"
        f"[Instruction]\n{told}\n\n{_VIEWS if shown else ''}[Action space]\n{_ACTIONS[actions]}\n\n"
        f"[Observations and actions sequence]\n{done}\n\n\n{_IN_VIEWS if shown else _IN_SEQUENCE}\n"
    )


def answer(observed: str, sentence: str, action: str) -> str:
    """What an expert says: a comma after the last field as well."""
    fields = {"current observation": observed, "current instruction": sentence, "action": action}
    lines = "".join(f'  "{key}": "{value}",\n' for key, value in fields.items())
    return f"{{\n{lines}}}"


def verdict_message(reason: str, at_intersection: bool, authors: bool = True) -> str:
    """What their verifier says, whatever the scheme; of an answer without the fields, which it does
    not tell from a wrong one, our words."""
    if reason == "solved":
        return "Correct action"
    return walk_texts.verdict_message(reason, at_intersection, authors=True)


def retry(message: str) -> str:
    """The next user turn after a failed try: it repeats the form of an answer, that of pictures in
    either task, as theirs does."""
    return f"{RETRY[0]}{message}. {_AGAIN}\n{_IN_VIEWS}"
