"""Draw icons as SVG and as pixels, put pictures on a white square, and tell which files are
animated.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def is_animated(path: Path) -> bool:
    """Whether the file holds more than one frame."""
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1) > 1


def to_svg(icon_set: dict, name: str, colour: str) -> str:
    """Return one icon of a set in Iconify's JSON as SVG; parts without their own colour get
    `colour`.
    """
    icon = icon_set["icons"][name]
    width = icon.get("width", icon_set.get("width", 16))
    height = icon.get("height", icon_set.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"].replace("currentColor", colour)
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} fill="{colour}" viewBox="{left} {top} {width} {height}">{body}</svg>'


def render(svg: str, size: int) -> np.ndarray:
    """Render an SVG as RGBA [size, size, 4] uint8, centred. Raises ValueError if it cannot be
    rendered.
    """
    import resvg_py  # imported late: builders report it if it is missing

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    picture.thumbnail((size, size))
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(canvas)


def on_white(image: Image.Image, size: int) -> Image.Image:
    """Centre a picture on a white square, as RGB; its longer side becomes `size` pixels."""
    drawing = image.convert("RGBA")
    side = max(drawing.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
