"""A sample of the benchmark of hostile answers, and its recorded result."""

import json
import runpy
from types import SimpleNamespace

import pytest

from sftrl_lib.places import ROOT

hostile = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "hostile.py")))


def test_hostile_answers_get_a_verdict_within_the_bound():
    seconds, reasons = hostile.judge(4_000, seed=1)
    assert max(taken.max() for taken in seconds.values()) < hostile.BOUND
    assert sum(reasons.values()) == 8_000
    assert {"solved", "unreadable", "wrong_action", "illegal_formula"} <= {r for _, r in reasons}


@pytest.mark.parametrize("kind", ["mutated", "jumbled", "repeated", "long"])
def test_recorded_run_judged_a_million_answers_within_the_bound(kind):
    record = json.loads(hostile.OUT.read_text())
    rows = [row for row in record["rows"] if row["what"].endswith(kind)]
    assert record["answers"] == 10**6 and len(rows) == 2
    assert all(row["milliseconds"]["max"] < 1e3 * hostile.BOUND for row in rows)
