"""Cut a long clip into moments: windows that overlap by half, each one an item of the index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, cast

from PIL import Image
from pydantic import Field

from cma import media
from cma.config import ReadConfig
from cma.files import checked_dataclass

from .listing import MediaFile

# moments read together: a clip is then decoded 8 / 7 times, not twice, and 48 frames need little
# memory
TOGETHER = 7
LONGEST = (
    7 * 24 * 3600
)  # seconds; we do not believe a file that claims to be longer, and do not cut it


@checked_dataclass
class IndexConfig(ReadConfig):
    """`ReadConfig`, and how to cut a long clip into moments, each of which can be found.

    Only clips of a plain folder are cut; those of a dataset keep their own `start` and `end`. A
    clip of at most `window` seconds is one item, read with `max_frames` and `fps`.

    Args:
        rate: frames a second read of a longer clip.
        window: the approximate seconds of a moment; moments overlap by half.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    rate: Annotated[float, Field(ge=1e-3)] = 0.5
    window: Annotated[float, Field(ge=1e-3)] = 24.0

    @classmethod
    def of(cls, given: ReadConfig | None) -> IndexConfig:
        """Return the fields of `given` that say how to read (None: the defaults).

        Raises TypeError for anything else.
        """
        if given is None:
            return cls()
        if not isinstance(given, ReadConfig):
            raise TypeError(f"config: expected an explorer.index.IndexConfig, not {given!r:.100}")
        names = [field.name for field in fields(cls) if hasattr(given, field.name)]
        return cls(**{name: getattr(given, name) for name in names})

    @property
    def frames(self) -> int:
        """The number of frames in a window; `max_frames` of them are kept."""
        return max(2, round(self.window * self.rate))

    @property
    def step(self) -> int:
        """The number of frames from the start of a window to that of the next."""
        return self.frames // 2


def cut(clip: MediaFile, config: IndexConfig) -> list[MediaFile]:
    """Return the moments of a clip whose `seconds` are known; none if it stays whole.

    Of the frames at 0, 1 / rate, 2 / rate, … seconds, moment i has the frames i · step, …, i · step
    + frames - 1 (`IndexConfig.step`, `frames`); the last one ends with the clip.
    """
    seconds = clip.seconds
    if seconds is None or not config.window < seconds <= LONGEST:
        return []
    beyond = math.ceil(seconds * config.rate) - config.frames
    moments = []
    for number in range(1 + max(0, math.ceil(beyond / config.step))):
        first = number * config.step
        end = min(seconds, (first + config.frames) / config.rate)
        moments.append(replace(clip, start=first / config.rate, end=end))
    return moments if len(moments) > 1 else []


def groups(moments: Sequence[MediaFile]) -> list[Sequence[MediaFile]]:
    """Divide the moments of a clip into groups that are read together."""
    return [moments[first : first + TOGETHER] for first in range(0, len(moments), TOGETHER)]


def read(
    group: Sequence[MediaFile], path: Path, config: IndexConfig, *take: Callable
) -> tuple[list, list[list[int]]]:
    """Return the frames of some moments, each once, and for each moment the numbers of its frames.

    With `take`, they are `take(frame)`. Raises MediaError like `media.read_frames`.
    """
    max_frames = config.frames + len(group) * config.step
    start, end = cast(float, group[0].start), cast(float, group[-1].end)
    frames = media.read_frames(path, max_frames, config.rate, start, end, *take)
    # of the frames at `rate`; less than 1 if the clip has fewer frames a second
    share = min(1.0, len(frames) / max(1, int((end - start) * config.rate)))
    numbers = []
    for place in range(len(group)):
        # at least one, if the file ends earlier than it claims
        first = min(int(place * config.step * share), len(frames) - 1)
        own = range(first, min(first + math.ceil(config.frames * share), len(frames)))
        numbers.append([own[i] for i in media.frame_indices(len(own), config.max_frames)])
    return frames, numbers


def frames_of(file: MediaFile, path: Path, config: IndexConfig) -> list[Image.Image]:
    """Read a picture, or the frames of a clip that an index with this config embeds.

    Raises MediaError like `media.read_media`.
    """
    if not file.is_moment:
        return media.read_media(
            path, file.kind, config.max_frames, config.fps, file.start, file.end
        )
    for group in groups(cut(replace(file, start=None, end=None), config)):
        if file in group:
            frames, numbers = read(group, path, config)
            return [frames[number] for number in numbers[group.index(file)]]
    raise media.MediaError(f"{path}: was cut differently when indexed; build the index again")
