"""The files of a dataset folder, read strictly: an error names the file, the line and what was expected."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SPLITS = ("train", "val", "test")
FORMAT_VERSION = 1
READINGS = {"image": "captions", "video": "items"}  # of `visual_to_text`, where a protocol does not say


@dataclass(frozen=True)
class Item:
    """One picture or clip with its captions; `start` and `end` (seconds) cut a clip out of a longer file.

    An item without captions can be searched, but neither trained on nor evaluated.
    """

    id: str
    file_name: str
    captions: tuple[str, ...]
    split: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class About:
    """What `dataset.json` says: how the dataset is evaluated, and how many items were to be expected."""

    name: str
    kind: str
    protocol: dict[str, str]
    recipe: str
    expected: dict[str, int | None]
    media_root: Path | None


def read_about(folder: Path) -> About:
    """`dataset.json`; FileNotFoundError if it is not there, ValueError if it is not as expected."""
    path = folder / "dataset.json"
    about = _object(_read(path), str(path))
    kind = about.get("kind")
    if kind not in READINGS:
        raise ValueError(f'{path}: expected "kind" image or video, found {kind!r}')
    version = about.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format version {FORMAT_VERSION}, found {version!r}; prepare it again"
        )
    protocol = {"query": "caption", "visual_to_text": READINGS[kind]} | about.get("protocol", {})
    if protocol["visual_to_text"] not in READINGS.values():
        found = protocol["visual_to_text"]
        raise ValueError(f'{path}: expected "visual_to_text" captions or items, found {found!r}')
    counts = about.get("counts", {})
    return About(
        name=about.get("name", folder.name),
        kind=kind,
        protocol=protocol,
        recipe=about.get("recipe", folder.name),
        expected={split: count.get("expected") for split, count in counts.items() if isinstance(count, dict)},
        media_root=Path(about["media_root"]) if "media_root" in about else None,
    )


def read_items(folder: Path) -> list[Item]:
    """Every item of `metadata.jsonl`; FileNotFoundError, or ValueError with the number of a bad line."""
    path = folder / "metadata.jsonl"
    items: dict[str, Item] = {}
    for number, line in enumerate(_read(path).removesuffix("\n").split("\n"), start=1):
        item = read_item(line, f"{path}:{number}")
        if item.id in items:
            raise ValueError(f"{path}:{number}: the id {item.id!r} is there twice")
        items[item.id] = item
    return list(items.values())


def read_item(line: str, where: str) -> Item:
    """One line of `metadata.jsonl`; ValueError that starts with `where`."""
    fields = _object(line, where)
    for name in ("id", "file_name"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ValueError(f'{where}: expected "{name}" to be text, found {fields.get(name)!r}')
    file = PurePosixPath(fields["file_name"])
    if file.is_absolute() or ".." in file.parts:
        raise ValueError(f"{where}: the file name {str(file)!r} leads out of the folder")
    captions = fields.get("captions")
    if not isinstance(captions, list):
        raise ValueError(f'{where}: expected "captions" to be a list, found {captions!r}')
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{where}: expected a caption that is text and not blank, found {caption!r}")
    if fields.get("split") not in SPLITS:
        raise ValueError(f'{where}: expected "split" {", ".join(SPLITS)}, found {fields.get("split")!r}')
    start, end = (_seconds(fields, name, where) for name in ("start", "end"))
    if start is not None and end is not None and start >= end:
        raise ValueError(f"{where}: expected start before end, found {start} and {end} seconds")
    return Item(fields["id"], fields["file_name"], tuple(captions), fields["split"], start, end)


def _seconds(fields: dict, name: str, where: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f'{where}: expected "{name}" in seconds, found {value!r}')
    return float(value)


def _object(text: str, where: str) -> dict:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: broken JSON at column {error.colno} ({error.msg})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(content).__name__}")
    return content


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file, so its folder is no finished dataset; write it by `python -m data_prep`"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
