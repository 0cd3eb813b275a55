"""The rail of a route: the positions at which an agent is asked, what it sees there, and what is
right (paper, appendix A)."""

import random
from dataclasses import dataclass

from . import navigation_texts as texts
from .cities import KINDS
from .panoramas import Panoramas, Point, distance
from .routes import Milestone, Route, compass_word, turn_word

NO_PANORAMAS = Panoramas()
NO_STREET, APART = 5.0, 8.0  # metres: shortest segment that is walked; panoramas from its ends


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
        name, there, side = texts.split_landmark(self.observation)
        kind = name.rpartition(" ")[2]
        return f"A {kind}{there}{side}" if kind.lower() in KINDS else self.observation


def sentences(route: Route, wrap: bool = True) -> tuple[str, ...]:
    """The instruction: for each milestone a sentence that turns and one that walks."""
    said = []
    for i, stone in enumerate(route.milestones, 1):
        turn = turn_word(stone.heading_before, stone.heading, wrap)
        said.append(texts.turn_sentence(turn, compass_word(stone.heading), first=i == 1))
        last = i == len(route.milestones)
        said.append(texts.walk_sentence(_landmark(stone, last), last))
    return tuple(said)


def _landmark(stone: Milestone, last: bool) -> str:
    return texts.landmark_text(stone.landmark, stone.side, destination=last)


def _forward_points(
    a: Point, b: Point, count: int, drop_rate: float, rng: random.Random, panoramas: Panoramas
) -> list[Point]:
    """Where the agent is asked between a and b (see `rail`)."""
    shares = [j / (count + 1) for j in range(1, count + 1) if distance(a, b) > NO_STREET]
    kept = [share for share in shares if rng.random() >= drop_rate]
    points = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for share in kept]
    if panoramas.ids:
        moved = filter(None, map(panoramas.nearest, points))
        far = [place for place in moved if min(distance(place, a), distance(place, b)) > APART]
        points = list(dict.fromkeys(far))  # two points at one panorama are one step
    return points


def lay_rail(
    route: Route, straight_line_length: int, drop_rate: float, seed: object = 0,
    wrap: bool = True, panoramas: Panoramas = NO_PANORAMAS,
) -> tuple[Position, ...]:  # fmt: skip
    """The positions of a route, from the turn at the start to the stop at the destination.

    On every segment of more than NO_STREET metres lie `straight_line_length` evenly spaced forward
    points, each left out with probability `drop_rate`: the same for the same (route, seed). With
    `panoramas` they move to the nearest one within 20 m, and are left out where there is none, or
    none that is more than APART metres from both ends.
    """
    rng = random.Random(f"rail/{seed}/{route.index}")
    said, places = sentences(route, wrap), (route.start, *route.points)
    positions, observed = [], texts.observation()
    for i, stone in enumerate(route.milestones):
        absolute = texts.turn_action(compass_word(stone.heading))
        relative = texts.turn_action(turn_word(stone.heading_before, stone.heading, wrap))
        turn = observed, said[2 * i], absolute, relative, i > 0
        positions.append(Position("turn", *turn, places[i], stone.heading_before))
        walk = texts.observation(), said[2 * i + 1], texts.FORWARD, texts.FORWARD, False
        how = straight_line_length, drop_rate, rng, panoramas
        between = _forward_points(places[i], places[i + 1], *how)
        positions += [Position("forward", *walk, place, stone.heading) for place in between]
        last = i == len(route.milestones) - 1
        observed = texts.observation(_landmark(stone, last), at_intersection=not last)
    stop = observed, said[-1], texts.STOP, texts.STOP, False
    return *positions, Position("stop", *stop, places[-1], stone.heading)
