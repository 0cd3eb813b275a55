"""Cities as data: a street graph with landmarks and a look, read from data/cities/cities.json.

The generator that made them is in foundry/; a newer library there cannot change what is tested
here.
"""

import json
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import networkx as nx
from pydantic import TypeAdapter

from commons.errors import SftrlError, check

from .pictures import Color
from .routes import Point

_HERE = Path(__file__).resolve().parent
_IN_CHECKOUT = _HERE.parent / "data" / "cities"
FOLDER = _IN_CHECKOUT if _IN_CHECKOUT.is_dir() else _HERE / "data"  # the latter in a wheel
TRAINING_CITY = "quadrel"
KINDS = ("cafe", "bank", "hotel", "museum", "pharmacy", "school", "theatre", "park")
Position = tuple[float, float]  # metres east and north of the city's origin
DEGREE = math.radians(1) * 6_371_000  # metres in a degree of latitude


@dataclass(frozen=True)
class Look:
    """How a city looks; every city has a look of its own (visual OOD)."""

    sky: Color
    ground: Color  # pavement
    street: Color
    facades: tuple[Color, ...]
    windows: Color


read_look = TypeAdapter(Look).validate_python  # of plain data: lists become tuples


@dataclass(frozen=True)
class Landmark:
    """A named place on a corner of a crossing."""

    name: str
    kind: str  # one of the kinds that `drawing` has an icon and a colour for: see KINDS
    position: Position  # off the street, on a real block


@dataclass(frozen=True, eq=False)  # hashed by identity: what is drawn of a city is cached
class City:
    """A street graph. Nodes have x and y: metres east and north of the origin; edges are straight
    streets with a length in metres."""

    name: str
    graph: nx.Graph
    landmarks: dict[int, Landmark]  # by node: at most one landmark a crossing
    look: Look
    origin: Point  # latitude and longitude of (0, 0)
    water: tuple[tuple[Position, Position], ...] = ()  # canals: where their middle starts and ends

    def xy(self, node: int) -> Position:
        """Metres east and north of the origin."""
        return self.graph.nodes[node]["x"], self.graph.nodes[node]["y"]

    def point(self, position: Position) -> Point:
        """Latitude and longitude (to a centimetre) of a position in metres."""
        lat, lng = self.origin
        east, north = position
        across = DEGREE * math.cos(math.radians(lat))
        return round(lat + north / DEGREE, 7), round(lng + east / across, 7)

    def position(self, point: Point) -> Position:
        """Metres east and north of the origin: the inverse of `point`."""
        across = DEGREE * math.cos(math.radians(self.origin[0]))
        return (point[1] - self.origin[1]) * across, (point[0] - self.origin[0]) * DEGREE

    def streets(self, node: int) -> list[tuple[float, int]]:
        """(bearing in degrees, next crossing) of the streets that leave a crossing, clockwise."""
        here = self.xy(node)
        return sorted((bearing(here, self.xy(there)), there) for there in self.graph[node])


def bearing(a: Position, b: Position) -> float:
    """Degrees clockwise from north, 0..360, of the way from a to b."""
    return math.degrees(math.atan2(b[0] - a[0], b[1] - a[1])) % 360


def as_json(city: City) -> dict[str, Any]:
    """A city as plain data; `from_json` makes the same city of it."""
    return {
        "name": city.name,
        "origin": city.origin,
        "look": vars(city.look),
        "crossings": [city.xy(node) for node in sorted(city.graph)],
        "streets": [list(street) for street in city.graph.edges],
        "landmarks": {
            node: [mark.name, mark.kind, *mark.position] for node, mark in city.landmarks.items()
        },
        "water": city.water,
    }


def from_json(data: dict[str, Any]) -> City:
    """A city from plain data."""
    graph = nx.Graph()
    for node, (x, y) in enumerate(data["crossings"]):
        graph.add_node(node, x=x, y=y)
    for a, b in data["streets"]:
        graph.add_edge(a, b, length=math.dist(*(data["crossings"][n] for n in (a, b))))
    marks = {
        int(node): Landmark(name, kind, (x, y))
        for node, (name, kind, x, y) in data["landmarks"].items()
    }
    water = tuple(((*start,), (*end,)) for start, end in data["water"])
    return City(data["name"], graph, marks, read_look(data["look"]), tuple(data["origin"]), water)


@cache
def _all() -> dict[str, dict[str, Any]]:
    path = FOLDER / "cities.json"
    try:
        return {one["name"]: one for one in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError) as error:
        raise SftrlError(
            f"cannot read {path} ({error}); restore it from the repository."
        ) from error


def names() -> tuple[str, ...]:
    """The cities, the training city first."""
    return tuple(_all())


@lru_cache
def city(name: str) -> City:
    """The city of a name; SftrlError on any other."""
    check("the city", name, name in _all(), names())
    return from_json(_all()[name])


def city_of(point: Point) -> City:
    """The city around a point: the one with the nearest origin (they are far apart)."""
    return city(min(names(), key=lambda name: math.dist(_all()[name]["origin"], point)))
