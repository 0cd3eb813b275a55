"""Every plot, drawn from the results table and nothing else: no figure trains or holds a number.

Each function returns a matplotlib Figure whose `alt` says in words what it shows. Blue circles are
RL, orange squares SFT, grey diamonds the init; thin lines are seeds, thick ones their mean; dashed
lines with open markers are this session's runs; hatched or hollow marks are the paper's numbers.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import stats
from .errors import SftrlError
from .runs import REBUILD, ROOT, write_atomic

FOLDER = ROOT / "figures"
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
    "rule_ood": "rule OOD", "id_unseen": "ID, unseen hands", "id_seen": "ID, seen hands",
    "rule_paired": "rule OOD, paired hands", "id_paired": "ID, paired hands",
    "rule_five": "rule: faces count 5", "rule_random": "held-out random rules",
}  # fmt: skip
METRICS = {
    "success": "success (%)", "value_reading": "face cards read right (%)",
    "legal": "legal formulas (%)", "numbers_right": "right numbers used (%)",
    "kl_to_init": "KL to the init (nats an answer)",
}  # fmt: skip
X_AXES = {
    "compute": "training compute, init included (FLOPs)", "step": "optimizer step",
    "id_unseen": "ID, unseen hands, success (%)", "kl_to_init": METRICS["kl_to_init"],
}  # fmt: skip
_BOTH = ("rule_ood", "id_unseen")
_SEEDS = "thin: one seed, thick: mean"
_RC = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E8E8E8", "axes.axisbelow": True,
    "legend.frameon": False, "lines.markersize": 5.5, "hatch.linewidth": 0.7,
    "svg.hashsalt": "sftrl", "figure.dpi": 120,
}  # fmt: skip

ALL: dict[str, Callable[..., Figure]] = {}  # the book's figures by name


def _figure(*needed: tuple[str, str]):
    """Make draw(data) a figure(results, live=None, task, preset), listed in ALL. `live` holds the
    rows of this session's runs; without a row for each needed (split, metric): SftrlError."""

    def register(draw: Callable[[Data], Figure]) -> Callable[..., Figure]:
        def figure(
            results: pd.DataFrame, live: pd.DataFrame | None = None, task="gp-l", preset="tiny"
        ) -> Figure:
            data = Data(results, live, task, preset)
            data.need(needed)
            with mpl.rc_context(_RC):
                return draw(data)

        figure.__name__, figure.__doc__ = draw.__name__, draw.__doc__
        ALL[draw.__name__] = figure
        return figure

    return register


class Data:
    """The rows of one task and tier: the recorded grid, this session's runs, the paper's."""

    def __init__(self, results: pd.DataFrame, live: pd.DataFrame | None, task: str, preset: str):
        results = results[results.task == task]
        self.tier = f"{task.upper()}, {preset} tier"
        self.paper = results[results.source == "paper"]
        ours = results[(results.source == "ours") & (results.preset == preset)]
        self.ours = ours[~ours.seed.isin(stats.DEVELOPMENT_SEEDS)]
        self.grid = stats.main_grid(self.ours)
        self.init = self.grid[self.grid.method == "init"]
        self.live = self.grid.iloc[:0] if live is None else live
        self.live = self.live[(self.live.task == task) & (self.live.preset == preset)]
        self.drawn = _stack(self.grid, self.live)
        self.tries = stats.headline_tries(self.drawn)

    def need(self, wanted: tuple[tuple[str, str], ...]) -> None:
        arms = self.drawn[self.drawn.method.isin(("sft", "rl"))]
        here = set(zip(arms.split, arms.metric, strict=True))
        missing = [f"{metric} on {split}" for split, metric in wanted if {(split, metric)} - here]
        if missing:
            raise SftrlError(
                f"there are no results for {', '.join(missing)} ({self.tier}), and a figure draws "
                f"measured rows only; record them with `{REBUILD}`, or train in a notebook and "
                "pass its rows as `live`."
            )

    def lines(self, split: str, metric: str, x: str) -> Iterator[tuple[str, pd.DataFrame, bool]]:
        """(method, points, live?) of every arm; a live run starts at its seed's init."""
        for method in ("sft", "rl"):
            yield method, _points(self.grid, method, split, metric, x, self.tries), False
            for _, run in self.live[self.live.method == method].groupby("run_id"):
                rows = _stack(self.init, run)
                yield method, _points(rows, method, split, metric, x, self.tries), True

    def ends(self, split: str, metric: str) -> dict[str, pd.DataFrame]:
        """The last point of init and arms, a row a seed."""
        tries = self.tries if metric == "success" else 1
        ends = {m: stats.last(self.grid, m, split, metric, tries) for m in ("init", "rl", "sft")}
        return {m: end for m, end in ends.items() if len(end)}

    def words(self, metric: str) -> str:
        """Where the lines end, for readers of the alt text."""
        said = []
        for split in _BOTH:
            ends = self.ends(split, metric)
            parts = [f"{NAMES[m]} {100 * end.value.mean():.1f}%" for m, end in ends.items()]
            said.append(f"{SPLITS[split]}: {', '.join(parts) or 'nothing recorded'}")
        return f"At the end of training, means over seeds: {'; '.join(said)}."

    def caption(self, *more: str, tries: int = 0, ends: bool = False) -> str:
        """Seeds, episodes (of the last points only if `ends`), tries, and `more`."""
        arms = self.grid[self.grid.method.isin(("sft", "rl")) & self.grid.split.isin(_BOTH)]
        arms = arms[arms.metric == "success"]
        arms = arms[arms.step == arms.groupby("run_id").step.transform("max")] if ends else arms
        sizes = " to ".join(f"{n:,}" for n in sorted({arms.n.min(), arms.n.max()}) if len(arms))
        n = f"{sizes} episodes a point" if sizes else ""
        seeds = f"{arms.seed.nunique()} seeds" if sizes else "this session's runs only"
        tries = tries or self.tries
        within = f"within {tries} tries" if tries > 1 else "at the first try"
        return "; ".join(part for part in (seeds, n, within, *more) if part)


def _stack(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([t for t in tables if len(t)] or [tables[0]])


def _points(
    table: pd.DataFrame, method: str, split: str, metric: str, x: str, tries: int
) -> pd.DataFrame:
    """An arm's curve with columns x (one of X_AXES) and y, shares in percent."""
    rows = stats.curve(table, method, split, metric, tries if metric == "success" else 1)
    rows["y"] = rows.value * (1 if metric == "kl_to_init" else 100)
    if x not in ("id_unseen", "kl_to_init"):
        return rows.assign(x=rows[x])
    measured = "success" if x == "id_unseen" else x
    across = _points(table, method, "id_unseen", measured, "step", tries)[["seed", "step", "y"]]
    return rows.merge(across.rename(columns={"y": "x"}), on=["seed", "step"])


def _frame(title: str, caption: str, widths: list[float]) -> tuple[Figure, np.ndarray]:
    """A row of panels under a title; the caption takes the title's second, empty line."""
    figure = Figure(figsize=(0.4 + 3.3 * sum(widths), 4), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.text(0.01, 0.93, caption, va="top", fontsize=8.5, color="#404040")
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


def _draw(axis: Axes, method: str, rows: pd.DataFrame, live: bool) -> None:
    """An arm in its own style; a live run dashed, with open markers."""
    if live and len(rows):
        style = STYLE[method] | dict(linestyle="--", markerfacecolor="white", zorder=4)
        axis.plot(rows.x, rows.y, label=f"{NAMES[method]}, this session", linewidth=1.6, **style)
    elif len(rows):
        _seeds_and_mean(axis, rows, NAMES[method], STYLE[method])


def _against_compute(axis: Axes, data: Data, split: str, metric: str) -> None:
    power = int(np.log10(max(1.0, data.drawn.compute.max())))
    for method, rows, live in data.lines(split, metric, "compute"):
        _draw(axis, method, rows.assign(x=rows.x / 10**power), live)
    label = f"training compute, init included ($10^{{{power}}}$ FLOPs)"
    axis.set(title=SPLITS[split], xlabel=label, ylabel=METRICS[metric], ylim=(0, _top(axis)))
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
    error = [[value - max(lo, 0)], [hi - value]]
    axis.bar(place, value, 0.65, yerr=error, capsize=3, **{"edgecolor": color, **look})
    where = dict(xytext=(0, 4), textcoords="offset points", ha="center")
    axis.annotate(change, (place, max(hi, 100 * highest)), fontsize=7.5, **where)


def _bar_axis(axis: Axes, title: str, methods: list[str]) -> None:
    axis.set_xticks(range(len(methods)), [NAMES[m] for m in methods])
    axis.set(title=title, ylabel=METRICS["success"], ylim=(0, _top(axis, 1.2)))
    axis.grid(axis="x", visible=False)


def _paper_bars(axis: Axes, data: Data) -> str:
    """The paper's init, RL and SFT with Wilson intervals; its words for the alt text."""
    rows = data.paper[(data.paper.split == "rule_ood") & (data.paper.metric == "success")]
    rows = rows.set_index("method").reindex(["init", "rl", "sft"]).dropna(subset="successes")
    if not len(rows):
        axis.set_axis_off()
        return ""
    for place, (method, r) in enumerate(rows.iterrows()):
        change = "" if method == "init" else f"{100 * (r.value - rows.value['init']):+.1f}"
        _, lo, hi = stats.wilson(r.successes, r.n)
        _bar(axis, place, method, (r.value, lo, hi), change, paper=True)
    _bar_axis(axis, f"rule OOD: paper, n = {rows.n.max()}", list(rows.index))
    said = ", ".join(f"{NAMES[m]} {100 * v:.1f}%" for m, v in rows.value.items())
    return f"Hatched bars, the paper's 11B model, rule OOD: {said}."


@_figure(("rule_ood", "success"), ("id_unseen", "success"))
def success_against_compute(data: Data) -> Figure:
    """OOD and ID success along training, for both arms (the paper's Fig. 5)."""
    title = f"{data.tier}: success against training compute"
    figure, axes = _frame(title, data.caption(_SEEDS), [1, 1, 0.75])
    for axis, split in zip(axes, _BOTH, strict=False):
        _against_compute(axis, data, split, "success")
    return _end(figure, f"{title}. {data.words('success')} {_paper_bars(axes[2], data)}")


@_figure(("rule_ood", "success"), ("id_unseen", "success"), ("id_unseen", "kl_to_init"))
def ood_against_id_and_kl(data: Data) -> Figure:
    """What an arm pays out of distribution for its gain in distribution, and for the distance it
    moved. At equal x the learning rate is out of the comparison."""
    title = f"{data.tier}: OOD against ID and against KL"
    figure, axes = _frame(title, data.caption(_SEEDS), [1.2, 1.2])
    panels = {"id_unseen": "for the same ID success", "kl_to_init": "for the same distance"}
    for axis, (x, same) in zip(axes, panels.items(), strict=True):
        for method, rows, live in data.lines("rule_ood", "success", x):
            _draw(axis, method, rows, live)
        axis.set(title=same, xlabel=X_AXES[x], ylabel="rule OOD, success (%)", ylim=(0, _top(axis)))
    return _end(figure, f"{title}; one path an arm, from the init. {data.words('success')}")


@_figure(("rule_ood", "success"), ("id_unseen", "success"))
def changes_from_init(data: Data) -> Figure:
    """Init, RL and SFT at the end of training, with the changes (the paper's Fig. 6): on hands seen
    in training, on unseen hands, and under the new rule."""
    title = f"{data.tier}: what RL and SFT change"
    splits = [s for s in ("id_seen", "id_unseen", "rule_ood") if data.ends(s, "success")]
    sizes = {int(end.n.min()) for end in data.ends("id_seen", "success").values()}
    said = [f"seen hands: {n}" for n in sizes if "id_seen" in splits]
    said.append("bars: mean with 95% t interval over seeds; points: seeds")
    figure, axes = _frame(title, data.caption(*said, ends=True), [0.72] * len(splits) + [0.68])
    said = [_our_bars(axis, data, split) for axis, split in zip(axes, splits, strict=False)]
    return _end(figure, f"{title}. {' '.join(said)} {_paper_bars(axes[-1], data)}")


def _our_bars(axis: Axes, data: Data, split: str) -> str:
    ends, said = data.ends(split, "success"), []
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
        end = stats.last(run, method, split, "success", data.tries)
        marks = STYLE[method] | dict(linestyle="", markerfacecolor="white")
        places = [list(ends).index(method) + 0.42] * len(end)
        axis.plot(places, 100 * end.value, label=f"{NAMES[method]}, this session", **marks)
    _bar_axis(axis, SPLITS[split], list(ends))
    return f"{SPLITS[split]}, with change from init in points: {', '.join(said)}."


@_figure(
    ("rule_ood", "value_reading"), ("id_unseen", "value_reading"), ("rule_ood", "numbers_right")
)
def value_reading(data: Data) -> Figure:
    """The mechanism: are J, Q and K still read as the stated rule says, and is what was read used?
    A model that has memorised the training rule calls every face card 10, or calculates so."""
    title = f"{data.tier}: are J, Q and K read as the rule says, and used so?"
    figure, axes = _frame(title, data.caption(_SEEDS, tries=1), [1, 1, 1])
    panels = [(split, "value_reading") for split in _BOTH] + [("rule_ood", "numbers_right")]
    for axis, (split, metric) in zip(axes, panels, strict=True):
        _against_compute(axis, data, split, metric)
        axis.set(ylim=(0, 102))
    said = [f"{METRICS[m]}: {data.words(m)}" for m in ("value_reading", "numbers_right")]
    return _end(figure, f"{title} {' '.join(said)}")


@_figure(("rule_ood", "success"), ("id_unseen", "success"))
def success_by_tries(data: Data) -> Figure:
    """Success within 1, 2, ... tries at the end of training: what the verifier's messages buy."""
    title = f"{data.tier}: success by number of tries"
    figure, axes = _frame(title, data.caption(_SEEDS, ends=True), [1.2, 1.2])
    live = [(run.method.iloc[0], run, True) for _, run in data.live.groupby("run_id")]
    for axis, split in zip(axes, _BOTH, strict=True):
        for method, table, is_live in [*((m, data.grid, False) for m in NAMES), *live]:
            counts = range(1, data.tries + 1)
            ends = [stats.last(table, method, split, "success", t).assign(step=t) for t in counts]
            rows = pd.concat(ends).reset_index()
            _draw(axis, method, rows.assign(x=rows.step, y=100 * rows.value), is_live)
        axis.set(title=SPLITS[split], xlabel="tries allowed", ylabel=METRICS["success"])
        axis.set(xticks=list(counts), ylim=(0, _top(axis)))
    return _end(figure, f"{title}, at the end of training. {data.words('success')}")


@_figure(("rule_ood", "success"))
def training_tries(data: Data) -> Figure:
    """OOD growth by the number of verification iterations in training (the paper's Fig. 10)."""
    arms = stats.tries_ablation(data.ours)
    tries = stats.headline_tries(_stack(arms, data.init))
    start = stats.last(data.init, "init", "rule_ood", "success", tries).value
    title = f"{data.tier}: OOD growth by verification iterations in training"
    said = "points: seeds; bars: 95% t interval of the mean"
    seeds = sorted(set(arms.groupby("train_tries").seed.nunique()))
    caption = f"{' or '.join(map(str, seeds))} seeds; within {tries} tries; {said}"
    figure, (ours, theirs) = _frame(title, caption, [1.2, 1])
    color, said = STYLE["rl"]["color"], []
    for k, rows in arms.groupby("train_tries"):
        change = (stats.last(rows, "rl", "rule_ood", "success", tries).value - start).dropna() * 100
        mean, lo, hi = stats.seed_mean(list(change))
        ours.plot(k + 0 * change, change, ".", color=color, alpha=0.5)
        ours.errorbar(k, mean, [[mean - lo], [hi - mean]], fmt="o", capsize=3, color=color)
        said.append(f"{k} tries {mean:+.1f}")
    paper = data.paper[data.paper.metric == "success_change"].sort_values("train_tries")
    theirs.plot(paper.train_tries, 100 * paper.value, "o--", mfc="white", color=color)
    for axis, name, ticks in ((ours, "ours", arms), (theirs, "paper, 11B: no interval", paper)):
        axis.axhline(0, color="#595959", linewidth=0.8)
        axis.set(title=name, xlabel="tries in training", ylabel="rule OOD, change (points)")
        axis.set_xticks(sorted({int(k) for k in ticks.train_tries}))
    printed = [f"{r.train_tries} tries {100 * r.value:+.2f}" for r in paper.itertuples()]
    return _end(figure, f"{title}, points. Ours: {', '.join(said)}. Paper: {', '.join(printed)}.")


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
    preset="tiny",
) -> Figure:  # fmt: skip
    """Any recorded metric of every recorded arm, ablations included, against any of X_AXES."""
    data = Data(results, None, task, preset)
    tries = stats.headline_tries(data.ours)
    title = f"{data.tier}: {METRICS.get(metric, metric)}, {SPLITS.get(split, split)}"
    spare, said = cycle(_MORE), []
    with mpl.rc_context(_RC):
        figure, (axis,) = _frame(title, f"success within {tries} tries; {_SEEDS}", [2.2])
        arms = data.ours[data.ours.method != "init"].groupby(["method", "foundation", "condition"])
        for (method, foundation, condition), arm in arms:
            start = data.ours[(data.ours.method == "init") & (data.ours.condition == "{}")]
            table = _stack(start[start.foundation == foundation], arm)
            rows = _points(table, method, split, metric, x, tries)
            if len(rows):
                changed = [f"{k}={v}" for k, v in json.loads(condition).items()]
                changed += [foundation] * (foundation != "default")
                label = " ".join([NAMES.get(method, method), *changed])
                plain = method in STYLE and not changed
                _seeds_and_mean(axis, rows, label, STYLE[method] if plain else next(spare))
                said.append(f"{label} ends at {rows.groupby('seed').y.last().mean():.2f}")
        axis.set(xlabel=X_AXES[x], ylabel=METRICS.get(metric, metric), ylim=(0, _top(axis)))
        if not said:
            raise SftrlError(
                f"there are no results for {metric} on {split} ({data.tier}), and a figure draws "
                f"measured rows only; choose another, or record them with `{REBUILD}`."
            )
        return _end(figure, f"{title} against {X_AXES[x]}. {'; '.join(said)}.")


def save(figure: Figure, name: str, folder: Path | str = FOLDER) -> Path:
    """Write name.png, name.svg and name.alt.txt; the same figure gives the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    write_atomic(folder / f"{name}.alt.txt", figure.alt + "\n")
    return folder / f"{name}.png"


def save_all(results: pd.DataFrame, folder: Path | str = FOLDER) -> list[Path]:
    """Every figure of the recorded runs, as files."""
    return [save(draw(results), name, folder) for name, draw in ALL.items()]


def html(figure: Figure) -> str:
    """The figure as an <img> with its alt text, which survives every export of a notebook."""
    with mpl.rc_context(_RC):
        figure.savefig(buffer := io.BytesIO(), format="png", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    style = "max-width: 100%; background: white"
    return f'<img src="data:image/png;base64,{data}" alt="{escape(figure.alt)}" style="{style}">'


def show(figure: Figure) -> None:
    """Display the figure in a notebook."""
    display(HTML(html(figure)))
