"""What the pictures of both worlds share: shapes written as text, and four views in one picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

Color = tuple[int, int, int]  # sRGB, 0..255


def draw_shapes(
    draw: ImageDraw.ImageDraw,
    shapes: str,
    corner: tuple[float, float],
    size: float,
    ink: Color,
    ground: Color | None = None,
) -> None:
    """Paint e.g. "oval 4 4 96 96, hole 27 27 73 73, shape 45 36 55 36 50 64" into a square.

    Places are on 100 x 100 units, x to the right, y down: an oval by its box, a shape by its
    corners; a hole is an oval and a gap a shape in the colour of the ground.
    """
    for part in shapes.split(", "):
        name, *at = part.split()
        places = [corner[i % 2] + size * int(value) / 100 for i, value in enumerate(at)]
        paint = draw.ellipse if name in ("oval", "hole") else draw.polygon
        paint(places, ink if name in ("oval", "shape") else ground)


def four_views(views: Sequence[Image.Image], size: int) -> Image.Image:
    """Four square views in a picture of `size` pixels: two over two, a thin black gap between."""
    side = (size - 2) // 2
    picture = Image.new("RGB", (size, size))
    for i, view in enumerate(views):
        where = ((size - side) * (i % 2), (size - side) * (i // 2))
        picture.paste(view.resize((side, side)), where)
    return picture
