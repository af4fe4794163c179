"""Pictures as CLIP should see them: upright, in RGB, on white where transparent; animations as frames."""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..files import printable
from .pixels import as_shown

T = TypeVar("T")
SLOWED = 0.1  # seconds that browsers show a frame which asks for 10 ms or less


class MediaError(ValueError):
    """A picture or clip is missing, empty or cannot be decoded; the message names its path, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def shown_name(name: str) -> str:
    """A file name as text: bytes that are not UTF-8, which Linux allows, become the replacement character."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of Pillow: of large pictures, which it reads up to twice its limit, or of small damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        yield


@_quiet()
def read_image(path: str | Path) -> Image.Image:
    """The picture, or the first frame of an animation, upright in RGB.

    Transparent parts become white: so the bundled CLIP's benchmarks are drawn, half of the drawings it was
    trained on, and the pages that most such pictures are made for. Raises MediaError for a file that is
    missing, empty, damaged, no picture, or of more than twice `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    path = Path(path)
    with_content(path, "a picture")
    try:
        with Image.open(path) as image:
            return as_shown(image)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise MediaError(f"{path}: cannot be read as a picture ({_reason(path, error)})") from error


def with_content(path: Path, kind: str) -> None:
    """Raise MediaError unless `path` is a file with something in it."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
        raise MediaError(f"{path}: {problem}; cannot be read as {kind}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        problem = "empty file" if stat.S_ISREG(found.st_mode) else "no regular file"
        raise MediaError(f"{path}: {problem}; cannot be read as {kind}")


# ---- animations


@_quiet()
def is_animation(path: Path) -> bool:
    """Whether a gif, webp or png holds several frames, by its header; False where that cannot be read."""
    try:
        with_content(path, "a picture")  # to open a pipe would wait for ever
        head = _head(path)
        if _is_webp(head):  # Pillow would read the whole file
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        with Image.open(path) as image:
            return getattr(image, "is_animated", False)
    except Exception:  # whoever reads it says what is wrong
        return False


def may_be_animation(path: Path) -> bool:
    """Whether a file starts like a gif, webp or png, whatever its name."""
    head = _head(path)
    return head.startswith((b"GIF8", b"\x89PNG")) or _is_webp(head)


def frame_starts(path: Path) -> np.ndarray:
    """When each frame of an animation is first shown, in seconds from 0, and when the last one ends [F + 1].

    Reads the whole file, since only decoding tells; raises MediaError if it is damaged.
    """

    def duration(image: Image.Image) -> float:
        image.load()
        seconds = float(image.info.get("duration", 0)) / 1000
        return seconds if seconds > 0.01 else SLOWED

    return np.cumsum([0.0, *_each_frame(path, duration)])


def read_animation(path: Path, chosen: Sequence[int]) -> Iterator[Image.Image]:
    """The frames at the ascending indices `chosen`, as they are shown, one at a time. Raises MediaError."""
    return _each_frame(path, as_shown, chosen)


def shown_frames(starts: np.ndarray, fps: float | None, start: float | None, end: float | None) -> list[int]:
    """The frames between `start` and `end` (seconds), of those shown every 1 / `fps` seconds; at least one.

    `starts` [F + 1] as of `frame_starts`; for frames of equal length it is `video.sampled`. Raises
    ValueError for an animation that is over before `start`.
    """
    count = len(starts) - 1
    first = int(np.searchsorted(starts, start or 0.0, side="right")) - 1
    if first >= count:
        raise ValueError(f"expected a part from {start} s on, found {starts[-1]:.2f} s of {count} frames")
    last = count
    if end is not None:
        last = min(count, max(first + 1, int(np.searchsorted(starts, end, side="left"))))
    if fps is None:
        return list(range(first, last))
    ticks = np.ceil((starts[first : last + 1] - starts[first]) * fps - 1e-6)  # those before a frame begins
    return (first + np.flatnonzero(np.diff(ticks))).tolist()


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(24)


def _is_webp(head: bytes) -> bool:
    return (head[:4], head[8:12]) == (b"RIFF", b"WEBP")


def _each_frame(
    path: Path, take: Callable[[Image.Image], T], chosen: Sequence[int] | None = None
) -> Iterator[T]:
    """What `take` makes of each frame of an animation, or of those at the ascending indices `chosen`."""
    try:
        with _quiet():
            image = Image.open(path)
        with image:
            if chosen is None:
                with _quiet():
                    chosen = range(getattr(image, "n_frames", 1))
            for number in chosen:
                with _quiet():
                    image.seek(number)
                    taken = take(image)
                yield taken
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise MediaError(f"{path}: cannot be decoded as an animation ({_reason(path, error)})") from error


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with a picture, and what to do where something can be done."""
    if isinstance(error, Image.DecompressionBombError):
        found, limit = (int(n) / 1e6 for n in re.findall(r"(\d+) pixels", str(error))[:2])
        return f"{found:.0f} megapixels, more than the limit of {limit:.0f}; save a smaller copy of it"
    if isinstance(error, UnidentifiedImageError):
        return f"no picture that Pillow knows: it starts with {_head(path)!r}"
    return str(error) or type(error).__name__
