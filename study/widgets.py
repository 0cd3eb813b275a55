"""Widgets that look, and never train: an explorer of the recorded runs and a viewer of episodes.

Each calls a pure function (`plots.explore`, `render_episode`) that a page without a kernel can
call too.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from commons.errors import SftrlError
from sftrl_lib.registry import TASKS
from sftrl_lib.runs import RUNS, YOURS, Run, read_manifest

from . import plots

_COLORS = {True: "#0072B2", False: "#D55E00"}  # solved, failed; the word says it too


def _menu(name: str, labels: Mapping[str, str], first: str) -> ipywidgets.Dropdown:
    """A menu of {value: label}, at `first` where that is one of them."""
    options = [(label, value) for value, label in labels.items()]
    value = first if first in labels else next(iter(labels))
    return ipywidgets.Dropdown(options=options, value=value, description=name)


def explorer(results: pd.DataFrame, preset: str = "tiny") -> ipywidgets.Widget:
    """Choose task, tier, split, metric and x-axis of the runs, recorded and yours; a task's menus
    hold what is measured of it. Compare all arms or two, leave seeds out, and read the episodes
    behind a point: of two arms each is there to be clicked, or chosen in the menu."""
    rows = results[results.source != "paper"]
    if not len(rows):
        raise SftrlError(
            "there are no recorded runs to explore; the repository's data/results.csv holds them, "
            f"or make your own with `{plots.REBUILD}`."
        )
    return _Explorer(results, rows, preset)


ALL = "all arms"


class _Explorer(ipywidgets.VBox):
    """The widget of `explorer`."""

    def __init__(self, results: pd.DataFrame, rows: pd.DataFrame, preset: str) -> None:
        self.results, self.rows, self.is_turning = results, rows, False
        tasks = {name: name for name in TASKS if name in set(rows.task)}
        tiers = {name: name for name in sorted(set(rows.preset))}
        self.task, self.preset = _menu("task", tasks, "gp-l"), _menu("tier", tiers, preset)
        self.split = _menu("split", self._labels("split", plots.split_label), "rule_ood")
        self.metric = _menu("metric", self._labels("metric", plots.metric_label), "success")
        self.x = _menu("against", plots.X_AXES, "compute")
        self.one, self.other = (_menu(name, {ALL: ALL}, ALL) for name in ("compare", "with"))
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        self.seeds = ipywidgets.HBox(layout=wrap)
        self.point = _menu("episodes", {"": "of no point"}, "")
        self.point.layout.width, self.point.layout.max_width = "34em", "100%"
        back, on = (ipywidgets.Button(description=f"{to} point") for to in ("previous", "next"))
        back.on_click(lambda _: self._step(-1))
        on.on_click(lambda _: self._step(+1))
        self.picture, self.below = _overlaid(), ipywidgets.VBox()
        menus = (self.task, self.preset, self.split, self.metric, self.x)
        second = ipywidgets.HBox([self.one, self.other, self.seeds], layout=wrap)
        bar = ipywidgets.HBox(menus, layout=wrap)
        points = ipywidgets.HBox([self.point, back, on], layout=wrap)
        super().__init__([bar, second, self.picture, points, self.below])
        for menu, follow in (
            (self.task, self._turn_task), (self.preset, self._turn_task), (self.split, self._draw),
            (self.metric, self._draw), (self.x, self._draw), (self.one, self._turn_arm),
            (self.other, self._turn_arm), (self.point, self._read),
        ):  # fmt: skip
            menu.observe(follow, "value")
        self._turn_task()

    def _labels(self, column: str, label: Callable[[str, str], str]) -> dict[str, str]:
        there = sorted(set(self.rows[self.rows.task == self.task.value][column]))
        return {name: label(name, self.task.value) for name in there}

    def _turn_task(self, _=None) -> None:
        self.is_turning = True
        _refill(self.split, self._labels("split", plots.split_label))
        _refill(self.metric, self._labels("metric", plots.metric_label))
        data = plots.Data(self.results, None, self.task.value, self.preset.value)
        arms = {label: label for label, _, _ in plots.explored(data)}
        _refill(self.one, {ALL: ALL, **arms})
        _refill(self.other, arms or {ALL: ALL})
        self.is_turning = False
        self._turn_arm()

    def _turn_arm(self, _=None) -> None:
        """The seeds of the arms that are compared, each with a box."""
        if self.is_turning:
            return
        self.other.disabled = self.one.value == ALL
        data = plots.Data(self.results, None, self.task.value, self.preset.value)
        there: set[int] = set()
        for label, method, table in plots.explored(data):
            if label in (self.arms or [label]):
                there |= set(table[table.method == method].seed)
        left_out = {box.description for box in self.seeds.children if not box.value}
        boxes = []
        for seed in sorted(there):
            name = f"seed {seed}"
            box = ipywidgets.Checkbox(
                value=name not in left_out, description=name, indent=False,
                layout=ipywidgets.Layout(width="auto"),
            )  # fmt: skip
            box.observe(self._draw, "value")
            boxes.append(box)
        self.seeds.children = boxes
        self._draw()

    @property
    def arms(self) -> list[str]:
        """The labels of the arms that are compared; none: all."""
        return (
            [] if self.one.value == ALL else list(dict.fromkeys([self.one.value, self.other.value]))
        )

    @property
    def chosen(self) -> dict[str, Any]:
        """What `plots.explore` is called with."""
        seeds = [int(box.description.split()[1]) for box in self.seeds.children if box.value]
        return {
            "split": self.split.value, "metric": self.metric.value, "x": self.x.value,
            "task": self.task.value, "preset": self.preset.value, "arms": self.arms,
            "seeds": seeds,
        }  # fmt: skip

    def _draw(self, _=None) -> None:
        if self.is_turning:
            return
        try:
            figure = plots.explore(self.results, **self.chosen)
        except SftrlError as nothing_there:  # not every pair of split and metric is measured
            self.points = pd.DataFrame()
            self.picture.children = (ipywidgets.HTML(f"<p>{escape(str(nothing_there))}</p>"),)
        else:
            self.points = figure.points
            self._show(figure)
        names = {"": "of no point"} | {f"{n}": _said(p) for n, p in self.points.iterrows()}
        _refill(self.point, names)

    def _show(self, figure: plots.Figure) -> None:
        """The figure and, where two arms are compared, a button upon each of their points."""
        picture = ipywidgets.HTML(_LOOK + plots.html(figure), layout=ipywidgets.Layout(**_IN_PLACE))
        buttons = []
        if self.arms:
            axis = figure.axes[0]
            ends = axis.transData.transform(self.points[["x", "y"]].to_numpy(float))
            self.places = np.array([0, figure.bbox.height]) + ends * [1, -1]  # from the top left
            colors = {line.get_label(): line.get_color() for line in axis.lines}
            for n, arm in enumerate(self.points.arm):
                buttons.append(self._button(n, *self.places[n] / figure.bbox.width, colors[arm]))
        self.picture.children = (picture, *buttons)

    def _button(self, n: int, across: float, down: float, color: str) -> ipywidgets.Button:
        """`across` and `down`: shares of the picture's width, as CSS has margins."""
        half, size = _SIZE / 2, f"{_SIZE}px"
        margin = f"calc({down:.2%} - {half}px) 0 0 calc({across:.2%} - {half}px)"
        layout = ipywidgets.Layout(
            width=size, height=size, padding="0", margin=margin, border=f"1.5px solid {color}",
            **_IN_PLACE,
        )  # fmt: skip
        said = _said(self.points.loc[n])
        button = ipywidgets.Button(tooltip=said, layout=layout, tabbable=False)  # the menu is
        button.add_class("explorer-point")
        button.on_click(lambda _: self._choose(n))
        return button

    def _choose(self, n: int) -> None:
        """A click: where several points lie upon each other, another one takes the next."""
        away = np.hypot(*(self.places - self.places[n]).T)
        near = [f"{m}" for m in np.argsort(away, kind="stable") if away[m] <= _SIZE]
        near.insert(0, near.pop(near.index(f"{n}")))
        after = near.index(self.point.value) + 1 if self.point.value in near else 0
        self.point.value = near[after % len(near)]

    def _step(self, by: int) -> None:
        """To another point of the menu."""
        self.point.index = (self.point.index + by) % len(self.point.options)

    def _read(self, _=None) -> None:
        """The episodes of the point that is chosen."""
        if not self.point.value:
            self.below.children = ()
            return
        try:
            found = kept_episodes(self.points.loc[int(self.point.value)], self.split.value)
        except SftrlError as damaged:
            self.below.children = (ipywidgets.HTML(f"<p>{escape(str(damaged))}</p>"),)
            return
        none = ipywidgets.HTML("<p>No episodes of this point were kept.</p>")
        self.below.children = (episode_viewer(found) if found else none,)


_IN_PLACE = {"grid_area": "1 / 1"}  # all in one cell, so that margins say where
_SIZE = 9  # pixels of a point
_LOOK = """<style>
.explorer-point.explorer-point { background: white; border-radius: 50%; min-width: 0; z-index: 1;
  box-sizing: border-box; }
.explorer-point:is(:hover, :focus) { outline: 2px solid #404040; outline-offset: 1px; }
</style>"""


def _overlaid() -> ipywidgets.GridBox:
    layout = ipywidgets.Layout(
        grid_template_columns="100%", align_items="flex-start", justify_items="flex-start",
        width="100%", max_width="919px", overflow="hidden",
    )  # fmt: skip
    return ipywidgets.GridBox(layout=layout)


def _refill(menu: ipywidgets.Dropdown, labels: Mapping[str, str]) -> None:
    """Other choices in a menu, which stays where it was if that is one of them."""
    kept = menu.value
    options = tuple((label, value) for value, label in labels.items())
    if menu.options != options:
        menu.options = options
        menu.value = kept if kept in labels else next(iter(labels))


def _said(point: Any) -> str:
    return f"{point.arm}, seed {point.seed}, step {point.step}: {point.y:.3g}"


def kept_episodes(point: Any, split: str) -> list[dict[str, Any]]:
    """The episodes that were kept of a point (a row of `plots.explored_points`), on a split."""
    name = point.run if point.step else point.start
    folder = (RUNS if (RUNS / name).is_dir() else YOURS) / name
    if not name or not folder.is_dir():
        return []
    run = Run(folder, read_manifest(folder))
    own = run.manifest["config"]["method"]
    rows = [row for row in run.episodes() if row["split"] == split]
    if point.step:
        return [r for r in rows if r.get("method", own) == own and r["step"] == point.step]
    return [r for r in rows if r.get("method", own) in ("init", "base")]


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
        color = _COLORS[verdict["reason"] == "solved"]
        style = f"border-left: 4px solid {color}; padding-left: 0.6em"
        parts += [f"<p><b>Try {number}</b></p>", _pre(answer)]
        parts += [f'<p style="{style}">{escape(verdict_words(verdict))}</p>']
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def verdict_words(verdict: Mapping[str, Any]) -> str:
    """An episode's verdict in a line: the reason, the reward, and what the model was told."""
    message = "" if verdict["reason"] == "solved" else f": {verdict['message']}"
    return f"{verdict['reason'].replace('_', ' ')} ({verdict['reward']:+g}){message}"


def _pre(text: str) -> str:
    style = "white-space: pre-wrap; overflow-wrap: anywhere; background: #F5F5F5; color: #222"
    return f'<pre style="{style}">{escape(str(text))}</pre>'
