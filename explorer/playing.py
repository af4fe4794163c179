"""Play clips: the times of their frames, and parts in a format that browsers play."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from cma import media
from explorer.index import IndexConfig, MediaFile

Sound = av.AudioFrame

BEFORE, LONG = 5, 30  # seconds of a part before the moment, and of the whole part
SIDE, MAX_RATE = 640, 30  # longer side in pixels and most frames a second of a part
SLOW = 10  # frames a second of an animation or a folder of frames
BEST = 5  # moments that are shown as pictures
END = 0.05  # seconds before the end at which the last frame is shown
HELD = 60  # frames to read before we know whether a clip has both pictures and sound
TICKS = Fraction(1, 90_000)  # the unit of times in a part
# container, video codec with its options, audio codec, by the format that a browser asks for
FORMS = {
    "mp4": ("mp4", "libx264", {"preset": "veryfast", "crf": "26"}, "aac"),
    "webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "libopus"),
}


@lru_cache(maxsize=4096)
def length(path: Path, file: MediaFile) -> float | None:
    """Return a clip's length (seconds); None for a folder of frames, or if it cannot be read."""
    with contextlib.suppress(media.MediaError, OSError):
        return file.seconds or media.seconds(path)
    return None


def times(path: Path, file: MediaFile, frames: int, config: IndexConfig) -> list[float] | None:
    """Return the times (seconds) of a clip's `frames` frames in an index; None if unknown.

    They agree with `cma.media.read_frames` to within one frame of the clip.
    """
    whole = length(path, file)
    if whole is None:
        return None
    first = file.start or 0.0
    last = min(file.end or whole, whole)
    rate = config.rate if file.is_moment else config.fps
    if rate is not None:
        considered = max(frames, math.ceil((last - first) * rate - 1e-6))
        return [first + place / rate for place in media.frame_indices(considered, frames)]
    step = (last - first) / (frames if frames < config.max_frames else max(1, frames - 1))
    return [min(first + step * place, max(first, last - END)) for place in range(frames)]


def best(strip: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Return at most `BEST` moments of a clip's [(seconds, cosine), …], the best first.

    They are at least a tenth of the clip apart; without cosines they are evenly spread.
    """
    if not strip or strip[0][1] is None:
        step = max(1, math.ceil(len(strip) / BEST))
        return [*strip[::step]]
    apart = (strip[-1][0] - strip[0][0]) / 10
    found: list[tuple[float, float | None]] = []
    for one in sorted(strip, key=lambda one: -cast(float, one[1])):
        if len(found) < BEST and all(abs(one[0] - other[0]) >= apart for other in found):
            found.append(one)
    return found


def part(
    path: Path, file: MediaFile, at: float, form: str, wanted: Callable[[], bool]
) -> tuple[bytes, float]:
    """Return the part of a clip around the time `at`, with sound, and the time when it starts.

    It has at most `LONG` seconds and `SIDE` pixels, in one of `FORMS`. Encoding stops once
    `wanted()` is false. Raises MediaError if nothing can be decoded.
    """
    if path.is_dir() or media.is_animation(path):
        first = 0.0
        frames = media.stream_frames(path, LONG * SLOW, SLOW)
        small = [frame.convert("RGB").resize(_size(*frame.size)) for frame in frames]
        each = (length(path, file) or len(small) / SLOW) / len(small)
        decoded: Iterator[tuple[float, Any]] = (
            (number * each, frame) for number, frame in enumerate(small)
        )
    else:
        first = max(file.start or 0.0, at - BEFORE)
        last = min(file.end or first + LONG, first + LONG)
        decoded = _decoded(path, first, last)
    buffer = io.BytesIO()
    try:
        _write(buffer, form, decoded, wanted)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise media.MediaError(f"{path}: cannot be played ({error})") from error
    return buffer.getvalue(), first


def _decoded(path: Path, first: float, last: float) -> Iterator[tuple[float, Image.Image | Sound]]:
    """Yield pictures and sounds of a file with their times, counted from `first` (seconds)."""
    with media.open_media(path) as stream, av.open(stream) as source:
        picture = source.streams.video[0]
        begin = float((picture.start_time or 0) * picture.time_base)
        source.seek(round((first + begin) * av.time_base), backward=True)
        # its own, since PyAV's would stay with this thread, and then hang a forked process
        due, reformatter = 0.0, VideoReformatter()
        for frame in source.decode(picture, *source.streams.audio[:1]):
            when = (frame.time or 0.0) - begin - first
            if when > last - first:
                return
            if isinstance(frame, Sound) and when >= 0:
                yield when, frame
            elif when >= due:  # else there would be more pictures a second than are needed
                due = when + 0.9 / MAX_RATE
                size = _size(frame.width, frame.height)
                small = reformatter.reformat(frame, *size, "rgb24").to_ndarray()
                yield when, Image.fromarray(np.rot90(small, frame.rotation // 90))


def _write(
    buffer: io.BytesIO,
    form: str,
    decoded: Iterator[tuple[float, Image.Image | Sound]],
    wanted: Callable[[], bool],
) -> None:
    """Encode pictures and sounds. Raises StopIteration if there are none."""
    container, codec, options, tone = FORMS[form]
    held = list(islice(decoded, HELD))
    size = next(_size(*one.size) for _, one in held if not isinstance(one, Sound))
    with av.open(buffer, "w", format=container) as out:
        video: Any = out.add_stream(codec, rate=MAX_RATE, options=options)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = TICKS
        if loud := any(isinstance(one, Sound) for _, one in held):
            sound: Any = out.add_stream(tone, rate=48_000, layout="stereo")
        for when, frame in chain(held, decoded):
            if not wanted():
                return
            if isinstance(frame, Sound) and not loud:
                continue
            if isinstance(frame, Sound):
                frame.time_base = Fraction(1, frame.sample_rate)
                stream = sound
            else:
                frame = av.VideoFrame.from_image(frame.resize(size))
                frame.time_base = TICKS
                stream = video
            frame.pts = round(when / frame.time_base)
            out.mux(stream.encode(frame))
        for stream in (video, sound) if loud else (video,):
            out.mux(stream.encode())


def _size(width: int, height: int) -> tuple[int, int]:
    """Return even sides of at most `SIDE` pixels."""
    scale = min(1, SIDE / max(width, height)) / 2
    return max(1, round(width * scale)) * 2, max(1, round(height * scale)) * 2
