"""One video file, opened by decord, and by PyAV where decord cannot: both give the same pixels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from PIL import Image

from .pictures import MediaError, shown_name

BATCH = 2**25  # bytes of frames that are decoded at a time


class VideoFile:
    """`count` frames at `fps` frames a second. Raises MediaError, naming the path, for what is no video.

    PyAV looks first: it says what is wrong with a file, which decord prints to stderr.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream, av.open(stream) as container:
                kinds = [one.type for one in container.streams]
                areas = [
                    getattr(one, "width", 0) * getattr(one, "height", 0) for one in container.streams.video
                ]
        except Exception as error:  # a damaged file can make a decoder raise anything
            raise self._error(getattr(error, "strerror", None) or str(error)) from error
        if not kinds:
            raise self._error("nothing in it")
        if "video" not in kinds:
            raise MediaError(f"{path}: no video in it, only {', '.join(kinds)}; expected a clip")
        self._batch = max(1, BATCH // max(1, 3 * areas[0]))  # frames
        decord = importlib.import_module("decord")  # here, so that `import cma` does without it
        decord.logging.set_level(decord.logging.QUIET)
        try:
            with path.open("rb") as stream:  # for a name that is not UTF-8, which decord does not take
                source = str(path) if shown_name(str(path)) == str(path) else stream
                self._reader = decord.VideoReader(source, num_threads=1)
            self.count, self.fps = len(self._reader), self._reader.get_avg_fps()
        except Exception as error:
            raise self._error(str(error)) from error
        if self.count < 1 or not 0 < self.fps < float("inf"):
            raise self._error(f"{self.count} frames at {self.fps} frames a second")

    def frames(self, chosen: list[int]) -> Iterator[Image.Image]:
        """The frames at the ascending indices `chosen`, in RGB and upright; few of them are held at a time.

        Raises MediaError where the next one cannot be decoded.
        """
        for done in range(0, len(chosen), self._batch):
            try:
                pixels = self._reader.get_batch(chosen[done : done + self._batch]).asnumpy()  # [F, H, W, 3]
            except Exception as error:  # also of frames less than 50 pixels wide, in some widths
                yield from self._by_pyav(chosen[done:], error)
                return
            yield from map(Image.fromarray, pixels)
            del pixels  # before the next ones are decoded

    def _by_pyav(self, chosen: list[int], failed: Exception) -> Iterator[Image.Image]:
        """The same frames; MediaError with the reason `failed` where the file ends before, or is damaged."""
        left = set(chosen)
        with suppress(Exception), self.path.open("rb") as stream, av.open(stream) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in left:
                    left.remove(number)
                    yield Image.fromarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                if not left:
                    return
        raise self._error(str(failed)) from failed

    def _error(self, reason: str) -> MediaError:
        short = reason.strip().rpartition(": ")[2]  # decord's messages start with its own source lines
        return MediaError(f"{self.path}: cannot be decoded, corrupt or cut short ({short})")
