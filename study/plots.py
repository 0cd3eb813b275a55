"""How results are drawn: from the results table and nothing else; nothing here trains or holds a
number.

A figure is a matplotlib Figure whose `alt` says in words what it shows. A method has one colour,
marker and line everywhere; thin lines are seeds, thick ones their mean; dashed lines with open
markers are this session's runs; hatched or hollow marks are the paper's numbers.
"""

import base64
import io
import json
import pickle
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure as AnyFigure
from matplotlib.gridspec import GridSpec
from PIL import Image

from commons.errors import SftrlError
from commons.files import write_atomic
from sftrl_lib import stats
from sftrl_lib.places import HOME, ROOT, writable
from sftrl_lib.registry import METHODS, TASKS
from sftrl_lib.results import REBUILD

FOLDER = HOME / "figures"
ON_ANY_PAGE = "#787878"  # text that can be read on a light page and on a dark one
NARROW = "(max-width: 600px)"  # a page on which panels stand one below the other
# What no method has taken of the colours that colour-blind readers can tell apart (Okabe and Ito's,
# and Tol's wine), and of markers.
SPARE = (
    dict(color="#56B4E9", marker="X", linestyle=":"),
    dict(color="#882255", marker="<", linestyle="-"),
    dict(color="#E69F00", marker="*", linestyle="--"),
    dict(color="#000000", marker="h", linestyle="-."),
)
X_AXES = {
    "compute": "training compute, init included (FLOPs)",
    "step": "optimizer step",
    "id_unseen": "ID, unseen (%)",
    "kl_to_init": "KL to the init (nats an answer)",
}
BOTH = ("rule_ood", "id_unseen")
HEAD = "headline"  # stands for the metric that a task's claims rest on
SEEDS = "thin: one seed, thick: mean"
RC: dict[Any, Any] = {  # matplotlib's own type names every key
    "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E8E8E8", "axes.axisbelow": True,
    "legend.frameon": False, "lines.markersize": 5.5, "hatch.linewidth": 0.7,
    "svg.hashsalt": "sftrl", "figure.dpi": 120,
}  # fmt: skip


class Figure(AnyFigure):
    """A figure that says what it shows; one of `explore` has its points, too."""

    alt: str
    points: pd.DataFrame


def name_of(method: str) -> str:
    """What figures and tables call a method."""
    return METHODS[method].label if method in METHODS else method


def style_of(method: str) -> dict[str, Any]:
    """Colour, marker and line of a method."""
    return METHODS[method].style if method in METHODS else SPARE[0]


def split_label(split: str, task: str) -> str:
    """What a task calls one of its splits."""
    return TASKS[task].split_labels.get(split, split)


def metric_label(metric: str, task: str) -> str:
    """What an axis of a metric says."""
    return X_AXES[metric] if metric == "kl_to_init" else TASKS[task].metrics.get(metric, metric)


def how(task: str, preset: str) -> str:
    """The command that makes the runs of a task on a tier."""
    own = f"`python -m sftrl_lib init --preset {preset} --task {task}`, then the same with sft, rl"
    recorded = preset == "tiny" and (ROOT / "data" / "init" / task).is_dir()
    return f"`{REBUILD}`" if recorded else own


class Data:
    """The rows of one task and tier: the recorded grid (where none is: yours), this session's runs,
    the paper's. The tier is the one that `results` were loaded for, or hold; "tiny" where they hold
    several."""

    def __init__(
        self, results: pd.DataFrame, live: pd.DataFrame | None, task: str, preset: str = ""
    ) -> None:
        edition = results.attrs.get("edition", "")
        results = results[results.task == task]
        self.paper = results[results.source == "paper"]
        tiers = set(results.preset[results.source != "paper"])
        preset = preset or results.attrs.get("preset", "")
        preset = preset or (tiers.pop() if len(tiers) == 1 else "tiny")
        self.how, self.task, self.kind = how(task, preset), task, TASKS[task]
        self.head = self.kind.headline
        self.tier = ", ".join(filter(None, (task.upper(), f"{preset} tier", edition)))
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
        self.drawn = stack(self.grid, self.live)
        self.tries = stats.headline_tries(self.drawn)
        self.arms = [m for m in METHODS if METHODS[m].is_arm and m in set(self.drawn.method)]

    def need(self, wanted: Sequence[tuple[str, str]]) -> None:
        """SftrlError unless an arm has a row for each (split, metric)."""
        arms = self.drawn[self.drawn.method.isin(self.arms)]
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
        for method in reversed(self.arms):  # the first on top
            yield method, points(self.grid, method, split, metric, x, self.tries), ""
            for _, run in self.live[self.live.method == method].groupby("run_id"):
                rows = stack(self.init, run)
                yield method, points(rows, method, split, metric, x, self.tries), self.whose

    def ends(self, split: str, metric: str) -> dict[str, pd.DataFrame]:
        """The last point of init and arms, a row a seed."""
        tries = stats.tries_of(metric, self.tries)
        ends = {m: stats.last(self.grid, m, split, metric, tries) for m in ("init", *self.arms)}
        return {m: end for m, end in ends.items() if len(end)}

    def words(self, metric: str) -> str:
        """Where the lines end, for readers of the alt text."""
        said = []
        for split in (*BOTH, *self.more_splits):
            ends = self.ends(split, metric)
            parts = [f"{name_of(m)} {100 * end.value.mean():.1f}%" for m, end in ends.items()]
            said.append(f"{self.where(split)}: {', '.join(parts) or 'nothing recorded'}")
        return f"At the end of training, means over seeds: {'; '.join(said)}."

    @property
    def more_splits(self) -> list[str]:
        """The splits of the task's curves beside rule OOD and ID."""
        return [split for split in self.kind.curve_splits if split not in BOTH]

    def where(self, split: str) -> str:
        """What figures call a split."""
        return split_label(split, self.task)

    def label(self, metric: str) -> str:
        """What an axis of the metric says."""
        return metric_label(metric, self.task)

    @property
    def headline(self) -> str:
        """The headline metric in words, without its unit."""
        return self.label(self.head).removesuffix(" (%)")

    def printed(self, split: str) -> pd.DataFrame:
        """The paper's rows of its main table on a split, by method: init, RL, SFT."""
        rows = self.paper[(self.paper.split == split) & (self.paper.condition == "{}")]
        rows = rows[rows.metric.isin(("success", self.head))].set_index("method")
        return rows.reindex(["init", "rl", "sft"]).dropna(subset="value")

    def caption(self, *more: str, tries: int = 0, ends: bool = False) -> str:
        """Seeds, episodes (of the last points only if `ends`), tries, and `more`."""
        arms = self.grid[self.grid.method.isin(self.arms) & self.grid.split.isin(BOTH)]
        arms = arms[arms.metric == "success"]
        arms = arms[arms.step == arms.groupby("run_id").step.transform("max")] if ends else arms
        sizes = " to ".join(f"{n:,}" for n in sorted({arms.n.min(), arms.n.max()}) if len(arms))
        n = f"{sizes} {self.kind.counted} a point" if sizes else ""
        count = arms.seed.nunique()
        seeds = f"{count} seed{'s' * (count > 1)}{' of yours' * self.own}"
        seeds = seeds if sizes else "this session's runs only"
        tries = tries or self.tries
        within = f"within {tries} tries" if tries > 1 else "at the first try"
        return "; ".join(part for part in (seeds, n, within, *more) if part)


def stack(*tables: pd.DataFrame) -> pd.DataFrame:
    """The rows of all tables that have some."""
    return pd.concat([t for t in tables if len(t)] or [tables[0]])


def points(
    table: pd.DataFrame, method: str, split: str, metric: str, x: str, tries: int
) -> pd.DataFrame:
    """An arm's curve with columns x (one of X_AXES) and y, shares in percent."""
    rows = stats.curve(table, method, split, metric, stats.tries_of(metric, tries))
    rows["y"] = rows.value * (1 if metric == "kl_to_init" else 100)
    if x not in ("id_unseen", "kl_to_init"):
        return rows.assign(x=rows[x])
    measured = x
    if x == "id_unseen":
        measured = next((TASKS[task].headline for task in table.task), "success")
    across = points(table, method, "id_unseen", measured, "step", tries)[["seed", "step", "y"]]
    return rows.merge(across.rename(columns={"y": "x"}), on=["seed", "step"])


def frame(
    title: str, caption: str, widths: Sequence[float], height: float = 4
) -> tuple[Figure, np.ndarray]:
    """A row of panels under a title; the caption takes the title's second, empty line."""
    figure = Figure(figsize=(0.4 + 3.3 * sum(widths), height), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=11, fontweight="bold")
    top = round(1 - 0.28 / height, 4)
    figure.text(0.01, top, caption, va="top", fontsize=8.5, color="#404040")
    return figure, axes


def finish(figure: Figure, alt: str) -> Figure:
    """One legend for all panels, and the alt text; places that do not depend on the process."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if handles:
        _legend(figure, len(handles), handles.values(), handles.keys(), handlelength=2.6)
    figure.alt = alt
    return _settled(figure)


def _legend(figure: Figure, columns: int, *entries: Any, **look: Any) -> None:
    """The legend below all panels, in so many columns or in as many as there is room for."""
    for count in range(columns, 0, -1):
        legend = figure.legend(*entries, ncols=count, loc="outside lower center", **look)
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _settled(figure: Figure) -> Figure:
    figure.draw_without_rendering()  # the solver's last digits differ between processes
    figure.set_layout_engine("none")
    for axis in figure.axes:
        left, bottom, width, height = (round(v, 6) for v in axis.get_position().bounds)
        axis.set_position((left, bottom, width, height))
    return figure


def stacked(figure: Figure) -> Figure:
    """A copy of a finished figure for a narrow page: its panels stand one below the other, and no
    row of one becomes flatter."""
    tall = pickle.loads(pickle.dumps(figure))
    title = tall.get_suptitle()
    head, said = textwrap.wrap(title, 46), [t for t in tall.texts if t.get_text() != title]
    caption = textwrap.wrap(" ".join(text.get_text() for text in said), 62)
    panels = max(2.7 * len(tall.axes), tall.get_figheight() - 1.3)
    height = 0.5 + 0.2 * len(head) + 0.18 * len(caption) + panels
    tall.set_size_inches(4.4, height)
    with mpl.rc_context(RC):
        if title:
            room = [" "] * len(caption)
            look = dict(x=0.02, ha="left", fontsize=11, fontweight="bold")
            tall.suptitle("\n".join([*head, *room]), **look)
        for text in said:
            text.set(text="\n".join(caption), x=0.02, y=1 - (0.1 + 0.2 * len(head)) / height)
        for legend in list(tall.legends):
            legend.remove()
            _legend(
                tall, 2, legend.legend_handles, [text.get_text() for text in legend.get_texts()],
                labelcolor=[text.get_color() for text in legend.get_texts()],
                handlelength=legend.handlelength,
            )  # fmt: skip
        tall.set_layout_engine("constrained")
        for axis, cell in zip(tall.axes, GridSpec(len(tall.axes), 1, tall), strict=True):
            axis.set_in_layout(True)
            axis.set_subplotspec(cell)
        return _settled(tall)


def seeds_and_mean(axis: Axes, rows: pd.DataFrame, label: str, style: dict[str, Any]) -> None:
    """Every seed (columns seed, step, x, y) thin, their mean over shared steps thick."""
    for _, seed in rows.groupby("seed"):
        axis.plot(seed.x, seed.y, alpha=0.4, linewidth=0.8, **style | {"marker": ""})
    by_step = rows.groupby("step")[["x", "y"]]
    mean = by_step.mean()[by_step.size() == rows.seed.nunique()]
    axis.plot(mean.x, mean.y, label=label, linewidth=2.2, **style)


def draw_arm(axis: Axes, method: str, rows: pd.DataFrame, live: str) -> None:
    """An arm in its own style; a live run dashed, with open markers."""
    if live and len(rows):
        style = style_of(method) | dict(linestyle="--", markerfacecolor="white", zorder=4)
        axis.plot(rows.x, rows.y, label=f"{name_of(method)}, {live}", linewidth=1.6, **style)
    elif len(rows):
        seeds_and_mean(axis, rows, name_of(method), style_of(method))


def headroom(axis: Axes, room: float = 1.05) -> float:
    """The top of an axis, with some room."""
    return axis.get_ylim()[1] * room


def confusion(pairs: Sequence[tuple[str, str | None]], names: Sequence[str], title: str) -> Figure:
    """How often what is there (rows) was read as what (columns, the last: none of them), from
    (there, read) pairs; in percent of a row."""
    columns = [*names, "none"]
    there, read = zip(*((a, b if b in names else "none") for a, b in pairs), strict=True)
    counts = pd.crosstab(pd.Categorical(there, names), pd.Categorical(read, columns), dropna=False)
    shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    with mpl.rc_context(RC | {"axes.grid": False}):
        figure, (axis,) = frame(title, f"percent of each row; {len(pairs):,} readings", [1.7], 5)
        text = shares.map(lambda share: f"{share:.0f}" if share >= 0.5 else "")
        look = dict(cmap="Blues", vmin=0, vmax=100, square=True, cbar=False)
        sns.heatmap(shares, annot=text, fmt="", annot_kws={"size": 7.5}, ax=axis, **look)
        axis.set(xlabel="read as", ylabel="there")
        turned = dict(rotation=30, ha="right") if max(map(len, columns)) > 4 else {}
        axis.set_xticklabels(columns, **turned)
        axis.set_yticklabels(names, rotation=0)
        wrong = shares.stack().loc[lambda s: [a != b and v > 0 for (a, b), v in s.items()]]
        worst = sorted(((v, a, b) for (a, b), v in wrong.items()), reverse=True)[:3]
        most = ", ".join(f"{a} as {b} {share:.0f}%" for share, a, b in worst)
        right = np.trace(counts.to_numpy()) / max(len(pairs), 1)
        return finish(
            figure, f"{title}: {right:.0%} read right; most often wrong: {most or 'none'}."
        )


def gallery(pictures: Sequence[tuple[Image.Image, str]], title: str, columns: int = 3) -> Figure:
    """Pictures with what is to be said of each below it, in rows; every pixel is seen."""
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(RC):
        figure = Figure(
            figsize=(2.4 * columns, 0.5 + 2.7 * rows), layout="constrained", facecolor="none"
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=ON_ANY_PAGE)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (picture, said) in zip(axes, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
            look = dict(y=-0.05, va="top", fontsize=8, wrap=True, color=ON_ANY_PAGE)
            axis.set_title(said, loc="center", **look)
        return finish(figure, f"{title}: {'; '.join(said for _, said in pictures)}.")


def training_log(logs: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> Figure:
    """Logged columns against the step, raw; `logs` maps a label to `Run.metrics()`."""
    missing = sorted({c for c in (*columns, "step") for log in logs.values() if c not in log})
    if missing or not logs:
        known = sorted({c for log in logs.values() for c in log})
        raise SftrlError(
            f"the logs have no column {', '.join(missing)}; choose `columns` among "
            f"{', '.join(known) or 'those of a run that has logged a step'}."
        )
    with mpl.rc_context(RC):
        figure, axes = frame("Training log", "one line a run", [1.0] * len(columns))
        for axis, column in zip(axes, columns, strict=True):
            styles = cycle([style_of("rl"), style_of("sft"), *SPARE])
            for (label, log), style in zip(logs.items(), styles, strict=False):
                axis.plot(log.step, log[column], label=label, **style | {"marker": ""})
            axis.set(title=column, xlabel=X_AXES["step"])
        return finish(figure, f"Training log of {', '.join(logs)}: {', '.join(columns)} by step.")


def _own_init(data: Data, arm: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """The rows of the init that an arm starts from: of its own settings where there are such."""
    first = arm.iloc[0]
    inits = every[(every.method == "init") & (every.foundation == first.foundation)]
    own = inits[(inits.condition == first.condition) & (inits.source == first.source)]
    if first.condition != "{}" and len(own):
        return own
    usual = stats.recorded(every[every.foundation == first.foundation])
    return usual[(usual.method == "init") & (usual.condition == "{}")]


def _arm_label(arm: pd.DataFrame) -> str:
    first = arm.iloc[0]
    changed = [f"{k}={v}" for k, v in json.loads(first.condition).items()]
    changed += [first.foundation] * (first.foundation != "default")
    return " ".join([*["yours:"] * (first.source == "yours"), name_of(first.method), *changed])


def explored(data: Data) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(label, method, rows from its init on) of every arm, recorded and yours."""
    every = stack(data.ours, data.yours)
    arms = every[every.method != "init"]
    for _, arm in arms.groupby(["source", "method", "foundation", "condition"]):
        method = arm.method.iloc[0]
        # the model as it is delivered comes before the init: a point of its own
        table = arm if method == "base" else stack(_own_init(data, arm, every), arm)
        yield _arm_label(arm), method, table


def runs_behind(table: pd.DataFrame, method: str) -> dict[int, tuple[str, str]]:
    """{seed: (run of its points, run in which its start was measured, "" if none)} of an arm's
    rows."""
    own = dict(table[table.method == method].groupby("seed").run_id.first())
    start = table[table.method == ("base" if method == "base" else "init")]
    starts = dict(start.groupby("seed").run_id.last())
    return {int(seed): (run, starts.get(seed, "")) for seed, run in own.items()}


def explored_tries(data: Data) -> int:
    """Within how many tries all of them count as a success."""
    return stats.headline_tries(stats.recorded(stack(data.ours, data.yours)))


def explored_points(
    results: pd.DataFrame, split: str, metric: str, x: str, task: str, preset: str = "",
    arms: Sequence[str] = (), seeds: Sequence[int] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The points that `explore` draws: arm (its label), method, seed, step, x, y, run and start, in
    which runs it and its seed's start were measured."""
    data, found = Data(results, None, task, preset), []
    tries = explored_tries(data)
    for label, method, table in explored(data):
        if label in (arms or [label]):
            rows = points(table, method, split, metric, x, tries)
            behind = pd.DataFrame.from_dict(runs_behind(table, method), "index", dtype=str)
            if len(rows) and len(behind):
                behind.columns = ["run", "start"]
                rows = rows.assign(arm=label, method=method).join(behind, "seed")
                found.append(rows if seeds is None else rows[rows.seed.isin(list(seeds))])
    columns = ["arm", "method", "seed", "step", "x", "y", "run", "start"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def explore(
    results: pd.DataFrame,
    split: str = "rule_ood",
    metric: str = "success",
    x: str = "compute",
    task: str = "gp-l",
    preset: str = "",
    arms: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Figure:
    """Any metric of every arm, recorded and yours, ablations included, against any of X_AXES; of
    some `arms` by their labels, and some `seeds`, where these are named."""
    data = Data(results, None, task, preset)
    drawn = explored_points(results, split, metric, x, task, preset, arms, seeds)
    title = f"{data.tier}: {data.label(metric)}, {data.where(split)}"
    spare, said = cycle(SPARE), []
    with mpl.rc_context(RC):
        caption = f"success within {explored_tries(data)} tries; {SEEDS}"
        figure, (axis,) = frame(title, caption, [2.2])
        for label, rows in drawn.groupby("arm", sort=False):
            method = rows.method.iloc[0]
            plain = method in METHODS and label == name_of(method)
            style = style_of(method) if plain else next(spare)
            seeds_and_mean(axis, rows, label, style | {"clip_on": False})  # 0% whole too
            said.append(f"{label} ends at {rows.groupby('seed').y.last().mean():.2f}")
        axis.set(xlabel=X_AXES[x], ylabel=data.label(metric), ylim=(0, headroom(axis)))
        if not said:
            raise SftrlError(
                f"there are no results for {metric} on {split} ({data.tier}), and a figure draws "
                f"measured rows only; choose another, or make them with {data.how}."
            )
        figure.points = drawn.reset_index(drop=True)
        return finish(figure, f"{title} against {X_AXES[x]}. {'; '.join(said)}.")


def save(figure: Figure, name: str, folder: Path | str = FOLDER) -> Path:
    """Write name.png, name.svg, name.alt.txt and, of several panels, name-narrow.svg; the same
    figure gives the same bytes."""
    folder = writable(Path(folder))
    with mpl.rc_context(RC):
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        for ending, drawn in (("", figure), *(("-narrow", f) for f in _narrow(figure))):
            drawn.savefig(folder / f"{name}{ending}.svg", metadata={"Date": None, "Creator": None})
    write_atomic(folder / f"{name}.alt.txt", figure.alt + "\n")
    return folder / f"{name}.png"


def _narrow(figure: Figure, single: bool = False) -> list[Figure]:
    """The figure for a narrow page, if it should be another one there: of several panels, or of a
    `single` one whose letters would be too small to be read."""
    another = len(figure.axes) > 1 or (single and figure.get_figwidth() > 5)
    return [stacked(figure)] if another and not _photographs(figure) else []


def _photographs(figure: Figure) -> bool:
    return any(axis.images for axis in figure.axes)


def html(figure: Figure | Image.Image, alt: str = "", single: bool = False) -> str:
    """The figure as an <img> with its alt text, which survives every export of a notebook, and of
    several panels (or of a `single` one) another one for narrow pages; an image, e.g. a street
    view, with the `alt` text that is given. The class says what may change its colours on a dark
    page."""
    kind, narrow = "photograph", ""
    if isinstance(figure, AnyFigure):
        alt = figure.alt
        kind = "photograph" if _photographs(figure) else "drawing"
        drawn = _narrow(figure, single)
        sources = [f'<source media="{NARROW}" srcset="{_url(f)}">' for f in drawn]
        narrow = "".join(sources)
    style = "max-width: 100%; background: white"
    image = f'<img class="{kind}" src="{_url(figure)}" alt="{escape(alt)}" style="{style}">'
    return f"<picture>{narrow}{image}</picture>"


def _url(figure: AnyFigure | Image.Image) -> str:
    """The picture itself, as a URL."""
    buffer = io.BytesIO()
    if isinstance(figure, Image.Image):
        figure.save(buffer, "png")
    else:
        with mpl.rc_context(RC):
            figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def show(figure: Figure | Image.Image, alt: str = "") -> None:
    """Display the figure in a notebook."""
    display(HTML(html(figure, alt, single=True)))
