"""The picture on the cover, its like for walks, and the twelve cells of the paper's table beside
ours: drawn from the results table and the kept episodes, each on a light and on a dark page."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from commons.errors import SftrlError
from sftrl_lib import stats
from sftrl_lib.runs import experiment_of
from sftrl_lib.tasks import make_task
from study.plots import FOLDER, RC, Data, Figure, finish, name_of, save, style_of

from .claims import claims_table
from .registration import confirmed
from .verdicts import registered

ARMS = ("init", "rl", "sft")
FACES = ("J", "Q", "K")
STAGES = {  # what is tested, further from training at every step
    "id_seen": "hands it\ntrained on",
    "id_unseen": "new hands",
    "rule_ood": "new hands,\nnew rule",
}
WALK_STAGES = {
    "id_seen": "routes it\ntrained on",
    "id_unseen": "new routes",
    "rule_ood": "new routes,\nnew words",
}
# Two new rules for face cards: by numbers that some label of the training holds, and by others.
RULES = {
    "rule_five": "J, Q, K = 5: in SFT's training answers",
    "rule_ood": "J, Q, K = 11, 12, 13: not in them",
}
# What an answer says that a face card counts as: colour of the bar, of the number in it.
SHADES = (("#007A5A", "white"), ("#882255", "white"), ("#C8C8C8", "#202020"))
READINGS = ("what the rule says", "10, the training rule", "something else")
# What a first answer does where a turn is due: the same three shades.
TURNS = ("the right turn, in the new words", "the right turn, in the old words", "no right turn")
CELLS = {  # the six tests of the paper's table, by the first part of a claim's id
    "gp-l.rule": "GP-L: new rule",
    "gp-vl.rule": "GP-VL: new rule",
    "gp-vl.visual": "GP-VL: red cards",
    "virl-l.rule": "V-IRL-L: new words",
    "virl-vl.rule": "V-IRL-VL: new words",
    "virl-vl.visual": "V-IRL-VL: other cities",
}
DARK = {
    key: "#D8DEE6"
    for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
} | {"grid.color": "#3A424D"}


def readings(results: pd.DataFrame, task: str, split: str, preset: str = "tiny") -> pd.DataFrame:
    """What the kept first answers of a split say about face cards, of the runs behind the rows of
    the grid: a row for each, with columns method, said (missing where the answer breaks off) and
    true."""
    from study.notebook import recorded_episodes, recorded_run  # slow to import

    rows = []
    grid = stats.main_grid(results[(results.task == task) & (results.preset == preset)])
    for method in ARMS:
        for seed in sorted(set(grid.seed[grid.method == method])):
            run = recorded_run(method, preset, int(seed), task, grid)
            game = make_task(experiment_of(run.manifest["config"]))
            kept = recorded_episodes(method, split, preset, int(seed), task, grid)
            for index, episode in kept.items():
                deal = game.item(split, int(seed), index)
                read = game.read_values(deal, episode["turns"][0])
                rows += [(method, said, true) for card, said, true in read if card[0] in FACES]
    return pd.DataFrame(rows, columns=["method", "said", "true"])


def shares(read: pd.DataFrame, training: int = 10) -> pd.DataFrame:
    """Percent of the face cards, a row a method and a column for each of READINGS."""
    right, old = read.said == read.true, read.said == training
    columns = dict(zip(READINGS, (right, old & ~right, ~right & ~old), strict=True))
    return pd.DataFrame(columns).groupby(read.method).mean().mul(100)


def turns(data: Data) -> pd.DataFrame:
    """Percent of the positions where a turn is due under the new words, means over seeds: a row a
    method and a column for each of TURNS."""
    found, right = (data.ends("rule_ood", metric) for metric in ("turn_found", "turn_accuracy"))
    rows = {}
    for method in [m for m in ARMS if m in found]:
        said, told = found[method].value.mean(), right[method].value.mean()
        rows[method] = (told, said - told, 1 - said)
    return pd.DataFrame.from_dict(rows, orient="index", columns=TURNS).mul(100)


def hero(
    results: pd.DataFrame, read: dict[str, pd.DataFrame], dark: bool = False, preset: str = "tiny"
) -> Figure:
    """Success of the second edition's cards (`registration.confirmed`), from the hands of the
    training to a new rule; beside it what a face card is said to count as under each of RULES, from
    its `readings`."""
    data = Data(results, None, "gp-l", preset)
    groups = {
        f"{RULES[split]} ({rows.method.value_counts().max():,} cards)": shares(rows)
        for split, rows in read.items()
    }
    return _beside(
        data, STAGES, "success", "Hands solved (cards as text)", groups,
        "A new rule: what is a face card said to count as?", dark,
    )  # fmt: skip


def walks(results: pd.DataFrame, dark: bool = False, preset: str = "tiny") -> Figure:
    """The same of the second edition's walks (`registration.confirmed`): actions that are right,
    from the routes of the training to new words for a turn; and what is said where one is due."""
    data = Data(results, None, "virl-l", preset)
    data.need([("rule_ood", metric) for metric in ("turn_found", "turn_accuracy")])
    return _beside(
        data, WALK_STAGES, "per_step", "Actions that are right (walks)", {"": turns(data)},
        "Turns have new names. What is said at a corner?", dark,
    )  # fmt: skip


def _beside(
    data: Data, stages: dict[str, str], metric: str, left: str, groups: dict[str, pd.DataFrame],
    right: str, dark: bool,
) -> Figure:  # fmt: skip
    """Slopes over the stages under the title `left`; beside them, under `right`, a block of stacked
    bars for each of the groups {heading: percent, a row a method}."""
    data.need([(split, metric) for split in stages])
    with mpl.rc_context(_page(dark)):
        height = 2.9 + 0.6 * len(groups)
        figure = Figure(figsize=(10.2, height), layout="constrained", facecolor="none")
        slopes, bars = figure.subplots(1, 2, width_ratios=[1, 1.25])
        said = [_slopes(slopes, data, stages, metric, left, dark), _bars(bars, groups, right)]
        what = next(iter(groups.values())).columns
        patches = [
            Patch(color=color, label=label) for label, (color, _) in zip(what, SHADES, strict=True)
        ]
        look = dict(handlelength=1, columnspacing=1.2, loc="outside lower center")
        figure.legend(handles=patches, ncols=len(patches), **look)
        return finish(figure, " ".join(said))


def _slopes(
    axis: Axes, data: Data, stages: dict[str, str], metric: str, title: str, dark: bool
) -> str:
    heights = {}
    for method in ARMS:
        ends = [data.ends(split, metric).get(method) for split in stages]
        heights[method] = [100 * end.value.mean() for end in ends if end is not None]
    for method, y in heights.items():
        color = _shade(style_of(method)["color"], dark)
        look = style_of(method) | dict(color=color, linewidth=1.6 + (method != "init"))
        axis.plot(range(len(y)), y, markersize=7, **look)
    top = max(map(max, heights.values()))
    gap = 0.06 * top
    for place in range(len(stages)):
        shown = sorted((y[place], method) for method, y in heights.items() if len(y) > place)
        middle = 0 < place < len(stages) - 1  # there above its mark, the lowest below
        lift = [-gap * middle, *[gap * middle] * (len(shown) - 1)]
        spots = _apart([height + up for (height, _), up in zip(shown, lift, strict=True)], gap)
        # On the side where lines are flatter.
        left = middle and _steepest(heights, place + 1) > _steepest(heights, place)
        for spot, (height, method) in zip(spots, shown, strict=True):
            text = dict(color=_shade(style_of(method)["color"], dark), va="center", fontsize=9.5)
            if place == 0:
                name = f"{name_of(method)}  {height:.0f}%"
                axis.text(-0.09, spot, name, ha="right", fontweight="bold", **text)
            else:
                aside, side = (-0.07, "right") if left else (0.09, "left")
                axis.text(place + aside, spot, f"{height:.0f}%", ha=side, **text)
    axis.set(
        title=title,
        xlim=(-0.6, len(stages) - 0.65),
        ylim=(-gap, top + 1.8 * gap),  # room for a number above the highest mark
        yticks=[],
    )
    axis.set_xticks(range(len(stages)), stages.values())
    axis.spines["left"].set_visible(False)
    axis.grid(visible=False)
    seeds = data.grid.seed[data.grid.method == "rl"].nunique()
    lines = "; ".join(
        f"{name_of(m)} {', '.join(f'{height:.0f}%' for height in y)}" for m, y in heights.items()
    )
    where = "; ".join(label.replace("\n", " ") for label in stages.values())
    return (
        f"{title}, within {data.tries} tries, means over {seeds} seeds, in three tests ({where}): "
        f"{lines}."
    )


def _steepest(heights: dict[str, list[float]], stage: int) -> float:
    """The largest change on the way to a stage."""
    return max(abs(y[stage] - y[stage - 1]) for y in heights.values() if len(y) > stage)


def _apart(heights: list[float], gap: float) -> list[float]:
    """The same rising heights, moved up where they are closer than the gap."""
    spots: list[float] = []
    for height in heights:
        spots.append(max([height, *(spot + gap for spot in spots[-1:])]))
    return spots


def _bars(axis: Axes, groups: dict[str, pd.DataFrame], title: str) -> str:
    said, ticks, place = [], {}, 0.0
    for heading, rows in groups.items():
        axis.text(0, place + 0.1, heading, va="center")
        parts = []
        for method, row in rows.reindex(ARMS).dropna().iterrows():
            place -= 1
            ticks[place] = name_of(str(method))
            left = np.cumsum([0, *row[:-1]])
            for start, share, (color, inside) in zip(left, row, SHADES, strict=True):
                axis.barh(place, share, 0.78, start, color=color)
                if share >= 8:
                    look = dict(ha="center", va="center", color=inside, fontweight="bold")
                    axis.text(start + share / 2, place, f"{share:.0f}%", **look)
            told = ", ".join(f"{share:.0f}% {what}" for what, share in row.items())
            parts.append(f"{name_of(str(method))} {told}")
        said.append(f"{heading}: {'; '.join(parts)}".removeprefix(": "))
        place -= 1.3
    axis.set(title=title)
    axis.set_yticks(list(ticks), ticks.values())
    axis.set(xlim=(0, 100), ylim=(place + 0.7, 0.5 if any(groups) else -0.5), xticks=[])
    axis.tick_params(left=False)
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)
    return f"{title} First answers under the new rule. {'. '.join(said)}."


def _page(dark: bool) -> dict[str, Any]:
    """Settings of matplotlib on a light or dark page, whose own colour shows through."""
    return RC | {"axes.facecolor": "none"} | (DARK if dark else {})


def _shade(color: str, dark: bool) -> str:
    """The colour, lighter on a dark page."""
    return to_hex(0.62 * np.array(to_rgb(color)) + 0.38) if dark else color


def newest(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `claims_table`, the first edition's; with what the second edition (rows of
    `verdicts.registered`) found instead wherever all its seeds are there."""
    decided = {row["id"]: row for row in second if row["verdict"] != "not run"}
    found = []
    for row in first:
        if again := decided.get(row["id"]):
            change = {"mean": again["change"], "lo": again["lo"], "hi": again["hi"]}
            row = row | {"change": change, "verdict": again["verdict"], "edition": "second"}
        found.append({"edition": "first"} | row)
    return found


def forest(rows: list[dict[str, Any]], dark: bool = False, narrow: bool = False) -> Figure:
    """The twelve cells of the paper's table as changes from the init, from the rows of `newest`:
    ours with 95% intervals over seeds, paler where they are the first edition's; the paper's, which
    prints none, hollow."""
    cells = {row["id"]: row for row in rows if row["paper"]}
    if not any(row["change"] for row in cells.values()):
        raise SftrlError("none of the paper's twelve cells was run; make the recorded runs first.")
    with mpl.rc_context(_page(dark)):
        size = (4.4, 6) if narrow else (8.6, 5.2)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        axis, said, marks = figure.subplots(), [], []
        axis.axvline(0, color=mpl.rcParams["text.color"], linewidth=0.8)
        for method, shift in (("rl", -0.16), ("sft", 0.16)):
            style = style_of(method)
            look = dict(color=_shade(style["color"], dark), marker=style["marker"], markersize=7)
            for whose, filled in (("here", "full"), ("in the paper", "none")):
                label = f"{name_of(method)} {whose}"
                marks.append(Line2D([], [], label=label, ls="none", fillstyle=filled, **look))
            for place, (cell, label) in enumerate(CELLS.items()):
                row = cells[f"{cell}.{method}"]
                said.append(f"{label}, {name_of(method)}: {_cell(axis, place + shift, row, look)}")
        labels = [label.replace(": ", ":\n") if narrow else label for label in CELLS.values()]
        axis.set_yticks(range(len(CELLS)), labels)
        axis.set(ylim=(len(CELLS) - 0.5, -0.5), xlim=(-110, 110))
        axis.set_xlabel("change from the init, in points")
        axis.set_xscale("symlog", linthresh=10)
        ticks = (5, 20, 80) if narrow else (5, 10, 20, 40, 80)
        ticks = (*(-tick for tick in reversed(ticks)), 0, *ticks)
        axis.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
        axis.grid(axis="y", visible=False)
        figure.legend(handles=marks, ncols=2 if narrow else 4, loc="outside lower center")
        return finish(figure, f"Changes from the init, in points. {' '.join(said)}")


def _cell(axis: Axes, place: float, row: dict[str, Any], look: dict[str, Any]) -> str:
    """Draw one cell; what there is to be said of it."""
    method = row["id"].rpartition(".")[2]
    paper = 100 * (row["paper"][method] - row["paper"]["init"])
    axis.plot(paper, place, linestyle="none", fillstyle="none", **look)
    if not row["change"]:
        return f"paper {paper:+.1f}, here not run."
    mean, low, high = (100 * row["change"][key] for key in ("mean", "lo", "hi"))
    error, strength = [[mean - low], [high - mean]], 1 if row["edition"] == "second" else 0.45
    axis.errorbar(mean, place, xerr=error, capsize=3, linestyle="none", alpha=strength, **look)
    here = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}], {row['verdict']} ({row['edition']} edition)"
    return f"paper {paper:+.1f}, here {here}."


def save_all(results: pd.DataFrame, folder: Path | str = FOLDER) -> list[Path]:
    """All three pictures, for light and dark pages, wide and narrow."""
    cards, again = (confirmed(results, section) for section in ("gp-l", "virl-l"))
    read = {split: readings(cards, "gp-l", split) for split in RULES}
    rows = newest(claims_table(results), registered(results))
    saved = []
    for ending, dark in (("", False), ("-dark", True)):
        saved.append(save(hero(cards, read, dark), f"hero{ending}", folder))
        saved.append(save(walks(again, dark), f"walks{ending}", folder))
        saved.append(save(forest(rows, dark), f"forest{ending}", folder))
        saved.append(save(forest(rows, dark, narrow=True), f"forest{ending}-narrow", folder))
    return saved
