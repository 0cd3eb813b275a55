"""Navigation: follow a route's instruction through a city, position by position (appendix A).

Top to bottom: the rail that a route's positions lie on, how answers are judged, the task that puts
these together, and what is counted.

A prompt depends on the route, the position and the failed tries there only: a wrong action is never
carried out. So RL trains on groups of one position, and an evaluation plays all positions at once.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Any

from PIL import Image

from .. import prompts
from ..errors import SftrlError, check
from . import cities, drawing
from .answers import read_fields
from .base import Counts, Verdict, by_cluster
from .panoramas import NEAR, Panoramas, Point, distance, missing_files, street_view
from .routes import (
    COMPASS,
    MAPPING,
    TURNS,
    Milestone,
    Route,
    RouteSet,
    compass_word,
    content_hash,
    load_routes,
    turn_word,
)

WORDS = {"absolute": COMPASS, "relative": TURNS}  # what turn_direction takes, by action space
NO_PANORAMAS = Panoramas()


# --- Rail -----------------------------------------------------------------------------------------
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
        name, there, side = prompts.split_landmark(self.observation)
        kind = name.rpartition(" ")[2]
        return f"A {kind}{there}{side}" if kind.lower() in cities.KINDS else self.observation


def sentences(route: Route, wrap: bool = True) -> tuple[str, ...]:
    """The instruction: for each milestone a sentence that turns and one that walks."""
    said = []
    for i, stone in enumerate(route.milestones, 1):
        turn = turn_word(stone.heading_before, stone.heading, wrap)
        said.append(prompts.turn_sentence(turn, compass_word(stone.heading), first=i == 1))
        last = i == len(route.milestones)
        said.append(prompts.walk_sentence(_landmark(stone, last), last))
    return tuple(said)


def _landmark(stone: Milestone, last: bool) -> str:
    return prompts.landmark_text(stone.landmark, stone.side, destination=last)


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


def rail(
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
    positions, observed = [], prompts.observation()
    for i, stone in enumerate(route.milestones):
        words = compass_word(stone.heading), turn_word(stone.heading_before, stone.heading, wrap)
        turn = observed, said[2 * i], *map(prompts.turn_action, words), i > 0
        positions.append(Position("turn", *turn, places[i], stone.heading_before))
        walk = prompts.observation(), said[2 * i + 1], prompts.FORWARD, prompts.FORWARD, False
        between = *places[i : i + 2], straight_line_length, drop_rate, rng, panoramas
        positions += [
            Position("forward", *walk, place, stone.heading) for place in _forward_points(*between)
        ]
        last = i == len(route.milestones) - 1
        observed = prompts.observation(_landmark(stone, last), at_intersection=not last)
    stop = observed, said[-1], prompts.STOP, prompts.STOP, False
    return *positions, Position("stop", *stop, places[-1], stone.heading)


# --- Verifier -------------------------------------------------------------------------------------
# "paper": the rewards that the paper states; "authors": those of the authors' code; "binary": the
# outcome alone.
_PAPER = {"solved": 1.0, "wrong_action": -1.0, "wrong_observation": -1.5, "unreadable": -1.0}
REWARDS: dict[str, dict[str, float]] = {
    "paper": _PAPER, "binary": dict.fromkeys(_PAPER, 0.0) | {"solved": 1.0}, "authors": _PAPER,
}  # fmt: skip
KEYS = ("current observation", "current instruction", "action")
_LONGEST = 2_000  # characters of an observation that are read

# "no intersection", "not at an intersection", "I don't see any intersection", "intersection: no"
_BETWEEN = (
    "yet|currently|at|on|near|in|to|by|see|observe|reach|reached|is|are|be|there|here|visible|an?|"
    "any|the|next|other|landmarks?(?: nearby)? (?:or|nor)"
)
_DENIED = re.compile(
    rf"\b(?:no|not|cannot|never|without|away from|far from|\w+n['’]t)(?: (?:{_BETWEEN}))* "
    r"intersections?|intersections?(?: is| are|:)? (?:no|not|none)\b"
)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def claims_intersection(observation: str) -> bool:
    """Whether an observation says, in any words, that there is an intersection. The name of a
    landmark ("NAME is on your left") and a denial are no claims."""
    said = _spaced(observation[:_LONGEST].lower())
    name, there, rest = said.partition(" is on your ")
    if there and ";" not in name:
        said = rest
    return "intersection" in _DENIED.sub("", said)


# --- Task -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """One position of one route under one action space: what is asked in one prompt."""

    route: Route
    sentences: tuple[str, ...]
    rail: tuple[Position, ...]
    index: int  # of the position on the rail
    actions: str  # "absolute" or "relative"
    data: RouteSet | None = field(default=None, compare=False, repr=False)  # that it comes from

    @property
    def position(self) -> Position:
        return self.rail[self.index]

    @property
    def action(self) -> str:
        """The right one."""
        return getattr(self.position, self.actions)

    @property
    def history(self) -> list[tuple[str, str]]:
        """(observation, right action) at every earlier position."""
        return [(p.observation, getattr(p, self.actions)) for p in self.rail[: self.index]]

    @property
    def seen(self) -> str:
        """The observation as the picture shows it: a drawn sign has no name, a real one has."""
        return self.position.seen if self.data.generated else self.position.observation


_DATA = {
    "train": "train", "id_seen": "train", "id_unseen": "unseen", "rule_ood": "unseen",
    "visual_ood": "other",
}  # fmt: skip


@cache
def generated(name: str) -> RouteSet:
    """The routes of a generated data set ("train", "unseen" or "other"), written on first use."""
    return replace(load_routes(cities.dataset(name)), generated=True)


@lru_cache(maxsize=4)
def _released(folder: str, content: str) -> dict[str, RouteSet]:
    found = load_routes(folder)
    shares = {"other": found.routes, "train": [], "unseen": []}
    for route in found.routes:
        shares["unseen" if cities.unseen(route, "") else "train"].append(route)
    return {name: replace(found, routes=tuple(routes)) for name, routes in shares.items()}


def released(routes: str, ood_routes: str = "") -> dict[str, RouteSet]:
    """`Navigation.data` of folders in the released shape. Of `routes` about a quarter is "unseen",
    the others are "train", and no pair of start and destination is in both; `ood_routes` are
    "other". A folder is read once while it stays as it is. SftrlError if a share has no route."""
    home = _released(routes, content_hash(routes))
    data = {"train": home["train"], "unseen": home["unseen"]}
    if ood_routes:
        data["other"] = _released(ood_routes, content_hash(ood_routes))["other"]
    for name, share in data.items():
        if not share.routes:
            raise SftrlError(
                f"none of the {share.found} routes in {share.folder} is usable and of the share "
                f"{name!r}; name a folder with more ('python -m sftrl_lib routes' checks one)."
            )
    return data


@lru_cache(maxsize=8)
def _pictured(data: RouteSet, straight_line_length: int) -> tuple[list[str], list[str]]:
    """The panoramas that rails through these routes show, and the places that have none."""
    panos, bare = {}, []
    for route in data.routes:
        for position in rail(route, straight_line_length, drop_rate=0, panoramas=data.panoramas):
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
    files = missing_files(data.folder, panos)
    return [f"{data.folder}/{file}" for file in files] + bare


class Navigation:
    """The tasks V-IRL-L and V-IRL-VL: seeded positions of routes, their questions, expert answers
    and verdicts. With `pictures` (V-IRL-VL) the question shows four views instead of saying what is
    observed now; crossings, too, must be seen.

        train, id_seen    training routes, training actions; two streams of the same distribution
        id_unseen         evaluation routes of the training city, training actions
        rule_ood          the same routes and rails, the other actions
        visual_ood        routes of other cities, training actions

    `data`: other routes than the generated ones, by name ("train", "unseen", "other"), see
    `released`; a split without data is none of `splits`. The released data has 5 forward points on
    a segment (appendix A); 3 keep routes at 8 to 16 positions or so.
    """

    splits: tuple[str, ...] = tuple(_DATA)

    def __init__(
        self, actions: str = "absolute", ood_actions: str = "relative",
        straight_line_length: int = 3, drop_rate: float = 0.5, wrap: bool = True, tries: int = 2,
        scheme: str = "paper", data: Mapping[str, RouteSet] | None = None, pictures: bool = False,
        feedback: str = "full",
    ) -> None:  # fmt: skip
        check("the action space", actions, actions in WORDS, WORDS)
        check("the action space of the OOD test", ood_actions, ood_actions in WORDS, WORDS)
        allowed = type(straight_line_length) is int and 0 <= straight_line_length <= 100
        check("straight_line_length", straight_line_length, allowed, "a whole number from 0 to 100")
        allowed = isinstance(drop_rate, int | float) and 0 <= drop_rate <= 1
        check("drop_rate", drop_rate, allowed, "a number from 0 to 1")
        check("wrap", wrap, isinstance(wrap, bool), "True or False")
        check("tries", tries, type(tries) is int and tries >= 1, "a whole number, at least 1")
        check("the reward scheme", scheme, scheme in REWARDS, REWARDS)
        self.actions, self.ood_actions = actions, ood_actions
        check("the feedback", feedback, feedback in prompts.FEEDBACK, prompts.FEEDBACK)
        self.tries, self.scheme, self.feedback = tries, scheme, feedback
        self.straight_line_length, self.drop_rate, self.wrap = straight_line_length, drop_rate, wrap
        self.data, self.pictures = data, pictures
        self.name = "virl-vl" if pictures else "virl-l"
        if data is not None:
            self.splits = tuple(split for split, name in _DATA.items() if name in data)
        side = ("id_seen",) if pictures else ("id_seen", "visual_ood")
        self.side_splits = tuple(split for split in side if split in self.splits)
        if pictures and data:
            self._need_pictures(data.values())

    def _need_pictures(self, sets: Iterable[RouteSet]) -> None:
        length = self.straight_line_length
        found = (what for data in sets for what in missing_pictures(data, length))
        lacking = list(dict.fromkeys(found))
        if lacking:
            more = f" and {len(lacking) - 3:,} more" if lacking[3:] else ""
            raise SftrlError(
                f"these routes have no pictures without {', '.join(lacking[:3])}{more}; get what "
                "is missing, or play the routes in text (task virl-l), which needs no panoramas."
            )

    def _set(self, split: str) -> RouteSet:
        check("the split", split, split in self.splits, self.splits)
        name = _DATA[split]
        found = generated(name) if self.data is None else self.data[name]
        if not found.routes:
            raise SftrlError(f"the data set {name!r} has no usable route; name one that has.")
        return found

    def routes(self, split: str) -> tuple[Route, ...]:
        """The routes of a split, in order; SftrlError if it is unknown or has none."""
        return self._set(split).routes

    def positions(self, split: str, route: Route, seed: object = 0) -> tuple[Step, ...]:
        """All positions of a route, in order, on the rail that `seed` draws in any split."""
        actions = self.ood_actions if split == "rule_ood" else self.actions
        layout = self.straight_line_length, self.drop_rate, seed, self.wrap
        data = self._set(split)
        laid = rail(route, *layout, data.panoramas)
        told = sentences(route, self.wrap)
        return tuple(Step(route, told, laid, index, actions, data) for index in range(len(laid)))

    def item(self, split: str, seed: int, index: int) -> Step:
        """Item `index`: a route of the split, a rail of its own, a position on it, all drawn."""
        key = f"nav/{split}/{seed}/{index}"
        rng = random.Random(key)
        return rng.choice(self.positions(split, rng.choice(self.routes(split)), key))

    def prompt(self, step: Step) -> str:
        observed = prompts.LOOK if self.pictures else step.position.observation
        return prompts.nav_prompt(step.actions, step.sentences, step.history, observed)

    def picture(self, step: Step, size: int) -> Image.Image | None:
        """What the question shows: the four views of the position, or None in text."""
        return self.draw(step, size) if self.pictures else None

    def draw(self, step: Step, size: int) -> Image.Image:
        """The four views of a position: drawn in a generated city, else of the panorama there.
        SftrlError if there is none, or if it cannot be read."""
        position, data = step.position, step.data
        if data.generated:
            city = cities.city_of(position.location)
            at = city.position(position.location)
            return drawing.street_views(city, at, position.heading, size)
        place = data.panoramas.nearest(position.location)
        if place is None:
            self._need_pictures([data])
        return street_view(data.folder, data.panoramas.ids[place], position.heading, size)

    def expert(self, step: Step, rng: random.Random) -> str:
        """The correct answer; there is one, so nothing is drawn."""
        position = step.position
        observed = step.seen if self.pictures else position.observation
        return prompts.nav_answer(observed, position.sentence, step.action)

    def verify(self, step: Step, text: str) -> Verdict:
        """Judge an answer by its action; a wrong one also by whether it saw an intersection.

        All three keys must be there; how white space is spread does not count. The scheme "authors"
        needs the action only, exactly, and takes any mention of an intersection for a claim.
        """
        crossing = step.position.at_intersection
        if self.scheme == "authors":
            right = _said(text, "action") == step.action
            readable, claim = True, "intersection" in _said(text, KEYS[0])
        else:
            fields = read_fields(text, KEYS) or {}
            said = [fields.get(key) for key in KEYS]
            readable = all(isinstance(value, str) for value in said)
            right = readable and _spaced(said[2]) == step.action
            claim = readable and claims_intersection(said[0])
        if not readable:
            reason = "unreadable"
        elif right:
            reason = "solved"
        else:
            reason = "wrong_action" if claim == crossing else "wrong_observation"
        message = prompts.nav_message(reason, crossing, authors=self.scheme == "authors")
        told = prompts.feedback(reason, message, self.feedback)
        return Verdict(right, REWARDS[self.scheme][reason], reason, told)

    def test_items(self, split: str, seed: int, count: int) -> list[Step]:
        """All positions of `count` routes, drawn by the seed: the same for both action spaces. Of
        `data` with fewer routes, all."""
        known = self.routes(split)
        count = min(count, len(known)) if self.data else count
        check("the number of routes", count, count <= len(known), f"at most {len(known)}")
        drawn = random.Random(f"nav/test/{_DATA[split]}/{seed}").sample(known, count)
        return [step for route in drawn for step in self.positions(split, route, seed)]

    def measures(self, episodes: Sequence[Any], tries: int) -> dict[tuple[str, int], Counts]:
        """`route_metrics` of complete routes, a cluster a route; what counts first tries only, at
        one try. Of first tries at turns also the two halves of a right turn: turn_found, is it the
        turn that is due, in the words of either action space; words_right, is it any turn in the
        words of the stated one. With pictures, of first tries what was seen: recognition, is the
        observation right; landmark_seen, is its landmark, where there is one; intersection_seen."""
        played = [(e.item, [turn.verdict for turn in e.turns]) for e in episodes]
        counts: dict[tuple[str, int], Counts] = {}
        for t in range(1, tries + 1):
            found = route_metrics(played, t)
            names = found if t == 1 else ("success", "per_step")
            counts |= {(name, t): found[name] for name in names}
        at_turns = [e for e in episodes if e.item.position.kind == "turn"]
        for name, right in {"turn_found": _found, "words_right": _uses_words}.items():
            marks = ((e.item.route, right(e.item, e.turns[0].text)) for e in at_turns)
            counts[name, 1] = by_cluster(marks)
        if self.pictures:
            marks = defaultdict(list)
            for e in episodes:
                for name, right in sighted(e.item, observed(e.turns[0].text)).items():
                    marks[name, 1].append((e.item.route, right))
            counts |= {what: by_cluster(found) for what, found in marks.items()}
        return counts


def _said(text: str, key: str) -> str:
    """A field of an answer that may be anything."""
    value = (read_fields(text, (key,)) or {}).get(key)
    return value if isinstance(value, str) else ""


def observed(text: str) -> str:
    """The observation of an answer that may be anything."""
    return _spaced(_said(text, KEYS[0]))


def _action(text: str) -> str:
    return _spaced(_said(text, "action"))


def _found(step: Step, text: str) -> bool:
    return _action(text) in (step.position.absolute, step.position.relative)


def _uses_words(step: Step, text: str) -> bool:
    return _action(text) in map(prompts.turn_action, WORDS[step.actions])


def sighted(step: Step, said: str) -> dict[str, bool]:
    """What an observation says right: all of it (recognition), whether there is a crossing, and
    the landmark with its side where the route has one."""
    position, said = step.position, _spaced(said)
    right = {
        "recognition": said == _spaced(step.seen),
        "intersection_seen": claims_intersection(said) == position.at_intersection,
    }
    if all(prompts.split_landmark(step.seen)):
        right["landmark_seen"] = said.partition(";")[0] == _spaced(step.seen).partition(";")[0]
    return right


# --- Metrics --------------------------------------------------------------------------------------
def route_metrics(
    played: Iterable[tuple[Step, Sequence[Verdict]]], tries: int
) -> dict[str, Counts]:
    """Count the verdicts of all positions of some routes, `tries` tries each at most.

    per_step       correct actions of all answers; the episode ends where the tries run out (paper)
    per_step_full  correct first tries, at every position
    turn_accuracy  the same, where the right action is a turn
    success        routes on which no position's tries run out

    Counts of one route are one cluster: `stats.clustered_interval(*zip(*counts))`. Raises
    ValueError where a route is not complete.
    """
    by_route: dict[Route, list] = defaultdict(list)
    for step, verdicts in played:
        by_route[step.route].append((step, [verdict.ok for verdict in verdicts[:tries]]))
    counts: dict[str, Counts] = defaultdict(list)
    for route, steps in by_route.items():
        steps.sort(key=lambda pair: pair[0].index)
        if [step.index for step, _ in steps] != list(range(len(steps[0][0].rail))):
            raise ValueError(f"route {route.index}: every position must be there, once")
        firsts = [oks[0] for _, oks in steps]
        turns = [oks[0] for step, oks in steps if step.position.kind == "turn"]
        passed = [any(oks) for _, oks in steps]
        reached = passed.index(False) + 1 if False in passed else len(passed)
        answers = sum(len(oks) for _, oks in steps[:reached])
        counts["per_step"].append((sum(passed[:reached]), answers))
        counts["per_step_full"].append((sum(firsts), len(firsts)))
        counts["turn_accuracy"].append((sum(turns), len(turns)))
        counts["success"].append((int(all(passed)), 1))
    return dict(counts)


def _random_action(step: Step, rng: random.Random) -> str:
    turns = map(prompts.turn_action, WORDS[step.actions])
    return rng.choice([prompts.FORWARD, prompts.STOP, *turns])


# Answers that need no understanding, to hold every result against. "compass_words" follows the
# instruction faultlessly but says its compass words whatever the action space: where SFT ends.
BASELINES = {
    "always_forward": lambda step, rng: prompts.FORWARD,
    "compass_words": lambda step, rng: step.position.absolute,
    "random_legal": _random_action,
}


def baseline_metrics(
    task: Navigation, split: str, name: str, seed: int = 0, count: int | None = None
) -> dict[str, Counts]:  # fmt: skip
    """The `route_metrics` of one of BASELINES on the first `count` (by default all) routes."""
    check("the baseline", name, name in BASELINES, BASELINES)
    rng, played = random.Random(f"nav/{name}/{split}/{seed}"), []
    for route in task.routes(split)[:count]:
        for step in task.positions(split, route, seed):
            verdicts: list[Verdict] = []
            while len(verdicts) < task.tries and not any(verdict.ok for verdict in verdicts):
                action = BASELINES[name](step, rng)
                position = step.position
                answer = prompts.nav_answer(position.observation, position.sentence, action)
                verdicts.append(task.verify(step, answer))
            played.append((step, verdicts))
    return route_metrics(played, task.tries)
