"""The frames of one clip as JPEG files: which are kept, and a folder of them, written whole or not at all."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cma.files import printable


@dataclass(frozen=True)
class Extraction:
    """Which frames are kept and how: one every 1 / `fps` seconds (None: every one), at most `max_frames`.

    `short_side` in pixels; smaller frames keep their size. `quality` is that of the JPEG files.
    """

    fps: float | None = 1.0
    short_side: int = 224
    max_frames: int | None = None
    quality: int = 95

    @property
    def folder(self) -> str:
        """The name of the folder for frames of these settings: others never mix with them."""
        rate = "all" if self.fps is None else f"{self.fps:g}fps"
        most = "" if self.max_frames is None else f"-{self.max_frames}frames"
        return f"{rate}{most}-{self.short_side}px-q{self.quality}"


class Clip(NamedTuple):
    """One part of a video file (times in seconds), and the folder its frames go to."""

    path: Path
    start: float | None
    end: float | None
    target: Path


def decode(clip: Clip, extraction: Extraction) -> str | None:
    """Write the frames of one clip, all or none; why it cannot be decoded, or None."""
    from cma.media.video import MediaError, stream_frames  # here: it brings numpy and Pillow

    partial_folder = clip.target.with_name(clip.target.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    most = extraction.max_frames or sys.maxsize
    try:
        for number, frame in enumerate(stream_frames(clip.path, most, extraction.fps, clip.start, clip.end)):
            small = _shrink(frame, extraction.short_side)
            small.save(partial_folder / f"{number:06}.jpg", quality=extraction.quality)
    except MediaError as error:
        shutil.rmtree(partial_folder)
        return printable(str(error).removeprefix(f"{clip.path}: "))
    shutil.rmtree(clip.target, ignore_errors=True)
    partial_folder.replace(clip.target)
    return None


def is_done(clip: Clip) -> bool:
    """Whether its frames are there, all of them, and the video has not been replaced since."""
    if not clip.target.is_dir():
        return False
    return not clip.path.exists() or clip.path.stat().st_mtime_ns <= clip.target.stat().st_mtime_ns


def _shrink(frame: Image.Image, short_side: int) -> Image.Image:
    """The frame with this short side, its proportions kept; as it is where it is smaller."""
    scale = short_side / min(frame.size)
    if scale >= 1:
        return frame
    size = tuple(max(short_side, round(side * scale)) for side in frame.size)
    return frame.resize(size, Image.Resampling.BICUBIC)
