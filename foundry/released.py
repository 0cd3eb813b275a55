"""Writes routes as the released V-IRL files, which `worlds.routes` reads."""

import json
import os
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from commons.errors import SftrlError
from worlds import routes as files
from worlds.panoramas import STREET_VIEWS, Point
from worlds.routes import Milestone, Route, compass_word


def _block(number: int, stone: Milestone, last: bool) -> str:
    said = f"{files.DESTINATION if last else ''}{stone.landmark}{files.IS_ON}{stone.side}"
    pairs = {
        "intersection_idx": number,
        "landmarks": files.NO_LANDMARK if stone.landmark is None else said,
        "distance": f"{stone.distance} meters",
        "human_heading": stone.heading_before,
        "to_next_intersection_heading": f"{stone.heading} ({compass_word(stone.heading)})",
    }
    return "\n{\n" + "".join(f'"{key}": "{value}",\n' for key, value in pairs.items()) + "}\n"


def _as_json(route: Route, places: Mapping[str, Point]) -> dict[str, Any]:
    """A route with all keys of the released data, also those that no reader here needs."""

    def place(name: str, stands: Point) -> dict[str, Any]:
        return {"name": name, "geocode": places.get(name, stands), "relocated_geocode": stands}

    stones = route.milestones
    marks = [
        place(stone.landmark, at) | {"spatial_relation": stone.side} if stone.landmark else None
        for stone, at in zip(stones[:-1], route.points, strict=False)
    ]
    lengths = [stone.distance for stone in stones]
    seconds = [round(metres / 1.3) for metres in lengths]  # on foot
    prose = [
        f"Turn {files.turn_word(stone.heading_before, stone.heading)} to face "
        f"{compass_word(stone.heading)} and walk {stone.distance} meters."
        for stone in stones
    ]
    return {
        "dest_place": place(route.destination, route.points[-1]),
        "start_place": place(route.origin, route.start),
        "route_results": {
            "geocode_list": route.points,
            "landmark_list": marks,
            "distance_list": lengths,
            "time_list": seconds,
            "instructions": prose,
            "polyline": [],
            "time": sum(seconds),
            "distance": sum(lengths),
            "n_landmarks": len(marks) - marks.count(None),
        },
        "init_heading": route.init_heading or 360,  # 0 would mean: draw one
        "instruction": "\n".join(prose),
        "milestone_info": "".join(
            _block(i, stone, i == len(stones)) for i, stone in enumerate(stones, 1)
        ),
    }


def write_routes(
    folder: Path,
    routes: Sequence[Route],
    places: Mapping[str, Point] | None = None,
    panoramas: Mapping[Point, str] | None = None,
    pictures: Mapping[str, tuple[Image.Image, float]] | None = None,
) -> None:
    """Write routes in the released files, in the given order: all of them, or no folder at all.

    `places`: where landmarks stand, by name. `pictures`: equirectangular picture and rotation by
    panorama id. Raises SftrlError if the folder is in use, or if a route would not read back as it
    is, e.g. for a name with a line break, which the format cannot hold.
    """
    text = json.dumps(
        [[_as_json(route, places or {}) for route in routes], len(routes)], ensure_ascii=False
    )
    for index, (route, given) in enumerate(zip(routes, json.loads(text)[0], strict=True)):
        back, problems = files.read_route(index, given)
        if back is None or problems or vars(back) | {"index": route.index} != vars(route):
            what = f"{problems[0].field} {problems[0].what}" if problems else "its fields disagree"
            raise SftrlError(f"route {index} does not fit the released files ({what}); mend it.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    views = partial / STREET_VIEWS
    try:
        partial.mkdir(parents=True)
        (partial / files.ROUTES).write_text(text, encoding="utf-8")
        if panoramas is not None:
            (partial / files.MAPPING).write_bytes(pickle.dumps(dict(panoramas)))
        for pano, (picture, rotation) in (pictures or {}).items():
            views.mkdir(exist_ok=True)
            picture.save(views / f"{pano}.jpg", quality=90)
            (views / f"{pano}.metadata.json").write_text(json.dumps({"rotation": rotation}))
        partial.rename(folder)  # fails if the folder is there and not empty
    except OSError as error:
        raise SftrlError(f"cannot write {folder} ({error.strerror}); name a new folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
