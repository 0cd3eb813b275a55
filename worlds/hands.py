"""Pictures of hands: cards on a green table (GP-VL).

Ranks are written in DejaVu Sans Bold, which matplotlib brings (licence: Bitstream Vera's, free to
use and share); suits are shapes of our own.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from commons.errors import check

from .pictures import Color, draw_shapes

TABLE, PAPER, EDGE = (24, 112, 62), (250, 249, 244), (120, 120, 116)
BLACK, RED = (16, 16, 20), (200, 16, 32)
INK: dict[str, Color] = {"S": BLACK, "C": BLACK, "H": RED, "D": RED}
SHAPE = 0.82  # width of a card over its height: broader than real ones, to be read when small
LARGE = 96  # pixels: height from which a card has corners and pips like a real one
TILT, SHIFT, LIGHT, NOISE = 6.0, 0.035, 0.08, 4.0  # degrees; shares of a cell; share; of 255
_SUITS = {
    "S": "oval 4 36 53 80, oval 47 36 96 80, shape 50 2 93 50 50 74 7 50, shape 50 55 68 98 32 98",
    "H": "oval 3 8 54 58, oval 46 8 97 58, shape 6 44 50 97 94 44 50 30",
    "C": "oval 28 3 72 47, oval 3 38 47 82, oval 53 38 97 82, shape 50 40 66 97 34 97, "
    "oval 36 36 64 64",
    "D": "shape 50 1 88 50 50 99 12 50",
}
_L, _M, _R = 0.3, 0.5, 0.7  # columns of the pips on a large card
# By column, from the top, in shares of the height between the first row and the last.
_PIPS: dict[int, dict[float, tuple[float, ...]]] = {
    1: {_M: (0.5,)},
    2: {_M: (0, 1)},
    3: {_M: (0, 0.5, 1)},
    4: {_L: (0, 1), _R: (0, 1)},
    5: {_L: (0, 1), _M: (0.5,), _R: (0, 1)},
    6: {_L: (0, 0.5, 1), _R: (0, 0.5, 1)},
    7: {_L: (0, 0.5, 1), _M: (0.25,), _R: (0, 0.5, 1)},
    8: {_L: (0, 0.5, 1), _M: (0.25, 0.75), _R: (0, 0.5, 1)},
    9: {_L: (0, 1 / 3, 2 / 3, 1), _M: (0.5,), _R: (0, 1 / 3, 2 / 3, 1)},
    10: {_L: (0, 1 / 3, 2 / 3, 1), _M: (1 / 6, 5 / 6), _R: (0, 1 / 3, 2 / 3, 1)},
}


@lru_cache(maxsize=64)
def _font(height: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # slow, and only its font is wanted

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(path, height)


def _suit(draw: ImageDraw.ImageDraw, suit: str, middle: tuple[float, float], size: float) -> None:
    corner = middle[0] - size / 2, middle[1] - size / 2
    draw_shapes(draw, _SUITS[suit], corner, size, INK[suit])


def _write(
    draw: ImageDraw.ImageDraw, name: str, suit: str, middle: tuple[float, float],
    room: tuple[float, float],
) -> None:  # fmt: skip
    """A rank as large as the room (width, height) allows, around its middle."""
    font = _font(100)
    left, top, right, bottom = font.getbbox(name)
    size = max(4, int(100 * min(room[0] / (right - left), room[1] / (bottom - top))))
    draw.text(middle, name, INK[suit], _font(size), "mm")


@lru_cache(maxsize=256)
def card(name: str, suit: str, height: int) -> Image.Image:
    """One card, upright: RGBA, `height` pixels high."""
    scale = max(1, math.ceil(256 / height))  # drawn larger, and then made smaller
    h = scale * height
    w = scale * round(SHAPE * height)
    picture = Image.new("RGBA", (w, h), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((0, 0, w - 1, h - 1), h / 14, PAPER, EDGE, max(1, h // 90))
    if height < LARGE:
        _write(draw, name, suit, (0.5 * w, 0.33 * h), (0.78 * w, 0.46 * h))
        _suit(draw, suit, (0.5 * w, 0.79 * h), 0.32 * h)
        return picture.reduce(scale)
    rank = 1 if name == "A" else int(name) if name.isdigit() else 0
    pips = [(x, y) for x, column in _PIPS.get(rank, {}).items() for y in column]
    if not rank:  # a court card: its letter in a frame
        frame = (0.24 * w, 0.13 * h, 0.76 * w, 0.87 * h)
        draw.rectangle(frame, None, INK[suit], max(1, h // 110))
        _write(draw, name, suit, (0.5 * w, 0.42 * h), (0.4 * w, 0.4 * h))
        _suit(draw, suit, (0.5 * w, 0.75 * h), 0.16 * h)
    for upside_down in (False, True):
        _write(draw, name, suit, (0.11 * w, 0.09 * h), (0.14 * w, 0.1 * h))
        _suit(draw, suit, (0.11 * w, 0.21 * h), 0.1 * h)
        for x, y in pips:
            if y < 0.5 or (y == 0.5 and not upside_down):
                size = 0.42 if rank == 1 else 0.15
                _suit(draw, suit, (x * w, (0.16 + 0.68 * y) * h), size * h)
        picture = picture.rotate(180)
        draw = ImageDraw.Draw(picture)
    return picture.reduce(scale)


def picture(
    names: Sequence[str], suits: Sequence[str], size: int = 64, seed: int | str = 0
) -> Image.Image:
    """A hand on the table: a square of `size` pixels, the cards in rows of two (of five: three).

    The same for the same (names, suits, size, seed); `seed` decides how the cards lie, the light
    and the noise. Raises SftrlError on another size or an unknown suit.
    """
    check("the size of a picture", size, type(size) is int and 32 <= size <= 2048, "32 to 2,048")
    check("the suits", suits, set(suits) <= set(INK), f"letters of {''.join(INK)}")
    rng = random.Random(f"hand/{seed}")
    fine = max(1, round(128 / size))  # drawn larger, and then made smaller: cards lie tilted
    side, columns = fine * size, 2 if len(names) < 5 else 3
    cell = side / columns
    table = Image.new("RGB", (side, side), TABLE)
    top = (columns - -(-len(names) // columns)) / 2  # empty rows, above and below
    for i, (name, suit) in enumerate(zip(names, suits, strict=True)):
        row, column = divmod(i, columns)
        # The one card size that is drawn small is asked for by its size in the end.
        one = card(name, suit, round(0.9 * cell / fine)).resize
        height = round(0.9 * cell)
        tilted = one((round(SHAPE * height), height), Image.Resampling.BICUBIC).rotate(
            rng.uniform(-TILT, TILT), Image.Resampling.BICUBIC, expand=True
        )
        x, y = ((n + 0.5 + rng.uniform(-SHIFT, SHIFT)) * cell for n in (column, row + top))
        table.paste(tilted, (round(x - tilted.width / 2), round(y - tilted.height / 2)), tilted)
    pixels = np.asarray(table.reduce(fine), np.float32) * rng.uniform(1 - LIGHT, 1 + LIGHT)
    pixels += np.random.default_rng(rng.randrange(2**32)).normal(0, NOISE, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
