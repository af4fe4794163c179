"""Read captions without splits, and take the splits from lists of ids or another file."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from cma.files import short
from data_prep.benchmarks.downloads import Downloads, of_set, split_word
from data_prep.benchmarks.forms import SAME, Form, Reading, Row, hub_rows, to_entries
from data_prep.benchmarks.image_files import karpathy_rows
from data_prep.dataset import SPLITS, CaptionCleaner, Counts, Entry, count_of
from data_prep.readers import BadInput, read_id_list, read_start

DIVISION = "division"  # in place of a split: the file gives the split of every image
KEY = re.compile(r"(?:COCO_[a-z]+2014_)?0*(\d+)")


@dataclass(frozen=True)
class Undivided:
    """A form of the benchmark `name` whose captions are in files without splits.

    `names` are the names of the files, and `rows` yields the rows of one. The splits come from
    `--split-from`, from lists of ids beside them, or from a file with a name in `divisions`; `page`
    says where to get that.
    """

    name: str
    names: tuple[str, ...]
    rows: Callable[[Path, str], Iterable[Row]]
    divisions: tuple[str, ...]
    page: str
    choose: Callable[[Downloads], list[Path]] | None = None  # instead of `names`

    def form(
        self,
        looks_for: str,
        divisions: tuple[dict[str, Counts], ...],
        splits: Mapping[str, str | None] = SAME,
    ) -> Form:
        """Return this as a `Form`; `splits` as in `forms.read_rows`."""
        read = partial(self.read, splits=splits)
        return Form(looks_for, divisions, self.find, read, self.lacks)

    def captions(self, downloads: Downloads) -> list[Path]:
        """Return the files of captions: for each name the first that no folder gives to others."""
        if self.choose:
            return self.choose(downloads)
        found: dict[str, Path] = {}
        for path in downloads.named(*self.names):
            # the file's name says nothing, so the folder's decides
            place = downloads.place(path).with_name("captions")
            if of_set(place, self.name):
                found.setdefault(path.name, path)
        return list(found.values())

    def find(self, downloads: Downloads) -> dict[str, Path]:
        """Return the files of captions by name, and the source of their splits; {} if one is
        missing.
        """
        captions = self.captions(downloads)
        if not captions:
            return {}
        dividing = self._dividing(downloads, captions)
        return {str(path): path for path in captions} | dividing if dividing else {}

    def _dividing(self, downloads: Downloads, captions: list[Path]) -> dict[str, Path]:
        given = downloads.split_from
        if given and given.is_dir():
            downloads = Downloads(given)
        elif given:
            split = split_word(given.stem) if given.suffix.lower() != ".csv" else None
            return {split or DIVISION: given}
        keys = {image_key(str(row.image)) for path in captions for row in self.rows(path, "test")}

        def fits(path: Path) -> bool:
            return path.name not in self.names and _lists_any(path, keys)

        lists = downloads.splits(self.name, (".txt", ".json"), fits)
        if lists:
            return lists
        path = downloads.find(*self.divisions)
        return {DIVISION: path} if path else {}

    def lacks(self, downloads: Downloads) -> str | None:
        """Return what is missing beside the captions, or None if there are no captions."""
        captions = self.captions(downloads)
        if not captions:
            return None
        return (
            f"{captions[0]}: has captions and no splits; put {self.divisions[0]} (from "
            f"{self.page}) "
            "or {train,val,test}.txt with ids beside it, or name one by --split-from"
        )

    def read(self, paths: dict[str, Path], splits: Mapping[str, str | None] = SAME) -> Reading:
        """Read the captions of all images, and the split of each.

        A listed id without captions becomes an entry without any; images without a split are left
        out. Notes count both.
        """
        clean = CaptionCleaner()
        images = {}
        for label, path in paths.items():
            if label not in (*SPLITS, DIVISION):
                for entry in to_entries(self.rows(path, "test"), clean):
                    images[image_key(entry.file)] = entry
        if DIVISION in paths:
            pairs = _division(paths[DIVISION])
            notes: list[str] = []
            pairs = [(key, split) for key, split in pairs if key in images]
        else:
            pairs, notes = _lists(paths)
        entries = []
        dropped: Counter[str] = Counter()
        without = []
        for key, split in pairs:
            if not isinstance(split, str) or split not in splits:
                raise BadInput(
                    f"{paths[DIVISION]}: expected the split {', '.join(splits)}; found "
                    f"{short(split)}"
                )
            read_as = splits[split]
            if read_as is None:
                dropped[split] += 1
                continue
            if key not in images:
                without.append(key)
            entry = images.get(key) or Entry(key, f"{key}.jpg", (), split)
            entries.append(replace(entry, split=read_as))
        known = {key for key, _ in pairs}
        notes += count_of(without, "ids without captions")
        unlisted = (entry.id for key, entry in images.items() if key not in known)
        notes += count_of(unlisted, "images in no list, left out")
        notes += [f"images of the split {it}, left out: {n:,}" for it, n in dropped.items()]
        return Reading(entries, list(paths.values()), notes + clean.notes())


def image_key(text: str) -> str:
    """Return an image's key, its number or name, from its entry in a list, a file or a split.

    `val2014/COCO_val2014_000000000042.jpg 42`, `42.jpg#0` and `42` are the same image.
    """
    words = re.split(r"[#\s]", text.strip(), maxsplit=1)
    name = PurePosixPath(words[0]).name.removesuffix(".jpg")
    numbered = KEY.fullmatch(name)
    return numbered[1] if numbered else name


def _division(path: Path) -> list[tuple[str, object]]:
    """Return key and split of each image of Karpathy's JSON or of the hub's CSV."""
    rows = hub_rows if path.suffix.lower() == ".csv" else karpathy_rows
    splits = {image_key(str(row.image)): row.split for row in rows(path, "")}
    return list(splits.items())


def _lists(paths: dict[str, Path]) -> tuple[list[tuple[str, object]], list[str]]:
    """Return key and split of each listed image, and notes."""
    pairs: list[tuple[str, object]] = []
    notes = []
    for split in SPLITS:
        if split in paths:
            ids = read_id_list(paths[split])
            notes += ids.notes()
            pairs += [(key, split) for key in dict.fromkeys(map(image_key, ids.ids))]
    return pairs, notes


def _lists_any(path: Path, keys: Collection[str]) -> bool:
    """Return whether one of the first ids in a file (a JSON list or lines) is among `keys`."""
    start = read_start(path)
    is_json = path.suffix.lower() == ".json"
    found = re.findall(r'"([^"]*)"', start) if is_json else start.splitlines()
    return any(image_key(id) in keys for id in found)
