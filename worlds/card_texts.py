"""Every text of GeneralPoints that a model reads or is taught to write, the same for all tiers."""

from collections.abc import Sequence

from .deals import Deal
from .texts import RETRY
from .texts import retry as retry
from .verdict import SEP, UNREADABLE, Verdict
from .verifier import ILLEGAL, WRONG_NUMBERS, WRONG_VALUE

_TASK = (
    "You are given playing cards. Build one formula whose value is the target. Use the value of "
    "every card exactly once, with +, -, *, / and brackets.\n"
)
_TARGET, _TARGET_END = "Target: ", ".\n"
_RULE_J, _RULE_Q, _RULE_K = "Rule: A counts as 1, J counts as ", ", Q counts as ", ", K counts as "
_CARDS = "Cards: "

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

# In place of what a picture shows, and where its words would stand: the tiny tier reads them, never
# writes them, and puts there what it sees, for the layers that read text to find.
_PICTURED = tuple(f"card {n} of the picture" for n in range(1, 6))
PICTURE_PHRASES = _PICTURED[:4]

PHRASES = (
    _TASK, _TARGET, _TARGET_END, _RULE_J, _RULE_Q, _RULE_K, _CARDS, SEP, *FORMATS.values(), *_JSON,
    _VALUES, _SO, _COUNTS, *RETRY, *WRONG_VALUE, *WRONG_NUMBERS, ILLEGAL, UNREADABLE,
)  # fmt: skip


def prompt(deal, answer_format: str = "json", cards: bool = True) -> str:
    """The question of a deal: task, target, card rule, cards (or that a picture shows them), and
    how to answer."""
    rule, shown = deal.rule, deal.cards if cards else _PICTURED[: len(deal.cards)]
    return (
        f"{_TASK}{_TARGET}{deal.target}{_TARGET_END}"
        f"{_RULE_J}{rule.j}{_RULE_Q}{rule.q}{_RULE_K}{rule.k}{_TARGET_END}"
        f"{_CARDS}{SEP.join(shown)}{_TARGET_END}{FORMATS[answer_format]}"
    )


def answer(
    cards: Sequence[str], numbers: Sequence[int], formula: str, answer_format: str = "json",
    steps: Sequence[str] = (),
) -> str:  # fmt: skip
    """A worked answer. `steps` (e.g. "10*3=30") are used by the format "steps" only."""
    head, quote, number, form, end = _JSON
    listed = SEP.join(map(str, numbers))
    named = SEP.join(f"{c}{_COUNTS}{n}" for c, n in zip(cards, numbers, strict=True))
    return {
        "json": f"{head}{quote.join(cards)}{number}{listed}{form}{formula}{end}",
        "equation": formula,
        "values": f"{_VALUES}{listed}{_SO}{formula}",
        "steps": f"{_VALUES}{listed}{_TARGET_END}{SEP.join(steps)}{_SO}{formula}",
        "named": f"{named}{_SO}{formula}",
    }[answer_format]


def expert(deal: Deal, formula: str) -> str:
    """A correct answer, in the task's own format."""
    return answer(deal.cards, deal.numbers, formula)


def told(deal: Deal, text: str, verdict: Verdict) -> str:
    """What the verifier says of an answer: the message of its verdict."""
    return verdict.message


def claimed_values(text: str, answer_format: str) -> str:
    """The part of an answer that states the cards' values, in card order ("" in "equation")."""
    if answer_format == "json":
        return text.partition(_JSON[2])[2].partition("]")[0]
    if answer_format == "named":
        return SEP.join(part.rpartition(_COUNTS)[2] for part in text.partition(_SO)[0].split(SEP))
    return text.partition(_VALUES)[2].partition(".")[0]


# What was wrong, without how (`texts.feedback`).
REASONS = {
    "wrong_value": "your formula does not equal the target",
    "wrong_numbers": WRONG_NUMBERS[1].removeprefix("; "),
    "illegal_formula": ILLEGAL,
}
