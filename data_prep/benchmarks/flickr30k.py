"""Flickr30K: 31,014 photographs with five captions each, in Karpathy's split."""

import json
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import (
    ALL,
    Benchmark,
    Form,
    Reading,
    Row,
    find_named,
    form_option,
    read_form,
    read_rows,
    to_entries,
)
from data_prep.benchmarks.hub import HubFile
from data_prep.benchmarks.image_files import albef_rows, find_albef, karpathy_rows
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, count_of
from data_prep.readers import BadInput, read_csv, read_id_list, read_start, read_text

PUBLISHED = {
    "train": Counts(29_000, 145_000),
    "val": Counts(1_014, 5_070),
    "test": Counts(1_000, 5_000),
}
KARPATHY, HUB, TOKEN = (
    "dataset_flickr30k.json",
    "flickr_annotations_30k.csv",
    "results_20130124.token",
)
COLUMNS = ("image", "caption")
ON_HUB = HubFile("nlphuji/flickr30k", HUB, "hub")


def read(downloads: Downloads, form: str | None = None, from_hub: bool = False) -> Annotations:
    """Read the downloaded annotations, or with `from_hub` those on the hub; `form` is a key of
    FORMS.
    """
    return read_form("flickr30k", downloads, FORMS, form, ON_HUB if from_hub else None)


def hub_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of the hub's CSV: `filename`, `split`, and `raw` with a JSON list of captions."""
    for line, row in read_csv(path, ("raw", "split", "filename")):
        where, text = f"{path}:{line}", row["raw"]
        try:
            captions = json.loads(text)
        except (ValueError, RecursionError):
            captions = None
        if not isinstance(captions, list):
            raise BadInput(f"{where}: raw: expected a JSON list, found {text[:60]!r}")
        yield Row(where, row["split"].strip(), row["filename"], captions)


def csv_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of a split's file, such as `flickr30k_test_karpathy.txt`: one row for each
    caption.
    """
    for line, row in read_csv(path, COLUMNS):
        yield Row(f"{path}:{line}", split, row["image"], row["caption"])


def find_csvs(downloads: Downloads) -> dict[str, Path]:
    """Find the CSV of each split by the split in its name and by its columns."""

    def fits(path: Path) -> bool:
        header = read_start(path).partition("\n")[0].replace(";", ",")
        return set(COLUMNS) <= {name.strip(' "\r') for name in header.split(",")}

    return downloads.splits("flickr30k", (".txt", ".csv"), fits)


def find_token(downloads: Downloads) -> dict[str, Path]:
    """Find `results_20130124.token` and a list of ids for each split; {} if one of the two is
    missing.
    """
    path = downloads.find(TOKEN)
    if path is None:
        return {}
    ids = {_image_id(line.partition("\t")[0]) for line in read_text(path).split("\n")}
    lists = downloads.splits("flickr30k", (".txt", ".json"), partial(_lists_any, ids=ids))
    return {ALL: path} | lists if lists else {}


def read_token(paths: dict[str, Path]) -> Reading:
    """Read the captions of all images, and the list of ids of each split.

    An id without captions becomes an entry without any; images in no list are left out. Notes count
    both.
    """
    clean = CaptionCleaner()
    images = {entry.id: entry for entry in to_entries(_token_rows(paths[ALL]), clean)}
    entries, notes = [], []
    for split, path in paths.items():
        if split == ALL:
            continue
        ids = read_id_list(path)
        notes += ids.notes()
        for id in dict.fromkeys(map(_image_id, ids.ids)):
            file, captions = (
                (images[id].file, images[id].captions) if id in images else (f"{id}.jpg", ())
            )
            entries.append(Entry(id, file, captions, split))
    listed = {entry.id for entry in entries}
    notes += count_of(
        (entry.id for entry in entries if entry.id not in images), "ids without captions"
    )
    notes += count_of((id for id in images if id not in listed), "images in no list, left out")
    return Reading(entries, list(paths.values()), notes + clean.notes())


def _token_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            image, tab, caption = line.partition("\t")
            if not tab:
                raise BadInput(f"{path}:{number}: expected image.jpg#0, a tab and a caption")
            yield Row(f"{path}:{number}", "test", image.partition("#")[0], caption)


def _image_id(id: str) -> str:
    return PurePosixPath(id.partition("#")[0].strip()).name.removesuffix(".jpg")


def _lists_any(path: Path, ids: Collection[str]) -> bool:
    """Whether one of the first ids in a file (a JSON list, or one id per line) is among `ids`."""
    start = read_start(path)
    found = (
        re.findall(r'"([^"]*)"', start) if path.suffix.lower() == ".json" else start.splitlines()
    )
    return any(_image_id(id) in ids for id in found)


FORMS = {
    "karpathy": Form(
        KARPATHY,
        (PUBLISHED,),
        partial(find_named, names=(KARPATHY,)),
        partial(read_rows, karpathy_rows),
    ),
    "albef": Form(
        "flickr30k_{train,val,test}.json",
        (PUBLISHED,),
        partial(find_albef, name="flickr30k"),
        partial(read_rows, albef_rows),
    ),
    "hub": Form(HUB, (PUBLISHED,), partial(find_named, names=(HUB,)), partial(read_rows, hub_rows)),
    "token": Form(
        f"{TOKEN} with ids in {{train,val,test}}.txt", (PUBLISHED,), find_token, read_token
    ),
    "csv": Form(
        "flickr30k_{train,val,test}_karpathy.txt",
        (PUBLISHED,),
        find_csvs,
        partial(read_rows, csv_rows),
    ),
}
BENCHMARK = Benchmark(__doc__, read, {"--form": form_option(FORMS), "--from-hub": ON_HUB.option})
