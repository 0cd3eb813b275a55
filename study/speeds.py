"""What the engine costs, as pictures of the recorded benchmarks: how many times faster it is than
what it is compared with, and how its price grows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from sftrl_lib.places import ROOT

from .plots import RC, Figure, finish, frame, save

RECORDS = ROOT / "data" / "benchmarks"
WORK = {
    "rollout": "rollout", "evaluation": "evaluation", "rl step": "RL step",
    "sft step": "SFT step",
}  # fmt: skip
ONE_TRY = "rl step of one try"  # what TRL and a loop by hand do, too
PEERS = {"before": "first edition", "by hand": "a loop by hand", "stock TRL": "TRL as it comes"}
COLORS = {"gp-l": "#117733", "virl-l": "#882255", "gp-vl": "#73B98A", "virl-vl": "#C98AA5"}
LINES = {
    "rollout": {"color": "#117733", "marker": "o"},
    "update": {"color": "#882255", "marker": "s", "linestyle": "-."},
}
VARIED = {
    "length": "tokens an answer", "tries": "tries", "group": "episodes a deal",
    "batch": "episodes a step", "parameters": "parameters",
}  # fmt: skip


def record(name: str) -> dict[str, Any]:
    """What a benchmark has recorded."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def times_faster(facts: Mapping[str, Any]) -> Figure:
    """Today's engine against the first edition's, by task and work; and an RL step of one try
    against TRL's GRPO as it comes and against a loop by hand, on the same deals."""
    found = {(row["task"], row["work"]): row["times_faster"] for row in facts["results"]}
    tasks = [task for task in COLORS if (task, "rollout") in found]
    peers = [task for task in tasks if (task, ONE_TRY) in found]
    with mpl.rc_context(RC):
        caption = "CPU seconds of the other over ours, one core, medians; 1: as fast"
        figure, (left, right) = frame("How many times faster", caption, [1.35, 1])
        said = []
        for axis, kinds, rows, title in (
            (left, WORK, tasks, "than the first edition"),
            (right, PEERS, peers, "an RL step of one try, than"),
        ):
            width = 0.8 / len(rows)
            for n, task in enumerate(rows):
                values = [
                    found[task, ONE_TRY][kind] if kinds is PEERS else found[task, kind]["before"]
                    for kind in kinds
                ]
                places = [i + (n - (len(rows) - 1) / 2) * width for i in range(len(values))]
                bars = axis.bar(places, values, width * 0.9, color=COLORS[task], label=task.upper())
                axis.bar_label(bars, fmt="{:.1f}", fontsize=7.5)
                numbers = zip(kinds.values(), values, strict=True)
                words = ", ".join(f"{kind} {value:.1f}" for kind, value in numbers)
                said.append(f"{title}, {task.upper()}: {words}.")
            axis.axhline(1, color="#404040", linewidth=0.8)
            axis.set_xticks(range(len(kinds)), kinds.values())
            axis.set(title=title, ylabel="times")
            axis.grid(axis="x", visible=False)
        return finish(figure, f"How many times faster today's engine is. {' '.join(said)}")


def growth(facts: Mapping[str, Any]) -> Figure:
    """The price of a rollout and of an update where one thing at a time is changed, both as
    multiples of the usual step's; dotted: in proportion."""
    rows, usual = facts["results"], facts["results"][0]
    with mpl.rc_context(RC):
        told = ", ".join(f"{_short(usual[name])} {what}" for name, what in VARIED.items())
        told = told.replace("1 tries", "1 try")
        caption = f"the usual step: {told}; random weights, which write answers of full length"
        figure, axes = frame("How the price of a step grows", caption, [0.66] * len(VARIED))
        said = [
            words
            for axis, name in zip(axes, VARIED, strict=True)
            for words in _grown(axis, name, _changed(rows, facts["usual"], name), usual)
        ]
        axes[0].set_ylabel("price (of the usual step: 1)")
        return finish(figure, f"How the price of a step grows. {' '.join(said)}")


def _changed(
    rows: Sequence[Mapping[str, Any]], usual: Mapping[str, int], name: str
) -> list[Mapping[str, Any]]:
    """The points at which nothing but `name` differs from the usual one, the smallest first."""
    setting = "width" if name == "parameters" else name
    held = {key: value for key, value in usual.items() if key != setting}
    own = [row for row in rows if all(row[key] == value for key, value in held.items())]
    return sorted(own, key=lambda row: row[name])


def _grown(
    axis: Axes, name: str, own: Sequence[Mapping[str, Any]], usual: Mapping[str, Any]
) -> list[str]:
    """Draw one panel; what there is to be said of it."""
    said, what = [], VARIED[name]
    for work, look in LINES.items():
        rows = [row for row in own if work in row]
        if len(rows) > 1:
            prices = [row[work] / usual[work] for row in rows]
            axis.plot([row[name] for row in rows], prices, label=work, **look)
            ratio = rows[-1][name] / usual[name]
            said.append(f"{ratio:.1f} times the {what}: {work} {prices[-1]:.1f} times the price.")
    ticks = [row[name] for row in own]
    if name != "group":  # which leaves the number of episodes as it is
        ends = [ticks[0], ticks[-1]]
        line = [end / usual[name] for end in ends]
        axis.plot(ends, line, color="#808080", linestyle=":", linewidth=1, label="in proportion")
    axis.set(xscale="log", yscale="log", xlabel=what, ylim=(0.1, 24))
    axis.set_xticks(ticks, [_short(tick) for tick in ticks])
    axis.set_yticks([0.25, 1, 4, 16], ["¼", "1", "4", "16"])
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_locator(NullLocator())
    return said


def _short(number: int) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e5 else f"{number:,}"


def save_all(folder: Path) -> list[Path]:
    """Both pictures."""
    return [
        save(times_faster(record("speed")), "speed", folder),
        save(growth(record("growth")), "growth", folder),
    ]
