"""Walks: what is asked at one position of a route, whose routes there are, what an answer says."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

from PIL import Image

from commons.errors import SftrlError

from . import cities, drawing
from .answers import read_fields
from .panoramas import read_json, street_view
from .rail import (
    NO_PANORAMAS,
    Position,
    claims_intersection,
    missing_pictures,
    spaced,
    split_landmark,
    turn_action,
)
from .routes import COMPASS, TURNS, Route, RouteSet, content_hash, load_routes, unseen
from .verdict import reward_schemes

WORDS = {"absolute": COMPASS, "relative": TURNS}  # what turn_direction takes, by action space

REWARDS = reward_schemes(solved=1.0, wrong_action=-1.0, wrong_observation=-1.5, unreadable=-1.0)
# A right action is paid where the sentence that is due stands beside it. (The -1.75 for a wrong
# sentence that the authors' code defines and never gives, below all else, ruined the training.)
REWARDS["quoted"] = REWARDS["paper"] | {"wrong_sentence": 0.0}
KEYS = ("current observation", "current instruction", "action")
DRAWN = RouteSet((), (), NO_PANORAMAS, 0, generated=True)  # of a route that belongs to no set


@dataclass(frozen=True)
class Step:
    """One position of one route under one action space: what is asked in one prompt."""

    route: Route
    sentences: tuple[str, ...]
    rail: tuple[Position, ...]
    index: int  # of the position on the rail
    actions: str  # "absolute" or "relative"
    data: RouteSet = field(default=DRAWN, compare=False, repr=False)  # that it comes from

    @property
    def position(self) -> Position:
        """The one at which is asked."""
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


@cache
def generated(name: str) -> RouteSet:
    """The routes of a generated data set ("train", "unseen" or "other"), in data/cities. SftrlError
    if they are not the recorded ones: what is tested on must never change unnoticed."""
    folder = cities.FOLDER / name
    recorded = read_json(cities.FOLDER / "checksums.json")[name]
    found = content_hash(folder)
    if found != recorded:
        raise SftrlError(
            f"{folder} has changed: its checksum is {found}, not {recorded}; restore it from the "
            "repository."
        )
    return replace(load_routes(folder), generated=True)


@lru_cache(maxsize=4)
def _released(folder: str, content: str) -> dict[str, RouteSet]:
    found = load_routes(folder)
    shares: dict[str, list[Route]] = {"other": [*found.routes], "train": [], "unseen": []}
    for route in found.routes:
        shares["unseen" if unseen(route) else "train"].append(route)
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


def said_as(text: str, key: str) -> str:
    """A field of an answer that may be anything."""
    value = (read_fields(text, (key,)) or {}).get(key)
    return value if isinstance(value, str) else ""


def observed(text: str) -> str:
    """The observation of an answer that may be anything."""
    return spaced(said_as(text, KEYS[0]))


def _action(text: str) -> str:
    return spaced(said_as(text, "action"))


def finds_turn(step: Step, text: str) -> bool:
    """Whether an answer names the turn that is due, in the words of either action space."""
    return _action(text) in (step.position.absolute, step.position.relative)


def uses_words(step: Step, text: str) -> bool:
    """Whether an answer names any turn in the words of the stated action space."""
    return _action(text) in map(turn_action, WORDS[step.actions])


def quotes_due(step: Step, text: str) -> bool:
    """Whether the sentence that an answer quotes is the one that is due."""
    return spaced(said_as(text, KEYS[1])) == spaced(step.position.sentence)


def sighted(step: Step, said: str) -> dict[str, bool]:
    """What an observation says right: all of it (recognition), whether there is a crossing, and
    the landmark with its side where the route has one."""
    position, said = step.position, spaced(said)
    right = {
        "recognition": said == spaced(step.seen),
        "intersection_seen": claims_intersection(said) == position.at_intersection,
    }
    if all(split_landmark(step.seen)):
        right["landmark_seen"] = said.partition(";")[0] == spaced(step.seen).partition(";")[0]
    return right


def need_pictures(sets: Iterable[RouteSet], length: int) -> None:
    """SftrlError, which names the first few, where pictures of these routes are missing; `length`:
    forward points of a segment."""
    found = (what for data in sets for what in missing_pictures(data, length))
    lacking = list(dict.fromkeys(found))
    if lacking:
        more = f" and {len(lacking) - 3:,} more" if lacking[3:] else ""
        raise SftrlError(
            f"these routes have no pictures without {', '.join(lacking[:3])}{more}; get what is "
            "missing, or play the routes in text (task virl-l), which needs no panoramas."
        )


def picture(step: Step, size: int, length: int) -> Image.Image:
    """The four views of a position: drawn in a generated city, else of the panorama there.
    SftrlError if there is none, or if it cannot be read."""
    position, data = step.position, step.data
    if data.generated:
        city = cities.city_of(position.location)
        at = city.position(position.location)
        return drawing.street_views(city, at, position.heading, size)
    place = data.panoramas.nearest(position.location)
    if place is None:
        need_pictures([data], length)
    assert place is not None  # else need_pictures has raised
    return street_view(data.folder, data.panoramas.ids[place], position.heading, size)
