"""What the pages of the HTML book take from the results table: its tables, and its pictures as they
are drawn for wide and narrow, light and dark pages."""

from html import escape
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import Directive

from sftrl_lib import stats
from sftrl_lib.registry import TASKS
from study.plots import NARROW, name_of

from . import forecast
from .claims import claims_table
from .followups import at_temperatures
from .hero import CELLS
from .speeds import record
from .verdicts import points, registered, said, task_of

FIGURES = "_static/figures"  # where `study.book` copies the figures to
ARMS = ("init", "rl", "sft")
# The rows of a task's table: what they are called, split, metric.
ROWS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "gp-l": (
        ("hands seen in training, same rule", "id_seen", "success"),
        ("unseen hands, same rule", "id_unseen", "success"),
        ("unseen hands, new rule", "rule_ood", "success"),
        ("new rule: formula uses the right numbers", "rule_ood", "numbers_right"),
    ),
    "virl-l": (
        ("routes seen in training, same actions", "id_seen", "per_step"),
        ("unseen routes, same actions", "id_unseen", "per_step"),
        ("unseen routes, new actions", "rule_ood", "per_step"),
        ("new actions, turns only", "rule_ood", "turn_accuracy"),
        ("new actions: the right turn, in any words", "rule_ood", "turn_found"),
        ("new actions: a turn in the right words", "rule_ood", "words_right"),
        ("new actions: whole routes", "rule_ood", "success"),
        ("routes in other cities, same actions", "visual_ood", "per_step"),
    ),
    "gp-vl": (
        ("pictured hands seen in training, same rule", "id_seen", "success"),
        ("unseen pictured hands, same rule", "id_unseen", "success"),
        ("unseen pictured hands, new rule", "rule_ood", "success"),
        ("unseen red hands, same rule", "visual_ood", "success"),
        ("the most probable answer, no retry: same rule", "id_unseen", "success_greedy"),
        ("the most probable answer, no retry: new rule", "rule_ood", "success_greedy"),
        ("the most probable answer, no retry: red hands", "visual_ood", "success_greedy"),
        ("same rule: cards seen right", "id_unseen", "recognition"),
        ("same rule: whole hands seen right", "id_unseen", "hand_read"),
        ("new rule: face cards read as it says", "rule_ood", "value_reading"),
        ("red hands: cards seen right", "visual_ood", "recognition"),
        ("red hands: whole hands seen right", "visual_ood", "hand_read"),
    ),
    "virl-vl": (
        ("seen routes, street views, same actions", "id_seen", "per_step"),
        ("unseen routes, street views, same actions", "id_unseen", "per_step"),
        ("unseen routes, street views, new actions", "rule_ood", "per_step"),
        ("street views of other cities, same actions", "visual_ood", "per_step"),
        ("the most probable answer, no retry: same actions", "id_unseen", "per_step_greedy"),
        ("the most probable answer, no retry: new actions", "rule_ood", "per_step_greedy"),
        ("the most probable answer, no retry: other cities", "visual_ood", "per_step_greedy"),
        ("whole routes, street views, same actions", "id_unseen", "success"),
        ("whole routes, street views, new actions", "rule_ood", "success"),
        ("whole routes, street views of other cities", "visual_ood", "success"),
        ("street views, new actions: the right turn, in any words", "rule_ood", "turn_found"),
        ("street views, new actions: a turn in the right words", "rule_ood", "words_right"),
        ("same actions: crossings seen right", "id_unseen", "intersection_seen"),
        ("same actions: landmarks seen right", "id_unseen", "landmark_seen"),
        ("other cities: crossings seen right", "visual_ood", "intersection_seen"),
        ("other cities: landmarks seen right", "visual_ood", "landmark_seen"),
    ),
}


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def task_table(results: pd.DataFrame, task: str) -> str:
    """Init, RL and SFT of a task at the end of training, with the changes from the init."""
    grid = stats.main_grid(results[(results.task == task) & (results.preset == "tiny")])
    rows = []
    for words, split, metric in ROWS[task]:
        whole = metric in ("success", TASKS[task].headline)
        tries = stats.headline_tries(grid) if whole else 1
        init, *arms = (dict(stats.last(grid, m, split, metric, tries).value) for m in ARMS)
        cells = [f"{100 * fmean(init.values()):.1f}"]
        for end in arms:
            mean, low, high = (100 * x for x in stats.paired_change(init, end)[:3])
            value = 100 * fmean(end.values())
            cells.append(f"{value:.1f} ({mean:+.1f} [{low:+.1f}, {high:+.1f}])")
        rows.append((words, *cells))
    return markdown(("Test", "init", "RL", "SFT"), rows)


def cells_table(rows: list[dict[str, Any]]) -> str:
    """The twelve cells of the paper's table beside ours, from the rows of `claims_table`."""
    said = []
    for row in rows:
        if row["paper"]:
            change, method = row["change"], row["id"].rpartition(".")[2]
            paper = 100 * (row["paper"][method] - row["paper"]["init"])
            here = ""
            if change:
                mean, low, high = (100 * change[key] for key in ("mean", "lo", "hi"))
                here = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
            said.append((row["id"], f"{paper:+.1f}", here, row["verdict"]))
    return markdown(("Cell", "paper", "here", "verdict"), said)


def registered_table(rows: list[dict[str, Any]]) -> str:
    """The registered claims with what their runs say, from the rows of `verdicts.registered`: a
    table of those that have begun, a list of the others."""
    begun, missing = [], []
    for row in rows:
        task = task_of(row["section"]).upper().replace("VIRL", "V-IRL")
        claim = f"{task}: {row['statement']}"
        if not row["n"]:
            missing.append(f"* {claim}")
            continue
        p = row["p_holm"]
        p = "" if isnan(p) else f", p {p:.2g}" if p >= 0.001 else ", p below 0.001"
        begun.append(
            (claim, points(row), f"{said(row)} ({row['n']} of {row['registered']} seeds{p})")
        )
    table = markdown(("Claim", "change, points", "verdict"), begun) if begun else ""
    return "\n".join([table, *(["Not run yet:", "", *missing, ""] if missing else [])])


def twelve_table(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> str:
    """The twelve cells of the paper's table, changes from the init in points: the paper's, the
    first edition's (rows of `claims_table`), the second's (rows of `verdicts.registered`)."""
    before = {row["id"]: row for row in first}
    lines = []
    for row in second:
        cell, _, method = row["id"].rpartition(".")
        old = before[row["id"]]
        paper = 100 * (old["paper"][method] - old["paper"]["init"])
        change = f"{100 * old['change']['mean']:+.1f}, {old['verdict']}" if old["change"] else "–"
        what = f"{CELLS[cell]}, {name_of(method)}"
        lines.append((what, f"{paper:+.1f}", change, points(row), said(row)))
    return markdown(("Test and arm", "paper", "first edition", "second edition", "verdict"), lines)


def temperatures_table(results: pd.DataFrame, section: str) -> str:
    """The ends of a registered section by split and sampling temperature, the init's beside."""
    found = at_temperatures(results, section)
    found = found.groupby(["split", "temperature", "method"]).y.mean().unstack()
    labels, rows = TASKS[task_of(section)].split_labels, []
    for (split, temperature), means in found.iterrows():
        values = (f"{means[arm]:.1f}" for arm in ARMS)
        rows.append((labels.get(split, split), f"{temperature:g}", *values))
    return markdown(("Test", "temperature", "init", "RL", "SFT"), rows)


def write_tables(results: pd.DataFrame, folder: Path) -> None:
    """Every table that the pages include."""
    tables = {task: task_table(results, task) for task in ROWS}
    tables["cells"] = cells_table(claims_table(results))
    for section in ("gp-l", "virl-l"):
        tables[f"{section}-temperatures"] = temperatures_table(results, section)
    rows = registered(results)
    for name in dict.fromkeys(row["family"] for row in rows):
        family = [row for row in rows if row["family"] == name]
        cells = name == "secondary"  # they are the paper's
        table = twelve_table(claims_table(results), family) if cells else registered_table(family)
        tables[name] = table
    for name, (head, lines) in forecast.tables(record("forecast")).items():
        tables[name] = markdown(head, lines)
    folder.mkdir()
    for name, table in tables.items():
        (folder / f"{name}.md").write_text(table)


def picture(figures: Path, name: str, up: str = "") -> str:
    """A figure as HTML with its alt text. Narrow pages get NAME-narrow and dark ones NAME-dark,
    where there are such files; `up` leads from the page to the book's root."""
    alt = escape((figures / f"{name}.alt.txt").read_text().strip())

    def drawn(ending: str, shown: str) -> str:
        narrow = f"{name}{ending}-narrow.svg"
        source = ""
        if (figures / narrow).exists():
            source = f'<source media="{NARROW}" srcset="{up}{FIGURES}/{narrow}">'
        image = f'<img class="{shown}" src="{up}{FIGURES}/{name}{ending}.svg" alt="{alt}">'
        return f"<picture>{source}{image}</picture>"

    if (figures / f"{name}-dark.svg").exists():
        return drawn("", "only-light") + drawn("-dark", "only-dark")
    return drawn("", "drawing")


class Picture(Directive):
    """A figure of figures/ or a drawing of book/diagrams/ by its name: `{picture} hero`. Drawings
    stand in the page itself, so that they take its colours."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes that stand for it."""
        (name,), environment = self.arguments, self.state.document.settings.env
        source = Path(environment.srcdir)
        drawing = source / "diagrams" / f"{name}.svg"
        if drawing.exists():
            kind, html = "diagram", drawing.read_text()
        else:
            up = "../" * environment.docname.count("/")
            kind, html = "picture", picture(source / FIGURES, name, up)
        return [nodes.container("", nodes.raw("", html, format="html"), classes=[kind])]
