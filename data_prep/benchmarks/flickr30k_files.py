"""Flickr30K's further files: the hub's CSV, the captions of `results_20130124.token`, CSVs of one split."""

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from data_prep.benchmarks.forms import Reading, find_splits, image_file, some
from data_prep.dataset import SPLITS, CaptionCleaner, Entry, count_of
from data_prep.readers import BadInput, find_file, read_csv, read_id_list, read_start, read_text

HUB, TOKEN = "flickr_annotations_30k.csv", "results_20130124.token"
COLUMNS = ("image", "caption")


Read = Callable[[], Reading]


def find_hub_csv(source: Path) -> Read | None:
    """What reads the hub's CSV: `filename`, `split` and, as a JSON list, the captions in `raw`."""
    path = find_file(source, (HUB,))
    return partial(_read_hub_csv, path) if path else None


def _read_hub_csv(path: Path) -> Reading:
    clean, entries = CaptionCleaner(), []
    for line, row in read_csv(path, ("raw", "split", "filename")):
        where = f"{path}:{line}"
        file, split = image_file(row["filename"], where), row["split"].strip()
        if split not in SPLITS:
            raise BadInput(f"{where}: expected the split {', '.join(SPLITS)}; found {split!r}")
        captions = clean(_json_list(row["raw"], f"{where}: raw"), where)
        entries.append(Entry(file.stem, str(file), captions, split))
    return Reading(entries, [path.name], clean.notes())


def find_token(source: Path) -> Read | None:
    """What reads `results_20130124.token`, divided by a list of ids for each split; None without either.

    An id that has no captions becomes an entry without any; images in no list are left out. Both are counted.
    """
    path = find_file(source, (TOKEN,))
    if path is None:
        return None
    clean = CaptionCleaner()
    images = {PurePosixPath(file).stem: (file, captions) for file, captions in _read_token(path, clean)}
    paths = find_splits(source, "flickr30k", (".txt", ".json"), lambda path: _lists_any(path, images))
    return partial(_divide, path, images, paths, clean) if paths else None


def _divide(
    path: Path,
    images: dict[str, tuple[str, tuple[str, ...]]],
    paths: dict[str, Path],
    clean: CaptionCleaner,
) -> Reading:
    lists = {split: read_id_list(paths[split]) for split in SPLITS if split in paths}
    entries = []
    for split, ids in lists.items():
        for id in dict.fromkeys(map(_image_id, ids.ids)):
            file, captions = images.get(id, (f"{id}.jpg", ()))
            entries.append(Entry(id, file, captions, split))
    notes = [note for ids in lists.values() for note in ids.notes()]
    listed = {entry.id for entry in entries}
    notes += count_of((entry.id for entry in entries if entry.id not in images), "ids without captions")
    notes += count_of((id for id in images if id not in listed), "images in none of the lists, left out")
    files = [path.name, *(ids.path.name for ids in lists.values())]
    return Reading(entries, files, notes + clean.notes())


def find_split_csvs(source: Path) -> Read | None:
    """What reads `flickr30k_test_karpathy.txt` and its like: a CSV for each split, a row for each caption."""
    paths = find_splits(source, "flickr30k", (".txt", ".csv"), _has_columns)
    return partial(_read_split_csvs, paths) if paths else None


def _read_split_csvs(paths: dict[str, Path]) -> Reading:
    clean, entries = CaptionCleaner(), []
    for split in (split for split in SPLITS if split in paths):
        rows = (
            (f"{paths[split]}:{line}", row["image"], row["caption"])
            for line, row in read_csv(paths[split], COLUMNS)
        )
        entries += [
            Entry(Path(file).stem, file, captions, split)
            for file, captions in some(_by_image(rows, clean), paths[split])
        ]
    return Reading(entries, [paths[split].name for split in SPLITS if split in paths], clean.notes())


def _json_list(text: str, where: str) -> list:
    """The JSON list in a field of text; `BadInput` naming `where` if there is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, list):
        raise BadInput(f"{where}: expected a JSON list, found {text[:60]!r}")
    return content


def _read_token(path: Path, clean: CaptionCleaner) -> list[tuple[str, tuple[str, ...]]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            image, tab, caption = line.partition("\t")
            if not tab:
                raise BadInput(f"{path}:{number}: expected image.jpg#0, a tab and a caption")
            rows.append((f"{path}:{number}", image.partition("#")[0], caption))
    return _by_image(rows, clean)


def _by_image(
    rows: Iterable[tuple[str, str, str]], clean: CaptionCleaner
) -> list[tuple[str, tuple[str, ...]]]:
    """Each image's file with its cleaned captions, from (where, image, caption)."""
    found: dict[str, list[str]] = {}
    for where, image, caption in rows:
        found.setdefault(str(image_file(image, where)), []).extend(clean([caption], where))
    return [(file, tuple(captions)) for file, captions in found.items()]


def _image_id(id: str) -> str:
    return PurePosixPath(id.partition("#")[0]).name.removesuffix(".jpg")


def _lists_any(path: Path, images: dict[str, object]) -> bool:
    """Whether one of the first ids in a file, a JSON list or one a line, is among `images`."""
    start = read_start(path)
    ids = re.findall(r'"([^"]*)"', start) if path.suffix.lower() == ".json" else start.splitlines()
    return any(_image_id(id.strip()) in images for id in ids)


def _has_columns(path: Path) -> bool:
    header = read_start(path).partition("\n")[0].replace(";", ",")
    return set(COLUMNS) <= {name.strip(' "\r') for name in header.split(",")}
