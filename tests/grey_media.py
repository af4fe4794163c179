"""Pictures and clips made in code for the tests of data and video."""

import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tests.toy_media import encode

FPS = 10


def write_picture(path: Path, level: int = 128, size: tuple[int, int] = (48, 40)) -> Path:
    """A picture of noise around one grey `level`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(-20, 20, (size[1], size[0], 3))
    Image.fromarray((level + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def write_clip(
    path: Path,
    levels: list[int],
    faststart: bool = False,
    size: tuple[int, int] = (64, 64),
    file_format: str | None = "mp4",
    **options: str,
) -> Path:
    """A clip at 10 fps, each frame of one grey level; `size` is (width, height), `options` are the
    encoder's.
    """
    pictures = [Image.new("RGB", size, (level,) * 3) for level in levels]
    file_options = {"movflags": "faststart"} if faststart else {}
    return encode(path, pictures, FPS, "yuv420p", file_format, file_options, crf="1", **options)


@contextmanager
def full_size_frames(short_side: int) -> Iterator[list[int]]:
    """[pictures of at least this short side, bytes of Python and NumPy] that were in memory at
    once.
    """
    made, most, build = [], [0, 0], Image.Image.__init__

    def watched(picture: Image.Image) -> None:
        made[:] = [reference for reference in made if reference() is not None]
        sizes = [other.size for reference in made if (other := reference()) is not None]
        most[0] = max(most[0], sum(min(size) >= short_side for size in sizes))
        build(picture)
        made.append(weakref.ref(picture))

    tracemalloc.start()
    try:
        Image.Image.__init__ = watched
        yield most
        watched(Image.Image())
    finally:
        Image.Image.__init__ = build
        most[1] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def level_of(picture: Image.Image) -> float:
    """The mean grey level of a picture."""
    return float(np.asarray(picture).mean())
