"""Street views of generated cities: what is seen from a position with a heading (V-IRL-VL).

A ray for each column of pixels finds the wall that is seen there; what is above it is sky, and what
is below it ground. The signs of landmarks are drawn over that. In here a place or a direction on
the map is one complex number: metres east + 1j * metres north.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import lru_cache

import networkx as nx
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from commons.errors import check

from .cities import City, Landmark, Look, Position
from .panoramas import VIEWS
from .pictures import Color, draw_shapes, four_views

EYE = 1.7  # metres above the ground
ROAD, STREET, CANAL = 4.0, 6.0, 20.0  # metres from the middle to the kerb, to the walls, to those
STOREY, BUILDING = 3.3, 13.0  # metres: height of a storey, about the width of a building
REACH, SIGNS, HAZE = 200.0, 100.0, 200.0  # metres: walls, signs drawn; what is there, is 63% haze
FAR = 1e6  # instead of a depth: there is no wall
SIGN = 0.6  # width of a sign over its distance from the crossing: all look equally large there
FINE, LETTERS = 64, 8  # pixels: least size at which a view is drawn, a name is written
WATER, MARKINGS, POST, WHITE = (70, 112, 132), (235, 235, 228), (60, 60, 60), (255, 255, 255)

COLORS: dict[str, Color] = {  # of the signs, by kind of landmark
    "cafe": (240, 130, 0), "bank": (250, 210, 0), "hotel": (0, 90, 220), "museum": (20, 20, 20),
    "pharmacy": (0, 190, 90), "school": (210, 20, 30), "theatre": (220, 60, 200),
    "park": (20, 90, 30),
}  # fmt: skip
# Their icons (`draw_shapes`).
_ICONS = {
    "cafe": "oval 50 26 94 66, hole 60 37 83 55, shape 10 18 74 18 66 72 18 72, shape 6 80 80 80 "
    "80 92 6 92",
    "bank": "oval 4 4 96 96, hole 27 27 73 73, shape 45 36 55 36 55 64 45 64",
    "hotel": "shape 12 10 36 10 36 90 12 90, shape 64 10 88 10 88 90 64 90, shape 30 39 70 39 70 "
    "61 30 61",
    "museum": "shape 4 38 50 5 96 38, shape 10 43 26 43 26 79 10 79, shape 42 43 58 43 58 79 42 "
    "79, shape 74 43 90 43 90 79 74 79, shape 5 82 95 82 95 94 5 94",
    "pharmacy": "shape 36 8 64 8 64 92 36 92, shape 8 36 92 36 92 64 8 64",
    "school": "shape 50 12 98 38 50 64 2 38, shape 20 58 50 74 80 58 80 80 50 94 20 80",
    "theatre": "shape 10 10 90 10 88 55 70 86 50 94 30 86 12 55, hole 22 24 43 43, hole 57 24 78 "
    "43, gap 26 56 74 56 50 82",
    "park": "oval 14 4 86 68, shape 42 60 58 60 62 95 38 95",
}
_font = lru_cache(ImageFont.load_default)  # by height in pixels


# --- The city as walls ----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Sign:
    place: complex
    width: float  # metres
    kind: str
    name: str
    letters: float  # width of the longest word over the height of its letters


@dataclass(frozen=True, eq=False)
class _Plan:
    """All that can be seen of a city, as arrays."""

    start: np.ndarray  # (walls,) where a wall starts, and its way from there
    span: np.ndarray
    street: np.ndarray  # (walls,) index of the street it stands at; -1: at a canal
    light: np.ndarray  # (walls,) how bright it is, about 1
    first: np.ndarray  # (walls,) its first building, and how many it has, equally wide
    count: np.ndarray
    color: np.ndarray  # (buildings, 3)
    height: np.ndarray  # (buildings,) metres
    roads: np.ndarray  # (streets, 2) where their middle starts and ends
    canals: np.ndarray  # (canals, 2) the same
    window: tuple[float, float]  # width and height of a window, shares of the room it has
    signs: tuple[_Sign, ...]


@dataclass(frozen=True, eq=False)
class _Hits:
    """What each ray meets first: arrays (rays,)."""

    depth: np.ndarray  # how many times the ray it is away; FAR: nothing is met
    wall: np.ndarray
    building: np.ndarray
    part: np.ndarray  # share of the building's width before the point that is met
    width: np.ndarray  # metres, of the building


def _cross(a, b):
    return (np.conj(a) * b).imag


def _ways(city: City) -> nx.Graph:
    """Streets and canals as one graph whose edges meet at nodes only: nodes have a place `at`,
    edges their `street` (index; -1: a canal) and `half` their width from wall to wall."""
    ways = nx.Graph()
    ways.add_nodes_from((node, {"at": complex(*city.xy(node))}) for node in city.graph)
    for street, edge in enumerate(city.graph.edges):
        ways.add_edge(*edge, street=street, half=STREET)
    at = ways.nodes(data="at")
    for number, ends in enumerate(city.water):
        start, end = (complex(*place) for place in ends)
        chain = [(share, f"end {share} of canal {number}") for share in (0, 1)]
        for a, b, way in list(ways.edges(data=True)):
            turn = _cross(end - start, at[b] - at[a]) or math.inf
            along, across = (_cross(at[a] - start, v) / turn for v in (at[b] - at[a], end - start))
            if 0 < along < 1 and 0 < across < 1:
                ways.remove_edge(a, b)
                chain.append((along, f"bridge {a} {b}"))
                ways.add_edge(a, chain[-1][1], **way)
                ways.add_edge(chain[-1][1], b, **way)
        nx.add_path(ways, [name for _, name in sorted(chain)], street=-1, half=CANAL)
        for share, name in chain:
            ways.nodes[name]["at"] = start + share * (end - start)
    return ways


def _walls(ways: nx.Graph) -> dict[tuple, tuple[complex, complex]]:
    """(start, end) of the wall on the right of every way from a to b, by (a, b)."""
    at, starts, ends = ways.nodes(data="at"), {}, {}
    for node in ways:
        around = sorted(ways[node], key=lambda other: -np.angle(at[other] - at[node]))  # clockwise
        for left, right in zip(around, around[1:] + around[:1], strict=True):
            ahead = [(at[other] - at[node]) / abs(at[other] - at[node]) for other in (left, right)]
            one = -1j * ahead[0] * ways.edges[node, left]["half"]
            other = 1j * ahead[1] * ways.edges[node, right]["half"]
            turn = _cross(*ahead)
            if abs(turn) > 1e-6:  # the two walls meet at a corner
                one = other = one + ahead[0] * _cross(other - one, ahead[1]) / turn
            starts[node, left], ends[right, node] = at[node] + one, at[node] + other
    return {way: (starts[way], ends[way]) for way in starts}


@lru_cache(maxsize=16)
def _plan(city: City) -> _Plan:
    rng = random.Random(f"looks/{city.name}")
    lowest, window = rng.randint(2, 4), (rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.65))
    ways, walls, color = _ways(city), [], []
    height: list[float] = []
    for (a, b), (start, end) in _walls(ways).items():
        along = ways.nodes[b]["at"] - ways.nodes[a]["at"]
        along /= abs(along)
        if ((end - start) / along).real <= 1:
            continue  # two streets so close that no house fits between them
        rng = random.Random(f"walls/{city.name}/{a}/{b}")
        light = 0.88 + 0.16 * (1j * along * np.exp(0.6j)).real  # the sun is in the southeast
        count = max(1, round(abs(end - start) / BUILDING))
        walls.append((start, end - start, ways.edges[a, b]["street"], light, len(height), count))
        storeys = lowest + rng.choice((0, 1, 2))
        for _ in range(count):
            color.append(np.array(rng.choice(city.look.facades)) * rng.uniform(0.82, 1.1))
            height.append(STOREY * (storeys + rng.choice((0.3, 0.45, 0.6, 1.3))))
    streets = [[complex(*city.xy(node)) for node in edge] for edge in city.graph.edges]
    canals = [[complex(*place) for place in ends] for ends in city.water]
    columns = map(np.array, zip(*walls, strict=True))
    of_walls = zip(("start", "span", "street", "light", "first", "count"), columns, strict=True)
    bare = _Plan(
        **dict(of_walls), color=np.array(color, np.float32), height=np.array(height),
        roads=np.array(streets), canals=np.array(canals).reshape(-1, 2), window=window, signs=(),
    )  # fmt: skip
    signs = [_sign(bare, complex(*city.xy(node)), mark) for node, mark in city.landmarks.items()]
    return replace(bare, signs=tuple(signs))


def _sign(plan: _Plan, crossing: complex, mark: Landmark) -> _Sign:
    """The sign of a landmark: on the way from its crossing to it, before the first wall, so that
    it is always seen from there."""
    way = complex(*mark.position) - crossing
    share = min(1.0, _cast(plan, crossing, np.array([way])).depth[0]) - 0.4 / abs(way)
    letters = max(_font(20).getlength(word) / 20 for word in mark.name.split())
    return _Sign(crossing + share * way, SIGN * share * abs(way), mark.kind, mark.name, letters)


def _cast(plan: _Plan, eye: complex, rays: np.ndarray) -> _Hits:
    seen = abs(plan.start + plan.span / 2 - eye) < REACH + abs(plan.span) / 2
    seen &= _cross(plan.span, eye - plan.start) > 0  # their street side is towards the eye
    seen[0] = True  # never none
    near = np.flatnonzero(seen)
    to, span = (plan.start[near] - eye)[:, None], plan.span[near][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        facing = _cross(rays, span)
        depth, share = _cross(to, span) / facing, _cross(to, rays) / facing
    depth[~((depth > 0) & (share >= 0) & (share <= 1))] = FAR
    nearest = depth.argmin(0), np.arange(len(rays))
    depth, share, wall = depth[nearest], share[nearest], near[nearest[0]]
    count = plan.count[wall]
    at = np.where(depth < FAR, share, 0) * count
    number = np.minimum(at.astype(int), count - 1)
    return _Hits(depth, wall, plan.first[wall] + number, at - number, abs(plan.span[wall]) / count)


# --- The pixels of a view -------------------------------------------------------------------------
def _mix(one, other, share) -> np.ndarray:
    """Colours between two, (..., 3); `share` (...) is that of the second."""
    one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
    return one + (other - one) * np.asarray(share, np.float32)[..., None]


def _along(lines: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, ...]:
    """Metres (lines, places) along each line, to its side, and to its nearer end (< 0: beyond)."""
    span = lines[:, 1:] - lines[:, :1]
    length = abs(span)
    turned = (places - lines[:, :1]) * (np.conj(span) / length)
    return turned.real, abs(turned.imag), np.minimum(turned.real, length - turned.real)


def _ground(look: Look, roads: np.ndarray, canals: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n, 3) colours of the ground at places (n,) near the origin: pavement, road, water."""
    lines = _along(roads, places)
    away = lines[1] ** 2 + np.minimum(lines[2], 0) ** 2
    best = away.argmin(0), np.arange(len(places))  # the nearest road
    (along, aside, inside), away = (line[best] for line in lines), np.sqrt(away[best])
    zebra = (inside > 7) & (inside < 11) & (aside < ROAD - 0.5) & ((aside + 0.3) % 1.2 < 0.6)
    line = (inside > 14) & (aside < 0.13) & (along % 6 < 3)
    color = np.full((len(places), 3), look.ground, np.float32)
    if len(canals):
        _, aside, inside = _along(canals, places)
        color[((aside < CANAL) & (inside > 0)).any(0) & (away > STREET)] = WATER
    color[away < ROAD + 0.25] *= 0.8  # the kerb
    color[away < ROAD] = look.street
    color[zebra | line] = MARKINGS
    return color


def _facade(plan: _Plan, look: Look, hits: _Hits, ray: np.ndarray, y: np.ndarray, pixels: float):
    """(n, 3) colours of facades, by ray (n,) and metres above the ground (n,); `pixels` a metre
    at depth 1."""
    top, storey = plan.height[hits.building][ray], y / STOREY
    windows = np.maximum(1, np.round(hits.width / 3.2))
    aside = abs((hits.part * windows % 1) - 0.5)[ray]  # of the middle of a window
    above = (storey >= 1) & (y < top - 0.25 * STOREY)
    wide, high = plan.window
    panes = above & (aside < wide / 2) & (abs(storey % 1 - 0.5) < high / 2)
    panes |= (storey < 0.75) & (storey > 0.12) & (aside < 0.4)  # of shops
    shade = np.where(above, 1.0, np.where(storey < 1, 0.72, 1.12)) * plan.light[hits.wall][ray]
    shade[(np.minimum(hits.part, 1 - hits.part) * hits.width < 0.2)[ray]] *= 0.75  # house ends
    color = plan.color[hits.building][ray] * shade[:, None].astype(np.float32)
    sharp = np.minimum(1, 1.2 * pixels / hits.depth)  # windows far away run together
    return _mix(color, look.windows, panes * sharp[ray])


def _pixels(city: City, eye: complex, ahead: complex, side: int) -> np.ndarray:
    """(side, side, 3) colours, 90 degrees wide and high, without the signs."""
    plan, look = _plan(city), city.look
    right = (np.arange(side) + 0.5) / side * 2 - 1
    up, rays = -right[:, None], ahead * (1 - 1j * right)
    hits = _cast(plan, eye, rays)
    y = EYE + up * hits.depth  # metres above the ground at which a pixel meets the wall
    horizon = _mix(look.sky, WHITE, 0.45)
    picture = _mix(horizon, look.sky, np.clip(1.5 * up, 0, 1)).repeat(side, 1)

    row, ray = np.nonzero(y < 0)
    away = -EYE / up[row, 0]
    roads, canals = (
        (lines - eye).astype(np.complex64) for lines in (plan.roads, plan.canals)
    )  # precise enough from here
    _, aside, inside = _along(roads, np.zeros(1, np.complex64))
    near = np.flatnonzero(np.hypot(aside, np.minimum(inside, 0)) < 30)
    seen = plan.street[hits.wall]
    roads = roads[np.union1d(near, seen[seen >= 0])]
    ground = _ground(look, roads, canals, (away * rays[ray]).astype(np.complex64))
    picture[row, ray] = _mix(ground, horizon, 1 - np.exp(-away / HAZE))

    row, ray = np.nonzero((y >= 0) & (y < plan.height[hits.building]))
    facade = _facade(plan, look, hits, ray, y[row, ray], side / 2)
    picture[row, ray] = _mix(facade, horizon, 1 - np.exp(-hits.depth[ray] / HAZE))
    return np.clip(picture, 0, 255).astype(np.uint8)


# --- Signs ----------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def sign(kind: str, size: int) -> Image.Image:
    """The square sign of a kind of landmark: its icon on its colour, with a white edge."""
    side = 4 * size  # drawn larger, and then made smaller
    edge = min(max(4, side // 14), side // 8)  # a whole pixel, but not the whole of a tiny sign
    color = COLORS[kind]
    ink = (0, 0, 0) if sum(color) > 400 else WHITE
    picture = Image.new("RGB", (side, side), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((edge, edge, side - 1 - edge, side - 1 - edge), color)
    draw_shapes(draw, _ICONS[kind], (edge, edge), side - 2 * edge, ink, color)
    return picture.reduce(4)


def _put_signs(picture: Image.Image, plan: _Plan, eye: complex, ahead: complex) -> None:
    """The signs whose middle is in the view and not behind a wall, the farthest first; each as a
    whole, moved inwards at the edges. Names where they can be read."""
    ways = np.array([sign.place for sign in plan.signs], complex) - eye
    seen = ways / ahead  # real: metres ahead; imaginary: metres to the left
    in_view = abs(seen.imag) <= 1.0001 * seen.real  # none between two views
    near = np.flatnonzero(in_view & (abs(seen) < SIGNS))
    near = near[_cast(plan, eye, ways[near]).depth > 0.99] if len(near) else near
    draw, side = ImageDraw.Draw(picture), picture.width
    for i in near[np.argsort(-abs(seen[near]))]:
        mark, meter = plan.signs[i], side / 2 / seen[i].real
        size = max(1, round(meter * min(mark.width, SIGN * abs(seen[i]))))
        middle, ground = side / 2 - meter * seen[i].imag, side / 2 + meter * EYE
        x = min(max(0, round(middle - size / 2)), side - size)
        y = max(0, round(side / 2 - 1.3 * size))
        if size > 6:
            draw.rectangle((x + 0.46 * size, y, x + 0.54 * size, ground), POST)
        picture.paste(sign(mark.kind, size), (x, y))
        letters = int(0.9 * size / mark.letters)
        if letters >= LETTERS:
            words, top = mark.name.split(), y + size
            draw.rectangle((x, top, x + size - 1, top + 1.15 * letters * len(words)), WHITE)
            for line, word in enumerate(words):
                at = (x + size / 2, top + 1.15 * letters * line)
                draw.text(at, word, (0, 0, 0), _font(letters), "ma")


# --- Views ----------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)  # 240 MB at 560 pixels, 3 MB at 64
def _view(city: City, east: float, north: float, heading: float, size: int) -> Image.Image:
    eye, ahead = complex(east, north), 1j * np.exp(-1j * math.radians(heading))
    finer = max(1, round(FINE / size))  # small views are drawn larger, and then made smaller
    picture = Image.fromarray(_pixels(city, eye, ahead, finer * size)).reduce(finer)
    _put_signs(picture, _plan(city), eye, ahead)
    return picture


def view(city: City, position: Position, heading: float, size: int) -> Image.Image:
    """What is seen from a position (metres) towards a heading (degrees clockwise from north): a
    square of `size` pixels, 90 degrees wide and high."""
    check("the size of a view", size, type(size) is int and 8 <= size <= 2048, "8 to 2,048 pixels")
    east, north = (round(metres, 1) for metres in position)
    return _view(city, east, north, round(heading % 360, 2) % 360, size).copy()


def street_views(city: City, position: Position, heading: float, size: int = 64) -> Image.Image:
    """The 2x2 picture of `size` pixels that an agent sees: front, right / back, left.

    It shows the landmark of every crossing in sight; the text of an observation names only that of
    the route's point (at the start none), as in the released data.
    """
    side = (size - 2) // 2
    return four_views([view(city, position, heading + turn, side) for turn in VIEWS], size)
