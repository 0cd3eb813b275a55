"""Routes through a city, in the files of the released V-IRL data: one reader for all (appendix A).

A data set is a folder: route_infos.json, gps_pano_mapping.pkl, street_views/. Generated cities
(`cities`) are written in the same files and read by the same loader. Nothing that is read is ever
executed, and a route is read as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import random
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commons.errors import SftrlError

from .panoramas import (
    NEAR,
    STREET_VIEWS,
    Panoramas,
    Point,
    as_point,
    distance,
    load_panoramas,
    missing_files,
    read_bytes,
    read_json,
)

COMPASS = (
    "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest",
)  # fmt: skip
# Where a landmark is seen, against the bearing of travel; clockwise, 45 degrees each.
SECTORS = (
    "front", "right front", "right", "right behind", "behind", "left behind", "left", "left front",
)  # fmt: skip
TURNS = ("left", "right", "slightly left", "slightly right")
_MAX_ROUTES, _MAX_POINTS = 100_000, 200
ROUTES, MAPPING = "route_infos.json", "gps_pano_mapping.pkl"  # the files of a data set
START = "start_place.relocated_geocode"  # the field


@dataclass(frozen=True)
class Milestone:
    """What the route says of point i, and of the segment that leads to it."""

    heading: int  # bearing of travel to this point, 0..359 degrees, clockwise from north
    heading_before: int  # bearing of the segment before (at the first point: the start's)
    distance: int  # metres from the point before
    landmark: str | None  # what stands at this point (at the last one: the destination)
    side: str | None  # where it is on arrival: one of SECTORS; None without a landmark


@dataclass(frozen=True)
class Route:
    """A route: the start, then a point for each milestone; the last one is the destination."""

    index: int  # place in route_infos.json
    start: Point
    points: tuple[Point, ...]
    milestones: tuple[Milestone, ...]  # one for each of `points`
    init_heading: int  # 0..359; the file's 0 means: drawn at random, by the route's index
    destination: str
    origin: str = ""  # name of the start place; "" where the file has none


@dataclass(frozen=True)
class Problem:
    """Something in a data set that cannot be used, or that does not fit."""

    route: int | None  # None: the folder as a whole
    field: str
    what: str


@dataclass(frozen=True, eq=False)  # hashed by identity: what its pictures need is cached
class RouteSet:
    """What `load_routes` found: usable routes, and all problems, also those of usable routes."""

    routes: tuple[Route, ...]
    problems: tuple[Problem, ...]
    panoramas: Panoramas
    found: int  # routes in the file, usable or not
    folder: Path = Path()  # where the panoramas' pictures lie
    generated: bool = False  # in one of `cities`, which can be drawn: no panoramas are needed

    def summary(self) -> dict[str, Any]:
        """Counts, in plain numbers and words: what `python -m sftrl_lib routes` prints."""
        stones = [stone for route in self.routes for stone in route.milestones]
        return {
            "routes": self.found,
            "usable": len(self.routes),
            "landmarks": sum(stone.landmark is not None for stone in stones),
            "turns": len(stones),
            "problems": [vars(problem) for problem in self.problems],
        }


# --- Words and distances --------------------------------------------------------------------------
def compass_word(heading: float) -> str:
    """The nearest of the eight compass words."""
    return COMPASS[round(heading / 45) % 8]


def sector(bearing: float, travel: float) -> str:
    """In which of SECTORS a thing at `bearing` is seen by somebody who faces `travel`."""
    return SECTORS[round((bearing - travel) / 45) % 8]


def turn_word(before: float, after: float, wrap: bool = True) -> str:
    """The relative word for a change of heading; one of TURNS; an about-turn counts as left.

    `wrap=False` does as the public code, which forgets that 360 degrees is 0: 350 -> 80 is "left".
    """
    change = after - before
    if wrap:
        change = (change + 180) % 360 - 180
    if abs(change) > 45:
        return "left" if change < 0 else "right"
    return "slightly left" if change <= 0 else "slightly right"


# --- Reading a route ------------------------------------------------------------------------------
NO_LANDMARK, IS_ON, DESTINATION = "No landmark nearby", " is on your ", "The destination "
_PAIR = re.compile(r'"(\w+)"\s*:\s*"(.*)"', re.ASCII)
_BEARING = re.compile(r"([0-9]{1,3})\s*(?:\(([a-z]{4,9})\))?", re.ASCII)
_DISTANCE = re.compile(r"([0-9]{1,6})\s*(?:m|meters?|metres?)?", re.ASCII)
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class _Refused(Exception):
    """(field, what is wrong with it): without it the route loses its meaning."""


def _get(given: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(given, dict) or given.get(key) is None:
            raise _Refused(path, "is missing")
        given = given[key]
    return given


def _point(value: Any, field: str) -> Point:
    try:
        return as_point(value)
    except ValueError:
        what = f"is {reprlib.repr(value)}, not a latitude and a longitude"
        raise _Refused(field, what) from None


def _init_heading(given: Any, index: int) -> int:
    value = _get(given, "init_heading")
    if type(value) not in (int, float) or not 0 <= value <= 360 or value != int(value):
        raise _Refused("init_heading", f"is {reprlib.repr(value)}, not a whole number of degrees")
    drawn = random.Random(f"init heading/{index}").randrange(1, 360)
    return drawn if value == 0 else int(value) % 360


def _blocks(text: Any) -> list[dict[str, str]]:
    """The blocks of a milestone_info text, line by line: a name may hold quotes and braces."""
    if not isinstance(text, str) or _HALF_CHARACTER.search(text):
        raise _Refused("milestone_info", "is not a readable text")
    blocks: list[dict[str, str]] = []
    block: dict[str, str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip().removesuffix(",").rstrip()
        pair = _PAIR.fullmatch(line)
        if line == "{" and block is None:
            block = {}
        elif line == "}" and block is not None:
            blocks.append(block)
            block = None
        elif pair and block is not None and pair[1] not in block:
            block[pair[1]] = pair[2]
        elif line:
            raise _Refused(f"milestone_info, line {number}", f"is unreadable: {reprlib.repr(line)}")
    if block is not None:
        raise _Refused("milestone_info", "ends within a block")
    return blocks


def _whole(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    """ValueError unless the pattern is that of the whole text."""
    if found := pattern.fullmatch(text):
        return found
    raise ValueError


def _bearing(text: str) -> int:
    """Degrees of "298 (northwest)"; ValueError if number and word disagree by over a degree."""
    degrees, word = _whole(_BEARING, text.strip()).groups()
    for near in (int(degrees), int(degrees) + 1, int(degrees) - 1):  # the word goes by fractions
        if int(degrees) <= 360 and word in (None, compass_word(near)):
            return near % 360
    raise ValueError


def _landmark(said: str, last: bool) -> tuple[str | None, str | None]:
    """(name, sector) of "NAME is on your REL"; ValueError if it is something else."""
    if said in ("", NO_LANDMARK) and not last:
        return None, None
    name, _, side = said.rpartition(IS_ON)
    name = name.removeprefix(DESTINATION) if last else name
    if not name or side not in SECTORS:
        raise ValueError
    return name, side


def _milestones(
    blocks: list[dict[str, str]], init_heading: int, path: Sequence[Point]
) -> tuple[tuple[Milestone, ...], list[tuple[str, str]]]:
    """Milestones of the blocks along `path` (the start, then the points), and (field, what) of
    headings that contradict the block before; the chain of bearings is followed, as in the
    public code."""
    if len(blocks) != len(path) - 1:
        raise _Refused("milestone_info", f"has {len(blocks)} blocks for {len(path) - 1} points")
    stones, doubts, before = [], [], init_heading
    for i, block in enumerate(blocks):
        try:
            key = "intersection_idx"
            if int(block.get(key, str(i + 1))[:9]) != i + 1:
                raise ValueError
            key = "human_heading"
            claimed = _bearing(block.get(key, str(before)))
            key = "to_next_intersection_heading"
            heading = _bearing(block[key])
            key = "distance"
            computed = f"{round(distance(path[i], path[i + 1]))}"
            meters = int(_whole(_DISTANCE, block.get(key, computed))[1])
            key = "landmarks"
            name, side = _landmark(block.get(key, NO_LANDMARK), i == len(blocks) - 1)
        except (ValueError, KeyError):
            what = f"is unreadable: {reprlib.repr(block[key])}" if key in block else "is missing"
            raise _Refused(f"milestone_info, block {i + 1}, {key}", what) from None
        if i and claimed != before:
            field = f"milestone_info, block {i + 1}, human_heading"
            doubts.append((field, f"is {claimed}, but block {i} leads to {before}; {before} it is"))
        stones.append(Milestone(heading, before, meters, name, side))
        before = heading
    return tuple(stones), doubts


def read_route(index: int, given: Any) -> tuple[Route | None, list[Problem]]:
    """Route `index` of a file; None, with the problem, where it cannot be used."""
    try:
        start = _point(_get(given, START), START)
        field = "route_results.geocode_list"
        listed = _get(given, field)
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MAX_POINTS:
            raise _Refused(field, f"is not a list of 1 to {_MAX_POINTS} points")
        points = tuple(_point(value, f"{field}[{i}]") for i, value in enumerate(listed))
        init_heading = _init_heading(given, index)
        blocks = _blocks(_get(given, "milestone_info"))
        stones, doubts = _milestones(blocks, init_heading, (start, *points))
    except _Refused as refused:
        return None, [Problem(index, *refused.args)]
    destination = stones[-1].landmark
    assert destination is not None  # a last block without one is refused
    origin = given["start_place"].get("name")
    origin = origin if isinstance(origin, str) and not _HALF_CHARACTER.search(origin) else ""
    route = Route(index, start, points, stones, init_heading, destination, origin)
    return route, [Problem(index, *doubt) for doubt in doubts]


# --- Reading a folder -----------------------------------------------------------------------------
def _missing_pictures(folder: Path, routes: Sequence[Route], panoramas: Panoramas) -> list[Problem]:
    if not panoramas.ids:
        return []  # a set for text alone
    if not (folder / STREET_VIEWS).is_dir():
        what = f"is missing, though {len(panoramas.ids)} panoramas are mapped"
        return [Problem(None, STREET_VIEWS, what)]
    missing = missing_files(folder, panoramas.ids.values())
    problems = [Problem(None, file, "is missing") for file in missing]
    for route in routes:
        places = {START: route.start}
        places |= {f"route_results.geocode_list[{i}]": p for i, p in enumerate(route.points)}
        problems += [
            Problem(route.index, field, f"has no panorama within {NEAR:g} m")
            for field, point in places.items()
            if panoramas.nearest(point) is None
        ]
    return problems


def content_hash(folder: str | Path) -> str:
    """12 hex digits over a data set's routes and mapping: what it is, wherever it lies. (Pictures
    are known by the ids that the mapping gives them.)"""
    digest = hashlib.sha256(read_bytes(Path(folder) / ROUTES))
    mapping = Path(folder) / MAPPING
    digest.update(read_bytes(mapping) if mapping.exists() else b"")
    return digest.hexdigest()[:12]


def load_routes(folder: str | Path) -> RouteSet:
    """Routes of a folder in the released shape (route_infos.json and what belongs to it).

    Missing metadata, null landmarks and optional keys are forgiven; a route whose points, headings
    or blocks cannot be read is refused as a whole; both are reported, with route and field. Raises
    SftrlError where a file cannot be read at all, or the pickle holds more than plain data.
    """
    folder = Path(folder)
    given = read_json(folder / ROUTES)
    if not (isinstance(given, list) and len(given) == 2 and isinstance(given[0], list)):
        raise SftrlError(
            f"{folder / ROUTES} must hold a list of two, [routes, integer], but holds "
            f"{reprlib.repr(given)}; get the file again."
        )
    if len(given[0]) > _MAX_ROUTES:
        raise SftrlError(f"{folder} has {len(given[0]):,} routes, but at most {_MAX_ROUTES:,} fit.")
    read = [read_route(index, route) for index, route in enumerate(given[0])]
    routes = tuple(route for route, _ in read if route)
    problems = [problem for _, found in read for problem in found]
    mapping = folder / MAPPING
    panoramas = load_panoramas(mapping) if mapping.exists() else Panoramas()
    problems += _missing_pictures(folder, routes, panoramas)
    return RouteSet(routes, tuple(problems), panoramas, len(read), folder)


def _drawn(route: Route, city: str = "") -> bytes:
    pair = f"{city}/{route.origin}/{route.destination}"
    return hashlib.sha256(pair.encode()).digest()


def unseen(route: Route, city: str = "") -> bool:
    """Whether its pair of start and destination belongs to the quarter that no training sees."""
    return _drawn(route, city)[0] < 64


def for_validation(route: Route) -> bool:
    """Whether its pair belongs to the third on which settings are chosen, and no test rests."""
    return _drawn(route)[1] < 85
