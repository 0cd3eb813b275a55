"""Every plot, drawn from the results table and nothing else: no figure trains or holds a number.

Each function returns a matplotlib Figure whose `alt` says in words what it shows. Blue circles are
RL, orange squares SFT, grey diamonds the init; thin lines are seeds, thick ones their mean; dashed
lines with open markers are this session's runs; hatched or hollow marks are the paper's numbers.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from itertools import cycle, pairwise, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from PIL import Image

from . import stats
from .errors import SftrlError
from .places import HOME, writable
from .runs import REBUILD, write_atomic
from .tasks.cities import City
from .tasks.drawing import sign
from .tasks.navigation import Position
from .tasks.routes import Route

FOLDER = HOME / "figures"
# Okabe and Ito's palette: colour-blind readers can tell it apart; marker and line say it again.
STYLE = {
    "init": dict(color="#595959", marker="D", linestyle=":"),
    "sft": dict(color="#D55E00", marker="s", linestyle="-."),
    "rl": dict(color="#0072B2", marker="o", linestyle="-"),
}
_MORE = [
    dict(color="#009E73", marker="^", linestyle="-"),
    dict(color="#CC79A7", marker="v", linestyle="--"),
    dict(color="#B58900", marker="P", linestyle="-."),
    dict(color="#56B4E9", marker="X", linestyle=":"),
]
NAMES = {"init": "init", "sft": "SFT", "rl": "RL"}
SPLITS = {
    "rule_ood": "rule OOD", "id_unseen": "ID, unseen", "id_seen": "ID, seen in training",
    "visual_ood": "visual OOD", "rule_paired": "rule OOD, paired hands",
    "id_paired": "ID, paired hands",
    "rule_five": "rule: faces count 5", "rule_random": "held-out random rules",
}  # fmt: skip
METRICS = {
    "success": "success (%)", "value_reading": "face cards read right (%)",
    "legal": "legal formulas (%)", "numbers_right": "right numbers used (%)",
    "per_step": "per-step accuracy (%)", "per_step_full": "right first tries, all positions (%)",
    "turn_accuracy": "turns right (%)", "turn_found": "due turn found, in either words (%)",
    "words_right": "turns in the words asked for (%)",
    "kl_to_init": "KL to the init (nats an answer)",
    "recognition": "observations right (%)", "hand_read": "whole hands seen right (%)",
    "landmark_seen": "landmarks seen right (%)", "intersection_seen": "crossings seen right (%)",
}  # fmt: skip
X_AXES = {
    "compute": "training compute, init included (FLOPs)", "step": "optimizer step",
    "id_unseen": "ID, unseen (%)", "kl_to_init": METRICS["kl_to_init"],
}  # fmt: skip
_BOTH = ("rule_ood", "id_unseen")
# The mechanism of each task: what shows whether the rule is read, and whether it is followed.
MECHANISM = {
    "gp-l": (
        "are J, Q and K read as the rule says, and used so?",
        [*product(("rule_ood", "id_unseen"), ["value_reading"]), ("rule_ood", "numbers_right")],
    ),
    "virl-l": (
        "is the due turn found, and said in the words asked for?",
        [*product(["rule_ood"], ("turn_found", "words_right", "turn_accuracy"))],
    ),
    "gp-vl": (
        "are the cards seen, and then read as the rule says?",
        [*product(("rule_ood", "visual_ood"), ["recognition"]), ("rule_ood", "value_reading")],
    ),
    "virl-vl": (
        "is the street seen, and the due turn said in the words asked for?",
        [*product(["rule_ood"], ("landmark_seen", "intersection_seen", "words_right"))],
    ),
}
NAMED = {"success": "success", "per_step": "per-step accuracy"}
HEAD = "headline"  # stands for the metric that a task's claims rest on
_SEEDS = "thin: one seed, thick: mean"
_RC = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E8E8E8", "axes.axisbelow": True,
    "legend.frameon": False, "lines.markersize": 5.5, "hatch.linewidth": 0.7,
    "svg.hashsalt": "sftrl", "figure.dpi": 120,
}  # fmt: skip

TIER = "tiny"  # whose rows are drawn unless a call says otherwise: a notebook's `setup` sets it
ALL: dict[str, Callable[..., Figure]] = {}  # the book's figures by name
# What is not drawn: no such runs are recorded, or nothing is to be recognised.
UNTESTED = {(task, "training_tries") for task in ("virl-l", "gp-vl", "virl-vl")}
UNTESTED |= {(task, "recognition_and_success") for task in ("gp-l", "virl-l")}


def _figure(*needed: tuple[str, str]):
    """Make draw(data) a figure(results, live=None, task, preset), listed in ALL. `live` holds the
    rows of this session's runs; without a row for each needed (split, metric): SftrlError."""

    def register(draw: Callable[[Data], Figure]) -> Callable[..., Figure]:
        def figure(
            results: pd.DataFrame, live: pd.DataFrame | None = None, task="gp-l", preset=""
        ) -> Figure:
            data = Data(results, live, task, preset)
            data.need(needed)
            with mpl.rc_context(_RC):
                return draw(data)

        figure.__name__, figure.__doc__ = draw.__name__, draw.__doc__
        ALL[draw.__name__] = figure
        return figure

    return register


def how(task: str, preset: str) -> str:
    """The command that makes the runs of a task on a tier."""
    own = f"`python -m sftrl_lib init --preset {preset} --task {task}`, then the same with sft, rl"
    return f"`{REBUILD}`" if preset == "tiny" else own


class Data:
    """The rows of one task and tier: the recorded grid (where none is: yours), this session's runs,
    the paper's."""

    def __init__(self, results: pd.DataFrame, live: pd.DataFrame | None, task: str, preset: str):
        results, preset = results[results.task == task], preset or TIER
        self.how = how(task, preset)
        self.task, self.head = task, stats.HEADLINE.get(task, "success")
        self.tier = f"{task.upper()}, {preset} tier"
        self.paper = results[results.source == "paper"]
        tier = results[results.preset == preset]
        ours = tier[tier.source == "ours"]
        self.ours = ours[~ours.seed.isin(stats.DEVELOPMENT_SEEDS)]
        self.yours = tier[tier.source == "yours"]
        self.grid = stats.main_grid(tier)
        self.init = self.grid[self.grid.method == "init"]
        self.own = "yours" in set(self.grid.source)
        self.whose = "yours" if live is None else "this session"
        beside = self.yours[(self.yours.condition == "{}") & (not self.own)]
        self.live = beside if live is None else live
        self.live = self.live[(self.live.task == task) & (self.live.preset == preset)]
        self.drawn = _stack(self.grid, self.live)
        self.tries = stats.headline_tries(self.drawn)

    def need(self, wanted: Sequence[tuple[str, str]]) -> None:
        arms = self.drawn[self.drawn.method.isin(("sft", "rl"))]
        here = set(zip(arms.split, arms.metric, strict=True))
        wanted = [(split, self.head if metric == HEAD else metric) for split, metric in wanted]
        missing = [f"{metric} on {split}" for split, metric in wanted if {(split, metric)} - here]
        if missing:
            raise SftrlError(
                f"there are no results for {', '.join(missing)} ({self.tier}), and a figure draws "
                f"measured rows only; make them with {self.how}, or train in a notebook and pass "
                "its rows as `live`."
            )

    def lines(self, split: str, metric: str, x: str) -> Iterator[tuple[str, pd.DataFrame, str]]:
        """(method, points, whose, if not the book's) of every arm; a live run starts at its seed's
        init."""
        for method in ("sft", "rl"):
            yield method, _points(self.grid, method, split, metric, x, self.tries), ""
            for _, run in self.live[self.live.method == method].groupby("run_id"):
                rows = _stack(self.init, run)
                yield method, _points(rows, method, split, metric, x, self.tries), self.whose

    def ends(self, split: str, metric: str) -> dict[str, pd.DataFrame]:
        """The last point of init and arms, a row a seed."""
        tries = stats.tries_of(metric, self.tries)
        ends = {m: stats.last(self.grid, m, split, metric, tries) for m in ("init", "rl", "sft")}
        return {m: end for m, end in ends.items() if len(end)}

    def words(self, metric: str) -> str:
        """Where the lines end, for readers of the alt text."""
        said = []
        for split in (*_BOTH, *["visual_ood"] * self.task.endswith("-vl")):
            ends = self.ends(split, metric)
            parts = [f"{NAMES[m]} {100 * end.value.mean():.1f}%" for m, end in ends.items()]
            said.append(f"{self.where(split)}: {', '.join(parts) or 'nothing recorded'}")
        return f"At the end of training, means over seeds: {'; '.join(said)}."

    def where(self, split: str) -> str:
        looks = "other cities" if "virl" in self.task else "the other colour"
        return looks if split == "visual_ood" else SPLITS[split]

    @property
    def items(self) -> str:
        """What an evaluation counts."""
        return "routes" if "virl" in self.task else "episodes"

    def printed(self, split: str) -> pd.DataFrame:
        """The paper's rows of its main table on a split, by method: init, RL, SFT."""
        rows = self.paper[(self.paper.split == split) & (self.paper.condition == "{}")]
        rows = rows[rows.metric.isin(NAMED)].set_index("method")
        return rows.reindex(["init", "rl", "sft"]).dropna(subset="value")

    def label(self, metric: str) -> str:
        """What an axis of the metric says."""
        if metric == "recognition" and "virl" not in self.task:
            return "cards seen right (%)"
        return METRICS[metric]

    def caption(self, *more: str, tries: int = 0, ends: bool = False) -> str:
        """Seeds, episodes (of the last points only if `ends`), tries, and `more`."""
        arms = self.grid[self.grid.method.isin(("sft", "rl")) & self.grid.split.isin(_BOTH)]
        arms = arms[arms.metric == "success"]
        arms = arms[arms.step == arms.groupby("run_id").step.transform("max")] if ends else arms
        sizes = " to ".join(f"{n:,}" for n in sorted({arms.n.min(), arms.n.max()}) if len(arms))
        n = f"{sizes} {self.items} a point" if sizes else ""
        count = arms.seed.nunique()
        seeds = f"{count} seed{'s' * (count > 1)}{' of yours' * self.own}"
        seeds = seeds if sizes else "this session's runs only"
        tries = tries or self.tries
        within = f"within {tries} tries" if tries > 1 else "at the first try"
        return "; ".join(part for part in (seeds, n, within, *more) if part)


def _stack(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([t for t in tables if len(t)] or [tables[0]])


def _points(
    table: pd.DataFrame, method: str, split: str, metric: str, x: str, tries: int
) -> pd.DataFrame:
    """An arm's curve with columns x (one of X_AXES) and y, shares in percent."""
    rows = stats.curve(table, method, split, metric, stats.tries_of(metric, tries))
    rows["y"] = rows.value * (1 if metric == "kl_to_init" else 100)
    if x not in ("id_unseen", "kl_to_init"):
        return rows.assign(x=rows[x])
    head = {} if x != "id_unseen" else {stats.HEADLINE.get(task, "success") for task in table.task}
    measured = next(iter(head), x)
    across = _points(table, method, "id_unseen", measured, "step", tries)[["seed", "step", "y"]]
    return rows.merge(across.rename(columns={"y": "x"}), on=["seed", "step"])


def _frame(
    title: str, caption: str, widths: list[float], height: float = 4
) -> tuple[Figure, np.ndarray]:
    """A row of panels under a title; the caption takes the title's second, empty line."""
    figure = Figure(figsize=(0.4 + 3.3 * sum(widths), height), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=11, fontweight="bold")
    top = round(1 - 0.28 / height, 4)
    figure.text(0.01, top, caption, va="top", fontsize=8.5, color="#404040")
    return figure, axes


def _end(figure: Figure, alt: str) -> Figure:
    """One legend for all panels, and the alt text; places that do not depend on the process."""
    handles = {}
    for axis in figure.axes:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles),
            handlelength=2.6,
        )  # fmt: skip
    figure.draw_without_rendering()  # the solver's last digits differ between processes
    figure.set_layout_engine("none")
    for axis in figure.axes:
        axis.set_position([round(v, 6) for v in axis.get_position().bounds])
    figure.alt = alt
    return figure


def _seeds_and_mean(axis: Axes, rows: pd.DataFrame, label: str, style: dict) -> None:
    """Every seed (columns seed, step, x, y) thin, their mean over shared steps thick."""
    for _, seed in rows.groupby("seed"):
        axis.plot(seed.x, seed.y, alpha=0.4, linewidth=0.8, **style | {"marker": ""})
    by_step = rows.groupby("step")[["x", "y"]]
    mean = by_step.mean()[by_step.size() == rows.seed.nunique()]
    axis.plot(mean.x, mean.y, label=label, linewidth=2.2, **style)


def _draw(axis: Axes, method: str, rows: pd.DataFrame, live: str) -> None:
    """An arm in its own style; a live run dashed, with open markers."""
    if live and len(rows):
        style = STYLE[method] | dict(linestyle="--", markerfacecolor="white", zorder=4)
        axis.plot(rows.x, rows.y, label=f"{NAMES[method]}, {live}", linewidth=1.6, **style)
    elif len(rows):
        _seeds_and_mean(axis, rows, NAMES[method], STYLE[method])


def _against_compute(axis: Axes, data: Data, split: str, metric: str) -> None:
    power = int(np.log10(max(1.0, data.drawn.compute.max())))
    for method, rows, live in data.lines(split, metric, "compute"):
        _draw(axis, method, rows.assign(x=rows.x / 10**power), live)
    label = f"training compute, init included ($10^{{{power}}}$ FLOPs)"
    axis.set(title=data.where(split), xlabel=label, ylabel=data.label(metric), ylim=(0, _top(axis)))
    axis.set_xlim(left=0)


def _top(axis: Axes, room: float = 1.05) -> float:
    return axis.get_ylim()[1] * room


def _bar(
    axis: Axes, place: int, method: str, estimate: tuple, change: str, paper=False, highest=0.0
) -> None:  # fmt: skip
    """A bar in percent with its interval; above it, and above the `highest` seed, the change."""
    value, lo, hi = (100 * v for v in estimate)
    color = STYLE[method]["color"]
    look = dict(color="white", hatch="////") if paper else dict(color=color, alpha=0.55)
    error = {"yerr": [[value - max(lo, 0)], [hi - value]], "capsize": 3} if hi > lo else {}
    axis.bar(place, value, 0.65, **error, **{"edgecolor": color, **look})
    where = dict(xytext=(0, 4), textcoords="offset points", ha="center")
    axis.annotate(change, (place, max(hi, 100 * highest)), fontsize=7.5, **where)


def _bar_axis(axis: Axes, title: str, methods: list[str], metric: str) -> None:
    axis.set_xticks(range(len(methods)), [NAMES[m] for m in methods])
    axis.set(title=title, ylabel=METRICS[metric], ylim=(0, _top(axis, 1.2)))
    axis.grid(axis="x", visible=False)


def _paper_bars(axis: Axes, data: Data, split: str) -> str:
    """The paper's init, RL and SFT, with Wilson intervals where it prints counts; its words for the
    alt text."""
    rows = data.printed(split)
    for place, (method, r) in enumerate(rows.iterrows()):
        change = "" if method == "init" else f"{100 * (r.value - rows.value['init']):+.1f}"
        counted = pd.notna(r.successes)
        _, lo, hi = stats.wilson(r.successes, r.n) if counted else [r.value] * 3
        _bar(axis, place, method, (r.value, lo, hi), change, paper=True)
    _bar_axis(axis, f"paper: {data.where(split)}", list(rows.index), rows.metric.iloc[0])
    axis.set_xlabel(f"{rows.n.max()} {data.items}")
    said = ", ".join(f"{NAMES[m]} {100 * v:.1f}%" for m, v in rows.value.items())
    return f"Hatched bars, the paper's 11B model, {data.where(split)}: {said}."


@_figure(("rule_ood", HEAD), ("id_unseen", HEAD))
def success_against_compute(data: Data) -> Figure:
    """OOD and ID success along training, for both arms (the paper's Fig. 5, and 7 with pictures);
    in navigation, as in the paper, success is per-step accuracy."""
    title = f"{data.tier}: {NAMED[data.head]} against training compute"
    splits = [*_BOTH, *["visual_ood"] * data.task.endswith("-vl")]
    papers = [s for s in splits if len(data.printed(s))]
    widths = [1] * len(splits) + [0.75 if len(papers) < 2 else 0.6] * len(papers)
    figure, axes = _frame(title, data.caption(_SEEDS), widths)
    for axis, split in zip(axes, splits, strict=False):
        _against_compute(axis, data, split, data.head)
    said = [_paper_bars(axis, data, s) for axis, s in zip(axes[len(splits) :], papers, strict=True)]
    return _end(figure, f"{title}. {data.words(data.head)} {' '.join(said)}")


@_figure(("rule_ood", HEAD), ("id_unseen", HEAD), ("id_unseen", "kl_to_init"))
def ood_against_id_and_kl(data: Data) -> Figure:
    """What an arm pays out of distribution for its gain in distribution, and for the distance it
    moved. At equal x the learning rate is out of the comparison."""
    title = f"{data.tier}: OOD against ID and against KL"
    figure, axes = _frame(title, data.caption(_SEEDS), [1.2, 1.2])
    name, unit = NAMED[data.head], METRICS[data.head]
    panels = {"id_unseen": f"for the same ID {name}", "kl_to_init": "for the same distance"}
    for axis, (x, same) in zip(axes, panels.items(), strict=True):
        for method, rows, live in data.lines("rule_ood", data.head, x):
            _draw(axis, method, rows, live)
        across = f"ID, unseen: {unit}" if x == "id_unseen" else X_AXES[x]
        axis.set(title=same, xlabel=across, ylabel=f"rule OOD: {unit}", ylim=(0, _top(axis)))
    return _end(figure, f"{title}; one path an arm, from the init. {data.words(data.head)}")


@_figure(("rule_ood", HEAD), ("id_unseen", HEAD))
def changes_from_init(data: Data) -> Figure:
    """Init, RL and SFT at the end of training, with the changes (the paper's Fig. 6): on what was
    seen in training, on unseen items, under the new rule, and in other cities."""
    title = f"{data.tier}: what RL and SFT change"
    among = ("id_seen", "id_unseen", "rule_ood", "visual_ood")
    splits = [s for s in among if data.ends(s, data.head)]
    sizes = {int(end.n.min()) for end in data.ends("id_seen", "success").values()}
    said = [f"{SPLITS['id_seen']}: {n}" for n in sizes if "id_seen" in splits]
    several = data.grid.seed.nunique() > 1
    over = "mean with 95% t interval over seeds; points: seeds"
    said.append(f"bars: {over if several else '95% interval of the episodes'}")
    papers = [s for s in ("rule_ood", "visual_ood") if len(data.printed(s))]
    panels = len(splits) + len(papers)
    widths = [0.72 if panels < 6 else 0.62] * panels
    figure, axes = _frame(title, data.caption(*said, ends=True), widths)
    said = [_our_bars(axis, data, split) for axis, split in zip(axes, splits, strict=False)]
    said += [
        _paper_bars(axis, data, s) for axis, s in zip(axes[len(splits) :], papers, strict=True)
    ]
    return _end(figure, f"{title}. {' '.join(said)}")


def _our_bars(axis: Axes, data: Data, split: str) -> str:
    ends, said = data.ends(split, data.head), []
    for place, (method, end) in enumerate(ends.items()):
        several = len(end) > 1
        one = end[["value", "lo", "hi"]].iloc[0]
        estimate = stats.seed_mean(list(end.value)) if several else stats.Estimate(*one)
        change = ""
        if method != "init" and "init" in ends:
            by = stats.paired_change(dict(ends["init"].value), dict(end.value))
            interval = f"\n[{100 * by.lo:+.1f},\n{100 * by.hi:+.1f}]" if by.seeds > 1 else ""
            change = f"{100 * by.mean:+.1f}{interval}"
        _bar(axis, place, method, estimate, change, highest=end.value.max())
        spread = place - np.linspace(0.1, 0.28, len(end)) * several  # beside the interval
        small = STYLE[method] | dict(linestyle="", markersize=3.5, markeredgecolor="white")
        axis.plot(spread, 100 * end.value, **small)
        words = f"{NAMES[method]} {100 * estimate.value:.1f}% {change}"
        said.append(words.strip().replace("\n", " "))
    for method, run in data.live[data.live.method.isin(list(ends))].groupby("method"):
        end = stats.last(run, method, split, data.head, data.tries)
        marks = STYLE[method] | dict(linestyle="", markerfacecolor="white")
        places = [list(ends).index(method) + 0.42] * len(end)
        axis.plot(places, 100 * end.value, label=f"{NAMES[method]}, {data.whose}", **marks)
    _bar_axis(axis, data.where(split), list(ends), data.head)
    return f"{data.where(split)}, with change from init in points: {', '.join(said)}."


@_figure()
def mechanism(data: Data) -> Figure:
    """What the stated rule still means to a model. Cards: are J, Q and K read as it says, and is
    what was read used? Navigation: is the due sentence found, and said in the words asked for?"""
    question, panels = MECHANISM[data.task]
    data.need(panels)
    title = f"{data.tier}: {question}"
    figure, axes = _frame(title, data.caption(_SEEDS, tries=1), [1, 1, 1])
    for axis, (split, metric) in zip(axes, panels, strict=True):
        _against_compute(axis, data, split, metric)
        axis.set(ylim=(0, 102))
    said = [f"{data.label(m)}: {data.words(m)}" for m in dict.fromkeys(m for _, m in panels)]
    return _end(figure, f"{title} {' '.join(said)}")


@_figure(("rule_ood", HEAD), ("id_unseen", HEAD))
def success_by_tries(data: Data) -> Figure:
    """Success within 1, 2, ... tries at the end of training: what the verifier's messages buy."""
    title = f"{data.tier}: {NAMED[data.head]} by number of tries"
    figure, axes = _frame(title, data.caption(_SEEDS, ends=True), [1.2, 1.2])
    arms = data.live[data.live.method.isin(("sft", "rl"))].groupby("run_id")
    live = [(run.method.iloc[0], run, data.whose) for _, run in arms]
    for axis, split in zip(axes, _BOTH, strict=True):
        for method, table, whose in [*((m, data.grid, "") for m in NAMES), *live]:
            counts = range(1, data.tries + 1)
            ends = [stats.last(table, method, split, data.head, t).assign(step=t) for t in counts]
            rows = pd.concat(ends).reset_index()
            _draw(axis, method, rows.assign(x=rows.step, y=100 * rows.value), whose)
        axis.set(title=data.where(split), xlabel="tries allowed", ylabel=METRICS[data.head])
        axis.set(xticks=list(counts), ylim=(0, _top(axis)))
    return _end(figure, f"{title}, at the end of training. {data.words(data.head)}")


@_figure(("rule_ood", "recognition"), ("visual_ood", "recognition"))
def recognition_and_success(data: Data) -> Figure:
    """Success against what was seen right, over the checkpoints of both arms (the paper's Fig. 8):
    does an arm that gains gain by its eyes?"""
    title = f"{data.tier}: {NAMED[data.head]} against recognition"
    said = "seen right in first answers; points: checkpoints, from the init (black); a line a seed"
    splits = ("id_unseen", "rule_ood", "visual_ood")
    figure, axes = _frame(title, data.caption(said), [1.1] * 3)
    for axis, split in zip(axes, splits, strict=True):
        for method, rows, live in data.lines(split, data.head, "step"):
            seen = _points(data.drawn, method, split, "recognition", "step", 1)
            both = rows.merge(seen[["seed", "step", "y"]], on=["seed", "step"], suffixes=("", "_"))
            for _, seed in both.assign(x=both.y_).groupby("seed"):
                look = STYLE[method] | ({"markerfacecolor": "white"} if live else {})
                axis.plot(seed.x, seed.y, label=NAMES[method], alpha=0.6, linewidth=0.8, **look)
                axis.plot(seed.x[:1], seed.y[:1], "ko", zorder=5)
        across = data.label("recognition")
        axis.set(title=data.where(split), xlabel=across, ylabel=METRICS[data.head])
        axis.margins(y=0.1)
    return _end(figure, f"{title}. {data.words(data.head)} Seen right: {data.words('recognition')}")


@_figure(("rule_ood", HEAD))
def training_tries(data: Data) -> Figure:
    """OOD growth by the number of verification iterations in training (the paper's Fig. 10)."""
    arms = stats.tries_ablation(_stack(data.ours, data.yours))
    tries = stats.headline_tries(_stack(arms, data.init))
    start = stats.last(data.init, "init", "rule_ood", "success", tries).value
    title = f"{data.tier}: OOD growth by verification iterations in training"
    said = "points: seeds; bars: 95% t interval of the mean"
    seeds = sorted(set(arms.groupby("train_tries").seed.nunique()))
    count = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}{' of yours' * data.own}"
    caption = f"{count}; within {tries} tries; {said}"
    figure, (ours, theirs) = _frame(title, caption, [1.2, 1])
    color, said = STYLE["rl"]["color"], []
    for k, rows in arms.groupby("train_tries"):
        change = (stats.last(rows, "rl", "rule_ood", "success", tries).value - start).dropna() * 100
        mean, lo, hi = stats.seed_mean(list(change))
        ours.plot(k + 0 * change, change, ".", color=color, alpha=0.5)
        ours.errorbar(k, mean, [[mean - lo], [hi - mean]], fmt="o", capsize=3, color=color)
        said.append(f"{_tries(k)} {mean:+.1f}")
    paper = data.paper[data.paper.metric == "success_change"].sort_values("train_tries")
    theirs.plot(paper.train_tries, 100 * paper.value, "o--", mfc="white", color=color)
    for axis, name, ticks in ((ours, "ours", arms), (theirs, "paper, 11B: no interval", paper)):
        axis.axhline(0, color="#595959", linewidth=0.8)
        axis.set(title=name, xlabel="tries in training", ylabel="rule OOD, change (points)")
        axis.set_xticks(sorted({int(k) for k in ticks.train_tries}))
    printed = [f"{_tries(r.train_tries)} {100 * r.value:+.2f}" for r in paper.itertuples()]
    return _end(figure, f"{title}, points. Ours: {', '.join(said)}. Paper: {', '.join(printed)}.")


def _tries(count: int) -> str:
    return f"{count} try" if count == 1 else f"{count} tries"


def gallery(pictures: Sequence[tuple[Image.Image, str]], title: str, columns: int = 3) -> Figure:
    """Pictures with what is to be said of each below it, in rows; every pixel is seen."""
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(2.4 * columns, 0.5 + 2.7 * rows), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (picture, said) in zip(axes, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(said, loc="center", y=-0.05, va="top", fontsize=8, wrap=True)
        return _end(figure, f"{title}: {'; '.join(said for _, said in pictures)}.")


def confusion(pairs: Sequence[tuple[str, str | None]], names: Sequence[str], title: str) -> Figure:
    """How often what is there (rows) was read as what (columns, the last: none of them), from
    (there, read) pairs; in percent of a row."""
    columns = [*names, "none"]
    counts = np.zeros((len(names), len(columns)))
    for there, read in pairs:
        counts[names.index(there), columns.index(read if read in names else "none")] += 1
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with mpl.rc_context(_RC | {"axes.grid": False}):
        figure, (axis,) = _frame(title, f"percent of each row; {len(pairs):,} readings", [1.7], 5)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (y, x), share in np.ndenumerate(shares):
            if share >= 0.5:
                color = "white" if share > 50 else "black"
                axis.text(x, y, f"{share:.0f}", ha="center", va="center", color=color, fontsize=7.5)
        axis.set(xlabel="read as", ylabel="there")
        turned = dict(rotation=30, ha="right") if max(map(len, columns)) > 4 else {}
        axis.set_xticks(range(len(columns)), columns, **turned)
        axis.set_yticks(range(len(names)), names)
        wrong = [(shares[y, x], names[y], columns[x]) for y, x in np.ndindex(shares.shape)
                 if names[y] != columns[x] and shares[y, x]]  # fmt: skip
        most = ", ".join(f"{a} as {b} {s:.0f}%" for s, a, b in sorted(wrong, reverse=True)[:3])
        right = np.trace(counts) / max(counts.sum(), 1)
        return _end(figure, f"{title}: {right:.0%} read right; most often wrong: {most or 'none'}.")


def memory(plans: Mapping[str, Sequence[Any]], cards: Sequence[float] = (24, 80)) -> Figure:
    """What stages take of memory, piece by piece, in GB; `plans` maps a name to the `plan.Plan`s of
    its stages. Lines: what cards have."""
    rows = [(f"{name}: {p.stage}", p) for name, group in plans.items() for p in group]
    with mpl.rc_context(_RC):
        caption = "planned, not measured; dashed: what a card has"
        figure, (axis,) = _frame(
            "Memory at the peak of a stage", caption, [2.6], 1.4 + 0.4 * len(rows)
        )
        said, colors = [], {}
        for place, (name, made) in enumerate(reversed(rows)):
            sums = {phase: sum(parts.values()) for phase, parts in made.phases.items()}
            busy = max((p for p in sums if p != "stays"), key=sums.get)
            left = 0.0
            pieces = made.phases["stays"] | {busy: sums[busy]}
            pieces["the rest"] = made.peak - sum(pieces.values())
            for piece, size in pieces.items():
                color = colors.setdefault(piece, f"C{len(colors)}")
                label = piece if piece not in axis.get_legend_handles_labels()[1] else ""
                axis.barh(place, size / 2**30, 0.6, left, color=color, label=label)
                left += size / 2**30
            look = dict(va="center", fontsize=8, textcoords="offset points", xytext=(4, 0))
            back = dict(facecolor="white", edgecolor="none", pad=1)
            axis.annotate(f"{left:.1f}", (left, place), bbox=back, **look)
            said.append(f"{name} {left:.1f} GB, of which weights {pieces['weights'] / 2**30:.1f}")
        for card in cards:
            axis.axvline(card, color="#202020", linestyle="--", linewidth=0.8)
        axis.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
        axis.set(xlabel="GB", xlim=(0, axis.get_xlim()[1] * 1.06))
        axis.grid(axis="y", visible=False)
        return _end(figure, f"Memory at the peak of a stage, planned: {'; '.join(said[::-1])}.")


def training_log(logs: Mapping[str, pd.DataFrame], columns: tuple[str, ...]) -> Figure:
    """Logged columns against the step, raw; `logs` maps a label to `Run.metrics()`."""
    missing = sorted({c for c in (*columns, "step") for log in logs.values() if c not in log})
    if missing or not logs:
        known = sorted({c for log in logs.values() for c in log})
        raise SftrlError(
            f"the logs have no column {', '.join(missing)}; choose `columns` among "
            f"{', '.join(known) or 'those of a run that has logged a step'}."
        )
    with mpl.rc_context(_RC):
        figure, axes = _frame("Training log", "one line a run", [1.0] * len(columns))
        for axis, column in zip(axes, columns, strict=True):
            styles = cycle([STYLE["rl"], STYLE["sft"], *_MORE])
            for label, log in logs.items():
                style = next(styles)
                axis.plot(log.step, log[column], label=label, **style | {"marker": ""})
            axis.set(title=column, xlabel=X_AXES["step"])
        return _end(figure, f"Training log of {', '.join(logs)}: {', '.join(columns)} by step.")


def explore(
    results: pd.DataFrame, split="rule_ood", metric="success", x="compute", task="gp-l",
    preset="",
) -> Figure:  # fmt: skip
    """Any metric of every arm, recorded and yours, ablations included, against any of X_AXES."""
    data = Data(results, None, task, preset)
    every = _stack(data.ours, data.yours)
    inits = every[every.method == "init"]
    tries = stats.headline_tries(stats.recorded(every))
    title = f"{data.tier}: {METRICS.get(metric, metric)}, {SPLITS.get(split, split)}"
    spare, said = cycle(_MORE), []
    with mpl.rc_context(_RC):
        figure, (axis,) = _frame(title, f"success within {tries} tries; {_SEEDS}", [2.2])
        key = ["source", "method", "foundation", "condition"]
        for (source, method, foundation, condition), arm in every.groupby(key):
            if method == "init":
                continue
            of = inits[inits.foundation == foundation]
            own = of[(of.condition == condition) & (of.source == source)]
            if condition == "{}" or not len(own):  # whose init is usual, arms decide
                own = stats.recorded(every[every.foundation == foundation])
                own = own[(own.method == "init") & (own.condition == "{}")]
            # the model as it is delivered comes before the init: a point of its own
            table = arm if method == "base" else _stack(own, arm)
            rows = _points(table, method, split, metric, x, tries)
            if len(rows):
                changed = [f"{k}={v}" for k, v in json.loads(condition).items()]
                changed += [foundation] * (foundation != "default")
                whose = ["yours:"] * (source == "yours")
                label = " ".join([*whose, NAMES.get(method, method), *changed])
                plain = method in STYLE and not changed and not whose
                style = STYLE[method] if plain else next(spare)
                _seeds_and_mean(axis, rows, label, style | {"clip_on": False})  # 0% whole too
                said.append(f"{label} ends at {rows.groupby('seed').y.last().mean():.2f}")
        axis.set(xlabel=X_AXES[x], ylabel=METRICS.get(metric, metric), ylim=(0, _top(axis)))
        if not said:
            raise SftrlError(
                f"there are no results for {metric} on {split} ({data.tier}), and a figure draws "
                f"measured rows only; choose another, or make them with {data.how}."
            )
        return _end(figure, f"{title} against {X_AXES[x]}. {'; '.join(said)}.")


_TRIES = {  # at one position
    "right": dict(color="#0072B2", marker="o"),
    "right after a wrong try": dict(color="#B58900", marker="s"),
    "wrong": dict(color="#D55E00", marker="X", markersize=13),  # room for a number
}
_LAND = "#ECE9E2"
_SIDES = [(9, 0, "left", "center"), (-9, 0, "right", "center"), (0, 9, "center", "bottom"),
          (0, -9, "center", "top"), (7, 7, "left", "bottom"), (7, -7, "left", "top"),
          (-7, 7, "right", "bottom"), (-7, -7, "right", "top")]  # fmt: skip


def city_map(
    city: City, route: Route, steps: Sequence[tuple[Position, Sequence[bool]]] = ()
) -> Figure:
    """A route on the map of its city, with the landmarks around it. `steps`: what the agent did:
    positions of the route's rail in order, each with whether its tries were right."""
    path = np.array([city.position(point) for point in (route.start, *route.points)])
    places = np.array([city.position(step.location) for step, _ in steps]).reshape(-1, 2)
    kinds = ["right" if tries[0] else list(_TRIES)[1 + (not any(tries))] for _, tries in steps]
    middle, half = (path.min(0) + path.max(0)) / 2, np.ptp(path, axis=0) / 2 + 75
    half = np.maximum(half, half[::-1] * (1.3, 1 / 1.3))  # metres shown: 1.3 times as many across
    title = f"{city.name.capitalize()}: from {route.origin} to {route.destination}"
    with mpl.rc_context(_RC):
        figure, (axis,) = _frame(title, _map_caption(route, kinds), [2.2], 6.4)
        (left, low), (right, high) = middle - half, middle + half
        axis.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])
        axis.set(aspect="equal", facecolor=_LAND)
        axis.spines[:].set_visible(False)
        axis.plot(*path.T, color="#595959", linewidth=2.4, label="route", zorder=3)
        ends = dict(linestyle="", color="#202020", markeredgecolor="white", zorder=5)
        axis.plot(*path[0], marker="D", markersize=16, label="start", **ends)
        axis.plot(*path[-1], marker="*", markersize=30, label="destination", **ends)
        for kind, style in _TRIES.items():
            if kind in kinds:
                x, y = places[[k == kind for k in kinds]].T
                look = dict(linestyle="", markersize=10, zorder=6) | style
                axis.plot(x, y, label=kind, **look)
        for number, place in enumerate(places, 1):
            where = dict(ha="center", va="center", zorder=7)
            axis.annotate(number, place, color="white", fontsize=6, **where)
        _end(figure, f"{title}. {_map_words(route, steps, kinds)}")
        figure.draw_without_rendering()  # for sizes on the page
        _streets(axis, city)
        shares = np.linspace(0, 1, 12)[:, None]
        legs = [a + shares * (b - a) for a, b in pairwise(path)]
        _landmarks(axis, city, route, np.vstack([*legs, *[path, places] * 3]))
    return figure


def _map_caption(route: Route, kinds: Sequence[str]) -> str:
    length = sum(stone.distance for stone in route.milestones)
    said = f"; {kinds.count('right')} of {len(kinds)} positions right at the first try"
    return f"{length} m in {len(route.points)} legs{said if kinds else ''}"


def _map_words(route: Route, steps: Sequence[tuple[Position, Any]], kinds: Sequence[str]) -> str:
    said = []
    for stone in route.milestones:
        mark = f" to {stone.landmark} ({stone.side})" if stone.landmark else ""
        said.append(f"{stone.distance} m at {stone.heading} degrees{mark}")
    did = [f"{i} ({steps[i - 1][0].kind}) {kind}" for i, kind in enumerate(kinds, 1)]
    return f"Legs: {'; '.join(said)}." + f" Positions: {', '.join(did)}." * bool(did)


def _streets(axis: Axes, city: City) -> None:
    """Streets and water, as wide as they are; where north is, and a scale."""
    edges = [[city.xy(node) for node in edge] for edge in city.graph.edges]
    meter = np.diff(axis.transData.transform([(0, 0), (1, 0)])[:, 0]) * 72 / axis.figure.dpi
    for lines, width, color in ((city.water, 40, "#B5D3E2"), (edges, 12, "white")):
        look = dict(linewidths=width * meter, colors=color, capstyle="round")
        axis.add_collection(LineCollection(lines, **look))
    (x, _), (y, _) = axis.get_xlim(), axis.get_ylim()
    axis.plot([x + 15, x + 115], [y + 15] * 2, color="#202020", linewidth=3)
    axis.annotate("100 m", (x + 65, y + 20), ha="center", va="bottom", fontsize=8)
    arrow = dict(arrowstyle="-|>", color="#202020")
    where = dict(xycoords="axes fraction", ha="center", va="top", arrowprops=arrow)
    axis.annotate("N", (0.97, 0.99), (0.97, 0.92), **where)


def _landmarks(axis: Axes, city: City, route: Route, taken: np.ndarray) -> None:
    """Icons of the landmarks in view, under what the agent did, and their names: the route's in
    bold, the others where there is room. `taken` (n, 2): places, in metres, no name should hide."""
    view = axis.viewLim.shrunk(0.95, 0.95)
    on_route = {route.origin, *(stone.landmark for stone in route.milestones)}
    corner = Bbox([axis.viewLim.p0, axis.viewLim.p0 + (135, 40)])  # the scale is there
    marks = [m for m in city.landmarks.values()
             if view.contains(*m.position) and not corner.contains(*m.position)]  # fmt: skip
    marks.sort(key=lambda mark: mark.name not in on_route)
    icons = [mark.position for mark in marks] * 3  # worse to hide than a place
    room = 7 * axis.figure.dpi / 72  # half the width of an icon
    spots = axis.transData.transform([*taken, *icons])
    busy = [Bbox([spot - room, spot + room]) for spot in spots]
    busy.append(corner.transformed(axis.transData))
    for mark in marks:
        icon = OffsetImage(np.asarray(sign(mark.kind, 56)), zoom=0.25)
        axis.add_artist(AnnotationBbox(icon, mark.position, frameon=False, pad=0, zorder=4))
        named = mark.name in on_route
        look = dict(fontsize=8, fontweight="bold") if named else dict(fontsize=6.5, color="#505050")
        name = axis.annotate(
            "\n".join(mark.name.rsplit(" ", 1)), mark.position, (0, 0), zorder=8, linespacing=1,
            textcoords="offset points", path_effects=[withStroke(linewidth=2, foreground=_LAND)],
            **look,
        )  # fmt: skip
        hidden = partial(_hidden, name, busy)
        if hidden(min(_SIDES, key=hidden)) and not named:
            name.remove()
        else:
            busy += [name.get_window_extent()] * 9  # worse still


def _hidden(name: Annotation, busy: Sequence[Bbox], side: tuple) -> int:
    """How many boxes a name on that side of its place would hide; 9 more if it is cut off."""
    name.set(position=side[:2], ha=side[2], va=side[3])
    box, page = name.get_window_extent(), name.axes.get_window_extent()
    inside = page.contains(*box.p0) and page.contains(*box.p1)
    return box.count_overlaps(busy) + 9 * (not inside)


def save(figure: Figure, name: str, folder: Path | str = FOLDER) -> Path:
    """Write name.png, name.svg and name.alt.txt; the same figure gives the same bytes."""
    folder = writable(Path(folder))
    with mpl.rc_context(_RC):
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    write_atomic(folder / f"{name}.alt.txt", figure.alt + "\n")
    return folder / f"{name}.png"


def save_all(results: pd.DataFrame, folder: Path | str = FOLDER) -> list[Path]:
    """Every figure of the tiny tier's recorded runs, as files named TASK-FIGURE."""
    recorded = results[(results.source == "ours") & (results.preset == "tiny")]
    return [
        save(draw(results, task=task, preset="tiny"), f"{task}-{name}", folder)
        for task in sorted(set(recorded.task))
        for name, draw in ALL.items()
        if (task, name) not in UNTESTED
    ]


def html(figure: Figure | Image.Image, alt: str = "") -> str:
    """The figure as an <img> with its alt text, which survives every export of a notebook; an
    image, e.g. a street view, with the `alt` text that is given."""
    buffer = io.BytesIO()
    if isinstance(figure, Image.Image):
        figure.save(buffer, "png")
    else:
        alt = figure.alt
        with mpl.rc_context(_RC):
            figure.savefig(buffer, format="png", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    style = "max-width: 100%; background: white"
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" style="{style}">'


def show(figure: Figure | Image.Image, alt: str = "") -> None:
    """Display the figure in a notebook."""
    display(HTML(html(figure, alt)))
