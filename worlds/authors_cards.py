"""GeneralPoints worded after the authors' description: what `card_texts` is for the book's wording.

Theirs are the sections of a question, with their names and order, the keys of an answer, how lists,
line breaks and the last comma are written, and what the verifier says. The sentences are ours: see
the table in book/tiers.md. To use the authors' own, replace the constants below.
"""

from collections.abc import Sequence

from .deals import Deal, Rule, read_answer
from .texts import RETRY
from .verdict import Verdict
from .verifier import verify_formula

_TASK = "You play the card game of {target} points. "
_GIVEN, _SHOWN = "You are given {count} cards.", "The picture shows {count} cards."
_GOAL = (
    "{faces}, and every card must be used once.\nFind a formula that equals {target}, made of the "
    "numbers of the cards and of '+', '-', '*', '/', '(', ')' and '='."
)
_OUTPUT = (
    '{{\n  "cards": [{cards}], the cards, where {faces},\n'
    '  "number": [{numbers}], the numbers of these cards,\n'
    "  \"formula\": 'an equation with {target} on its right',\n}}"
)
_PLACES = {"cards": "xyzwv", "numbers": "abcde"}  # stand for them in the form
_JSON = "The answer must be JSON of this form:\n"  # said where the question shows a picture
SOLVED, UNREAD = "Correct solution", "None"  # what their reader makes of an answer without fields


def _faces(rule: Rule) -> str:
    """The card rule; that an ace is 1 is never said."""
    values = [f"'{value}'" for value in (rule.j, rule.q, rule.k)]
    each = values[0] if len({*values}) == 1 else "{}, {} and {}".format(*values)
    return f"'J', 'Q' and 'K' count as {each}"


def prompt(deal: Deal, cards: bool = True) -> str:
    """The question of a deal: task, cards (unless a picture shows them), the answer's form."""
    count, faces = len(deal.cards), _faces(deal.rule)
    known = {"target": deal.target, "count": count, "faces": faces}
    task = (_TASK + (_GIVEN if cards else _SHOWN)).format(**known)
    form = _OUTPUT.format(**known | {k: ", ".join(v[:count]) for k, v in _PLACES.items()})
    shown = f"[Input]\nCards: {[*deal.cards]}\n\n[Output]\n" if cards else f"[Output]\n{_JSON}"
    return f"\n[Task Description]\n{task}\n{_GOAL.format(**known)}\n\n{shown}{form}\n\n"


def written(cards: Sequence[str], numbers: Sequence[int], formula: str) -> str:
    """An answer: lists as Python writes them, a comma after the last field as well."""
    fields = f'"cards": {[*cards]},\n  "number": {[*numbers]},\n  "formula": "{formula}",'
    return f"{{\n  {fields}\n}}"


def expert(deal: Deal, formula: str) -> str:
    """A correct answer: its formula ends with "=24", or what the target is."""
    return written(deal.cards, deal.numbers, f"{formula}={deal.target}")


def told(deal: Deal, text: str, verdict: Verdict) -> str:
    """What their verifier says of an answer, whose verdict may be that of another scheme. Where
    only that one finds a fault, e.g. in "number", the message is its own."""
    if verdict.ok or verdict.reason == "misread_cards":
        return SOLVED if verdict.ok else verdict.message
    formula = (read_answer(text) or ([], [], UNREAD))[2]
    theirs = verify_formula(formula, deal.numbers, deal.target, "authors")
    return verdict.message if theirs.ok or not theirs.message else theirs.message


def retry(message: str) -> str:
    """The next user turn after a failed try."""
    return f"{RETRY[0]}{message}."
