"""Panoramas of the released V-IRL data: where they were taken, and what is seen from there.

Also the careful reading of files that `routes` shares: bounded, and nothing is ever executed.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import pickletools
import re
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from commons.errors import SftrlError

from .pictures import four_views

Point = tuple[float, float]  # latitude and longitude in degrees
RADIUS = 6_371_000.0  # of the earth, in metres
STREET_VIEWS = "street_views"  # of a data set: its pictures
NEAR = 20.0  # metres within which a panorama stands for a point (public code)
VIEWS = (0, 90, 180, 270)  # front, right, back, left of the heading
_MAX_BYTES, _MAX_PICKLE = 1 << 26, 1 << 24  # what is larger is refused


# --- Files and points -----------------------------------------------------------------------------
def read_bytes(path: Path, limit: int = _MAX_BYTES) -> bytes:
    """What a file holds; SftrlError if it cannot be read, or is larger than `limit`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        named = str(path) if len(str(path)) < 1000 else f"{str(path)[:200]}..."
        raise SftrlError(
            f"cannot read {named} ({error.strerror}), which belongs to a folder of routes in the "
            "released shape; name such a folder."
        ) from error
    if len(data) > limit:
        raise SftrlError(f"{path} has more than the {limit:,} bytes that are allowed; split it.")
    return data


def read_json(path: Path) -> Any:
    """What a JSON file holds; SftrlError if it cannot be read, whatever is wrong with it."""
    data = read_bytes(path)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SftrlError(
            f"{path} is not JSON that can be read ({str(error)[:100]}); get the file again."
        ) from error


def as_point(pair: Any) -> Point:
    """Latitude and longitude from a pair of numbers; ValueError if it is something else."""
    if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
        raise ValueError("not a pair")
    lat, lng = pair
    if not {type(lat), type(lng)} <= {int, float}:
        raise ValueError("not two numbers")
    if not (abs(lat) <= 90 and abs(lng) <= 180):  # NaN and infinities fail this too
        raise ValueError("not on the globe")
    return float(lat), float(lng)


def _on_globe(points: Sequence[Point]) -> np.ndarray:
    """(n, 3) positions in metres, whose straight distances are right within a city."""
    lat, lng = np.radians(np.asarray(points, float)).T
    return RADIUS * np.stack([np.cos(lat) * np.cos(lng), np.cos(lat) * np.sin(lng), np.sin(lat)], 1)


def distance(a: Point, b: Point) -> float:
    """Metres between two points."""
    half = math.radians(b[0] - a[0]) / 2, math.radians(b[1] - a[1]) / 2
    slope = math.cos(math.radians(a[0])) * math.cos(math.radians(b[0]))
    return 2 * RADIUS * math.asin(math.hypot(math.sin(half[0]), slope**0.5 * math.sin(half[1])))


# --- Where they are -------------------------------------------------------------------------------
class Panoramas:
    """Where the panoramas of a data set were taken: `ids` maps points to panorama ids."""

    def __init__(self, ids: Mapping[Point, str] | None = None) -> None:
        self.ids = dict(ids or {})
        self._points = list(self.ids)

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import KDTree  # slow to import, and rarely needed

        return KDTree(_on_globe(self._points))

    def nearest(self, point: Point, limit: float = NEAR) -> Point | None:
        """The place of the panorama nearest to a point; None if none is within `limit` metres."""
        if not self.ids:
            return None
        away, place = self._tree.query(_on_globe([point])[0])
        return self._points[place] if away <= limit else None


# Even a pickle that calls nothing can allocate and hash without end. So the sequence of its
# opcodes, a letter each, must first be that of one dict: (number, number) -> text, and so on.
_OPCODES = {
    "PROTO": "", "FRAME": "", "PUT": "", "BINPUT": "", "LONG_BINPUT": "", "MEMOIZE": "",
    "FLOAT": "n", "BINFLOAT": "n", "INT": "n", "BININT": "n", "BININT1": "n", "BININT2": "n",
    "UNICODE": "s", "BINUNICODE": "s", "SHORT_BINUNICODE": "s", "GET": "s", "BINGET": "s",
    "LONG_BINGET": "s", "MARK": "(", "TUPLE": "t", "TUPLE2": "2", "EMPTY_DICT": "d", "DICT": "D",
    "SETITEM": "i", "SETITEMS": "u", "STOP": ".",
}  # fmt: skip
_ENTRY = r"(?:nn2|\(nnt)s"
_ONE_DICT = re.compile(rf"(?:d|\(D)(?:\((?:{_ENTRY})*+u|{_ENTRY}i)*+\.")
_PANORAMA_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.=-]{0,99}")  # a file name, never a path


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


def _letter(opcode: pickletools.OpcodeInfo, argument: Any, limit: int) -> str:
    if opcode.name.endswith("PUT") and argument > limit:
        raise ValueError("a memo beyond the file's own size")
    return _OPCODES[opcode.name]


def load_panoramas(path: Path) -> Panoramas:
    """gps_pano_mapping.pkl. Only a dict of (latitude, longitude) to panorama id is read from a
    pickle: anything else, and above all what would run code, is an SftrlError, and is not run."""
    data = read_bytes(path, _MAX_PICKLE)
    try:
        letters = [_letter(op, value, len(data)) for op, value, _ in pickletools.genops(data)]
        if not _ONE_DICT.fullmatch("".join(letters)):
            raise ValueError("not one dict")
        ids = {as_point(k): str(v) for k, v in _Unpickler(io.BytesIO(data)).load().items()}
        if not all(map(_PANORAMA_ID.fullmatch, ids.values())):
            raise ValueError("not an id")
    except Exception as error:  # whatever a damaged or hostile file leads to
        raise SftrlError(
            f"{path} holds something other than a dict of (latitude, longitude) to panorama id, "
            "and nothing else is read from a pickle; get the file again, or take it away."
        ) from error
    return Panoramas(ids)


# --- What is seen ---------------------------------------------------------------------------------
def _panorama(folder: Path, pano: str) -> tuple[np.ndarray, float]:
    """(height, width, 3) pixels, and the rotation: degrees from the left edge to north."""
    views = folder / STREET_VIEWS
    try:
        if not _PANORAMA_ID.fullmatch(pano):
            raise ValueError("no such name")
        rotation = float(read_json(views / f"{pano}.metadata.json")["rotation"])
        with warnings.catch_warnings(), (views / f"{pano}.jpg").open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow's limit
            image = Image.open(file, formats=["JPEG"])
            width, height = image.size
            if abs(width - 2 * height) > width / 100 or not math.isfinite(rotation):
                raise ValueError(f"{width} x {height} pixels, rotation {rotation}")
            image.draft("RGB", (4096, 2048))  # what is larger is decoded at a fraction
            return np.asarray(image.convert("RGB")), rotation
    except Exception as error:  # Pillow raises nearly anything on a damaged file
        raise SftrlError(
            f"the panorama {reprlib.repr(pano)} in {views} cannot be used ({str(error)[:150]}); "
            "get its .jpg, twice as wide as high, and its .metadata.json again."
        ) from error


def missing_files(folder: Path, panos: Iterable[str]) -> list[str]:
    """Which files of these panoramas a data set lacks, e.g. "street_views/PANO.jpg"."""
    views = folder / STREET_VIEWS
    there = set(os.listdir(views)) if views.is_dir() else set()
    needed = (f"{pano}.{end}" for pano in dict.fromkeys(panos) for end in ("jpg", "metadata.json"))
    return [f"{STREET_VIEWS}/{file}" for file in needed if file not in there]


def street_view(folder: Path, pano: str, heading: float, size: int = 560) -> Image.Image:
    """The 2x2 picture of `size` pixels seen from a panorama by somebody who faces `heading`, 90
    degrees a view. Raises SftrlError if the panorama cannot be read."""
    from scipy.ndimage import map_coordinates  # slow to import, and rarely needed

    pixels, rotation = _panorama(folder, pano)
    rows, columns = pixels.shape[:2]
    side = (size - 2) // 2
    middle = (np.arange(side) + 0.5) / side * 2 - 1
    right, down = np.meshgrid(middle, middle)
    row = (0.5 + np.arctan2(down, np.hypot(right, 1)) / np.pi) * rows - 0.5
    seen = []
    for view in VIEWS:
        turn = (np.degrees(np.arctan(right)) + heading + view + rotation) / 360 % 1
        at = [row, turn * columns - 0.5]
        bands = np.moveaxis(pixels, 2, 0)
        seen.append([map_coordinates(band, at, order=1, mode="grid-wrap") for band in bands])
    return four_views([Image.fromarray(np.stack(bands, 2)) for bands in seen], size)
