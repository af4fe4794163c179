"""One video file, decoded by decord, or by PyAV if decord cannot. Both give the same pixels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import require
from .images import shown_name
from .opening import MediaError, open_media, stamp

require("video", "av", "decord")
import av  # noqa: E402 (after the check)
import decord  # noqa: E402

decord.logging.set_level(decord.logging.QUIET)
AT_ONCE = 2**26  # bytes of frames that `stream` lets decord decode at once
SEEKS = 16  # to skip this many frames or more, PyAV seeks the key frame before the wanted one
# in these containers, seeking finds the wanted frames; in others decord may return wrong frames, so
# PyAV decodes from the first one
SURE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")


class VideoFile:
    """A video of `count` frames at `fps` frames a second. Raises MediaError if it is not a video.

    PyAV opens the file first, because its errors say what is wrong; decord only prints to stderr.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_media(path) as stream, av.open(stream, "r") as container:
                kinds = [one.type for one in container.streams]
                videos = [
                    (3 * one.width * one.height, one.frames) for one in container.streams.video
                ]
                name = container.format.name
        except Exception as error:  # a damaged file can make a decoder raise anything
            raise self._error(getattr(error, "strerror", None) or error) from error
        if not kinds:
            raise self._error("nothing in it")
        if not videos:
            raise MediaError(f"{path}: no video in it, only {', '.join(kinds)}; expected a clip")
        self._bytes, frame_count = map(max, zip(*videos, strict=True))  # bytes of one frame
        self._sure = name in SURE
        self._reader: Any = None  # decord's reader
        self._refused = None  # or the error instead of it
        try:
            if not self._sure:
                raise ValueError(f"only PyAV reads {name}")
            if frame_count > stamp(path).size:  # decord would list all of them and crash
                raise ValueError(f"it claims to have {frame_count:,} frames")
            with open_media(path) as stream:  # decord takes only UTF-8 names of files
                by_name = path.is_file() and shown_name(str(path)) == str(path)
                source = str(path.absolute()) if by_name else stream
                self._reader = decord.VideoReader(source, num_threads=1)
            self.count = len(self._reader)
            self.fps = self._reader.get_avg_fps()
        except Exception as error:  # e.g. a piped recording that does not give its length
            self._refused = error
            self.count, self.fps = _counted(path, stamp(path))
        if self.count < 1 or not 0 < self.fps < float("inf"):
            raise self._error(self._refused or f"{self.count} frames at {self.fps} frames a second")
        self.seconds = self.count / self.fps

    def sampled(self, fps: float | None, start: float | None, end: float | None) -> list[int]:
        """Return indices of a frame every 1 / `fps` s from `start` to `end` (s); at least one.

        They are right if the frame rate of the video is constant.

        Raises ValueError if the clip ends before `start`.
        """
        begins = (start or 0.0) * self.fps
        if begins >= self.count:
            found = f"{self.count} frames at {self.fps:.2f} fps"
            raise ValueError(f"expected a part from {start} s on, found {found}")
        first = min(round(begins), self.count - 1)
        last = self.count if end is None else min(self.count, max(first + 1, round(end * self.fps)))
        step = 1.0 if fps is None else max(1.0, self.fps / fps)
        # slightly less, because with a fractional step `arange` may include `last`
        return np.arange(first, last - 1e-6, step).astype(int).tolist()

    def read(self, chosen: list[int]) -> Iterator[Image.Image]:
        """Yield the frames at the ascending indices `chosen`, RGB, upright. Raises MediaError."""
        done = 0
        try:
            for number in chosen:  # one at a time: a batch would be in memory twice
                (frame,) = self._reader.get_batch([number]).asnumpy()  # [H, W, 3], uint8
                yield Image.fromarray(frame)
                done += 1
        except Exception as error:  # no reader, or frames in some widths below 50 pixels
            for frame in self._by_pyav(chosen[done:]):
                yield frame
                done += 1
            if done < len(chosen):
                raise self._error(self._refused or error) from error

    def stream(self, chosen: list[int]) -> Iterator[Image.Image]:
        """Yield the same frames; PyAV reads many frames, because decord decodes far ahead."""
        done = 0
        if len(chosen) * self._bytes > AT_ONCE:
            for frame in self._by_pyav(chosen):
                yield frame
                done += 1
        yield from self.read(chosen[done:])

    def _by_pyav(self, chosen: list[int]) -> Iterator[Image.Image]:
        """Yield the same frames; fewer if the file is truncated or damaged."""
        with (
            suppress(Exception),
            open_media(self.path) as stream,
            av.open(stream, "r") as container,
        ):
            seeks = self._sure and chosen[-1] >= SEEKS
            times, keys = self._times() if seeks else ([], [])
            frames, last = enumerate(_decoded(container)), -1
            for number in chosen:
                place = bisect_right(keys, number)
                if place and keys[place - 1] > last + 1:  # frames in between are not decoded
                    container.seek(times[keys[place - 1]], stream=container.streams.video[0])
                    first = next(decoded := _decoded(container))
                    at = times.index(first.pts) if first.pts in times else self.count
                    if at > number:  # the frame is missing
                        container.seek(times[0], stream=container.streams.video[0])
                        frames, keys = enumerate(_decoded(container)), []
                    else:
                        frames = enumerate(chain([first], decoded), at)
                last, frame = next(one for one in frames if one[0] >= number)
                yield Image.fromarray(np.rot90(_rgb(frame), frame.rotation // 90))

    def _times(self) -> tuple[list[int], list[int]]:
        """Return the frames' times and the key frames' numbers; neither if packets are not frames.

        Decoding can start at a key frame.
        """
        with open_media(self.path) as stream, av.open(stream, "r") as container:
            packets = [(one.pts, one.is_keyframe) for one in container.demux(video=0) if one.size]
        known = {pts: is_key for pts, is_key in packets if pts is not None}
        if not len(packets) == len(known) == self.count:
            return [], []
        times = sorted(known)
        return times, [number for number, pts in enumerate(times) if known[pts]]

    def _error(self, reason: Exception | str) -> MediaError:
        # decord's messages start with its own source lines
        short = str(reason).strip().rpartition(": ")[2]
        return MediaError(f"{self.path}: cannot be decoded, corrupt or cut short ({short})")


@lru_cache  # each group of moments opens a long clip again
def _counted(path: Path, _: object) -> tuple[int, float]:
    """Return how many frames of a file PyAV can decode (0: none), and their rate."""
    with suppress(Exception), open_media(path) as stream, av.open(stream, "r") as container:
        rate = container.streams.video[0].guessed_rate
        if rate is not None:
            # packets may be halves of frames, or need others that were cut off
            return sum(1 for frame in container.decode(video=0)), float(rate)
    return 0, 0.0


def _decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Yield the frames of the video from the container's current position."""
    yield from container.decode(video=0)


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """Convert a frame to [H, W, 3] by ffmpeg's filter, like decord (`to_ndarray` may differ)."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        None, frame.width, frame.height, frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull().to_ndarray()
