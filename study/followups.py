"""Figures of notebook 07: what recorded rows say to the papers that came after."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from commons.errors import SftrlError
from sftrl_lib.experiment import Experiment
from sftrl_lib.registry import TASKS
from sftrl_lib.runs import RUNS, YOURS, find_run, is_done

from . import plots
from .one_knob import attempts
from .registration import confirmed, registered, registration
from .side_by_side import estimate, known_times
from .verdicts import task_of

TEMPERATURES = (0.0, 0.2, 1.0)  # at which ends of the second edition are played
WALKS = "walks, second edition"
# Inits whose success under both rules was measured on the development seeds, too.
STARTS = {"gp-l": ("h48-500", "success", 3), "virl-l": ("h48-500", "per_step", 2)}


# --- Distance and forgetting (2509.04259) ---------------------------------------------------------
def distances(results: pd.DataFrame, preset: str = "tiny") -> dict[str, pd.DataFrame]:
    """{panel: a row a checkpoint of every arm and seed}: method, seed, step, x the KL to the init
    in nats an answer, y the change of the headline under the new rule since the init, in points."""
    tables = {
        "cards": (results, "gp-l"),
        "cards in pictures": (results, "gp-vl"),
        "walks": (results, "virl-l"),
        WALKS: (confirmed(results, "virl-l"), "virl-l"),
        "street views": (results, "virl-vl"),
    }
    found = {}
    for name, (table, task) in tables.items():
        data = plots.Data(table, table.iloc[:0], task, preset)
        parts = []
        for method, rows, _ in data.lines("rule_ood", data.head, "kl_to_init"):
            start = rows.seed.map(rows[rows.step == 0].set_index("seed").y)
            if len(rows):
                parts.append(rows.assign(y=rows.y - start, method=method))
        if parts:
            found[name] = pd.concat(parts)[["method", "seed", "step", "x", "y"]]
    if not found:
        raise SftrlError(f"no arm of the tier {preset} has measured its KL to the init.")
    return found


def draw_distances(found: Mapping[str, pd.DataFrame]) -> plots.Figure:
    """`distances`, a panel each: thin, a seed's path; thick, the mean over seeds."""
    title, said = "How far it moved, and what that cost under the new rule", []
    with mpl.rc_context(plots.RC):
        caption = f"across: KL to the init; one path an arm, from the init; {plots.SEEDS}"
        figure, axes = plots.frame(title, caption, [0.52] * len(found))
        for axis, (name, rows) in zip(axes, found.items(), strict=True):
            for method, arm in rows.groupby("method", sort=False):
                plots.draw_arm(axis, method, arm, "")
                ends = arm[arm.step == arm.step.max()]
                end = f"{ends.x.mean():.1f} nats, {ends.y.mean():+.0f} points"
                said.append(f"{name}, {plots.name_of(method)} ends at {end}")
            axis.axhline(0, color="#595959", linewidth=0.8)
            axis.set(title=name.replace(", ", ",\n"), xlabel="KL (nats)")
            axis.locator_params(axis="x", nbins=4)
        axes[0].set_ylabel("change (points)")
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


# --- Along SFT (2509.12235) -----------------------------------------------------------------------
def sft_curves(results: pd.DataFrame, preset: str = "tiny") -> dict[str, dict[str, pd.DataFrame]]:
    """{edition: {split: SFT's points on walks (seed, step, y in percent)}}."""
    first = results[results.task == "virl-l"]
    editions = {"first edition": first, "second edition": confirmed(results, "virl-l")}
    found = {}
    for name, table in editions.items():
        data = plots.Data(table, table.iloc[:0], "virl-l", preset)
        data.need([("rule_ood", plots.HEAD), ("id_unseen", plots.HEAD)])
        found[name] = {
            split: plots.points(data.grid, "sft", split, data.head, "step", data.tries)
            for split in plots.BOTH
        }
    return found


def peak(points: pd.DataFrame) -> tuple[int, float]:
    """(step, value) of the highest point of the mean over seeds."""
    mean = points.groupby("step").y.mean()
    return int(mean.idxmax()), float(mean.max())


def draw_sft_curves(found: Mapping[str, Mapping[str, pd.DataFrame]]) -> plots.Figure:
    """`sft_curves`, a panel an edition, on one scale; a star at the peak under the new rule, a line
    where the first edition's budget ended."""
    title, said = "Walks: SFT, step by step", []
    looks = {"id_unseen": plots.style_of("init"), "rule_ood": plots.style_of("sft")}
    with mpl.rc_context(plots.RC):
        caption = f"per-step accuracy; {plots.SEEDS}; star: the peak of the mean"
        figure, axes = plots.frame(title, caption, [1, 1.7])
        first = max(rows.step.max() for rows in next(iter(found.values())).values())
        for axis, (name, splits) in zip(axes, found.items(), strict=True):
            for split, look in looks.items():
                rows = splits[split].assign(x=splits[split].step)
                where = plots.split_label(split, "virl-l")
                plots.seeds_and_mean(axis, rows, where, look)
                mean = rows.groupby("step").y.mean()
                said.append(f"{name}, {where}: from {mean.iloc[0]:.0f}% to {mean.iloc[-1]:.0f}%")
            step, top = peak(splits["rule_ood"])
            axis.plot(step, top, "*", ms=17, mfc="none", mec="#202020", zorder=5)
            said.append(f"{name}: peak at step {step}")
            axis.axvline(first, color="#202020", linestyle="--", linewidth=0.8)
            axis.set(title=name, xlabel=plots.X_AXES["step"], ylim=(0, 103))
        axes[0].set_ylabel("per-step accuracy (%)")
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


# --- Sharpening (2601.21590) ----------------------------------------------------------------------
def at_temperatures(results: pd.DataFrame, section: str = "virl-l") -> pd.DataFrame:
    """Ends of a registered section's arms, and their inits, at each temperature: method, seed,
    split, temperature, y (headline in percent); of the seeds of which every arm has ended."""
    usual = registration()["common"]["eval_temperature"]
    whole = confirmed(results, section)
    rows = results[results.run_id.isin(whole.run_id) & results.seed.isin(whole.seed)]
    given = [json.loads(text).get("eval_temperature", usual) for text in rows.condition]
    rows = rows.assign(temperature=given)
    headline = TASKS[task_of(section)].headline
    rows = rows[(rows.metric == headline) & rows.split.isin(plots.BOTH)]
    rows = rows[rows.tries == rows.tries.max()]
    by = ["method", "seed", "split", "temperature"]
    last = rows[rows.step == rows.groupby(by).step.transform("max")]
    mean = last.groupby(by).value.mean().mul(100).rename("y").reset_index()
    return mean[mean.temperature.isin(TEMPERATURES)]


def gains(ends: pd.DataFrame, method: str = "rl", split: str = "id_unseen") -> pd.Series:
    """By temperature: the mean gain of an arm over its init, in points, paired by seed."""
    table = ends[ends.split == split].pivot_table(
        index=["temperature", "seed"], columns="method", values="y"
    )
    return (table[method] - table["init"]).groupby("temperature").mean()


def draw_temperatures(ends: pd.DataFrame) -> plots.Figure:
    """`at_temperatures`: a panel a split, a line a method."""
    title, said = "Walks: the same weights, sampled more and less freely", []
    words = {"id_unseen": "ID, unseen", "rule_ood": "rule OOD"}
    with mpl.rc_context(plots.RC):
        caption = f"second edition, ends; {plots.SEEDS}"
        figure, axes = plots.frame(title, caption, [1.2, 1.2])
        for axis, (split, name) in zip(axes, words.items(), strict=True):
            for method in ("init", "sft", "rl"):
                rows = ends[(ends.split == split) & (ends.method == method)]
                places = rows.temperature.map(TEMPERATURES.index)
                plots.draw_arm(axis, method, rows.assign(x=places, step=places), "")
                mean = rows.groupby("temperature").y.mean()
                parts = ", ".join(f"{y:.0f}% at {t:g}" for t, y in mean.items())
                said.append(f"{name}, {plots.name_of(method)}: {parts}")
            axis.set_xticks(range(len(TEMPERATURES)), ["0 (greedy)", "0.2", "1"])
            axis.set(title=name, xlabel="temperature", ylim=(0, 103))
        axes[0].set_ylabel("per-step accuracy (%)")
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


# --- Small rates (2509.20758) ---------------------------------------------------------------------
def draw_trades() -> plots.Figure:
    """What a rate loses for what it gains: OOD against ID, a point a rate, of the first edition's
    attempts on the development seeds."""
    title, said = "What a learning rate loses for what it gains", []
    with mpl.rc_context(plots.RC):
        tables = {task: attempts(task, *which) for task, which in STARTS.items()}
        runs = sorted({n for tried in tables.values() for n in tried.n})
        caption = f"development seeds, {runs[0]} to {runs[-1]} runs a point; labels: the rate"
        figure, axes = plots.frame(title, caption, [1.3, 1.3])
        for axis, (task, tried) in zip(axes, tables.items(), strict=True):
            for method in ("init", "sft", "rl"):
                arm = tried[tried.method == method].pivot(
                    index="lr", columns="split", values="value"
                )
                axis.plot(arm.id_unseen, arm.rule_ood, label=plots.name_of(method),
                          **plots.style_of(method))  # fmt: skip
                for lr, point in arm.iterrows():
                    place = (point.id_unseen, point.rule_ood)
                    if method != "init":  # the highest rate below its line
                        aside = ((-4, -10), "right") if lr == arm.index.max() else ((5, 4), "left")
                        look = dict(zip(("xytext", "ha"), aside, strict=True), fontsize=7.5)
                        name = f"{lr:.0e}".replace("e-0", "e-")
                        axis.annotate(name, place, textcoords="offset points", **look)
                    at = f" at {lr:.0e}" * (method != "init")
                    said.append(f"{task}, {plots.name_of(method)}{at}: ID {place[0]:.0f}%, "
                                f"OOD {place[1]:.0f}%")  # fmt: skip
            label = plots.metric_label(STARTS[task][1], task)
            name = "cards" if task == "gp-l" else "walks"
            axis.set(title=name, xlabel=f"ID, unseen: {label}", ylabel=f"rule OOD: {label}")
            axis.margins(0.12)
        return plots.finish(figure, f"{title}. {'; '.join(said)}.")


# --- What is implemented and was not run ----------------------------------------------------------
def command(exp: Experiment) -> str:
    """The command that makes a run, in runs/yours."""
    named = {"task": exp.task.name, **exp.differences, "seed": exp.seed}
    options = " ".join(f"--{name} {_typed(value)}" for name, value in named.items())
    return f"python -m sftrl_lib {exp.method.name} {options}"


def _typed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def candidates() -> list[tuple[str, str, Experiment]]:
    """(paper, method in words, one seed's run) of what has code here."""
    seed = 10
    walk = {
        "DFT: a token's loss by its own probability": ("2508.05629", "dft", {}),
        "SFT with an anchor: KL to the init in the loss": ("2509.23753", "sft+kl", {}),
        "the model's own accepted answers, sampled anew": ("2510.18874", "rejection", {}),
    }
    for share in (0.02, 0.05, 0.1):
        name = f"SFT, {share:.0%} of its rows under other rules"
        walk[name] = ("2510.00237", "sft+mix", {"kind": "rules", "share": share})
    replay = {"kind": "replay", "share": 0.1}
    walk["SFT, 10% of its rows from pre-training"] = ("this book", "sft+mix", replay)
    found = [
        (paper, name, registered("virl-l", method, seed, **more))
        for name, (paper, method, more) in walk.items()
    ]
    words = Experiment(task="gp-l", method="sft+mix", seed=seed, kind="words", share=0.1)
    return [*found, ("this book", "cards: SFT, 10% of its rows hold 11, 12, 13", words)]


def not_run(root: Path = RUNS) -> pd.DataFrame:
    """What is implemented and has no finished run in `root`: source, method, core-hours of a seed
    at the pace of recorded SFT, command."""
    known, rows = known_times(RUNS, YOURS), []
    for paper, name, exp in candidates():
        if not is_done(find_run(exp, root)):
            hours = estimate([exp], root, known) / 3600
            shown = "not known" if math.isnan(hours) else f"{hours:.1f}"
            rows.append((paper, name, shown, command(exp)))
    return pd.DataFrame(rows, columns=["from", "what", "core-hours", "command"])
