"""Decode the clips of a dataset folder into JPEG frames, once for all epochs.

The result is a new dataset folder with the same items, captions and splits, whose clips are folders
of frames: train and evaluate on it instead. A run that was stopped continues where it was.
"""

import argparse
import shutil
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from cma import require
from cma.files import checked_dataclass, printable
from cma.media import exists
from data_prep.dataset import (
    FRAMES,
    MISSING,
    SEAL,
    Entry,
    count_table,
    counts_of_split,
    read_object,
    refuse_other_content,
    unseal,
    write_dataset,
    write_missing,
)
from data_prep.media import mark_of, one_by_one
from data_prep.readers import BadInput

MARK = ".clip"  # a file beside the frames: the size and time of their video


@checked_dataclass
class Extraction:
    """Which frames to keep: one every 1 / `fps` seconds (None: all), at most `max_frames` of a
    clip.

    `short_side` is in pixels; smaller frames keep their size. `quality` is that of the JPEG files.
    Raises ValueError that names a value that is not as expected.
    """

    fps: PositiveFloat | None = 1.0
    short_side: PositiveInt = 224
    max_frames: PositiveInt | None = None
    quality: Annotated[int, Field(ge=1, le=100)] = 95

    @property
    def folder(self) -> str:
        """The name of the folder for these settings, so that different settings never mix."""
        rate = "all" if self.fps is None else f"{self.fps:g}fps"
        max_frames = "" if self.max_frames is None else f"-{self.max_frames}frames"
        return f"{rate}{max_frames}-{self.short_side}px-q{self.quality}"


class ClipPart(NamedTuple):
    """One part of a video file (times in seconds), and the folder for its frames."""

    path: Path
    start: float | None
    end: float | None
    target: Path


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep frames`."""
    summary = "decode a dataset's clips once, into JPEG frames"
    command = commands.add_parser("frames", help=summary, description=__doc__)
    add = command.add_argument
    add("--dataset", type=Path, required=True, help="dataset folder of clips")
    add("--out", type=Path, help="dataset folder to write (default: DATASET-frames)")
    add("--fps", type=rate, default=1.0, help="frames a second, or all (default: %(default)g)")
    add("--short-side", type=int, default=224, metavar="PX", help="pixels (default: %(default)s)")
    add("--max-frames", type=int, metavar="N", help="at most, evenly spread (default: no limit)")
    add("--quality", type=int, default=95, metavar="Q", help="of JPEG, to 100 (default: 95)")
    add("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    add("--allow-missing", action="store_true", help="continue without clips that fail")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    chosen = options.fps, options.short_side, options.max_frames, options.quality
    try:
        extraction = Extraction(*chosen)
    except ValueError as error:
        raise BadInput(str(error)) from error
    folder = options.dataset.resolve()
    out = options.out or folder.with_name(f"{folder.name}-frames")
    extract(options.dataset, out, extraction, options.workers, options.allow_missing)


def extract(
    dataset: Path, out: Path, extraction: Extraction, workers: int = 2, allow_missing: bool = False
) -> None:
    """Write the dataset folder `out`: like `dataset`, but with a folder of frames for each clip.

    Clips already decoded from the same file with these settings are not decoded again. Raises
    `BadInput` if `dataset` is not a finished dataset of clips, and, unless `allow_missing`, if
    clips cannot be decoded (they are listed in `missing.txt`); ImportError if packages of the extra
    `video` are missing.
    """
    if out.resolve() == dataset.resolve():
        raise BadInput(f"{out}: is the dataset itself; choose another --out")
    about, items = _plan(dataset, out / FRAMES, extraction)
    refuse_other_content(out, about["name"])
    clips = set(items.values())
    left = [clip for clip in dict.fromkeys(items.values()) if not is_done(clip)]
    print(f"{about['name']}: {len(clips):,} clips, {len(left):,} to decode into {out / FRAMES}")
    if left:
        require("video", "av", "decord")
        unseal(out)
    failed = one_by_one(partial(decode, extraction=extraction), left, workers, "decode clips")
    reasons = {clip: why for clip, why in zip(left, failed, strict=True) if why}
    missing = [
        (entry.id, str(clip.path), reasons[clip])
        for entry, clip in items.items()
        if clip in reasons
    ]
    write_missing(out, missing)
    used = [entry for entry, clip in items.items() if clip not in reasons]
    if missing and not (allow_missing and used):
        raise BadInput(
            f"{len(missing):,} of {len(items):,} clips cannot be decoded, the first is "
            f"{missing[0][0]} ({missing[0][2]}); all are listed in {out / MISSING}. Replace them"
            + ("" if allow_missing else ", or add --allow-missing")
        )
    before = about.get("counts", {})
    about["counts"] = {}
    for split in dict.fromkeys(entry.split for entry in items):
        known = before.get(split, {})
        published = known.get("expected"), known.get("captions", {}).get("expected")
        there = [entry for entry in used if entry.split == split]
        annotated = sum(entry.split == split for entry in items)
        about["counts"][split] = counts_of_split(there, published, len(there), annotated)
    for line in count_table(about["counts"]):
        print(f"  {line}")
    write_dataset(out, out / FRAMES, used, about | {"frames": asdict(extraction)})


def _plan(
    dataset: Path, frames: Path, extraction: Extraction
) -> tuple[dict, dict[Entry, ClipPart]]:
    """Return the content for the new `dataset.json`, and the clip of each entry of the new
    folder.
    """
    from cma import data  # here, because it loads torch

    try:
        splits = [data.load(dataset, split) for split in data.splits(dataset)]
    except ValueError as error:
        raise BadInput(str(error)) from error
    if splits[0].kind != "video":
        raise BadInput(
            f"{dataset}: holds pictures, which need no decoding into frames; expected clips"
        )
    items = {}
    for split in splits:
        for item in split.items:
            file = PurePosixPath(item.file_name)
            name = (file.relative_to("media") if file.parts[0] == "media" else file).as_posix()
            if (item.start, item.end) != (None, None):
                name += f"@{item.start or 0.0}-{'end' if item.end is None else item.end}"
            target = f"{extraction.folder}/{name}"
            clip = ClipPart(split.path(item), item.start, item.end, frames / target)
            items[Entry(item.id, target, item.captions, item.split)] = clip
    about = read_object(dataset / SEAL) | {"name": splits[0].name, "kind": splits[0].kind}
    about.pop("media_root", None)
    return about, items


def decode(clip: ClipPart, extraction: Extraction) -> str | None:
    """Write all frames of one clip, or none; return the reason if it cannot be decoded, else
    None.
    """
    from cma.media import MediaError, stream_frames  # here, because it loads numpy

    unfinished = clip.target.with_name(f"{clip.target.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    max_frames = extraction.max_frames or sys.maxsize
    try:
        for number, frame in enumerate(
            stream_frames(clip.path, max_frames, extraction.fps, clip.start, clip.end)
        ):
            small = _shrink(frame, extraction.short_side)
            small.save(unfinished / f"{number:06}.jpg", quality=extraction.quality)
    except MediaError as error:
        shutil.rmtree(unfinished)
        return printable(str(error).removeprefix(f"{clip.path}: "))
    (unfinished / MARK).write_text(f"{mark_of(clip.path)}")
    shutil.rmtree(clip.target, ignore_errors=True)
    unfinished.replace(clip.target)
    return None


def is_done(clip: ClipPart) -> bool:
    """Return whether a clip's frames exist, and its video has not been replaced since."""
    mark = clip.target / MARK
    return mark.is_file() and (not exists(clip.path) or mark.read_text() == mark_of(clip.path))


def _shrink(frame: Image.Image, short_side: int) -> Image.Image:
    """Return the frame resized to this short side, with its proportions; smaller frames are
    unchanged.
    """
    scale = short_side / min(frame.size)
    if scale >= 1:
        return frame
    width, height = (max(short_side, round(side * scale)) for side in frame.size)
    return frame.resize((width, height), Image.Resampling.BICUBIC)


def rate(text: str) -> float | None:
    return None if text == "all" else float(text)
