"""Decode the clips of a dataset folder once, into JPEG frames, so that epochs do not decode them again.

A new dataset folder is written, with the same items, captions and splits, whose clips are folders of frames:
train and evaluate on it instead. The same frames serve both. A run that was stopped goes on where it was.
"""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath

from data_prep.dataset import (
    FRAMES,
    MISSING,
    SEAL,
    Entry,
    count_table,
    read_object,
    refuse_other_content,
    unseal,
    write_dataset,
    write_missing,
)
from data_prep.frame_files import Clip, Extraction, decode, is_done
from data_prep.media import parallel
from data_prep.readers import BadInput


def add_command(commands: argparse._SubParsersAction) -> None:
    """`python -m data_prep frames`."""
    summary = "decode a dataset's clips once, into JPEG frames"
    command = commands.add_parser("frames", help=summary, description=__doc__)
    command.add_argument("--dataset", type=Path, required=True, help="dataset folder of clips")
    command.add_argument("--out", type=Path, help="dataset folder to write (default: DATASET-frames)")
    command.add_argument(
        "--fps", type=_rate, default=1.0, help="frames a second, or all (default: %(default)g)"
    )
    command.add_argument(
        "--short-side", type=_positive, default=224, metavar="PX", help="pixels (default: %(default)s)"
    )
    command.add_argument(
        "--max-frames", type=_positive, metavar="N", help="at most, evenly spread (default: no limit)"
    )
    command.add_argument(
        "--quality", type=_positive, default=95, metavar="Q", help="of the JPEG files (default: %(default)s)"
    )
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    command.add_argument("--allow-missing", action="store_true", help="go on without clips that fail")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    extraction = Extraction(options.fps, options.short_side, options.max_frames, options.quality)
    folder = options.dataset.resolve()
    out = options.out or folder.with_name(f"{folder.name}-frames")
    extract(options.dataset, out, extraction, options.workers, options.allow_missing)


def extract(
    dataset: Path, out: Path, extraction: Extraction, workers: int = 2, allow_missing: bool = False
) -> None:
    """Write the dataset folder `out`: `dataset`, its clips as folders of frames, their start and end applied.

    Clips whose frames are there, from the same file and settings, are not decoded again. `BadInput` where
    `dataset` is no finished folder of clips, and where clips cannot be decoded (listed in `missing.txt`),
    unless `allow_missing`.
    """
    if out.resolve() == dataset.resolve():
        raise BadInput(f"{out}: is the dataset itself; choose another --out")
    about, clips, entries = _plan(dataset, out / FRAMES, extraction)
    refuse_other_content(out, about["name"])
    left = [clip for clip in dict.fromkeys(clips) if not is_done(clip)]
    print(f"{about['name']}: {len(set(clips)):,} clips, {len(left):,} to decode into {out / FRAMES}")
    if left:
        unseal(out)
    failed = parallel(partial(decode, extraction=extraction), left, workers, "decode clips")
    reasons = {clip: why for clip, why in zip(left, failed, strict=True) if why}
    missing = [
        (entry.id, str(clip.path), reasons[clip])
        for entry, clip in zip(entries, clips, strict=True)
        if clip in reasons
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_missing(out, missing)
    used = [entry for entry, clip in zip(entries, clips, strict=True) if clip not in reasons]
    if missing and not (allow_missing and used):
        raise BadInput(
            f"{len(missing):,} of {len(entries):,} clips cannot be decoded, the first is {missing[0][0]} "
            f"({missing[0][2]}); all are listed in {out / MISSING}. Mend them, or go on by --allow-missing"
        )
    about["counts"] = _count(about.get("counts", {}), entries, used)
    for line in count_table(about["counts"]):
        print(f"  {line}")
    write_dataset(out, out / FRAMES, used, about | {"frames": asdict(extraction)})


def _plan(dataset: Path, frames: Path, extraction: Extraction) -> tuple[dict, list[Clip], list[Entry]]:
    """What `dataset.json` says, and of every item, its clip and its entry in the new folder."""
    from cma import data  # here: it brings torch

    try:
        splits = [data.load(dataset, split) for split in data.splits(dataset)]
    except ValueError as error:
        raise BadInput(str(error)) from None
    if splits[0].kind != "video":
        raise BadInput(f"{dataset}: holds pictures, which need no decoding into frames; expected clips")
    clips, entries = [], []
    for split in splits:
        for item in split.items:
            file = PurePosixPath(item.file_name)
            name = (file.relative_to("media") if file.parts[0] == "media" else file).as_posix()
            if (item.start, item.end) != (None, None):
                name += f"@{item.start or 0.0}-{'end' if item.end is None else item.end}"
            target = f"{extraction.folder}/{name}"
            clips.append(Clip(split.path(item), item.start, item.end, frames / target))
            entries.append(Entry(item.id, target, item.captions, item.split))
    about = read_object(dataset / SEAL) | {"name": splits[0].name, "kind": splits[0].kind}
    about.pop("media_root", None)
    return about, clips, entries


def _count(before: dict, entries: Iterable[Entry], used: Iterable[Entry]) -> dict[str, dict]:
    """Found / expected of each split; the expected numbers of items and captions are those of `before`."""
    counts = {}
    for split in dict.fromkeys(entry.split for entry in entries):
        known, there = before.get(split, {}), [entry for entry in used if entry.split == split]
        counts[split] = {
            "found": len(there),
            "expected": known.get("expected"),
            "captions": {
                "found": sum(len(entry.captions) for entry in there),
                "expected": known.get("captions", {}).get("expected"),
            },
            "media": {"found": len(there), "expected": sum(entry.split == split for entry in entries)},
        }
    return counts


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)


def _rate(text: str) -> float | None:
    if text == "all":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected frames a second above 0, or all, found {text}")
    return rate
