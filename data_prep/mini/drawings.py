"""The artist's drawings in the formats of the benchmarks: pictures as JPEG, clips as H.264 in mp4.

A drawing is a webp file, or the text of an SVG, which makes a clip of one frame.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

STILL_SIZE = 256  # pixels, the size of the originals
CLIP_SIZE = 128
MILLISECOND = Fraction(1, 1000)
ONE_FRAME = 1000  # milliseconds for which a clip shows a drawing that does not move


def is_animated(path: Path) -> bool:
    """Whether the file holds more than one frame."""
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1) > 1


def save_still(job: tuple[Path | str, Path]) -> None:
    """Save the drawing `job[0]` on white as the JPEG `job[1]`."""
    source, target = job
    if isinstance(source, str):
        on_white(from_svg(source, STILL_SIZE), STILL_SIZE).save(target, quality=90)
        return
    with Image.open(source) as image:
        on_white(image, STILL_SIZE).save(target, quality=90)


def save_clip(job: tuple[Path | str, Path]) -> float:
    """Save the drawing `job[0]` on white as the mp4 `job[1]`, with its own timing; returns its seconds."""
    import av

    source, target = job
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", options={"crf": "23"})
        stream.width = stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        stream.codec_context.thread_count = 1
        shown = 0
        for picture, milliseconds in timed_frames(source):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = shown, MILLISECOND
            container.mux(stream.encode(frame))
            shown += milliseconds
        container.mux(stream.encode())
    return shown / 1000


def timed_frames(source: Path | str) -> Iterator[tuple[Image.Image, int]]:
    """The frames of a drawing on white, each with the number of milliseconds for which it is shown."""
    if isinstance(source, str):
        yield on_white(from_svg(source, CLIP_SIZE), CLIP_SIZE), ONE_FRAME
        return
    with Image.open(source) as image:
        for number in range(image.n_frames):
            image.seek(number)
            picture = on_white(image, CLIP_SIZE)  # decodes the frame, and only then is its duration known
            yield picture, image.info["duration"]


def to_svg(icon_set: dict, name: str, colour: str) -> str:
    """One icon of a set in Iconify's JSON as an SVG; what has no colour of its own gets `colour`."""
    icon = icon_set["icons"][name]
    width = icon.get("width", icon_set.get("width", 16))
    height = icon.get("height", icon_set.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"].replace("currentColor", colour)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" fill="{colour}"'
    )
    return f'{head} viewBox="{left} {top} {width} {height}">{body}</svg>'


def render(svg: str, size: int) -> np.ndarray:
    """An SVG as RGBA [size, size, 4] uint8, centred; ValueError if it cannot be rendered."""
    import resvg_py  # here, so that the builders can say that it is absent

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    picture.thumbnail((size, size))
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(canvas)


def from_svg(svg: str, size: int) -> Image.Image:
    """An SVG as a picture of `size` x `size` pixels. ValueError if it cannot be rendered."""
    return Image.fromarray(render(svg, size))


def on_white(image: Image.Image, size: int) -> Image.Image:
    """The picture as RGB on a white square, its longer side `size` pixels."""
    drawing = image.convert("RGBA")
    side = max(drawing.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
