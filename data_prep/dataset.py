"""`Annotations`, which a benchmark's reader returns, and the dataset folder written from them.

The folder holds `metadata.jsonl` (one line for each item), `media` (a link to the user's files) and
`dataset.json`, which is removed first and written last: a folder without it is unfinished.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from cma import files
from cma.files import short
from data_prep.containers import Pictures
from data_prep.readers import BadInput

SPLITS = ("train", "val", "test")
SHOWN = 10  # the most ids that a note lists
FORMAT_VERSION = 1
SEAL = "dataset.json"
METADATA = "metadata.jsonl"
MEDIA = "media"
MISSING = "missing.txt"
CHECKED = "checked.json"  # what `media.check` found
HARMLESS = (".DS_Store", "desktop.ini", "Thumbs.db")  # added by file managers
FRAMES = "frames"  # the decoded frames in a folder written by `data_prep.frames`
Kind = Literal["image", "video"]
PICTURES = "pictures"  # the pictures of parquet files, written out


class Counts(NamedTuple):
    """How many items and captions a split should have, as published."""

    items: int
    captions: int


class Place(NamedTuple):
    """A place where media may be. `file`: a path or name, with or without extension; times in
    seconds.
    """

    file: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Entry:
    """One item of the annotations; `file`: its relative path, or a video's id without extension.

    If that file is not found, `instead` is used, with its own start and end. We report an entry
    without captions as missing, like one without media.
    """

    id: str
    file: str
    captions: tuple[str, ...]
    split: str
    start: float | None = None  # seconds
    end: float | None = None
    instead: Place | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """The places where its media may be, the preferred one first."""
        here = Place(self.file, self.start, self.end)
        return (here,) if self.instead is None else (here, self.instead)


@dataclass
class Annotations:
    """The annotations of a benchmark: its entries, evaluation protocol and published sizes."""

    name: str
    kind: Kind
    protocol: dict[str, str]
    expected: dict[str, Counts]
    entries: list[Entry]
    recipe: str
    files: list[str]  # the annotation files that were used
    notes: list[str] = field(default_factory=list)  # what was cleaned or left out, with counts
    # problems that raise `BadInput`, unless allowed
    faults: list[str] = field(default_factory=list)
    advice: str = "Use the files of this benchmark"  # what to do about the faults
    # True: an entry's `file` is its full path; the same name elsewhere does not count
    exact: bool = False
    captioned: bool = True  # False: the dataset is only searched, so no item needs a caption
    listed: Sequence[tuple[Path, list[str]]] | None = None  # folders of the source, and their files
    form: str = ""  # the form of an image benchmark
    origin: dict[str, str] | None = None  # the hub's dataset that it came from
    packed: Pictures | None = None  # media to be written out first


class CaptionCleaner:
    """Cleans captions and counts the changes: line breaks and repeated spaces become one space."""

    def __init__(self) -> None:
        self.cleaned = 0
        self.blank = 0

    def __call__(self, captions: Iterable[object], where: str) -> tuple[str, ...]:
        """Return an item's cleaned captions without blank ones. Raises `BadInput` for non-text."""
        kept = []
        for caption in captions:
            if not isinstance(caption, str):
                raise BadInput(f"{where}: expected a caption (text), found {short(caption)}")
            text = re.sub(r"\s+", " ", caption.encode(errors="replace").decode()).strip()
            if text:
                self.cleaned += text != caption
                kept.append(text)
            else:
                self.blank += 1
        return tuple(kept)

    def notes(self) -> list[str]:
        """Return one line for each kind of change, for `Annotations.notes`."""
        counted = {
            "captions cleaned of line breaks and extra spaces": self.cleaned,
            "blank captions dropped": self.blank,
        }
        return [f"{what}: {count:,}" for what, count in counted.items() if count]


def left_out(absent: Mapping[str, str], detail: str = "") -> list[str]:
    """Return a note on the splits left out, [] without any; `absent`: {split: what it lacks}."""
    lacks = " and no ".join(absent.values())
    are = "splits are" if len(absent) > 1 else "split is"
    return [f"no {lacks}{detail}: the {' and '.join(absent)} {are} left out"] if absent else []


def count_of(ids: Iterable[str], what: str) -> list[str]:
    """Return one note that counts the ids and lists the first of them; [] if there are no ids."""
    ids = list(ids)
    more = ", …" if len(ids) > SHOWN else ""
    return [f"{what}: {len(ids):,} ({', '.join(ids[:SHOWN])}{more})"] if ids else []


def counts_of_split(
    used: Sequence[Entry],
    published: tuple[int | None, int | None] | None,
    media_found: int | None,
    media_expected: int,
) -> dict:
    """Return found / expected items, captions and media of a split, as `dataset.json` has them.

    `published` is (items, captions), or None if nothing was published; `media_found` is None if
    media was not looked for.
    """
    items, captions = published or (None, None)
    return {
        "found": len(used),
        "expected": items,
        "captions": {"found": sum(len(entry.captions) for entry in used), "expected": captions},
        "media": {"found": media_found, "expected": media_expected},
    }


def count_table(counts: dict[str, dict]) -> list[str]:
    """Format the counts of `dataset.json` as a table: found / expected items, captions, media."""
    rows: list[tuple[str, ...]] = [("split", "items", "captions", "media")]
    for split, items in counts.items():
        rows.append((split, *map(_of_expected, (items, items["captions"], items["media"]))))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _of_expected(count: dict) -> str:
    expected = count["expected"]
    found = "not looked for" if count["found"] is None else format(count["found"], ",")
    return f"{found} / {'?' if expected is None else format(expected, ',')}"


def refuse_other_content(out: Path, name: str) -> None:
    """Raise `BadInput` if `out` holds anything but (part of) the dataset `name` in this version."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: is a file; expected a new folder, or one that holds {name}")
    there = read_object(out / SEAL)
    if there and not _is_dataset(there, name):
        raise BadInput(
            f"{out}: expected {name} in format version {FORMAT_VERSION} or nothing, found "
            f"{there.get('name')} in version {there.get('format_version')}; choose another --out "
            "or remove it"
        )
    others = (
        [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.is_dir() else []
    )
    if others:
        raise BadInput(
            f"{out}: holds {others[0]}, which is not part of a dataset; choose another --out"
        )


def _is_ours(path: Path) -> bool:
    if path.name == MEDIA:
        return path.is_symlink()
    if path.name in (FRAMES, PICTURES):
        return path.is_dir()
    left = re.fullmatch(r"\.(.+)\.\d+\.tmp", path.name)  # a temporary file that a killed run left
    return (left[1] if left else path.name) in (SEAL, METADATA, MISSING, CHECKED, *HARMLESS)


def _is_dataset(seal: dict, name: str) -> bool:
    return (seal.get("name"), seal.get("format_version")) == (name, FORMAT_VERSION)


def unseal(out: Path) -> None:
    """Mark the dataset folder, if it exists, as unfinished."""
    (out / SEAL).unlink(missing_ok=True)


def is_whole(out: Path, name: str) -> bool:
    """Return whether `out` holds the finished dataset `name` in this format version."""
    return _is_dataset(read_object(out / SEAL), name) and (out / METADATA).is_file()


def read_object(path: Path) -> dict:
    """Return the JSON object in `path`, or {} if the file is missing or cannot be read."""
    try:
        return files.read_json(path, dict)
    except (OSError, ValueError):
        return {}


def write_missing(out: Path, missing: Iterable[tuple[str, str, str]]) -> None:
    """List unusable items (id, file, reason; tabs) in `missing.txt`; remove it if none."""
    rows = ["\t".join(row) + "\n" for row in missing]
    if rows:
        files.write_whole(out / MISSING, "".join(rows))
    else:
        (out / MISSING).unlink(missing_ok=True)


def write_dataset(out: Path, source: Path, entries: Iterable[Entry], seal: dict) -> None:
    """Write the dataset folder of `entries` (`file` is relative to `source`), `dataset.json` last.

    `dataset.json` gets `seal`, the format version and, if links cannot be made, `media_root`.
    """
    out.mkdir(parents=True, exist_ok=True)
    unseal(out)
    files.write_whole(out / METADATA, "".join(map(_to_line, entries)))
    seal = {"format_version": FORMAT_VERSION, **seal}
    if not _link(out / MEDIA, source):
        seal["media_root"] = str(source.resolve())
    files.write_whole(out / SEAL, json.dumps(seal, indent=2, ensure_ascii=False) + "\n")


def _to_line(entry: Entry) -> str:
    """Return the entry's line of `metadata.jsonl`, with `start` and `end` only if they are set."""
    fields: dict[str, object] = {"file_name": f"{MEDIA}/{entry.file}", "id": entry.id}
    fields |= {"captions": entry.captions, "split": entry.split}
    fields |= {
        name: value for name in ("start", "end") if (value := getattr(entry, name)) is not None
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _link(link: Path, source: Path) -> bool:
    """Link to `source`, by a relative path if it is near; return False if links cannot be made."""
    target = source.resolve()
    beside = link.parent.resolve().parent
    if target.is_relative_to(beside):
        target = Path(os.path.relpath(target, link.parent.resolve()))
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        return False
    return True
