"""The one dataset folder: `metadata.jsonl`, `media` (a link to the user's files), `dataset.json`.

`dataset.json` is the seal, removed first and written last: a folder without it is never taken for whole.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from data_prep.annotations import Entry
from data_prep.errors import BadInput

FORMAT_VERSION = 1
SEAL, METADATA, MEDIA, MISSING = "dataset.json", "metadata.jsonl", "media", "missing.txt"
CHECKED = "checked.json"  # what the media check found, for the next one
FRAMES = "frames"  # decoded frames, where `media` leads in a folder written by `data_prep.frames`
TEMPORARY = ".partial"


def to_line(entry: Entry) -> str:
    """One line of `metadata.jsonl`; `start` and `end` only where they are set."""
    fields = {"file_name": f"{MEDIA}/{entry.file}", "id": entry.id}
    fields |= {"captions": entry.captions, "split": entry.split}
    fields |= {name: value for name in ("start", "end") if (value := getattr(entry, name)) is not None}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def refuse_other_content(out: Path, name: str) -> None:
    """`BadInput` if `out` holds anything but the dataset `name` in this format version, finished or not."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: is a file; expected a folder, new or holding {name}")
    there = read_object(out / SEAL)
    if there and (there.get("name"), there.get("format_version")) != (name, FORMAT_VERSION):
        raise BadInput(
            f"{out}: expected {name} in format version {FORMAT_VERSION} or nothing, found "
            f"{there.get('name')} in version {there.get('format_version')}; choose another --out or remove it"
        )
    others = [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.is_dir() else []
    if others:
        raise BadInput(
            f"{out}: holds {others[0]}, which is no part of a dataset folder; choose another --out"
        )


def _is_ours(path: Path) -> bool:
    if path.name == MEDIA:
        return path.is_symlink()
    if path.name == FRAMES:
        return path.is_dir()
    return path.name.removesuffix(TEMPORARY) in (SEAL, METADATA, MISSING, CHECKED)


def unseal(out: Path) -> None:
    """Mark the dataset folder as unfinished, if it is there."""
    (out / SEAL).unlink(missing_ok=True)


def is_whole(out: Path, name: str) -> bool:
    """Whether `out` holds the finished dataset `name` in this format version."""
    there = read_object(out / SEAL)
    same = (there.get("name"), there.get("format_version")) == (name, FORMAT_VERSION)
    return same and (out / METADATA).is_file()


def read_object(path: Path) -> dict:
    """The JSON object in `path`, or an empty one when there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def count_table(counts: dict[str, dict]) -> list[str]:
    """Lines of a table of found / expected items, captions and media, from the counts of `dataset.json`."""
    rows = [("split", "items", "captions", "media")]
    for split, items in counts.items():
        rows.append((split, *map(_of_expected, (items, items["captions"], items["media"]))))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _of_expected(count: dict) -> str:
    expected = count["expected"]
    found = "not looked for" if count["found"] is None else format(count["found"], ",")
    return f"{found} / {'?' if expected is None else format(expected, ',')}"


def write_missing(out: Path, missing: Iterable[tuple[str, str, str]]) -> None:
    """List what cannot be used in `missing.txt`: id, file and reason, separated by tabs; no file for none."""
    rows = ["\t".join(row) + "\n" for row in missing]
    if rows:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / MISSING, "".join(rows))
    else:
        (out / MISSING).unlink(missing_ok=True)


def write_dataset(out: Path, source: Path, entries: Iterable[Entry], seal: dict) -> None:
    """Write the folder, the seal last; it gains the format version and, where links fail, `media_root`.

    `file` of each entry is relative to `source`.
    """
    out.mkdir(parents=True, exist_ok=True)
    unseal(out)
    write_text(out / METADATA, "".join(map(to_line, entries)))
    seal = {"format_version": FORMAT_VERSION, **seal}
    if not _link(out / MEDIA, source):
        seal["media_root"] = str(source.resolve())
    write_text(out / SEAL, json.dumps(seal, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: under a temporary name, then renamed."""
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)


def _link(link: Path, source: Path) -> bool:
    """Point `link` at `source`, relative where it lies beside; False where the system has no links."""
    target, beside = source.resolve(), link.parent.resolve().parent
    if target.is_relative_to(beside):
        target = Path(os.path.relpath(target, link.parent.resolve()))
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError:
        return False
    return True
