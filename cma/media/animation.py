"""Animations: gif, webp and png files of several frames, read as browsers show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from .images import as_shown, reason_of
from .opening import MediaError, head_of, open_media, with_content

T = TypeVar("T")
SLOWED = 100.0  # milliseconds that browsers show a frame that asks for 10 or less


def is_animation(path: Path) -> bool:
    """Return whether the header of a gif, webp or png says several frames; False if unreadable."""
    try:
        with_content(path, "a picture")  # opening a pipe would wait forever
        head = head_of(path)
        if _is_webp(head):  # Pillow would read the whole file
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        with open_media(path) as stream, Image.open(stream) as image:
            return getattr(image, "is_animated", False)
    except Exception:  # the error is reported when the file is read
        return False


def may_be_animation(path: Path) -> bool:
    """Return whether a file starts like a gif, webp or png, whatever its name."""
    head = head_of(path)
    return head.startswith((b"GIF8", b"\x89PNG")) or _is_webp(head)


class Animation:
    """The frames of a gif, webp or png and their times. Raises MediaError for a damaged file.

    `starts` [F + 1]: when each frame is first shown, in seconds from 0, and when the last one ends,
    which is also `seconds`. To find these times, the whole file is decoded once.
    """

    def __init__(self, path: Path) -> None:
        def duration(image: Image.Image) -> float:  # in milliseconds, because their sums are exact
            image.load()
            asked = float(image.info.get("duration", 0))
            return asked if asked > 10 else SLOWED

        self.path = path
        self.starts = np.cumsum([0.0, *self._each_frame(duration)]) / 1000
        self.seconds = float(self.starts[-1])

    def sampled(self, fps: float | None, start: float | None, end: float | None) -> list[int]:
        """Return indices of a frame every 1 / `fps` s from `start` to `end` (s); at least one.

        For frames of equal length the result is that of `VideoFile.sampled`, but a `start` or `end`
        inside a frame is not rounded: that frame is included. Raises MediaError if the animation
        ends before `start`.
        """
        count = len(self.starts) - 1
        first = int(np.searchsorted(self.starts, start or 0.0, side="right")) - 1
        if first >= count:
            shown = f"{self.starts[-1]:.2f} s of {count} frames"
            raise MediaError(f"{self.path}: expected a part from {start} s on, found {shown}")
        last = count
        if end is not None:
            last = min(count, max(first + 1, int(np.searchsorted(self.starts, end, side="left"))))
        if fps is None:
            return list(range(first, last))
        begins = self.starts[first : last + 1] - self.starts[first]
        ticks = np.ceil(begins * fps - 1e-6)  # how many ticks come before each frame begins
        return (first + np.flatnonzero(np.diff(ticks))).tolist()

    def read(self, chosen: Sequence[int]) -> Iterator[Image.Image]:
        """Yield the frames at the ascending indices `chosen`. Raises MediaError."""
        return self._each_frame(lambda image: as_shown(image).copy(), chosen)

    stream = read

    def _each_frame(
        self, take: Callable[[Image.Image], T], chosen: Sequence[int] | None = None
    ) -> Iterator[T]:
        """Yield `take(frame)` for the indices `chosen`, or for all frames."""
        try:
            with open_media(self.path) as stream:
                image = Image.open(stream)
                hidden = getattr(image, "default_image", False)  # an APNG's, for old viewers
                count = getattr(image, "n_frames", 1) - hidden
                for number in range(count) if chosen is None else chosen:
                    image.seek(number + hidden)
                    yield take(image)
        except Exception as error:  # a damaged file can make a decoder raise anything
            reason = reason_of(self.path, error)
            raise MediaError(
                f"{self.path}: cannot be decoded as an animation ({reason})"
            ) from error


def _is_webp(head: bytes) -> bool:
    return (head[:4], head[8:12]) == (b"RIFF", b"WEBP")
