"""Hostile answers through both verifiers: none may raise, or take longer than a bound.

Run `python benchmarks/hostile.py` (three minutes on one idle core).
Writes data/benchmarks/hostile.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from sftrl_lib.tasks.general_points import GeneralPoints
from sftrl_lib.tasks.navigation import Navigation
from worlds.walks import KEYS

OUT = Path(__file__).parents[1] / "data" / "benchmarks" / "hostile.json"
BOUND = 0.25  # seconds of processor time an answer
LONG_EVERY, LONGEST = 1_000, 120_000  # one answer in so many is so long
PIECES = [
    *"{}[]()\"'\\:,=+-*/$%#;~^_.019aK \n\t\x00\x1b\x7f٣４½²×÷−“”‘’„\ud800\udfff\u202e\U0001f0a1",
    "{{", "}}", '{"', '":', '"]', '"}', "[[", "//", "/*", "**", "\\u", "\\ud800", "\\x", '\\"',
    "\\\\", "\\times", "\\frac{1}{2}", "\\left(", "$\\boxed{24}$", "```json\n", "<think>",
    "</think>", "9" * 40, "1e999", "-0", "0x1F", "1_000", "9**9**9", "1/0", "=24", "==", "null",
    "true", "NaN", "Infinity", '"cards":', '"number": [', '"formula": "', "'action': '",
    '"current observation": "', "formula",
    '{"cards": [1], "number": [1], "formula": "', "no intersection ", "intersection", "n't ",
    "__import__('os')", "{x: x}", '{"a":', '{"a":[', "{'a':", "{cards:", "‘cards’:", ",}", ",]",
]  # fmt: skip


def mutated(text: str, rng: random.Random) -> str:
    """A text with up to eight pieces in place of some of its characters."""
    for _ in range(rng.randint(1, 8)):
        start = rng.randrange(len(text) + 1)
        text = text[:start] + rng.choice(PIECES) + text[start + rng.choice((0, 0, 1, 4)) :]
    return text


def jumbled(length: int, rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=length))


def repeated(length: int, rng: random.Random) -> str:
    """A few pieces over and over; often before, or after, what has every key of an answer."""
    pattern = jumbled(rng.randint(1, 4), rng)
    text = (pattern * (length // len(pattern) + 1))[:length]
    keys = ",".join(f'"{key}":1' for key in ("cards", "number", "formula", *KEYS))
    return rng.choice((text, text + keys, text + "{" + keys + "}", "{" + keys + text))


def hostile(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(kind, text) of many hostile answers: the same for the same seed."""
    rng, cards, walk = random.Random(f"hostile/{seed}"), GeneralPoints(), Navigation()
    deal, step = cards.item("train", 0, 7), walk.item("train", 0, 7)
    golds = [cards.expert(deal, rng), walk.expert(step, rng)]
    for index in range(1, count + 1):
        if index % LONG_EVERY == 0:
            yield "long", repeated(rng.randint(LONGEST // 10, LONGEST), rng)
        elif index % 2:
            yield "mutated", mutated(rng.choice(golds), rng)
        elif index % 4:
            yield "jumbled", jumbled(rng.randint(0, 60), rng)
        else:
            yield "repeated", repeated(rng.randint(1, 400), rng)


def judge(count: int, seed: int = 0) -> tuple[dict[str, np.ndarray], Counter]:
    """Seconds of processor time for each kind's verdicts of both tasks, and how often each reason
    was given."""
    cards, walk = GeneralPoints(), Navigation()
    deal, step = cards.item("train", 0, 7), walk.item("train", 0, 7)
    seconds: dict[str, list[float]] = {}
    reasons = Counter()
    for kind, text in tqdm(hostile(count, seed), total=count, desc="hostile", mininterval=5):
        for task, item in ((cards, deal), (walk, step)):
            start = time.process_time()
            verdict = task.verify(item, text)
            seconds.setdefault(f"{task.name}, {kind}", []).append(time.process_time() - start)
            reasons[task.name, verdict.reason] += 1
            assert verdict.ok == (verdict.reason == "solved") and len(verdict.message) < 250
    return {kind: np.array(taken) for kind, taken in sorted(seconds.items())}, reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10**6)
    count = parser.parse_args().count
    seconds, reasons = judge(count)
    rows = []
    for kind, taken in seconds.items():
        p50, p99, p999 = (f"{1e3 * np.quantile(taken, q):.3f}" for q in (0.5, 0.99, 0.999))
        milliseconds = {"p50": float(p50), "p99": float(p99), "p999": float(p999)}
        milliseconds["max"] = round(1e3 * float(taken.max()), 3)
        rows.append({"what": kind, "answers": len(taken), "milliseconds": milliseconds})
    slowest = max(row["milliseconds"]["max"] for row in rows)
    record = {
        "python": platform.python_version(),
        "cpu": platform.machine(),
        "answers": count,
        "bound_milliseconds": 1e3 * BOUND,
        "slowest_milliseconds": slowest,
        "rows": rows,
        "verdicts": {f"{task}, {reason}": n for (task, reason), n in sorted(reasons.items())},
    }
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    if slowest > 1e3 * BOUND:
        sys.exit(f"an answer took {slowest:.0f} ms, more than {1e3 * BOUND:.0f}.")


if __name__ == "__main__":
    main()
