"""Widgets that look, and never train: an explorer of the recorded runs and a viewer of episodes.

Each calls a pure function (`plots.explore`, `render_episode`) that a page without a kernel can
call too.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import pandas as pd
from IPython.display import HTML, display

from commons.errors import SftrlError
from sftrl_lib.registry import TASKS

from . import plots

_COLORS = {True: "#0072B2", False: "#D55E00"}  # solved, failed; the word says it too


def _menu(name: str, labels: Mapping[str, str], first: str) -> ipywidgets.Dropdown:
    """A menu of {value: label}, at `first` where that is one of them."""
    options = [(label, value) for value, label in labels.items()]
    value = first if first in labels else next(iter(labels))
    return ipywidgets.Dropdown(options=options, value=value, description=name)


def explorer(results: pd.DataFrame, preset: str = "tiny") -> ipywidgets.Widget:
    """Choose task, tier, split, metric and x-axis of the runs, recorded and yours; a task's menus
    hold what is measured of it."""
    rows = results[results.source != "paper"]
    if not len(rows):
        raise SftrlError(
            "there are no recorded runs to explore; the repository's data/results.csv holds them, "
            f"or make your own with `{plots.REBUILD}`."
        )
    tasks = {name: name for name in TASKS if name in set(rows.task)}
    tiers = {name: name for name in sorted(set(rows.preset))}
    task, tier = _menu("task", tasks, "gp-l"), _menu("tier", tiers, preset)

    def labels(column: str, label: Callable[[str, str], str]) -> dict[str, str]:
        there = sorted(set(rows[rows.task == task.value][column]))
        return {name: label(name, task.value) for name in there}

    split = _menu("split", labels("split", plots.split_label), "rule_ood")
    metric = _menu("metric", labels("metric", plots.metric_label), "success")
    against = _menu("against", plots.X_AXES, "compute")

    def refill(_=None) -> None:
        for menu, column, label in (
            (split, "split", plots.split_label),
            (metric, "metric", plots.metric_label),
        ):
            kept, found = menu.value, labels(column, label)
            menu.options = [(said, name) for name, said in found.items()]
            menu.value = kept if kept in found else next(iter(found))

    def draw(**chosen: str) -> None:
        try:
            plots.show(plots.explore(results, **chosen))
        except SftrlError as nothing_there:  # not every pair of split and metric is measured
            display(HTML(f"<p>{escape(str(nothing_there))}</p>"))

    task.observe(refill, "value")
    menus = {"task": task, "preset": tier, "split": split, "metric": metric, "x": against}
    picture = ipywidgets.interactive_output(draw, menus)
    bar = ipywidgets.HBox(list(menus.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
    return ipywidgets.VBox([bar, picture])


def episode_viewer(
    episodes: Sequence[Mapping[str, Any]],
    picture: Callable[[Mapping[str, Any]], str] | None = None,
) -> ipywidgets.Widget:
    """Step through episodes (`Run.episodes`, `runs.episode_row`): all, the solved, the failed. In
    navigation an episode is one position of a route. `picture`: an episode's, by `plots.html`,
    drawn when the episode is shown."""
    if not episodes:
        raise SftrlError(
            "there are no episodes to show; pass those of a run (run.episodes()) or of a rollout "
            "([episode_row(task.prompt(e.item), e) for e in episodes])."
        )
    groups = {
        "all": list(episodes),
        "solved": [e for e in episodes if e["solved"]],
        "failed": [e for e in episodes if not e["solved"]],
    }
    options = [(f"{name} ({len(group)})", name) for name, group in groups.items() if group]
    which = ipywidgets.Dropdown(options=options, description="show")
    number = ipywidgets.BoundedIntText(value=1, min=1, max=len(episodes), description="episode")
    back, on = (ipywidgets.Button(description=text) for text in ("previous", "next"))
    page = ipywidgets.HTML()

    def turn(_=None) -> None:
        group = groups[which.value]
        number.max = len(group)
        back.disabled, on.disabled = number.value <= 1, number.value >= len(group)
        episode = group[number.value - 1]
        page.value = render_episode(episode, picture(episode) if picture else "")

    def move(by: int) -> None:
        number.value += by  # the bounds of the field hold

    which.observe(turn, "value")
    number.observe(turn, "value")
    back.on_click(lambda _: move(-1))
    on.on_click(lambda _: move(+1))
    turn()
    return ipywidgets.VBox([ipywidgets.HBox([which, number, back, on]), page])


def render_episode(episode: Mapping[str, Any], picture: str = "") -> str:
    """One episode as plain HTML: its picture (`plots.html`), if any, the question, then every
    answer with its verdict. All text is escaped: what a model writes is shown, never interpreted.
    """
    keys = ("step", "split", "index", "route", "position")
    facts = ", ".join(f"{k} {escape(str(episode[k]))}" for k in keys if k in episode)
    parts = [picture, f"<p><b>Question</b> {facts and f'({facts})'}</p>", _pre(episode["prompt"])]
    for number, answer in enumerate(episode["turns"], 1):
        verdict = episode["verdicts"][number - 1]
        solved = verdict["reason"] == "solved"
        message = "" if solved else f": {verdict['message']}"
        said = f"{verdict['reason'].replace('_', ' ')} ({verdict['reward']:+g}){message}"
        style = f"border-left: 4px solid {_COLORS[solved]}; padding-left: 0.6em"
        parts += [f"<p><b>Try {number}</b></p>", _pre(answer)]
        parts += [f'<p style="{style}">{escape(said)}</p>']
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _pre(text: str) -> str:
    style = "white-space: pre-wrap; overflow-wrap: anywhere; background: #F5F5F5; color: #222"
    return f'<pre style="{style}">{escape(str(text))}</pre>'
