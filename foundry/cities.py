"""How the cities were made: street graphs with landmarks, and routes through them.

Every city differs from every other in geometry, in names and in looks. All of it follows from the
recipes below: nothing is drawn from a global stream, and the same recipe makes the same city with
the same networkx and scipy. `write` makes the data that `worlds.cities` reads.
"""

import json
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from commons.errors import SftrlError
from worlds.cities import (
    KINDS,
    TRAINING_CITY,
    City,
    Landmark,
    Look,
    Position,
    as_json,
    bearing,
    read_look,
)
from worlds.pictures import Color
from worlds.routes import Milestone, Route, content_hash, sector, turn_word, unseen

from .released import write_routes


# --- Geometry -------------------------------------------------------------------------------------
# Each function makes a graph whose nodes have x and y, in metres, before the city is turned.
def _placed(graph: nx.Graph, places: Mapping[Any, Sequence[float]]) -> nx.Graph:
    for node in graph:
        graph.nodes[node]["x"], graph.nodes[node]["y"] = places[node]
    return graph


def _grid(widths: Sequence[float], heights: Sequence[float]) -> nx.Graph:
    """Straight streets at right angles; `widths` and `heights` of the blocks, in metres."""
    xs, ys = (list(accumulate(sizes, initial=0)) for sizes in (widths, heights))
    graph = nx.grid_2d_graph(len(xs), len(ys))
    return _placed(graph, {(c, r): (xs[c], ys[r]) for c, r in graph})


def _avenues(graph: nx.Graph, rising: Sequence[int], falling: Sequence[int]) -> nx.Graph:
    """Broadways across a grid: column - row (rising) or column + row (falling) is constant. All
    of one parity, so that they meet at crossings only."""
    for c, r in list(graph):
        for ahead, there in (((c + 1, r + 1), c - r in rising), ((c + 1, r - 1), c + r in falling)):
            if there and ahead in graph:
                graph.add_edge((c, r), ahead)
    return graph


def _canals(graph: nx.Graph, bridges: dict[int, Sequence[int]]) -> nx.Graph:
    """Water between the rows r and r + 1 of a grid, with bridges in the columns bridges[r]."""
    right = max(c for c, _ in graph)
    for r, kept in bridges.items():
        graph.remove_edges_from([((c, r), (c, r + 1)) for c in range(right + 1) if c not in kept])
        ends = [graph.nodes[c, r]["x"] + beyond for c, beyond in ((0, -60), (right, 60))]
        north = (graph.nodes[0, r]["y"] + graph.nodes[0, r + 1]["y"]) / 2
        graph.graph.setdefault("water", []).append(tuple((east, north) for east in ends))
    return graph


def _brick(columns: int, rows: int, width: float, height: float) -> nx.Graph:
    """Rows of blocks, each shifted by half a block against the next: every crossing is a T."""
    graph = _grid([width / 2] * columns * 2, [height] * rows)
    across = [(c, r) for c, r in graph if (c + r) % 2 and r < rows]
    graph.remove_edges_from([((c, r), (c, r + 1)) for c, r in across])
    return graph


def _rings(spokes: int, radii: Sequence[float]) -> nx.Graph:
    """A round place, avenues that leave it, and ring roads around it."""
    graph = nx.cartesian_product(nx.cycle_graph(spokes), nx.path_graph(len(radii)))
    places = {}
    for s, i in graph:
        angle = 2 * math.pi * s / spokes
        places[s, i] = radii[i] * math.sin(angle), radii[i] * math.cos(angle)
    return _placed(graph, places)


def _lanes(side: int, block: float, seed: str) -> nx.Graph:
    """An old town without a plan: the Gabriel graph of scattered crossings (two are joined where
    no third lies in the circle between them)."""
    from scipy.spatial import Delaunay  # slow to import

    rng = random.Random(seed)
    spread = [[at + rng.uniform(-0.33, 0.33) for at in place] for place in np.ndindex(side, side)]
    places = np.array(spread) * block
    graph = nx.Graph()
    graph.add_nodes_from(range(len(places)))
    for triangle in Delaunay(places).simplices:
        for a, b in zip(triangle.tolist(), np.roll(triangle, 1).tolist(), strict=True):
            middle, reach = (places[a] + places[b]) / 2, math.dist(places[a], places[b]) / 2
            if (np.hypot(*(places - middle).T) >= reach * (1 - 1e-9)).all():
                graph.add_edge(a, b)
    return _placed(graph, dict(enumerate(places.tolist())))


def _lattice(graph: nx.Graph, block: float, jitter: float = 0, seed: str = "") -> nx.Graph:
    """A lattice of networkx with `block` metres between crossings, each moved by up to `jitter`."""
    rng = random.Random(seed)
    places = nx.get_node_attributes(graph, "pos")
    return _placed(graph, {node: [at * block + rng.uniform(-jitter, jitter) for at in places[node]]
                           for node in graph})  # fmt: skip


def _streets(graph: nx.Graph, turned: float) -> tuple[nx.Graph, tuple]:
    """The final street graph, turned clockwise by `turned` degrees: numbered crossings, streets
    with lengths, no dead ends, in one piece; and the water, turned like the streets."""
    sin, cos = math.sin(math.radians(turned)), math.cos(math.radians(turned))

    def turn(place: Position) -> Position:
        return place[0] * cos + place[1] * sin, place[1] * cos - place[0] * sin

    graph = nx.k_core(graph, 2)
    graph = graph.subgraph(max(nx.connected_components(graph), key=len))
    order = {node: number for number, node in enumerate(sorted(graph))}
    final = nx.Graph()
    for node, number in order.items():
        x, y = turn((graph.nodes[node]["x"], graph.nodes[node]["y"]))
        final.add_node(number, x=x, y=y)
    for a, b in sorted(tuple(sorted((order[a], order[b]))) for a, b in graph.edges):
        ends = [(final.nodes[n]["x"], final.nodes[n]["y"]) for n in (a, b)]
        final.add_edge(a, b, length=math.dist(*ends))
    water = graph.graph.get("water", ())
    return final, tuple((turn(a), turn(b)) for a, b in water)


# --- Recipes --------------------------------------------------------------------------------------
LOOKS = json.loads(Path(__file__).with_name("looks.json").read_text())  # chosen: colours, origins
# Each city's geometry, and how many degrees it is turned, clockwise.
CITIES: dict[str, tuple[Callable[[], nx.Graph], float]] = {
    # Manhattan-like: oblong blocks, and Broadways across them.
    TRAINING_CITY: (
        lambda: _avenues(
            _grid([120] * 11, [75] * 11), (-8, -4, -2, 2, 4, 8), (2, 6, 10, 12, 16, 20)
        ),
        5,
    ),
    "plainsby": (lambda: _grid([95] * 8, [95] * 8), 40),
    "spokehaven": (lambda: _rings(12, (80, 150, 230, 320, 420, 530)), 7),
    "tanglewick": (lambda: _lanes(10, 85, "tanglewick"), 0),
    # Three streets at a crossing.
    "cellamar": (lambda: _lattice(nx.hexagonal_lattice_graph(8, 8), 75, 16, "cellamar"), 12),
    "canalonga": (
        lambda: _canals(
            _grid([80] * 9, [85, 85, 130, 85, 85, 130, 85, 85, 130, 85]),
            {2: (1, 5, 8), 5: (0, 4, 7), 8: (2, 6, 9)},
        ),
        24,
    ),
    # Short and long blocks.
    "mixtonia": (
        lambda: _grid([50, 150, 70, 200, 50, 110, 60, 180, 90], [140, 55, 90, 60, 170, 70, 120]),
        66,
    ),
    # Avenues in both diagonals everywhere.
    "slantwyck": (
        lambda: _avenues(_grid([100] * 8, [70] * 8), range(-8, 9, 2), range(0, 17, 2)),
        81,
    ),
    "brickenfell": (lambda: _brick(6, 9, 130, 75), 15),
    "trigonby": (lambda: _lattice(nx.triangular_lattice_graph(9, 16), 95), 9),
}

# --- Landmarks ------------------------------------------------------------------------------------
FIRST = (
    "Silver Golden Scarlet Amber Ivory Copper Crimson Emerald Coral Violet Quiet Happy Lucky "
    "Sunny Royal Grand Little Ancient Misty Velvet Hidden Gentle Noble Brave Clever Merry Frosty "
    "Rusty Dusty Sandy Rocky Mossy Stormy Wooden Crystal Marble Cotton Pepper Ginger Honey"
).split()
SECOND = (
    " Oak Maple Cedar Willow Falcon Raven Otter Tiger Lion Panda Dolphin Swan Robin River Harbor "
    "Meadow Valley Garden Castle Tower Lantern Anchor Compass Mirror Candle Ribbon Feather Button "
    "Kettle Basket Barrel Wagon Rocket Comet Planet Island Forest Glacier Orchid Tulip"
).split(" ")  # the first is none
# Every word of every name: "Silver Oak Cafe", "Silver Cafe". A pair of first and second word
# belongs to one city alone, so that no name, whatever its kind, occurs in two cities; the words
# themselves occur in all of them, so that one vocabulary serves all.
WORDS = (*FIRST, *SECOND[1:], *(kind.capitalize() for kind in KINDS))
_SHARE = 0.7  # of the crossings have a landmark
_ALIKE = 0.3  # of the landmarks have the words of a neighbour, and another kind
_ROOM = 8.0  # metres between a landmark and the middle of any street


def _corner(city: City, node: int, ends: np.ndarray, rng: random.Random) -> Position | None:
    """A place on a block at a crossing, nearer to it than to the next ones; None if 20 draws find
    none. `ends`: (streets, 2, 2) positions."""
    bearings = [way for way, _ in city.streets(node)]
    reach = 0.45 * min(street["length"] for street in city.graph[node].values())
    for _ in range(20):
        corner = rng.randrange(len(bearings))
        gap = (bearings[(corner + 1) % len(bearings)] - bearings[corner]) % 360
        angle = math.radians(bearings[corner] + gap * rng.random())
        away, (x, y) = rng.uniform(11, min(reach, 34)), city.xy(node)
        place = np.array([x + away * math.sin(angle), y + away * math.cos(angle)])
        start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
        share = np.clip(((place - start) * along).sum(1) / (along**2).sum(1), 0, 1)
        if np.hypot(*(start + along * share[:, None] - place).T).min() >= _ROOM:
            return float(place[0]), float(place[1])
    return None


def _landmarks(city: City, mark: int, taken: Collection[str] = ()) -> dict[int, Landmark]:
    """Landmarks with the words of every tenth pair (`mark` says which); no name is `taken`."""
    rng = random.Random(f"landmarks/{city.name}")
    pairs = [(first, second) for i, first in enumerate(FIRST) for j, second in enumerate(SECOND)
             if (i + j) % len(CITIES) == mark]  # fmt: skip
    ends = np.array([[city.xy(a), city.xy(b)] for a, b in city.graph.edges])
    used, words, found = set(taken), {}, {}
    for node in city.graph:
        place = _corner(city, node, ends, rng) if rng.random() < _SHARE else None
        if place is None:
            continue
        near = [words[other] for other in city.graph[node] if other in words]
        while True:
            pair = rng.choice(near) if near and rng.random() < _ALIKE else rng.choice(pairs)
            kind = rng.choice(KINDS)
            name = " ".join(filter(None, (*pair, kind.capitalize())))
            if name not in used:
                break
        used.add(name)
        words[node], found[node] = pair, Landmark(name, kind, place)
    return found


def make(name: str) -> City:
    """The city of a name in CITIES."""
    geometry, turned = CITIES[name]
    graph, water = _streets(geometry(), turned)
    look, origin = read_look(LOOKS[name]["look"]), tuple(LOOKS[name]["origin"])
    bare = City(name, graph, {}, look, origin, water)
    return replace(bare, landmarks=_landmarks(bare, list(CITIES).index(name)))


def random_city(seed: int, taken: Collection[str] = ()) -> City:
    """A small city that is none of CITIES: streets, landmarks and looks drawn, no name `taken`."""
    rng = random.Random(f"random city/{seed}")

    def blocks() -> list[float]:
        return [rng.uniform(55, 150) for _ in range(6)]

    def color(low: int, high: int) -> Color:
        return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)

    shapes = (
        lambda: _grid(blocks(), blocks()),
        lambda: _avenues(_grid(blocks(), blocks()), range(-6, 7, 4), range(0, 13, 4)),
        lambda: _brick(4, 6, 2 * blocks()[0], blocks()[0]),
        lambda: _rings(rng.randint(7, 14), [70, 150, 240, 340]),
        lambda: _lanes(7, rng.uniform(75, 100), f"random city/{seed}"),
        lambda: _lattice(nx.triangular_lattice_graph(6, 9), rng.uniform(80, 110)),
    )
    graph, water = _streets(shapes[seed % len(shapes)](), rng.uniform(0, 90))
    facades = tuple(color(70, 245) for _ in range(3))
    look = Look(color(130, 250), color(120, 220), color(60, 150), facades, color(40, 235))
    bare = City(f"random city {seed}", graph, {}, look, (0.0, 0.0), water)
    return replace(bare, landmarks=_landmarks(bare, rng.randrange(len(CITIES)), taken))


# --- Routes ---------------------------------------------------------------------------------------
LEGS = (3, 6)  # fewest and most milestones
BLOCKS = 3  # at most, between two turns
_STRAIGHT, _SHARPEST = 15, 150  # degrees: what bends less is no turn, what bends more is no street
_DETOUR = 1.5  # a route is at most so many times as long as the shortest one


def _legs(city: City, count: int, rng: random.Random) -> list[list[int]] | None:
    """Crossings of a walk, leg by leg, a turn between two legs; None if it gets stuck.

    At a crossing first one of the possible relative words is drawn, a slight one twice as often,
    and then a street of that word: otherwise a grid would hardly show any but left and right.
    """
    at, heading = rng.choice(list(city.landmarks)), None
    legs, passed = [], {at}
    for _ in range(count):
        by_word = {}
        for way, there in city.streets(at):
            bend = 0 if heading is None else abs((way - heading + 180) % 360 - 180)
            if there not in passed and (heading is None or _STRAIGHT <= bend <= _SHARPEST):
                word = "" if heading is None else turn_word(heading, way)
                by_word.setdefault(word, []).append((way, there))
        if not by_word:
            return None
        words = sorted(by_word)
        word = rng.choices(words, [1 + word.startswith("slightly") for word in words])[0]
        heading, there = rng.choice(by_word[word])
        leg = [at]
        while there is not None:
            leg.append(there)
            passed.add(there)
            at = there
            ahead = [n for b, n in city.streets(at) if abs((b - heading + 180) % 360 - 180) < 0.1]
            on = ahead and ahead[0] not in passed and len(leg) <= BLOCKS and rng.random() < 0.5
            there = ahead[0] if on else None
        legs.append(leg)
    return legs


def _route(city: City, legs: Sequence[Sequence[int]], init_heading: int) -> Route:
    stones, heading = [], init_heading
    for leg in legs:
        here, before = city.xy(leg[-1]), heading
        way = bearing(city.xy(leg[0]), here)
        heading, length = round(way) % 360, round(math.dist(city.xy(leg[0]), here))
        mark = city.landmarks.get(leg[-1])
        side = sector(bearing(here, mark.position), way) if mark else None
        stones.append(Milestone(heading, before, length, mark and mark.name, side))
    nodes = [legs[0][0], *(leg[-1] for leg in legs)]
    start, *points = (city.point(city.xy(node)) for node in nodes)
    origin, end = (city.landmarks[node].name for node in (nodes[0], nodes[-1]))
    return Route(0, start, tuple(points), tuple(stones), init_heading, end, origin)


def city_routes(city: City, seed: object, n: int, split: str | None = None) -> list[Route]:
    """`n` different routes between landmarks, of LEGS milestones each.

    `split`: "train" or "unseen", which share no pair of start and destination; None for both.
    Raises SftrlError on another split, or if a thousand walks a route find too few.
    """
    if split not in ("train", "unseen", None):
        raise SftrlError(f"the split is {split!r}, but it must be 'train', 'unseen' or None.")
    rng = random.Random(f"routes/{city.name}/{seed}")
    shortest = dict(nx.all_pairs_dijkstra_path_length(city.graph, weight="length"))
    routes, count = {}, rng.randint(*LEGS)
    for _ in range(1000 * n):
        if len(routes) == n:
            return [replace(route, index=i) for i, route in enumerate(routes.values())]
        legs = _legs(city, count, rng)
        if not legs or legs[-1][-1] not in city.landmarks:
            continue
        route, path = _route(city, legs, rng.randrange(360)), tuple(map(tuple, legs))
        length = sum(stone.distance for stone in route.milestones)
        wanted = split is None or unseen(route, city.name) == (split == "unseen")
        if wanted and length <= _DETOUR * shortest[path[0][0]][path[-1][-1]]:
            routes.setdefault(path, route)
            count = rng.randint(*LEGS)
    raise SftrlError(f"{city.name} has only {len(routes)} routes, not {n}; ask for fewer.")


# --- Data sets ------------------------------------------------------------------------------------
DATASETS = {  # cities, split and routes a city
    "train": ((TRAINING_CITY,), "train", 1000),
    "unseen": ((TRAINING_CITY,), "unseen", 400),
    "other": (tuple(name for name in CITIES if name != TRAINING_CITY), None, 30),
}


def write(folder: Path) -> dict[str, str]:
    """Write cities.json and the routes of DATASETS in the released shape under `folder`, which must
    not hold them yet, with their checksums; {data set: checksum}."""
    towns = {name: make(name) for name in CITIES}
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for dataset, (cities, split, n) in DATASETS.items():
        routes = [r for name in cities for r in city_routes(towns[name], dataset, n, split)]
        routes = [replace(route, index=index) for index, route in enumerate(routes)]
        places = {
            mark.name: towns[name].point(mark.position)
            for name in cities
            for mark in towns[name].landmarks.values()
        }
        write_routes(folder / dataset, routes, places)
        sums[dataset] = content_hash(folder / dataset)
    listed = ",\n".join(json.dumps(as_json(town)) for town in towns.values())
    (folder / "cities.json").write_text(f"[{listed}]\n", encoding="utf-8")
    (folder / "checksums.json").write_text(json.dumps(sums, indent=1) + "\n")
    return sums
