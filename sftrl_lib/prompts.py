"""Every text the model reads or is taught to write, in one place, the same for all tiers.

The tiny tier's tokenizer makes one token of each constant phrase (`PHRASES`), so that long natural
prompts cost it little; ranks, numbers and operators stay tokens of their own.
"""

from collections.abc import Sequence

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
_SOLVED = "correct"

PHRASES = (
    _TASK, _TARGET, _TARGET_END, _RULE_J, _RULE_Q, _RULE_K, _CARDS, _SEP, *FORMATS.values(), *_JSON,
    _VALUES, _SO, _COUNTS, *_RETRY, *_WRONG_VALUE, *_WRONG_NUMBERS, _ILLEGAL, _UNREADABLE,
)  # fmt: skip


def gp_prompt(deal, answer_format: str = "json") -> str:
    """The question of a deal: task, target, card rule, cards, and how to answer."""
    rule = deal.rule
    return (
        f"{_TASK}{_TARGET}{deal.target}{_TARGET_END}"
        f"{_RULE_J}{rule.j}{_RULE_Q}{rule.q}{_RULE_K}{rule.k}{_TARGET_END}"
        f"{_CARDS}{_SEP.join(deal.cards)}{_TARGET_END}{FORMATS[answer_format]}"
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
    """What the verifier says. Facts: wrong_value -> value, target; wrong_numbers -> numbers."""
    if reason == "solved":
        return _SOLVED
    if reason == "wrong_value":
        return f"{_WRONG_VALUE[0]}{facts['value']}{_WRONG_VALUE[1]}{facts['target']}"
    if reason == "wrong_numbers":
        numbers = _SEP.join(map(str, facts["numbers"]))
        return f"{_WRONG_NUMBERS[0]}{numbers}{_WRONG_NUMBERS[1]}"
    return {"illegal_formula": _ILLEGAL, "unreadable": _UNREADABLE}[reason]


def retry(message: str) -> str:
    """The next user turn after a failed try (paper, section 3.2: sequential revision)."""
    return f"{_RETRY[0]}{message}{_RETRY[1]}"
