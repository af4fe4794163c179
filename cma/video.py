"""Frames of a clip: which ones to take, and reading them from a video file or a folder of frames."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
from PIL import Image


class MediaError(ValueError):
    """A picture or clip is missing, empty or cannot be decoded; the message names its path."""


def frame_indices(n: int, max_frames: int) -> list[int]:
    """Which of `n` frames to take: all, or `max_frames` evenly spread from the first to the last.

    That is linspace(0, n - 1, max_frames), floored, as in the paper's code. Raises ValueError below 1.
    """
    if n < 1 or max_frames < 1:
        raise ValueError(f"expected at least 1 frame, found n={n} and max_frames={max_frames}")
    if n <= max_frames:
        return list(range(n))
    return np.linspace(0, n - 1, max_frames, dtype=int).tolist()


def read_image(path: str | Path) -> Image.Image:
    """The picture in RGB; MediaError if it is missing or cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path}: cannot be read as a picture ({error})") from error


def read_frames(
    path: str | Path,
    max_frames: int,
    fps: float | None = 1.0,
    start: float | None = None,
    end: float | None = None,
) -> list[Image.Image]:
    """At most `max_frames` RGB frames of a clip, taken from one frame every 1 / `fps` seconds.

    `path` is a video file, or a folder of frames, which are taken in the order of their names and not thinned
    again. `fps` None considers every frame; `start` and `end` (seconds) cut a part out of a video file.
    Raises MediaError naming the path when nothing can be decoded.
    """
    path = Path(path)
    if path.is_dir():
        visible = (frame for frame in path.iterdir() if not frame.name.startswith("."))
        frames = sorted(visible, key=lambda frame: frame.name)
        if not frames:
            raise MediaError(f"{path}: empty folder; expected the frames of a clip")
        return [read_image(frames[i]) for i in frame_indices(len(frames), max_frames)]
    if not path.is_file() or path.stat().st_size == 0:
        raise MediaError(f"{path}: {'empty file' if path.is_file() else 'no such file'}; expected a video")
    decord = importlib.import_module("decord")  # here, so that `import cma` does without it
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        considered = sampled(len(reader), reader.get_avg_fps(), fps, start, end)
        chosen = [considered[i] for i in frame_indices(len(considered), max_frames)]
        pixels = reader.get_batch(chosen).asnumpy()  # [F, H, W, 3], uint8
    except ValueError as error:  # of `sampled`
        raise MediaError(f"{path}: {error}") from error
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        reason = str(error).strip().rpartition(": ")[2]  # decord's messages start with its own source lines
        raise MediaError(f"{path}: cannot be decoded, corrupt or cut short ({reason})") from error
    return [Image.fromarray(frame) for frame in pixels]


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
