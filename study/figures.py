"""The figures of the book: each is drawn from the rows of one task, and named in ALL.

`study.figures.save_all` writes those of the recorded runs to figures/.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commons.errors import SftrlError
from sftrl_lib import stats
from sftrl_lib.registry import ABLATIONS, TASKS

from .plots import (
    BOTH,
    FOLDER,
    HEAD,
    RC,
    SEEDS,
    X_AXES,
    Data,
    draw_arm,
    finish,
    frame,
    headroom,
    name_of,
    points,
    save,
    stack,
    style_of,
)
from .registration import confirmed, sections

ALL: dict[str, Callable[..., Figure]] = {}  # the book's figures by name


def book_figure(*needed: tuple[str, str]):
    """Make draw(data) a figure(results, live=None, task, preset), listed in ALL. `live` holds the
    rows of this session's runs; without a row for each needed (split, metric): SftrlError."""

    def register(draw: Callable[[Data], Figure]) -> Callable[..., Figure]:
        def figure(
            results: pd.DataFrame, live: pd.DataFrame | None = None, task="gp-l", preset=""
        ) -> Figure:
            data = Data(results, live, task, preset)
            data.need(needed)
            with mpl.rc_context(RC):
                return draw(data)

        figure.__name__, figure.__doc__ = draw.__name__, draw.__doc__
        ALL[draw.__name__] = figure
        return figure

    return register


def _against_compute(axis: Axes, data: Data, split: str, metric: str) -> None:
    power = int(np.log10(max(1.0, data.drawn.compute.max())))
    for method, rows, live in data.lines(split, metric, "compute"):
        draw_arm(axis, method, rows.assign(x=rows.x / 10**power), live)
    label = f"training compute, init included ($10^{{{power}}}$ FLOPs)"
    axis.set(title=data.where(split), xlabel=label, ylabel=data.label(metric))
    axis.set(ylim=(0, headroom(axis)))
    axis.set_xlim(left=0)


def _bar(
    axis: Axes, place: int, method: str, estimate: tuple, change: str, paper=False, highest=0.0
) -> None:  # fmt: skip
    """A bar in percent with its interval; above it, and above the `highest` seed, the change."""
    value, lo, hi = (100 * v for v in estimate)
    color = style_of(method)["color"]
    look = dict(color="white", hatch="////") if paper else dict(color=color, alpha=0.55)
    error = {"yerr": [[value - max(lo, 0)], [hi - value]], "capsize": 3} if hi > lo else {}
    axis.bar(place, value, 0.65, **error, **{"edgecolor": color, **look})
    where = dict(xytext=(0, 4), textcoords="offset points", ha="center")
    axis.annotate(change, (place, max(hi, 100 * highest)), fontsize=7.5, **where)


def _bar_axis(axis: Axes, title: str, methods: list[str], label: str) -> None:
    axis.set_xticks(range(len(methods)), [name_of(m) for m in methods])
    axis.set(title=title, ylabel=label, ylim=(0, headroom(axis, 1.2)))
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
    _bar_axis(
        axis, f"paper: {data.where(split)}", list(rows.index), data.label(rows.metric.iloc[0])
    )
    axis.set_xlabel(f"{rows.n.max()} {data.kind.counted}")
    said = ", ".join(f"{name_of(m)} {100 * v:.1f}%" for m, v in rows.value.items())
    return f"Hatched bars, the paper's 11B model, {data.where(split)}: {said}."


@book_figure(("rule_ood", HEAD), ("id_unseen", HEAD))
def success_against_compute(data: Data) -> Figure:
    """OOD and ID success along training, for both arms (the paper's Fig. 5, and 7 with pictures);
    in navigation, as in the paper, success is per-step accuracy."""
    title = f"{data.tier}: {data.headline} against training compute"
    splits = [*BOTH, *data.more_splits]
    papers = [s for s in splits if len(data.printed(s))]
    widths = [1] * len(splits) + [0.75 if len(papers) < 2 else 0.6] * len(papers)
    figure, axes = frame(title, data.caption(SEEDS), widths)
    for axis, split in zip(axes, splits, strict=False):
        _against_compute(axis, data, split, data.head)
    said = [_paper_bars(axis, data, s) for axis, s in zip(axes[len(splits) :], papers, strict=True)]
    return finish(figure, f"{title}. {data.words(data.head)} {' '.join(said)}")


@book_figure(("rule_ood", HEAD), ("id_unseen", HEAD), ("id_unseen", "kl_to_init"))
def ood_against_id_and_kl(data: Data) -> Figure:
    """What an arm pays out of distribution for its gain in distribution, and for the distance it
    moved. At equal x the learning rate is out of the comparison."""
    title = f"{data.tier}: OOD against ID and against KL"
    figure, axes = frame(title, data.caption(SEEDS), [1.2, 1.2])
    name, unit = data.headline, data.label(data.head)
    panels = {"id_unseen": f"for the same ID {name}", "kl_to_init": "for the same distance"}
    for axis, (x, same) in zip(axes, panels.items(), strict=True):
        for method, rows, live in data.lines("rule_ood", data.head, x):
            draw_arm(axis, method, rows, live)
        across = f"ID, unseen: {unit}" if x == "id_unseen" else X_AXES[x]
        axis.set(title=same, xlabel=across, ylabel=f"rule OOD: {unit}", ylim=(0, headroom(axis)))
    return finish(figure, f"{title}; one path an arm, from the init. {data.words(data.head)}")


@book_figure(("rule_ood", HEAD), ("id_unseen", HEAD))
def changes_from_init(data: Data) -> Figure:
    """Init, RL and SFT at the end of training, with the changes (the paper's Fig. 6): on what was
    seen in training, on unseen items, under the new rule, and in other cities."""
    title = f"{data.tier}: what RL and SFT change"
    among = ("id_seen", "id_unseen", "rule_ood", "visual_ood")
    splits = [s for s in among if data.ends(s, data.head)]
    sizes = {int(end.n.min()) for end in data.ends("id_seen", "success").values()}
    said = [f"{data.where('id_seen')}: {n}" for n in sizes if "id_seen" in splits]
    several = data.grid.seed.nunique() > 1
    over = "mean with 95% t interval over seeds; points: seeds"
    said.append(f"bars: {over if several else '95% interval of the episodes'}")
    papers = [s for s in ("rule_ood", "visual_ood") if len(data.printed(s))]
    panels = len(splits) + len(papers)
    widths = [0.72 if panels < 6 else 0.62] * panels
    figure, axes = frame(title, data.caption(*said, ends=True), widths)
    said = [_our_bars(axis, data, split) for axis, split in zip(axes, splits, strict=False)]
    said += [
        _paper_bars(axis, data, s) for axis, s in zip(axes[len(splits) :], papers, strict=True)
    ]
    return finish(figure, f"{title}. {' '.join(said)}")


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
        small = style_of(method) | dict(linestyle="", markersize=3.5, markeredgecolor="white")
        axis.plot(spread, 100 * end.value, **small)
        words = f"{name_of(method)} {100 * estimate.value:.1f}% {change}"
        said.append(words.strip().replace("\n", " "))
    for method, run in data.live[data.live.method.isin(list(ends))].groupby("method"):
        end = stats.last(run, method, split, data.head, data.tries)
        marks = style_of(method) | dict(linestyle="", markerfacecolor="white")
        places = [list(ends).index(method) + 0.42] * len(end)
        axis.plot(places, 100 * end.value, label=f"{name_of(method)}, {data.whose}", **marks)
    _bar_axis(axis, data.where(split), list(ends), data.label(data.head))
    return f"{data.where(split)}, with change from init in points: {', '.join(said)}."


@book_figure()
def mechanism(data: Data) -> Figure:
    """What the stated rule still means to a model. Cards: are J, Q and K read as it says, and is
    what was read used? Navigation: is the due sentence found, and said in the words asked for?"""
    question, panels = data.kind.mechanism
    if not panels:
        raise SftrlError(f"the task {data.task} does not say what shows that its rule is read.")
    data.need(panels)
    title = f"{data.tier}: {question}"
    figure, axes = frame(title, data.caption(SEEDS, tries=1), [1] * len(panels))
    for axis, (split, metric) in zip(axes, panels, strict=True):
        _against_compute(axis, data, split, metric)
        axis.set(ylim=(0, 102))
    said = [f"{data.label(m)}: {data.words(m)}" for m in dict.fromkeys(m for _, m in panels)]
    return finish(figure, f"{title} {' '.join(said)}")


@book_figure(("rule_ood", "recognition"), ("visual_ood", "recognition"))
def recognition_and_success(data: Data) -> Figure:
    """Success against what was seen right, over the checkpoints of both arms (the paper's Fig. 8):
    does an arm that gains gain by its eyes?"""
    title = f"{data.tier}: {data.headline} against recognition"
    said = "seen right in first answers; points: checkpoints, from the init (black); a line a seed"
    splits = ("id_unseen", "rule_ood", "visual_ood")
    figure, axes = frame(title, data.caption(said), [1.1] * 3)
    for axis, split in zip(axes, splits, strict=True):
        for method, rows, live in data.lines(split, data.head, "step"):
            seen = points(data.drawn, method, split, "recognition", "step", 1)
            both = rows.merge(seen[["seed", "step", "y"]], on=["seed", "step"], suffixes=("", "_"))
            for _, seed in both.assign(x=both.y_).groupby("seed"):
                look = style_of(method) | ({"markerfacecolor": "white"} if live else {})
                axis.plot(seed.x, seed.y, label=name_of(method), alpha=0.6, linewidth=0.8, **look)
                axis.plot(seed.x[:1], seed.y[:1], "ko", zorder=5)
        across = data.label("recognition")
        axis.set(title=data.where(split), xlabel=across, ylabel=data.label(data.head))
        axis.margins(y=0.1)
    return finish(
        figure, f"{title}. {data.words(data.head)} Seen right: {data.words('recognition')}"
    )


def _tries(count: int) -> str:
    return f"{count} {'try' if count == 1 else 'tries'}"


@book_figure(("rule_ood", HEAD))
def training_tries(data: Data) -> Figure:
    """OOD growth by the number of verification iterations in training (the paper's Fig. 10)."""
    arms = ABLATIONS["tries"].rows(stack(data.ours, data.yours))
    alone = arms.train_tries.nunique() < 2 and not len(data.paper)  # nothing to compare with
    if not len(arms) or alone:
        raise SftrlError(f"tries in training were not varied in this task ({data.tier}).")
    tries = stats.headline_tries(stack(arms, data.init))
    start = stats.last(data.init, "init", "rule_ood", "success", tries).value
    title = f"{data.tier}: OOD growth by verification iterations in training"
    said = "points: seeds; bars: 95% t interval of the mean"
    seeds = sorted(set(arms.groupby("train_tries").seed.nunique()))
    count = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}{' of yours' * data.own}"
    caption = f"{count}; within {tries} tries; {said}"
    figure, (ours, theirs) = frame(title, caption, [1.2, 1])
    color, said = style_of("rl")["color"], []
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
    return finish(figure, f"{title}, points. Ours: {', '.join(said)}. Paper: {', '.join(printed)}.")


def memory(plans: Mapping[str, Sequence[Any]], cards: Sequence[float] = (24, 80)) -> Figure:
    """What stages take of memory, piece by piece, in GB; `plans` maps a name to its stages'
    `engine.memory.Plan`s. Lines: what cards have."""
    rows = [(f"{name}: {p.stage}", p) for name, group in plans.items() for p in group]
    with mpl.rc_context(RC):
        sizes = f"{', '.join(map(str, cards[:-1]))} and {cards[-1]}"
        caption = f"planned, not measured; dashed: cards of {sizes} GB"
        figure, (axis,) = frame(
            "Memory at the peak of a stage", caption, [2.6], 1.4 + 0.4 * len(rows)
        )
        said, colors, ticks = [], {}, []
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
            ticks.append(f"{name}\n{left:.1f} GB")
            said.append(f"{name} {left:.1f} GB, of which weights {pieces['weights'] / 2**30:.1f}")
        for card in cards:
            axis.axvline(card, color="#202020", linestyle="--", linewidth=0.8)
        axis.set_yticks(range(len(rows)), ticks)
        axis.set(xlabel="GB", xlim=(0, axis.get_xlim()[1] * 1.06))
        axis.grid(axis="y", visible=False)
        return finish(figure, f"Memory at the peak of a stage, planned: {'; '.join(said[::-1])}.")


def save_all(results: pd.DataFrame, folder: Path | str = FOLDER) -> list[Path]:
    """Every figure of the tiny tier's recorded runs for which there are rows, as files named
    TASK-FIGURE, those of the second edition second-TASK-FIGURE."""
    recorded = results[(results.source == "ours") & (results.preset == "tiny")]
    wanted = [(task, task, results) for task in sorted(set(recorded.task))]
    again = {task: confirmed(recorded, task) for task in TASKS if task in sections()}
    wanted += [(task, f"second-{task}", rows) for task, rows in again.items() if len(rows)]
    saved = []
    for (task, start, rows), (name, draw) in product(wanted, ALL.items()):
        with contextlib.suppress(SftrlError):  # nothing is recorded for it
            saved.append(save(draw(rows, task=task, preset="tiny"), f"{start}-{name}", folder))
    return saved
