"""One video file, decoded by decord or PyAV, which give the same pixels (`VideoFile.closed`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from .. import require
from .images import shown_name
from .opening import MediaError, Stamp, open_media, stamp

require("video", "av", "decord")
import av  # noqa: E402 (after the check)
import decord  # noqa: E402

decord.logging.set_level(decord.logging.QUIET)
# containers whose packets correspond to frames, which are then found by seeking; of others we
# decode every frame, from the first one on
SURE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")
TABLES = 32  # files whose frames are kept as listed: about 1.5 MB for an hour


class VideoFile:
    """A video of `count` frames at `fps` a second; raises MediaError for what is no video.

    `times` says when each frame is shown, ascending, in units of the stream; decoding can start at
    the frames `keys`. Both are empty if they are unknown. `closed`: each packet is a frame that is
    shown, and none is shown before the key frame that precedes it in the file. In other files
    decord returns wrong frames, without an error, when it seeks; so PyAV reads them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            listed = _timetable(path, stamp(path))
        except MediaError:
            raise
        except Exception as error:  # a damaged file can make a decoder raise anything
            raise self._error(error) from error
        self.count, self.fps, self.times, self.keys, self.closed = listed
        self.seconds = self.count / self.fps

    def sampled(self, fps: float | None, start: float | None, end: float | None) -> list[int]:
        """Return indices of a frame every 1 / `fps` s from `start` to `end` (s); at least one.

        They are right if the frame rate of the video is constant.
        Raises MediaError if the clip ends before `start`.
        """
        begins = (start or 0.0) * self.fps
        if begins >= self.count:
            found = f"{self.count} frames at {self.fps:.2f} fps"
            raise MediaError(f"{self.path}: expected a part from {start} s on, found {found}")
        first = min(round(begins), self.count - 1)
        last = self.count if end is None else min(self.count, max(first + 1, round(end * self.fps)))
        step = 1.0 if fps is None else max(1.0, self.fps / fps)
        # slightly less, because with a fractional step `arange` may include `last`
        return np.arange(first, last - 1e-6, step).astype(int).tolist()

    def read(self, chosen: Sequence[int]) -> Iterator[Image.Image]:
        """Yield the frames at the ascending indices `chosen`, RGB, upright. Raises MediaError."""
        done, name = 0, str(self.path.absolute())
        with suppress(Exception):  # e.g. frames in some widths below 50 pixels
            # decord takes neither members of containers nor names that are not UTF-8
            if self.closed and self.path.is_file() and shown_name(name) == name:
                reader = decord.VideoReader(name, num_threads=1)
                for number in chosen if len(reader) == self.count else ():
                    # one at a time: a batch would be in memory twice
                    yield Image.fromarray(reader.get_batch([number]).asnumpy()[0])
                    done += 1
        yield from self.stream(chosen[done:])

    def stream(self, chosen: Sequence[int]) -> Iterator[Image.Image]:
        """Yield the same frames, by PyAV alone, because decord decodes far ahead."""
        try:
            yield from self._decode(chosen)
        except Exception as error:  # a damaged file can make a decoder raise anything
            raise self._error(error) from error

    def _decode(self, chosen: Sequence[int]) -> Iterator[Image.Image]:
        times, keys, upright = self.times, self.keys, Upright()
        with open_media(self.path) as stream, av.open(stream, "r") as container:
            video, frames, last = container.streams.video[0], _numbered(container, times), -1
            for number in chosen:
                place = np.searchsorted(keys, number, "right")
                if place and keys[place - 1] > last + 1:  # the frames before it are not decoded
                    container.seek(int(times[keys[place - 1]]), stream=video)
                    first = next(frames := _numbered(container, times))
                    frames = chain([first], frames)
                    if first[0] > number:  # seeking misses it, so from now on we decode all
                        container.seek(int(times[0]), stream=video)
                        frames, keys = _numbered(container, times), keys[:0]
                last, frame = next((one for one in frames if one[0] >= number), (-1, None))
                if frame is None:
                    raise ValueError(f"frame {number} of {self.count} is missing")
                yield upright(frame)

    def _error(self, reason: Exception | str) -> MediaError:
        short = str(getattr(reason, "strerror", None) or reason).strip()
        return MediaError(f"{self.path}: cannot be decoded, corrupt or cut short ({short})")


@lru_cache(TABLES)  # each group of moments opens a long clip again
def _timetable(path: Path, about: Stamp) -> tuple[int, float, np.ndarray, np.ndarray, bool]:
    """Return what a `VideoFile` knows of its frames, from the packets or else by decoding all."""
    with open_media(path) as stream, av.open(stream, "r") as container:
        kinds = [one.type for one in container.streams]
        if not kinds:
            raise ValueError("nothing in it")
        if not container.streams.video:
            raise MediaError(f"{path}: no video in it, only {', '.join(kinds)}; expected a clip")
        video = container.streams.video[0]
        claimed, rate = video.frames, float(video.average_rate or video.guessed_rate or 0)
        packets = [
            (one.pts, one.is_keyframe, one.is_discard) for one in container.demux(video) if one.size
        ]
        sure = container.format.name in SURE
    if sure and len(packets) < claimed <= about.size:
        raise ValueError(f"{claimed:,} frames expected, {len(packets):,} found")
    shown = [(pts, is_key) for pts, is_key, is_discarded in packets if not is_discarded]
    known = {pts: is_key for pts, is_key in shown if pts is not None}
    count, times = len(known), np.array(sorted(known), np.int64)
    if not sure or count < len(shown):
        count, times = _decodable(path), times[:0]
    if not count or not 0 < rate < float("inf"):
        raise ValueError(f"{count} frames at {rate} a second, it claims to have {claimed:,} frames")
    keys = np.flatnonzero([known[time] for time in times.tolist()])
    # decord ends the process if a file claims to have far more frames than it has
    plain = sure and len(times) == len(packets) and claimed in (0, count)
    return count, rate, times, keys, plain and _closed(shown)


def _closed(packets: Sequence[tuple[int | None, bool]]) -> bool:
    """Tell whether no packet is shown before the key frame that precedes it in the file."""
    begins, starts = 0, packets[0][1]
    for time, is_key in packets:
        begins = time or 0 if is_key else begins
        if (time or 0) < begins:
            return False
    return starts


def _decodable(path: Path) -> int:
    """Count the frames that can be decoded, since packets may be halves of frames."""
    with open_media(path) as stream, av.open(stream, "r") as container:
        return sum(1 for _ in _decoded(container))


def _decoded(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Yield the frames from the container's current position, without damaged ones."""
    for packet in container.demux(video=0):
        with suppress(av.InvalidDataError):
            yield from packet.decode()


def _numbered(
    container: av.container.InputContainer, times: np.ndarray
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame): by the time of the frame, or counted if no times are known."""
    number = -1
    for frame in _decoded(container):
        place = np.searchsorted(times, frame.pts) if frame.pts is not None else len(times)
        known = place < len(times) and times[place] == frame.pts
        number = int(place) if known else number + 1
        yield number, frame


class Upright:
    """Converts frames to RGB by ffmpeg's filter, because `to_ndarray` differs above 8 bits.

    Frames of one size and format share a filter, because making one takes longer than decoding a
    small frame.
    """

    def __init__(self) -> None:
        self.graphs: dict[tuple, av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> Image.Image:
        key = frame.width, frame.height, frame.format.name
        if key not in self.graphs:
            graph = self.graphs[key] = av.filter.Graph()
            source = graph.add_buffer(None, *key[:2], frame.format, time_base=frame.time_base)
            graph.link_nodes(source, graph.add("format", "rgb24"), graph.add("buffersink"))
            graph.configure()
        self.graphs[key].push(frame)
        pixels = self.graphs[key].pull().to_ndarray()
        return Image.fromarray(np.rot90(pixels, frame.rotation // 90))
