"""Maps of generated cities: a route, the landmarks around it, and what an agent did on it."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from worlds.cities import City
from worlds.drawing import sign
from worlds.rail import Position
from worlds.routes import Route

from .plots import RC, finish, frame

_TRIES = {  # at one position
    "right": dict(color="#0072B2", marker="o"),
    "right after a wrong try": dict(color="#B58900", marker="s"),
    "wrong": dict(color="#D55E00", marker="X", markersize=13),  # room for a number
}
_LAND = "#ECE9E2"
_SIDES = [(9, 0, "left", "center"), (-9, 0, "right", "center"), (0, 9, "center", "bottom"),
          (0, -9, "center", "top"), (7, 7, "left", "bottom"), (7, -7, "left", "top"),
          (-7, 7, "right", "bottom"), (-7, -7, "right", "top")]  # fmt: skip


def city_map(
    city: City, route: Route, steps: Sequence[tuple[Position, Sequence[bool]]] = ()
) -> Figure:
    """A route on the map of its city, with the landmarks around it. `steps`: what the agent did:
    positions of the route's rail in order, each with whether its tries were right."""
    path = np.array([city.position(point) for point in (route.start, *route.points)])
    places = np.array([city.position(step.location) for step, _ in steps]).reshape(-1, 2)
    kinds = ["right" if tries[0] else list(_TRIES)[1 + (not any(tries))] for _, tries in steps]
    middle, half = (path.min(0) + path.max(0)) / 2, np.ptp(path, axis=0) / 2 + 75
    half = np.maximum(half, half[::-1] * (1.3, 1 / 1.3))  # metres shown: 1.3 times as many across
    title = f"{city.name.capitalize()}: from {route.origin} to {route.destination}"
    with mpl.rc_context(RC):
        figure, (axis,) = frame(title, _map_caption(route, kinds), [2.2], 6.4)
        (left, low), (right, high) = middle - half, middle + half
        axis.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])
        axis.set(aspect="equal", facecolor=_LAND)
        axis.spines[:].set_visible(False)
        axis.plot(*path.T, color="#595959", linewidth=2.4, label="route", zorder=3)
        ends = dict(linestyle="", color="#202020", markeredgecolor="white", zorder=5)
        axis.plot(*path[0], marker="D", markersize=16, label="start", **ends)
        axis.plot(*path[-1], marker="*", markersize=30, label="destination", **ends)
        for kind, style in _TRIES.items():
            if kind in kinds:
                x, y = places[[k == kind for k in kinds]].T
                look = dict(linestyle="", markersize=10, zorder=6) | style
                axis.plot(x, y, label=kind, **look)
        for number, place in enumerate(places, 1):
            where = dict(ha="center", va="center", zorder=7)
            axis.annotate(number, place, color="white", fontsize=6, **where)
        finish(figure, f"{title}. {_map_words(route, steps, kinds)}")
        figure.draw_without_rendering()  # for sizes on the page
        _streets(axis, city)
        shares = np.linspace(0, 1, 12)[:, None]
        legs = [a + shares * (b - a) for a, b in pairwise(path)]
        _landmarks(axis, city, route, np.vstack([*legs, *[path, places] * 3]))
    return figure


def _map_caption(route: Route, kinds: Sequence[str]) -> str:
    length = sum(stone.distance for stone in route.milestones)
    said = f"; {kinds.count('right')} of {len(kinds)} positions right at the first try"
    return f"{length} m in {len(route.points)} legs{said if kinds else ''}"


def _map_words(route: Route, steps: Sequence[tuple[Position, Any]], kinds: Sequence[str]) -> str:
    said = []
    for stone in route.milestones:
        mark = f" to {stone.landmark} ({stone.side})" if stone.landmark else ""
        said.append(f"{stone.distance} m at {stone.heading} degrees{mark}")
    did = [f"{i} ({steps[i - 1][0].kind}) {kind}" for i, kind in enumerate(kinds, 1)]
    return f"Legs: {'; '.join(said)}." + f" Positions: {', '.join(did)}." * bool(did)


def _streets(axis: Axes, city: City) -> None:
    """Streets and water, as wide as they are; where north is, and a scale."""
    edges = [[city.xy(node) for node in edge] for edge in city.graph.edges]
    meter = np.diff(axis.transData.transform([(0, 0), (1, 0)])[:, 0]) * 72 / axis.figure.dpi
    for lines, width, color in ((city.water, 40, "#B5D3E2"), (edges, 12, "white")):
        look = dict(linewidths=width * meter, colors=color, capstyle="round")
        axis.add_collection(LineCollection(lines, **look))
    (x, _), (y, _) = axis.get_xlim(), axis.get_ylim()
    axis.plot([x + 15, x + 115], [y + 15] * 2, color="#202020", linewidth=3)
    axis.annotate("100 m", (x + 65, y + 20), ha="center", va="bottom", fontsize=8)
    arrow = dict(arrowstyle="-|>", color="#202020")
    where = dict(xycoords="axes fraction", ha="center", va="top", arrowprops=arrow)
    axis.annotate("N", (0.97, 0.99), (0.97, 0.92), **where)


def _landmarks(axis: Axes, city: City, route: Route, taken: np.ndarray) -> None:
    """Icons of the landmarks in view, under what the agent did, and their names: the route's in
    bold, the others where there is room. `taken` (n, 2): places, in metres, no name should hide."""
    view = axis.viewLim.shrunk(0.95, 0.95)
    on_route = {route.origin, *(stone.landmark for stone in route.milestones)}
    corner = Bbox([axis.viewLim.p0, axis.viewLim.p0 + (135, 40)])  # the scale is there
    marks = [m for m in city.landmarks.values()
             if view.contains(*m.position) and not corner.contains(*m.position)]  # fmt: skip
    marks.sort(key=lambda mark: mark.name not in on_route)
    icons = [mark.position for mark in marks] * 3  # worse to hide than a place
    room = 7 * axis.figure.dpi / 72  # half the width of an icon
    spots = axis.transData.transform([*taken, *icons])
    busy = [Bbox([spot - room, spot + room]) for spot in spots]
    busy.append(corner.transformed(axis.transData))
    for mark in marks:
        icon = OffsetImage(np.asarray(sign(mark.kind, 56)), zoom=0.25)
        axis.add_artist(AnnotationBbox(icon, mark.position, frameon=False, pad=0, zorder=4))
        named = mark.name in on_route
        look = dict(fontsize=8, fontweight="bold") if named else dict(fontsize=6.5, color="#505050")
        name = axis.annotate(
            "\n".join(mark.name.rsplit(" ", 1)), mark.position, (0, 0), zorder=8, linespacing=1,
            textcoords="offset points", path_effects=[withStroke(linewidth=2, foreground=_LAND)],
            **look,
        )  # fmt: skip
        hidden = partial(_hidden, name, busy)
        if hidden(min(_SIDES, key=hidden)) and not named:
            name.remove()
        else:
            busy += [name.get_window_extent()] * 9  # worse still


def _hidden(name: Annotation, busy: Sequence[Bbox], side: tuple) -> int:
    """How many boxes a name on that side of its place would hide; 9 more if it is cut off."""
    name.set(position=side[:2], ha=side[2], va=side[3])
    box, page = name.get_window_extent(), name.axes.get_window_extent()
    inside = page.contains(*box.p0) and page.contains(*box.p1)
    return box.count_overlaps(busy) + 9 * (not inside)
