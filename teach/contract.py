"""The contract of a task, held against a class that a reader wrote."""

import math
import random
import re
from typing import Any

from sftrl_lib.tasks.base import Task, Verdict

from .exercise import Case

SPLITS = ("train", "id_unseen", "rule_ood")
HOSTILE = ("", " ", "no idea", "\x00", "{" * 500, '{"answer": ' + "9" * 3000 + "}", "٣" * 40, "\\")


def play(kind: Any, part: Any) -> str | None:
    """What is wrong with a class of tasks in one respect, "" if nothing; None where nothing is
    written yet."""
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        return "your answer is no subclass of Task"
    kind.name = getattr(kind, "name", "mine")  # what registering gives
    task = kind()
    item = task.item("train", 0, 0)
    if item is None or item is ... or task.prompt(item) is None:
        return None
    return part(task)


def _items(task: Task, split: str = "train", seed: int = 0, count: int = 20) -> list[Any]:
    return [task.item(split, seed, index) for index in range(count)]


def _experts(task: Task, items: list[Any]) -> list[str]:
    return [task.expert(item, random.Random(i)) for i, item in enumerate(items)]


def _fault_of_verdict(verdict: Any) -> str:
    if not isinstance(verdict, Verdict):
        return f"verify returned a {type(verdict).__name__} and not a Verdict"
    if verdict.ok != (verdict.reason == "solved"):
        return f'ok is {verdict.ok} with the reason "{verdict.reason}"'
    if not math.isfinite(verdict.reward) or not verdict.message or "\n" in verdict.message:
        return f"a verdict has the reward {verdict.reward} and the message {verdict.message!r}"
    return ""


def same_items(task: Task) -> str:
    """Items are the same for the same split, seed and index, in any order."""
    for split in SPLITS:
        if _items(task, split) != _items(type(task)(), split):
            return f"the split {split} deals other items when it is asked again"
        backwards = [task.item(split, 0, index) for index in reversed(range(20))]
        if _items(task, split) != backwards[::-1]:
            return f"the items of {split} depend on the order in which they are asked for"
    return ""


def many_items(task: Task) -> str:
    """Seeds and indices give different items."""
    distinct = {repr(item) for seed in (0, 1) for item in _items(task, seed=seed)}
    return "" if len(distinct) > 20 else f"40 deals of two seeds hold {len(distinct)} items"


def stated_rule(task: Task) -> str:
    """A prompt is text, and says which rule holds."""
    for split in SPLITS:
        if not all(isinstance(task.prompt(item), str) for item in _items(task, split)):
            return f"a prompt of {split} is no text"
    # Apart from what is dealt: the words that all prompts share, or the shape around the numbers.
    asked = {s: [task.prompt(item) for item in _items(task, s)] for s in ("train", "rule_ood")}
    shared = [set.intersection(*(set(text.split()) for text in texts)) for texts in asked.values()]
    shapes = [{re.sub("[0-9]+", "#", text) for text in texts} for texts in asked.values()]
    if shared[0] == shared[1] and shapes[0] & shapes[1]:
        return "the questions of rule_ood state no other rule than those of train"
    return ""


def solved_by_experts(task: Task) -> str:
    """The verifier accepts every expert's answer."""
    for split in SPLITS:
        items = _items(task, split)
        for item, text in zip(items, _experts(task, items), strict=True):
            verdict = task.verify(item, text)
            if fault := _fault_of_verdict(verdict):
                return fault
            if not verdict.ok:
                return f"the expert's answer {text!r} is not solved: {verdict.message}"
    return ""


def near_misses(task: Task) -> str:
    """The verifier refuses the answer to another item."""
    items = _items(task)
    texts = _experts(task, items)
    swapped = zip(items, texts[1:] + texts[:1], strict=True)
    if all(task.verify(item, text).ok for item, text in swapped):
        return "the expert answers to other items are solved, too"
    cut = [text[: len(text) // 2] for text in texts]
    if any(task.verify(item, text).ok for item, text in zip(items, cut, strict=True)):
        return "half an answer is solved"
    best = task.verify(items[0], texts[0]).reward
    if task.verify(items[0], cut[0]).reward >= best:
        return "half an answer earns as much as a whole one"
    return ""


def any_text(task: Task) -> str:
    """Any text gets a verdict, and none an exception."""
    for text in HOSTILE:
        verdict = task.verify(_items(task, count=1)[0], text)
        if fault := _fault_of_verdict(verdict):
            return fault
        if verdict.ok:
            return f"the text {text[:20]!r} is solved"
    return ""


CASES = [
    Case("the same seed gives the same item", (same_items,), "Draw from a stream of its own."),
    Case("items differ", (many_items,), "The seed and the index must both matter."),
    Case("the rule is stated", (stated_rule,), "Another rule must be another question."),
    Case("expert answers are solved", (solved_by_experts,)),
    Case("wrong answers are not", (near_misses,)),
    Case("any text gets a verdict", (any_text,), "A model may write anything."),
]  # fmt: skip
