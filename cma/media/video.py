"""Choose frames of a clip, and read them from a video file, an animation or a folder of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

from .animation import Animation, T, may_be_animation
from .images import ENOUGH, InMemoryImage, as_shown, read_image
from .opening import MediaError, with_content

if TYPE_CHECKING:
    from .video_file import VideoFile

Seconds = float | None
Clip: TypeAlias = "FrameFolder | Animation | VideoFile"  # a path is opened as one of them


def read_media(
    path: Path | InMemoryImage, kind: str, max_frames: int, *part: Seconds
) -> list[Image.Image]:
    """Read a picture (`kind` "image"), from a file or memory, or frames of a clip ("video").

    `part` is fps, start and end, as in `read_frames`.
    """
    if isinstance(path, InMemoryImage):
        return [path.picture()]
    if kind == "image":
        return [read_image(path)]
    return read_frames(path, max_frames, *part)  # type: ignore[arg-type]  # `part` has no `take`


def read_frames(
    path: str | Path,
    max_frames: int,
    fps: float | None = 1.0,
    start: Seconds = None,
    end: Seconds = None,
    take: Callable[[Image.Image], T] = as_shown,  # type: ignore[assignment]  # T is its type then
) -> list[T]:
    """Read RGB frames of a clip, one every 1 / `fps` seconds; of more, `max_frames` evenly spread.

    `path` is a video file, an animated gif, webp or png (whatever its name), or a folder of frames,
    which come in the order of their names, whatever `fps` is. With `fps` None every frame counts.
    `start` and `end` (seconds) cut a part out of a file; in a video file, seconds are exact if its
    frame rate is constant, and otherwise counted in frames at its mean rate. The result has
    `take(frame)` for each frame; by default, the frame itself. Raises MediaError that names the
    path if the frames cannot be decoded, ImportError for a video file without the extra `video`.
    """
    clip, chosen = _chosen(Path(path), max_frames, fps, start, end)
    return list(map(take, clip.read(chosen)))


def stream_frames(
    path: str | Path,
    max_frames: int,
    fps: float | None = 1.0,
    start: Seconds = None,
    end: Seconds = None,
) -> Iterator[Image.Image]:
    """Yield the frames of `read_frames` one after the other, for clips that do not fit into memory.

    If a frame cannot be decoded, MediaError is raised after the frames before it.
    """
    clip, chosen = _chosen(Path(path), max_frames, fps, start, end)
    yield from clip.stream(chosen)


def frame_at(
    path: Path, at: Seconds = None, start: Seconds = None, end: Seconds = None
) -> Image.Image:
    """Return the frame of a clip at a time (seconds), by default the middle one of a part.

    Raises as `read_frames`.
    """
    clip = _opened(Path(path))
    considered = clip.sampled(None, *((start, end) if at is None else (at, at)))
    return next(clip.stream([considered[len(considered) // 2]]))


def seconds(path: Path) -> float | None:
    """Return a clip's length in seconds; None for a folder of frames. Raises like `read_frames`."""
    return _opened(path).seconds


def frame_indices(n: int, max_frames: int) -> list[int]:
    """Return the indices of all `n` frames, or of `max_frames` evenly spread from first to last.

    As in the paper's code: linspace(0, n - 1, max_frames), rounded down. Raises ValueError if one
    is below 1.
    """
    if n < 1 or max_frames < 1:
        raise ValueError(f"expected at least 1 frame, found n={n} and max_frames={max_frames}")
    if n <= max_frames:
        return list(range(n))
    return np.linspace(0, n - 1, max_frames, dtype=int).tolist()


class FrameFolder:
    """The pictures in a folder, in the order of their names. MediaError if there are none."""

    seconds = None

    def __init__(self, path: Path) -> None:
        try:
            frames = (
                p
                for p in path.iterdir()
                if p.name[0] not in ".@" and p.suffix not in (".db", ".ini")
            )
            self.files = sorted(
                frames, key=lambda p: p.name
            )  # without files that Windows or a NAS adds
        except OSError as error:
            raise MediaError(f"{path}: cannot be opened ({error.strerror})") from error
        if not self.files:
            raise MediaError(f"{path}: empty folder; expected the frames of a clip")

    def sampled(self, *part: Seconds) -> list[int]:
        """Return the indices of all frames, because a folder does not say when they are shown."""
        return list(range(len(self.files)))

    def read(self, chosen: Sequence[int], enough: int | None = ENOUGH) -> Iterator[Image.Image]:
        """Yield the frames at the indices `chosen`. Raises MediaError."""
        return (read_image(self.files[i], enough) for i in chosen)

    stream = partialmethod(read, enough=None)  # the same frames at full size, however large


def _opened(path: Path) -> Clip:
    if path.is_dir():
        return FrameFolder(path)
    with_content(path, "a clip")
    if may_be_animation(path):
        return Animation(path)
    from .video_file import VideoFile  # imported here, because the other two need no extra

    return VideoFile(path)


def _chosen(path: Path, max_frames: int, *part: Seconds) -> tuple[Clip, list[int]]:
    """Return the opened clip and the ascending indices to read; `part`: fps, start and end."""
    clip = _opened(path)
    considered = clip.sampled(*part)
    return clip, [considered[i] for i in frame_indices(len(considered), max_frames)]
