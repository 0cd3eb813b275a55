"""Figures of notebook 06: one setting turned, everything else held."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd

from sftrl_lib import stats
from sftrl_lib.places import ROOT

from . import plots
from .grids import TUNING_TABLE

FIRST_FOUNDATION = ROOT / "data" / "first_foundation.csv"
NOMINAL, EXECUTED = "nominal: every token once", "executed: what was computed"


def price_of_tries(arms: pd.DataFrame) -> pd.DataFrame:
    """Compute in FLOPs by tries in training, of the ablation's rows: columns NOMINAL, EXECUTED."""
    ends = arms[arms.step == arms.groupby("run_id").step.transform("max")]
    names = {"compute": NOMINAL, "compute_done": EXECUTED}
    return ends.groupby("train_tries")[[*names]].mean().rename(columns=names)


def draw_price(price: pd.DataFrame) -> plots.Figure:
    """`price_of_tries` as bars, in multiples of what one try was planned to cost."""
    title, least = "What a budget buys, and what is spent", price[NOMINAL].min()
    shares = price / least
    look = {
        NOMINAL: dict(color="white", edgecolor="#595959", hatch="////"),
        EXECUTED: dict(color=plots.style_of("rl")["color"], alpha=0.7),
    }
    said = []
    with mpl.rc_context(plots.RC):
        caption = "mean over seeds; 1: the nominal compute of the arm with one try"
        figure, (axis,) = plots.frame(title, caption, [1.7])
        for i, (name, style) in enumerate(look.items()):
            places = [place + 0.4 * (i - 0.5) for place in range(len(shares))]
            axis.bar(places, shares[name], 0.38, label=name, **style)
            parts = [f"{t} {v:.1f}" for t, v in shares[name].items()]
            said.append(f"{name}, by tries: {', '.join(parts)}")
        axis.set_xticks(range(len(shares)), [str(tries) for tries in shares.index])
        axis.set(xlabel="tries in training", ylabel="compute (multiples)")
        axis.grid(axis="x", visible=False)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


def attempts(task: str, foundation: str, metric: str, tries: int) -> pd.DataFrame:
    """Last measurements on the development seeds, in percent: a row a split, method and rate, with
    the number of runs in the column n."""
    rows = pd.read_csv(TUNING_TABLE)
    rows = rows[(rows.task == task) & (rows.foundation == foundation)]
    rows = rows[~rows.condition.str.contains("scheme", regex=False)]  # another reward
    rows = rows[rows.step == rows.groupby("run_id").step.transform("max")]
    rows = rows[(rows.metric == metric) & (rows.tries == tries)]
    found = rows.groupby(["split", "method", "lr"]).value.agg(["mean", "size"]).reset_index()
    return found.rename(columns={"size": "n"}).assign(value=100 * found["mean"])


def draw_rates(
    tried: pd.DataFrame,
    title: str,
    label: str,
    panels: Mapping[str, str],
    chosen: Mapping[str, float],
) -> plots.Figure:
    """`attempts` against the learning rate: a panel a split (with its title), a line an arm, a ring
    around the `chosen` rate; dotted, the init."""
    runs = sorted(set(tried.n))
    said = []
    with mpl.rc_context(plots.RC):
        count = " to ".join(str(n) for n in dict.fromkeys((runs[0], runs[-1])))
        caption = f"development seeds, {count} run{'s' * (runs[-1] > 1)} a point; ring: chosen"
        figure, axes = plots.frame(title, caption, [1.3 if len(panels) > 1 else 1.7] * len(panels))
        for axis, (split, words) in zip(axes, panels.items(), strict=True):
            here = tried[tried.split == split]
            for level in here[here.method == "init"].value:
                look = dict(color=plots.style_of("init")["color"], linestyle=":")
                axis.axhline(level, label=plots.name_of("init"), **look)
            for method, lr in chosen.items():
                arm = here[here.method == method]
                axis.plot(arm.lr, arm.value, label=plots.name_of(method), **plots.style_of(method))
                ring = arm[(arm.lr / lr).between(0.99, 1.01)]
                axis.plot(ring.lr, ring.value, "o", mfc="none", mec="#202020", ms=13)
                parts = [f"{r.lr:.0e} {r.value:.1f}%" for r in arm.itertuples()]
                said.append(f"{words}, {plots.name_of(method)} by rate: {', '.join(parts)}")
            axis.set(title=words, xlabel="learning rate", ylabel=label, xscale="log")
            axis.set_ylim(0, plots.headroom(axis))
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


def gains_by_tries(table: pd.DataFrame, tries: int = 3) -> dict[int, stats.Change]:
    """{tries in training: RL's change of success under the new rule}, paired by seed with the init
    that the table holds; at the end of training, within `tries` tries."""
    rows = table[(table.split == "rule_ood") & (table.metric == "success")]
    rows = rows[(rows.tries == tries) & rows.method.isin(["init", "rl"])]
    rows = rows[rows.step == rows.groupby(["run_id", "method"]).step.transform("max")]
    start = dict(rows[rows.method == "init"].groupby("seed").value.first())
    arms = rows[rows.method == "rl"].groupby("train_tries")
    return {int(k): stats.paired_change(start, dict(a.groupby("seed").value.mean()))
            for k, a in arms}  # fmt: skip


def draw_gains(starts: Mapping[str, Mapping[int, stats.Change]]) -> plots.Figure:
    """`gains_by_tries` of several starts, by their names."""
    title = "The same knob, turned at two starts"
    styles: Sequence[dict] = [plots.style_of("rl"), plots.SPARE[1]]
    said = []
    with mpl.rc_context(plots.RC):
        caption = "RL's change from its init, points; bars: 95% t interval over seeds"
        figure, (axis,) = plots.frame(title, caption, [2])
        for place, ((name, gains), style) in enumerate(zip(starts.items(), styles, strict=True)):
            at = [tries * (0.96 + 0.08 * place) for tries in gains]
            mean, lo, hi = (
                [100 * getattr(g, part) for g in gains.values()] for part in ("mean", "lo", "hi")
            )
            error = [[m - a for m, a in zip(mean, lo, strict=True)],
                     [b - m for m, b in zip(mean, hi, strict=True)]]  # fmt: skip
            axis.errorbar(at, mean, error, label=name, capsize=3, **style)
            parts = [f"{t} {m:+.1f}" for t, m in zip(gains, mean, strict=True)]
            said.append(f"{name}, by tries in training: {', '.join(parts)}")
        axis.axhline(0, color="#595959", linewidth=0.8)
        axis.set(xlabel="tries in training", ylabel="rule OOD, change (points)", xscale="log")
        ticks = sorted({t for gains in starts.values() for t in gains})
        axis.set_xticks(ticks, [str(t) for t in ticks])
        axis.set_xticks([], minor=True)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")
