"""The folder of a user's downloads: listed once, then searched by name."""

import filecmp
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cma.files import walk
from data_prep.dataset import SPLITS
from data_prep.media import bare
from data_prep.readers import BadInput, IdList, read_id_list, stand_in

T = TypeVar("T")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
PLAIN_WORDS = {  # a name of these words alone fits any benchmark; k: 1k, 5k
    "karpathy",
    "captions",
    "caption",
    "caps",
    "filename",
    "verify",
    "annotations",
    "annotation",
    "data",
    "dataset",
    "list",
    "lists",
    "ids",
    "id",
    "images",
    "image",
    "split",
    "splits",
    "retrieval",
    "k",
    "",
}
# how paths name the datasets, any other by its own name; files of Sydney and UCM lie beside the
# lists of RSICD
SETS = {
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


class Downloads:
    """The files in `folder` and below it, listed on construction. Raises `BadInput` without that
    folder.

    `listed` holds each folder with the names of its files, without a Mac's `._NAME`. Of a file and
    a stand-in for it (`readers.stand_in`), the file is used. `split_from` is the file or folder
    that the user names for the splits.
    """

    def __init__(self, folder: Path, split_from: Path | None = None) -> None:
        if not folder.is_dir():
            raise BadInput(
                f"{folder}: no such folder; expected the folder with the downloaded files"
            )
        if split_from and not split_from.exists():
            raise BadInput(f"{split_from}: no such file; expected one with the split of each image")
        self.folder = folder
        self.split_from = split_from
        self.listed = [(top, [n for n in names if n[:2] != "._"]) for top, _, names in walk(folder)]

    def ending(self, *endings: str) -> list[Path]:
        """Return the files whose names end in one of `endings` (lower case; names may have
        capitals).
        """
        return [
            parent / name
            for parent, names in self.listed
            for name in names
            if name.lower().endswith(endings)
        ]

    def place(self, path: Path) -> Path:
        """Return a path relative to the folder; a path elsewhere stays as it is."""
        return path.relative_to(self.folder) if path.is_relative_to(self.folder) else path

    def names_of(self, paths: Iterable[Path]) -> list[str]:
        """Return the places of paths, for `Annotations.files`."""
        return [self.place(path).as_posix() for path in paths]

    def named(self, *names: str) -> list[Path]:
        """Return the files with one of `names`, in the order of `names`, then nearest to the top
        first.

        All stand-ins come after all files.
        """
        wanted = set(names)
        found = [
            parent / name for parent, there in self.listed for name in wanted.intersection(there)
        ]
        found.sort(key=lambda path: (names.index(path.name), len(path.parts), path))
        return sorted(found, key=lambda path: stand_in(path) is not None)

    def find(self, *names: str) -> Path | None:
        """Return the first of `names` that exists, or None. Raises `BadInput` if two such files
        differ.
        """
        found = self.named(*names)
        return first_copy([path for path in found if path.name == found[0].name])

    def known(
        self, names: Collection[str], read: Callable[[Path], T | None]
    ) -> tuple[Path, T] | None:
        """Return the first file of `names` that `read` recognises, and its content; or None.

        Other benchmarks may have files of the same name: `read` returns None for these. Raises
        `BadInput` if it recognises a second file of that name with other content.
        """
        found = None
        for path in self.named(*names):
            if found and (path.name != found[0].name or stand_in(path)):
                break
            content = read(path)
            if content is None:
                continue
            if found and content != found[1]:
                raise _differ(found[0], path)
            found = found or (path, content)
        return found

    def splits(
        self,
        name: str,
        endings: tuple[str, ...],
        fits: Callable[[Path], bool] = lambda path: True,
        parts: Callable[[Path], tuple[Path, ...]] = lambda path: (path,),
    ) -> dict[str, Path]:
        """Find the file of each split of the dataset `name`.

        The file has one of `endings` and the word of the split in its name, it is `of_set`, and it
        `fits`. A stand-in is used only if there is nothing else. Files whose path names the dataset
        are preferred, then those nearest to the top, then the first of several copies. Raises
        `BadInput` if two of these differ in one of their `parts`.
        """
        found: dict[str, list[Path]] = {}
        for path in self.ending(*endings):
            split = split_word(path.stem)
            if split and of_set(self.place(path), name) and (fits(path) or stand_in(path)):
                found.setdefault(split, []).append(path)
        chosen = {split: self._nearest(paths, name, parts) for split, paths in found.items()}
        return {split: chosen[split] for split in SPLITS if split in chosen}

    def _nearest(
        self, paths: list[Path], name: str, parts: Callable[[Path], tuple[Path, ...]]
    ) -> Path:
        paths = [path for path in paths if not stand_in(path)] or paths
        own = [path for path in paths if _names(self.place(path).as_posix(), name)] or paths
        top = min(len(path.parts) for path in own)
        left = [path for path in own if len(path.parts) == top]
        if len(left) > 1:
            for copies in zip(*map(parts, left), strict=True):
                first_copy(copies)
        return left[0]

    def containers(self, name: str, ending: str) -> dict[str, Path]:
        """Return the files with an ending, by path, except those in folders named after other
        datasets.

        One of several copies is returned, and no stand-in if a file of its name is there.
        """
        found: list[Path] = []
        paths = self.ending(ending)
        whole = {path.name for path in paths if not stand_in(path)}
        for path in paths:
            of_name = of_set(self.place(path).with_name("captions"), name)
            replaced = stand_in(path) and path.name in whole
            copy = any(
                one.name == path.name and filecmp.cmp(one, path, shallow=False) for one in found
            )
            if of_name and not replaced and not copy:
                found.append(path)
        return {self.place(path).as_posix(): path for path in found}

    def id_list(self, names: Collection[str], known: Collection[str]) -> IdList | None:
        """Read the first list of ids called one of `names` that shares an id with `known`, or
        return None.

        Other benchmarks may have lists of the same name; `known` holds the ids of this one. Raises
        `BadInput` if two such lists of one name differ.
        """

        def ids_of(path: Path) -> tuple[str, ...] | None:
            ids = read_id_list(path).ids
            return ids if any(id in known or bare(id) in known for id in ids) else None

        found = self.known(names, ids_of)
        return read_id_list(found[0]) if found else None


def split_word(stem: str) -> str | None:
    """Return the split that a stem names (val for `coco_karpathy_val`); None if it names none or
    two.
    """
    splits = {SPLIT_WORDS[word] for word in _words(stem) if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def split_of(place: Path) -> str | None:
    """Return the split that a container's name gives, or else the nearest folder's name that gives
    one.

    `place` is its path below the source. None if none does.
    """
    splits = (split_word(name) for name in (place.stem, *(it.name for it in place.parents)))
    return next(filter(None, splits), None)


def of_set(path: Path, name: str) -> bool:
    """Return whether a file may belong to the dataset `name`: nothing in its path says otherwise.

    That holds if it names the dataset, or if its name has only usual words (`captions_val.json`),
    and its folders name this dataset or none.
    """
    if _names(path.name, name):
        return True
    if set(_words(path.stem)) - PLAIN_WORDS - SPLIT_WORDS.keys():
        return False
    folder = path.parent.as_posix()
    return _names(folder, name) or not _names(folder, *SETS)


def first_copy(paths: Sequence[Path]) -> Path | None:
    """Return the first of several copies of a file, None without any. Raises `BadInput` if two
    differ.
    """
    paths = [path for path in paths if not stand_in(path)] or paths
    for path in paths[1:]:
        if not filecmp.cmp(paths[0], path, shallow=False):
            raise _differ(paths[0], path)
    return paths[0] if paths else None


def _differ(one: Path, other: Path) -> BadInput:
    return BadInput(f"{one} and {other} differ; keep only the one that should be used")


def _words(stem: str) -> list[str]:
    return re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())


def _names(text: str, *names: str) -> bool:
    """Return whether a text names one of these datasets as a word (`refcoco` is not coco)."""
    words = "|".join(SETS.get(name, re.escape(name)) for name in names)
    return re.search(rf"(?<![A-Za-z])(?i:{words})(?![a-z])", text) is not None
