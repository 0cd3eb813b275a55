"""The rail of a route: the positions at which an agent is asked, what it observes there, what is
right, and how instructions and observations are worded (paper, appendix A)."""

import random
import re
from dataclasses import dataclass
from functools import lru_cache

from .cities import KINDS
from .panoramas import NEAR, Panoramas, Point, distance, missing_files
from .routes import MAPPING, Milestone, Route, RouteSet, compass_word, turn_word

NO_PANORAMAS = Panoramas()
NO_STREET, APART = 5.0, 8.0  # metres: shortest segment that is walked; panoramas from its ends

# The constant parts of sentences: phrases that the tiny tier's tokenizer knows.
FIRST_TURN, TURN, FACE = "First, turn ", "Turn ", " to face "
WALK = "Move forward until you reach next intersection"
WALK_WHERE, WALK_END = f"{WALK} where ", "Move forward until you reach destination where "
DESTINATION, IS_ON = "The destination ", " is on your "
STREET, BARE = "No landmarks nearby", "No landmark nearby"
AT_INTERSECTION = "You observe an intersection"
FORWARD, STOP, TURN_ACTION = "forward()", "stop()", "turn_direction("
# What a name of the released data may hold, and a line of the prompt or a JSON-like answer may not.
_NAME_SIGNS = str.maketrans('"{}|\\', "'()//")


@dataclass(frozen=True)
class Position:
    """One position of a rail: what is seen there and what is to be done."""

    kind: str  # "turn" (at the start and at crossings), "forward" or "stop"
    observation: str
    sentence: str  # the instruction that is due
    absolute: str  # the right action in either action space
    relative: str
    at_intersection: bool
    location: Point
    heading: int  # which way the agent faces before it acts: degrees clockwise from north

    @property
    def seen(self) -> str:
        """The observation as a picture of any size shows it, e.g. "A Cafe is on your left;": a sign
        has the icon of a kind, whose word ends the name of every generated landmark."""
        name, there, side = split_landmark(self.observation)
        kind = name.rpartition(" ")[2]
        return f"A {kind}{there}{side}" if kind.lower() in KINDS else self.observation


def split_landmark(observed: str) -> tuple[str, str, str]:
    """(name, " is on your ", the rest) of an observation; two empty ones where none is named."""
    return observed.removeprefix(DESTINATION).partition(IS_ON)


def turn_action(word: str) -> str:
    """The action that turns to a compass word or a relative word."""
    return f"{TURN_ACTION}{word})"


# "no intersection", "not at an intersection", "I don't see any intersection", "intersection: no"
_BETWEEN = (
    "yet|currently|at|on|near|in|to|by|see|observe|reach|reached|is|are|be|there|here|visible|an?|"
    "any|the|next|other|landmarks?(?: nearby)? (?:or|nor)"
)
_DENIED = re.compile(
    rf"\b(?:no|not|cannot|never|without|away from|far from|\w+n['’]t)(?: (?:{_BETWEEN}))* "
    r"intersections?|intersections?(?: is| are|:)? (?:no|not|none)\b"
)
_LONGEST = 2_000  # characters of an observation that are read


def spaced(text: str) -> str:
    """A text with one space for all white space between words."""
    return " ".join(text.split())


def claims_intersection(observation: str) -> bool:
    """Whether an observation says, in any words, that there is an intersection. The name of a
    landmark ("NAME is on your left") and a denial are no claims."""
    said = spaced(observation[:_LONGEST].lower())
    name, there, rest = said.partition(IS_ON)
    if there and ";" not in name:
        said = rest
    return "intersection" in _DENIED.sub("", said)


def _landmark(stone: Milestone, last: bool) -> str:
    """What is seen at a point of the route: "NAME is on your SIDE", or that nothing is there. In
    a name white space becomes one space; quotes, braces, bars and backslashes are replaced; 200
    characters."""
    if stone.landmark is None:
        return BARE
    name = spaced(stone.landmark.translate(_NAME_SIGNS))[:200]
    return f"{DESTINATION if last else ''}{name}{IS_ON}{stone.side}"


def _observed(landmark: str = STREET, at_intersection: bool = False) -> str:
    """What the agent observes; without arguments, on the street between two points."""
    return f"{landmark}; {AT_INTERSECTION}" if at_intersection else f"{landmark};"


def sentences(route: Route, wrap: bool = True) -> tuple[str, ...]:
    """The instruction: for each milestone a sentence that turns and one that walks."""
    said = []
    for i, stone in enumerate(route.milestones):
        last = i == len(route.milestones) - 1
        turn = turn_word(stone.heading_before, stone.heading, wrap)
        landmark = _landmark(stone, last)
        where = f"{WALK_END if last else WALK_WHERE}{landmark}"
        said.append(f"{TURN if i else FIRST_TURN}{turn}{FACE}{compass_word(stone.heading)}.")
        said.append(f"{WALK if landmark == BARE else where}.")
    return tuple(said)


def _forward_points(
    a: Point, b: Point, count: int, drop_rate: float, rng: random.Random, panoramas: Panoramas
) -> list[Point]:
    """Where the agent is asked between a and b (see `lay_rail`)."""
    shares = [j / (count + 1) for j in range(1, count + 1) if distance(a, b) > NO_STREET]
    kept = [share for share in shares if rng.random() >= drop_rate]
    points = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for share in kept]
    if panoramas.ids:
        moved = filter(None, map(panoramas.nearest, points))
        far = [place for place in moved if min(distance(place, a), distance(place, b)) > APART]
        points = list(dict.fromkeys(far))  # two points at one panorama are one step
    return points


def lay_rail(
    route: Route,
    straight_line_length: int,
    drop_rate: float,
    seed: object = 0,
    wrap: bool = True,
    panoramas: Panoramas = NO_PANORAMAS,
) -> tuple[Position, ...]:
    """The positions of a route, from the turn at the start to the stop at the destination.

    On every segment of more than NO_STREET metres lie `straight_line_length` evenly spaced forward
    points, each left out with probability `drop_rate`: the same for the same (route, seed). With
    `panoramas` they move to the nearest one within 20 m, and are left out where there is none, or
    none that is more than APART metres from both ends.
    """
    rng = random.Random(f"rail/{seed}/{route.index}")
    said, places = sentences(route, wrap), (route.start, *route.points)
    positions, observed = [], _observed()
    for i, stone in enumerate(route.milestones):
        absolute = turn_action(compass_word(stone.heading))
        relative = turn_action(turn_word(stone.heading_before, stone.heading, wrap))
        turn = observed, said[2 * i], absolute, relative, i > 0
        positions.append(Position("turn", *turn, places[i], stone.heading_before))
        walk = _observed(), said[2 * i + 1], FORWARD, FORWARD, False
        how = straight_line_length, drop_rate, rng, panoramas
        between = _forward_points(places[i], places[i + 1], *how)
        positions += [Position("forward", *walk, place, stone.heading) for place in between]
        last = i == len(route.milestones) - 1
        observed = _observed(_landmark(stone, last), at_intersection=not last)
    stop = observed, said[-1], STOP, STOP, False
    return *positions, Position("stop", *stop, places[-1], stone.heading)


@lru_cache(maxsize=8)
def _pictured(data: RouteSet, straight_line_length: int) -> tuple[list[str], list[str]]:
    """The panoramas that rails through these routes show, and the places that have none."""
    panos: dict[str, None] = {}
    bare = []
    for route in data.routes:
        for position in lay_rail(route, straight_line_length, 0, panoramas=data.panoramas):
            place = data.panoramas.nearest(position.location)
            if place is None:
                where = "{:.6f}, {:.6f}".format(*position.location)
                bare.append(f"a panorama within {NEAR:g} m of {where} (route {route.index})")
            else:
                panos[data.panoramas.ids[place]] = None
    return list(panos), bare


def missing_pictures(data: RouteSet, straight_line_length: int) -> list[str]:
    """What rails through these routes show and their folder does not have: files, then places."""
    if data.generated:
        return []  # drawn
    if not data.panoramas.ids:
        return [f"{data.folder}/{MAPPING}"]
    panos, bare = _pictured(data, straight_line_length)
    return [f"{data.folder}/{file}" for file in missing_files(data.folder, panos)] + bare
