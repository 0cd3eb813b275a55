"""What a GPU would take, as tables for the page of tiers: the record of benchmarks/forecast.py. No
GPU has been measured."""

from collections.abc import Mapping
from typing import Any

from . import costs

PARTS = ("training", "rollouts", "measuring")
Record = Mapping[str, Any]


def by_part(row: Record) -> dict[str, float]:
    """Hours of a row of the record, over all its runs."""
    return {part: sum(run[part] for run in row["hours"].values()) for part in PARTS}


def seed_rows(record: Record) -> list[tuple[str, ...]]:
    """Card and length of answers, edition, hours by part and in all, times today's."""
    rows = []
    for row in record["seed"]:
        tokens = record["answers"][row["answers"]]
        parts = (f"{hours:.1f}" for hours in by_part(row).values())
        times = f"{row['times_after']:.1f}"
        where = f"{row['gb']} GB, {tokens} tokens"
        rows.append((where, row["edition"], *parts, f"{row['total']:.1f}", times))
    return rows


def card_rows(record: Record) -> list[tuple[str, ...]]:
    """What to run, hours on each card (usual to longest answers), where it was validated."""
    rows = []
    for row in record["by_card"]:
        where, fits = costs.SETUPS[row["what"]][-1], row["hours"]
        spans = [
            "{:.1f} to {:.1f}".format(*fits[size]) if (size := str(card)) in fits else "–"
            for card in costs.CARDS
        ]
        rows.append((f"{row['what']} (`{row['preset']}`, {row['precision']})", *spans, where))
    return rows


def eight_rows(record: Record) -> list[tuple[str, ...]]:
    """Way, and for each length of answers hours by part, where it is one seed, and in all."""
    ways: dict[str, list[str]] = {}
    for row in record["eight"]:
        parts = by_part(row) if "hours" in row else {}
        said = " + ".join(f"{hours:.1f}" for hours in parts.values())
        total = f"{row['total']:.1f}"
        ways.setdefault(row["way"], []).append(f"{said} = {total}" if said else total)
    return [(way, *cells) for way, cells in ways.items()]


def tables(record: Record) -> dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """{name: (head, rows)} of the tables of the page."""
    tokens = [f"answers of {n} tokens" for n in record["answers"].values()]
    cards = [f"{size} GB ({costs.MODELS[size].name})" for size in costs.CARDS]
    return {
        "forecast": (("Card, answers", "edition", *PARTS, "hours", "times"), seed_rows(record)),
        "cards": (("What", *cards, "validated"), card_rows(record)),
        "eight": (("Way", *tokens), eight_rows(record)),
    }
