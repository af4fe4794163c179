"""The forms in which one image benchmark circulates: the first whose files are there is read."""

import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.annotations import SPLITS, Annotations, Counts, Entry
from data_prep.errors import BadInput
from data_prep.readers import walk

PROTOCOL = {"query": "caption", "visual_to_text": "captions"}
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_WORDS |= {"dev": "val", "test": "test"}
IMAGE_SETS = (
    "flickr30k",
    "coco",
    "rsicd",
    "rsitmd",
    "sydney",
    "ucm",
)  # the last two lie beside RSICD's lists


class Reading(NamedTuple):
    """What the files of one form hold."""

    entries: list[Entry]
    files: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Form:
    """One form of a benchmark's annotations; `read` returns None when its files are absent.

    `looks_for` names the files in messages, `expected` holds the published counts of the split they make;
    `without_val` those of files without a val split, where its images are in train then.
    """

    looks_for: str
    expected: dict[str, Counts]
    read: Callable[[Path], Reading | None]
    without_val: dict[str, Counts] | None = None


def read_first(name: str, source: Path, forms: Mapping[str, Form], chosen: str | None = None) -> Annotations:
    """The annotations of image benchmark `name` in the first of `forms` that is there, or the `chosen` one.

    Raises `BadInput` that lists what was looked for when there is none.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with the downloaded files")
    tried = {chosen: forms[chosen]} if chosen else forms
    for form in tried.values():
        reading = form.read(source)
        if reading is not None:
            return _annotations(name, form, reading)
    wanted = ", ".join(form.looks_for for form in tried.values())
    raise BadInput(f"{source}: none of {wanted} is in this folder or below it")


def add_form_option(parser: ArgumentParser, forms: Mapping[str, Form]) -> None:
    """`--form`: which form to read where several lie in one folder."""
    listed = "; ".join(f"{name}: {form.looks_for}" for name, form in forms.items())
    parser.add_argument(
        "--form", choices=forms, help=f"which annotations to read (default: the first there of {listed})"
    )


def find_splits(
    source: Path, name: str, suffixes: tuple[str, ...], fits: Callable[[Path], bool]
) -> dict[str, Path]:
    """The file of each split, known by the one word of a split in its name and by what it holds (`fits`).

    A path that names another set of images is passed over. Of several, those naming this one are taken,
    then those nearest to the top; `BadInput` when two are left.
    """
    found: dict[str, list[Path]] = {}
    for path in _files(source, suffixes):
        split = split_word(path.stem)
        if split and not names_another(path.relative_to(source), name) and fits(path):
            found.setdefault(split, []).append(path)
    return {split: _only(source, split, paths, name) for split, paths in found.items()}


def split_word(stem: str) -> str | None:
    """The split that a file name tells: `coco_karpathy_val` is val; None without such a word, or with two."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def names_another(path: Path, name: str) -> bool:
    """Whether a path speaks of another set of images, and not of `name`."""
    text = path.as_posix().lower()
    return name not in text and any(other in text for other in IMAGE_SETS)


def read_start(path: Path, size: int = 4096) -> str:
    """The first bytes of a file as text, whatever its encoding."""
    with path.open("rb") as file:
        return file.read(size).decode("utf-8-sig", errors="replace")


def image_file(value: object, where: str) -> PurePosixPath:
    """An image's file name; `BadInput` naming `where` if it is no text, blank, or cannot be saved."""
    text = value.strip() if isinstance(value, str) else ""
    if not PurePosixPath(text).stem or text != text.encode(errors="replace").decode():
        raise BadInput(f"{where}: expected a file name, found {value!r}")
    return PurePosixPath(text)


def _annotations(name: str, form: Form, reading: Reading) -> Annotations:
    there = {entry.split for entry in reading.entries}
    expected, notes = form.expected, []
    for split in SPLITS if there else ():
        if split not in there and split == "val" and form.without_val:
            expected = form.without_val
            notes.append("no val split in these files: its images are in train")
        elif split not in there:
            notes.append(f"no {split} split in these files: it is left out")
    notes += reading.notes
    return Annotations(name, "image", PROTOCOL, expected, reading.entries, name, reading.files, notes)


def _files(source: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for parent, _, files in walk(source):
        yield from (parent / name for name in files if Path(name).suffix.lower() in suffixes)


def _only(source: Path, split: str, paths: list[Path], name: str) -> Path:
    own = [path for path in paths if name in path.relative_to(source).as_posix().lower()] or paths
    top = min(len(path.parts) for path in own)
    left = [path for path in own if len(path.parts) == top]
    if len(left) > 1:
        raise BadInput(f"{left[0]} and {left[1]}: both could be the {split} split; leave one of them there")
    return left[0]
