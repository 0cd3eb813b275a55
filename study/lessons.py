"""Small figures of the lessons, of what was played just now and of what the rows say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from sftrl_lib import stats

from . import plots

# What may become of an answer on cards, from right to worst; colours that stay apart in grey.
REASONS = {
    "solved": ("makes the target", "#007A5A"),
    "wrong_value": ("another value", "#9CC9E8"),
    "wrong_numbers": ("other numbers than the cards'", "#882255"),
    "misread_cards": ("misread cards", "#D9A441"),
    "illegal_formula": ("no formula", "#8C8C8C"),
    "unreadable": ("no answer", "#303030"),
}


def shares(reasons: Sequence[str]) -> dict[str, float]:
    """Percent of each reason, in the order of REASONS."""
    counted = Counter(reasons)
    return {reason: 100 * counted[reason] / len(reasons) for reason in REASONS}


def verdicts(played: Mapping[str, Mapping[str, Sequence[str]]]) -> plots.Figure:
    """What the verifier said of first answers: {panel: {player: reasons}}, a bar a player."""
    title = "What the verifier says of first answers"
    counts = {len(reasons) for players in played.values() for reasons in players.values()}
    caption = f"percent of {' or '.join(f'{n:,}' for n in sorted(counts))} answers a bar"
    with mpl.rc_context(plots.RC):
        height = 1.7 + 0.45 * max(map(len, played.values()))
        figure, axes = plots.frame(title, caption, [1.5] * len(played), height)
        said = []
        for axis, (panel, players) in zip(axes, played.items(), strict=True):
            for place, (player, reasons) in enumerate(players.items()):
                left, parts = 0.0, []
                for reason, share in shares(reasons).items():
                    words, color = REASONS[reason]
                    label = words if not place else None
                    if share or reason != "misread_cards":
                        axis.barh(place, share, 0.7, left, color=color, label=label)
                    left += share
                    parts += [f"{words} {share:.0f}%"] if share else []
                said.append(f"{panel}, {player}: {', '.join(parts)}")
            axis.set_yticks(range(len(players)), players)
            axis.set(title=panel, xlim=(0, 100), xlabel="percent of answers")
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


def exams(solved: Sequence[int], hands: int) -> plots.Figure:
    """One model, many exams of so many hands: what each would report, with Wilson's interval; the
    line is all exams together."""
    title = f"One model sits {len(solved)} exams of {hands} hands"
    every = 100 * sum(solved) / (hands * len(solved))
    with mpl.rc_context(plots.RC):
        caption = "hands solved at the first try; bars: Wilson's 95% interval; line: all exams"
        figure, (axis,) = plots.frame(title, caption, [2], 1.3 + 0.26 * len(solved))
        for place, right in enumerate(sorted(solved)):
            p, lo, hi = (100 * x for x in stats.wilson(right, hands))
            look = dict(fmt="o", capsize=3, color="#303030")
            axis.errorbar(p, place, xerr=[[p - lo], [hi - p]], **look)
            axis.annotate(f"{right}", (hi, place), xytext=(6, -3), textcoords="offset points")
        axis.axvline(every, color="#787878", linestyle="--", linewidth=0.9)
        axis.set(xlabel="hands solved (%)", yticks=[])
        axis.grid(axis="y", visible=False)
        said = ", ".join(map(str, sorted(solved)))
        return plots.finish(figure, f"{title}; solved: {said}. All together {every:.1f}%.")


def paired(
    before: Mapping[int, float], after: Mapping[str, Mapping[int, float]], label: str
) -> plots.Figure:
    """Each seed's way from the init to the end of each arm, a line a seed; above, the change with
    the t interval of the paired differences."""
    title = "Each seed is its own comparison"
    caption = "a line joins a seed's init to its arm; brackets: 95% t interval of the paired change"
    with mpl.rc_context(plots.RC):
        figure, axes = plots.frame(title, caption, [1.1] * len(after), 3.6)
        said, top = [], 0.0
        for axis, (method, ends) in zip(axes, after.items(), strict=True):
            for seed in sorted(set(before) & set(ends)):
                way = [100 * before[seed], 100 * ends[seed]]
                axis.plot((0, 1), way, **plots.style_of(method), linewidth=1)
                top = max(top, *way)
            by = stats.paired_change(before, ends)
            words = f"{100 * by.mean:+.1f} [{100 * by.lo:+.1f}, {100 * by.hi:+.1f}] points"
            axis.set(title=f"{plots.name_of(method)}: {words}", ylabel=label)
            axis.set_xticks((0, 1), ("init", plots.name_of(method)))
            axis.set_xlim(-0.25, 1.25)
            said.append(f"{plots.name_of(method)} {words}, {by.seeds} seeds")
        for axis in axes:
            axis.set_ylim(0, 1.08 * top)
        return plots.finish(figure, f"{title}. Change from the init: {'; '.join(said)}.")


def temperatures(
    found: Mapping[str, Mapping[str, Mapping[float, Mapping[int, float]]]], label: str
) -> plots.Figure:
    """One set of models, asked at several temperatures: {panel: {method: {temperature: {seed:
    share}}}}. Dotted: the init at its best."""
    title = "The same models, asked at other temperatures"
    caption = f"{plots.SEEDS}; 0 is greedy; dotted: the init at its best temperature"
    with mpl.rc_context(plots.RC):
        figure, axes = plots.frame(title, caption, [1.3] * len(found))
        said = []
        for axis, (panel, methods) in zip(axes, found.items(), strict=True):
            for method, by in methods.items():
                rows = pd.DataFrame(
                    [
                        (seed, at, at, 100 * v)
                        for at, ends in by.items()
                        for seed, v in ends.items()
                    ],
                    columns=["seed", "step", "x", "y"],
                ).sort_values(["seed", "step"])
                plots.seeds_and_mean(axis, rows, plots.name_of(method), plots.style_of(method))
                means = rows.groupby("x").y.mean()
                ways = ", ".join(f"{mean:.1f}% at {at:g}" for at, mean in means.items())
                said.append(f"{panel}, {plots.name_of(method)}: {ways}")
                if method == "init":
                    axis.axhline(means.max(), color="#595959", linestyle=":", linewidth=1)
            axis.set(title=panel, xlabel="temperature", ylabel=label, ylim=(0, 102))
            axis.set_xticks(sorted(by))
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


def forest(rows: Sequence[Mapping[str, Any]], title: str, caption: str) -> plots.Figure:
    """Claims as changes with their intervals and verdicts, from rows with id, label, method (whose
    mark stands for it), change, lo, hi, verdict; one without a change is named all the same."""
    open_ = {"not run": "#8C8C8C", "under way": "#8C8C8C"}  # drawn hollow
    looks = open_ | {"inconclusive": "#595959"}
    with mpl.rc_context(plots.RC):
        figure, (axis,) = plots.frame(title, caption, [2.3], 1.3 + 0.27 * len(rows))
        axis.axvline(0, color="#595959", linewidth=0.8)
        said = []
        for place, row in enumerate(rows):
            mean, lo, hi = (100 * row[key] for key in ("change", "lo", "hi"))
            words, style = row["verdict"], plots.style_of(row["method"])
            look = dict(color=style["color"], marker=style["marker"], linestyle="none")
            if not np.isnan(mean):
                error = [[mean - lo], [hi - mean]] if hi > lo else None
                face = "white" if words in open_ else None
                axis.errorbar(mean, place, xerr=error, capsize=3, markerfacecolor=face, **look)
            strong = dict(fontweight="bold") if words not in looks else {}
            at = dict(transform=axis.get_yaxis_transform(), va="center", fontsize=8.5)
            axis.text(1.02, place, words, color=looks.get(words, "#202020"), **strong, **at)
            interval = f" [{lo:+.1f}, {hi:+.1f}]" if hi > lo else ""
            change = "" if np.isnan(mean) else f" {mean:+.1f}{interval},"
            said.append(f"{row['label']}:{change} {words}")
        axis.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axis.set(xlabel="change, in points", ylim=(len(rows) - 0.5, -0.5))
        axis.set_xscale("symlog", linthresh=10)
        ticks = (-80, -40, -20, -10, -5, 0, 5, 10, 20, 40, 80)
        axis.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
        axis.set_xlim(-110, 110)
        axis.grid(axis="y", visible=False)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


def by_value(read: Mapping[str, pd.DataFrame], training: int) -> plots.Figure:
    """Share of face cards read as the question states, by the stated value: {panel: rows with
    method, said, true}; broad lines: the mean over the values below and above that of the
    `training`, which whoever recites it says, too. Shaded: values that no label holds."""
    title = "Is the stated value read? By the value that is stated"
    caption = "kept first answers, new rules; bars: Wilson's 95% interval; broad lines: means"
    with mpl.rc_context(plots.RC):
        figure, axes = plots.frame(title, caption, [1.5] * len(read))
        words = []
        for axis, (panel, rows) in zip(axes, read.items(), strict=True):
            axis.axvspan(training + 0.5, 13.6, color="#F3E3E8", label="in no label of the training")
            for shift, (method, own) in zip((0.15, -0.15), rows.groupby("method"), strict=True):
                right = (own.said == own.true).groupby(own.true).agg(["sum", "count"])
                shares = [stats.wilson(r["sum"], r["count"]) for _, r in right.iterrows()]
                p, lo, hi = (100 * np.array(x) for x in zip(*shares, strict=True))
                error, name = [np.maximum(p - lo, 0), np.maximum(hi - p, 0)], plots.name_of(method)
                look = plots.style_of(method) | dict(linestyle="none", alpha=0.7)
                across = right.index + shift
                axis.errorbar(across, p, error, fmt="none", ecolor=look["color"], elinewidth=0.8)
                axis.plot(across, p, label=name, **look)
                for side in (right.index < training, right.index > training):
                    ends, mean = right.index[side], p[side].mean()
                    edges = (ends.min() - 0.4, ends.max() + 0.4)
                    axis.plot(edges, (mean, mean), color=look["color"], linewidth=3)
                    words.append(f"{panel}, {name}, {ends.min()} to {ends.max()}: {mean:.0f}%")
            axis.set(title=panel, xlabel="stated value of a face card", ylim=(-2, 102))
            axis.set(ylabel="read as stated (%)", xlim=(0.4, 13.6), xticks=range(1, 14))
        return plots.finish(figure, f"{title}, means over the values. {'; '.join(words)}.")


def shares_of(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], title: str, caption: str, label: str
) -> plots.Figure:
    """A share of each method in each panel: {panel: {method: rows with value, lo, hi, a row a
    seed}}. Of several seeds: each one, and their mean with its t interval."""
    with mpl.rc_context(plots.RC):
        figure, axes = plots.frame(title, caption, [0.8] * len(panels), 3.6)
        said = []
        for axis, (panel, methods) in zip(axes, panels.items(), strict=True):
            means = []
            for place, (method, rows) in enumerate(methods.items()):
                several, one = len(rows) > 1, rows[["value", "lo", "hi"]].iloc[0]
                whole = stats.seed_mean(list(rows.value)) if several else stats.Estimate(*one)
                value, lo, hi = (100 * x for x in whole)
                style = plots.style_of(method) | dict(linestyle="none")
                error = [[value - max(lo, 0)], [min(hi, 100) - value]]
                axis.errorbar(place, value, error, capsize=3, markersize=8, **style)
                if several:
                    beside = place - np.linspace(0.15, 0.3, len(rows))
                    axis.plot(beside, 100 * rows.value, markersize=3, alpha=0.6, **style)
                means.append(f"{plots.name_of(method)} {value:.0f}%")
                axis.annotate(f"{value:.0f}", (place, value), xytext=(8, -3),
                              textcoords="offset points")  # fmt: skip
            axis.set_xticks(range(len(methods)), map(plots.name_of, methods))
            axis.set(title=panel, ylim=(-3, 104), xlim=(-0.5, len(methods) - 0.3), ylabel=label)
            said.append(f"{panel}: {', '.join(means)}")
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")
