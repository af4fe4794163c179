"""The forms in which one image benchmark circulates: the first whose files are there is read."""

import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from cma.files import walk
from data_prep.dataset import SPLITS, Annotations, Counts, Entry, left_out
from data_prep.readers import BadInput, first_copy, stand_in

PROTOCOL = {"query": "caption", "visual_to_text": "captions"}
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_WORDS |= {"dev": "val", "test": "test"}
PLAIN_WORDS = {"karpathy", "captions", "caption", "caps", "filename", "verify", "annotations", "annotation"}
PLAIN_WORDS |= {"data", "dataset", "list", "lists", "ids", "id", "images", "image", "split", "splits"}
PLAIN_WORDS |= {"retrieval", "k", ""}  # a file of these words alone may be any benchmark's; 1k, 5k
SETS = {  # how paths name them; Sydney's and UCM's files lie beside RSICD's lists
    "flickr30k": r"flickr(?![_ -]?8k)([_ -]?30k)?|f30k",
    "coco": r"(ms[_ -]?)?coco",
    "rsicd": "rsicd",
    "rsitmd": "rsitmd",
    "flickr8k": r"flickr[_ -]?8k",
    "sydney": "sydney",
    "ucm": "ucm(erced)?",
    "msrvtt": "msr[_ -]?vtt",
    "msvd": "msvd",
    "vatex": "vatex",
    "didemo": "didemo",
    "activitynet": "activitynet",
}


Items = TypeVar("Items", dict, list)


class Reading(NamedTuple):
    """What the files of one form hold."""

    entries: list[Entry]
    files: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Form:
    """One form of a benchmark's annotations.

    `looks_for` names the files in messages. `divisions` hold the published counts of the splits they may
    make. The files are held against the one with most splits of the size found, else the first with all of
    the splits found. `find` returns what reads the files under a folder, or None when they are absent.
    """

    looks_for: str
    divisions: tuple[dict[str, Counts], ...]
    find: Callable[[Path], Callable[[], Reading] | None]


def read_first(name: str, source: Path, forms: Mapping[str, Form], chosen: str | None = None) -> Annotations:
    """The annotations of image benchmark `name` in the first of `forms` that is there, or the `chosen` one.

    A note names the forms that are there as well. Raises `BadInput` that lists what was looked for when there
    is none.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with the downloaded files")
    left = {chosen: forms[chosen]} if chosen else dict(forms)
    wanted = ", ".join(form.looks_for for form in left.values())
    while left:
        form = left.pop(next(iter(left)))
        if read := form.find(source):
            others = [f"{it.looks_for} (--form {key})" for key, it in left.items() if _is_there(it, source)]
            notes = [f"there too, not read: {', '.join(others)}"] if others else []
            return _annotations(name, form, read(), notes)
    raise BadInput(f"{source}: none of {wanted} is in this folder or below it")


def add_form_option(parser: ArgumentParser, forms: Mapping[str, Form]) -> None:
    """`--form`: which form to read where several lie in one folder."""
    listed = "; ".join(f"{name}: {form.looks_for}" for name, form in forms.items())
    parser.add_argument(
        "--form", choices=forms, help=f"which annotations to read (default: the first there of {listed})"
    )


def find_splits(
    source: Path,
    name: str,
    endings: tuple[str, ...],
    fits: Callable[[Path], bool] = lambda path: True,
    parts: Callable[[Path], tuple[Path, ...]] = lambda path: (path,),
) -> dict[str, Path]:
    """The file of each split with one of `endings`, known by the word of a split in its name and by `fits`.

    A path that is not `of_set` is passed over; what lies in place of a file (`stand_in`) is found where there
    is nothing else. Of several, those whose path names the set are taken, then those nearest to the top, and
    of copies the first; `BadInput` when two differ in one of their `parts`.
    """
    found: dict[str, list[Path]] = {}
    for path in _files(source, endings):
        split = split_word(path.stem)
        if split and of_set(path.relative_to(source), name) and (fits(path) or stand_in(path)):
            found.setdefault(split, []).append(path)
    return {split: _only(source, paths, name, parts) for split, paths in found.items()}


def split_word(stem: str) -> str | None:
    """The split that a file name tells: `coco_karpathy_val` is val; None without such a word, or with two."""
    splits = {SPLIT_WORDS[word] for word in _words(stem) if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def of_set(path: Path, name: str) -> bool:
    """Whether a file may belong to the benchmark `name`.

    It does when its own name says so. Else its name must be of usual words alone (`captions_val.json`) and no
    folder may name another.
    """
    if _names(path.name, name):
        return True
    if set(_words(path.stem)) - PLAIN_WORDS - SPLIT_WORDS.keys():
        return False
    folder = path.parent.as_posix()
    return _names(folder, name) or not _names(folder, *SETS)


def some(items: Items, path: Path) -> Items:
    """The items that were read in `path`, the file of one split; `BadInput` where there are none."""
    if not items:
        raise BadInput(
            f"{path}: no item in this file; download it again, or remove it to leave the split out"
        )
    return items


def image_file(value: object, where: str) -> PurePosixPath:
    """An image's file name; `BadInput` naming `where` if it is no text, blank, or cannot be saved."""
    text = value.strip() if isinstance(value, str) else ""
    if not PurePosixPath(text).stem or text != text.encode(errors="replace").decode():
        raise BadInput(f"{where}: expected a file name, found {value!r}")
    return PurePosixPath(text)


def _is_there(form: Form, source: Path) -> bool:
    try:
        return form.find(source) is not None
    except BadInput:  # there, but broken
        return True


def _annotations(name: str, form: Form, reading: Reading, notes: list[str]) -> Annotations:
    there = Counter(entry.split for entry in reading.entries)
    division = max(
        form.divisions,
        key=lambda it: (sum(it[split].items == there[split] for split in it), there.keys() <= it.keys()),
    )
    absent = {split: f"{split} split" for split in SPLITS if there and split not in there}
    if "val" in absent and "val" not in division and there["train"]:
        notes.append("no val split in these files: its images are in train")
        absent.pop("val")
    notes += left_out(absent, " in these files")
    notes += reading.notes
    return Annotations(name, "image", PROTOCOL, division, reading.entries, name, reading.files, notes)


def _words(stem: str) -> list[str]:
    return re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())


def _names(text: str, *names: str) -> bool:
    """Whether a text has one of the sets' names as a word (coco is none of `refcoco`)."""
    words = "|".join(SETS[name] for name in names)
    return re.search(rf"(?<![A-Za-z])(?i:{words})(?![a-z])", text) is not None


def _files(source: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    for parent, _, files in walk(source):
        yield from (parent / name for name in files if name.lower().endswith(endings))


def _only(source: Path, paths: list[Path], name: str, parts: Callable[[Path], tuple[Path, ...]]) -> Path:
    paths = [path for path in paths if not stand_in(path)] or paths
    own = [path for path in paths if _names(path.relative_to(source).as_posix(), name)] or paths
    top = min(len(path.parts) for path in own)
    left = [path for path in own if len(path.parts) == top]
    for copies in zip(*map(parts, left), strict=True) if len(left) > 1 else ():
        first_copy(copies)
    return left[0]
