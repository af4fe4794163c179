"""Frames of a clip: which ones to take, and reading them from a video file, an animation or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .pictures import (
    MediaError,
    frame_starts,
    may_be_animation,
    read_animation,
    read_image,
    shown_frames,
    with_content,
)
from .video_file import VideoFile

__all__ = ["MediaError", "frame_indices", "read_frames", "read_image", "sampled", "seconds", "stream_frames"]


def frame_indices(n: int, max_frames: int) -> list[int]:
    """Which of `n` frames to take: all, or `max_frames` evenly spread from the first to the last.

    That is linspace(0, n - 1, max_frames), floored, as in the paper's code. Raises ValueError below 1.
    """
    if n < 1 or max_frames < 1:
        raise ValueError(f"expected at least 1 frame, found n={n} and max_frames={max_frames}")
    if n <= max_frames:
        return list(range(n))
    return np.linspace(0, n - 1, max_frames, dtype=int).tolist()


def read_frames(
    path: str | Path,
    max_frames: int,
    fps: float | None = 1.0,
    start: float | None = None,
    end: float | None = None,
) -> list[Image.Image]:
    """At most `max_frames` RGB frames of a clip, taken from one frame every 1 / `fps` seconds.

    `path` is a video file, an animated gif, webp or png (whatever its name), or a folder of frames, which are
    taken in the order of their names and not thinned again. `fps` None considers every frame; `start` and
    `end` (seconds) cut a part out of a file. Raises MediaError naming the path when nothing can be decoded.
    """
    return list(_frames(path, max_frames, fps, start, end))


def stream_frames(
    path: str | Path,
    max_frames: int,
    fps: float | None = 1.0,
    start: float | None = None,
    end: float | None = None,
    side: int | None = None,
) -> Iterator[Image.Image]:
    """The frames of `read_frames` one after the other, for clips that are too long to be held in memory.

    With `side`, frames of a video file may come smaller, about `side` pixels long: enough for a preview, but
    not the pixels that CLIP sees. Raises MediaError where the next frame cannot be decoded, after those
    before it.
    """
    return _frames(path, max_frames, fps, start, end, side, streamed=True)


def _frames(
    path: str | Path,
    max_frames: int,
    fps: float | None,
    start: float | None,
    end: float | None,
    side: int | None = None,
    streamed: bool = False,
) -> Iterator[Image.Image]:
    path = Path(path)
    if path.is_dir():
        files = frames_of_folder(path)
        yield from (read_image(files[i]) for i in frame_indices(len(files), max_frames))
        return
    with_content(path, "a clip")
    try:
        if may_be_animation(path):
            considered = shown_frames(frame_starts(path), fps, start, end)
            frames = partial(read_animation, path)
        else:
            file = VideoFile(path, side)
            considered = sampled(file.count, file.fps, fps, start, end)
            frames = file.stream if streamed else file.read
        chosen = [considered[i] for i in frame_indices(len(considered), max_frames)]
    except MediaError:
        raise
    except ValueError as error:  # of the frames that were asked for
        raise MediaError(f"{path}: {error}") from error
    yield from frames(chosen)


def frames_of_folder(path: Path) -> list[Path]:
    """The frames in a folder in the order of their names; MediaError if there are none."""
    try:
        frames = [frame for frame in path.iterdir() if not frame.name.startswith(".")]
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
    if not frames:
        raise MediaError(f"{path}: empty folder; expected the frames of a clip")
    return sorted(frames, key=lambda frame: frame.name)


def seconds(path: Path) -> float | None:
    """How long a clip lasts, None for a folder of frames. Raises MediaError."""
    if path.is_dir():
        return None
    with_content(path, "a clip")
    if may_be_animation(path):
        return float(frame_starts(path)[-1])
    file = VideoFile(path)
    return file.count / file.fps


def sampled(
    n: int, native_fps: float, fps: float | None, start: float | None, end: float | None
) -> list[int]:
    """The frames between `start` and `end` (seconds), one every 1 / `fps` seconds, at least one.

    Raises ValueError when a clip of `n` frames at `native_fps` is over before `start`.
    """
    first = 0 if start is None else int(start * native_fps)
    if first >= n:
        raise ValueError(f"expected a part from {start} s on, found {n} frames at {native_fps:.2f} fps")
    last = n if end is None else min(n, max(first + 1, round(end * native_fps)))
    step = 1.0 if fps is None else max(1.0, native_fps / fps)
    return np.arange(first, last, step).astype(int).tolist()
