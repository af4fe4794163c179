"""Flickr30K: 31,014 photographs with five captions each, in Karpathy's split."""

import re
from collections.abc import Iterator
from pathlib import Path

from cma.files import short
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import (
    PICTURES,
    SPLIT_FROM,
    Benchmark,
    Row,
    csv_rows,
    find_named,
    form_option,
    hub_rows,
    of_rows,
    read_form,
)
from data_prep.benchmarks.hub import Repository
from data_prep.benchmarks.image_files import albef_rows, coco_style_rows, find_albef, karpathy_rows
from data_prep.benchmarks.packed import Tables, shard_form
from data_prep.benchmarks.undivided import Undivided
from data_prep.containers import Layout
from data_prep.dataset import Annotations, Counts
from data_prep.readers import BadInput, read_start, read_text

PUBLISHED = {
    "train": Counts(29_000, 145_000),
    "val": Counts(1_014, 5_070),
    "test": Counts(1_000, 5_000),
}
KARPATHY = "dataset_flickr30k.json"
HUB = "flickr_annotations_30k.csv"
TOKEN = "results_20130124.token"
COCO_STYLE = "dataset_flickr30k_coco_style.json"
COLUMNS = ("image", "caption")
BARS = re.compile(r"\s*([^|]*?)\s*\|\s*\d+\s*[|\s](.*)", re.DOTALL)


def read(downloads: Downloads, form: str | None = None) -> Annotations:
    """Read the downloaded annotations; `form` is a key of FORMS."""
    return read_form("flickr30k", downloads, FORMS, form)


def find_csvs(downloads: Downloads) -> dict[str, Path]:
    """Find the CSV of each split by the split in its name and by its columns."""

    def fits(path: Path) -> bool:
        return set(COLUMNS) <= _columns(read_start(path))

    return downloads.splits("flickr30k", (".txt", ".csv"), fits)


def _columns(text: str) -> set[str]:
    """Return the names in the first line of a CSV."""
    header = text.partition("\n")[0].replace(";", ",")
    return {name.strip(' "\r') for name in header.split(",")}


def token_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of `results_20130124.token`: `image.jpg#0`, a tab and a caption."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            image, tab, caption = line.partition("\t")
            if not tab:
                raise BadInput(f"{path}:{number}: expected image.jpg#0, a tab and a caption")
            yield Row(f"{path}:{number}", split, image.partition("#")[0], caption)


def kaggle_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of Kaggle's `results.csv`, `image_name| comment_number| comment`, or of its
    `captions.txt` with commas. One line of `results.csv` lacks its second bar.
    """
    lines = read_text(path).split("\n")
    if "|" not in lines[0]:
        columns = ("image_name", "comment") if "comment" in _columns(lines[0]) else COLUMNS
        yield from csv_rows(path, split, columns)
        return
    for number, line in enumerate(lines[1:], start=2):
        found = BARS.fullmatch(line)
        if found:
            yield Row(f"{path}:{number}", split, found[1], found[2])
        elif line.strip():
            raise BadInput(f"{path}:{number}: expected image.jpg| 0| caption, found {short(line)}")


SHARED = ((KARPATHY, HUB), "https://cs.stanford.edu/people/karpathy/deepimagesent/")
KAGGLE = Undivided("flickr30k", ("results.csv", "captions.txt"), kaggle_rows, *SHARED)
STYLE = Undivided("flickr30k", (COCO_STYLE,), coco_style_rows, *SHARED)
TABLES = Tables(
    "flickr30k",
    (
        # lmms-lab/flickr30k, AnyModal/flickr30k
        Layout("caption", "image", "filename", also=("sentids", "img_id"), divided=False),
        Layout("original_alt_text", "image"),
    ),
)
FORMS = {
    "karpathy": of_rows(KARPATHY, (PUBLISHED,), find_named, karpathy_rows, names=(KARPATHY,)),
    "albef": of_rows(
        "flickr30k_{train,val,test}.json", (PUBLISHED,), find_albef, albef_rows, name="flickr30k"
    ),
    "hub": of_rows(HUB, (PUBLISHED,), find_named, hub_rows, names=(HUB, "test_1k_flickr.csv")),
    "token": Undivided("flickr30k", (TOKEN,), token_rows, *SHARED).form(
        f"{TOKEN} with ids in {{train,val,test}}.txt", (PUBLISHED,)
    ),
    "csv": of_rows("flickr30k_{train,val,test}_karpathy.txt", (PUBLISHED,), find_csvs, csv_rows),
    "kaggle": KAGGLE.form("results.csv or captions.txt of Kaggle", (PUBLISHED,)),
    "coco-style": STYLE.form(COCO_STYLE, (PUBLISHED,)),
    **TABLES.forms((PUBLISHED,), KAGGLE),
    "shards": shard_form("flickr30k", (PUBLISHED,)),
}
BENCHMARK = Benchmark(
    __doc__,
    read,
    {"--form": form_option(FORMS), "--split-from": SPLIT_FROM},
    (
        Repository("AnyModal/flickr30k", ("*.parquet",)),
        Repository("nlphuji/flickr30k", (HUB,), PICTURES),
    ),
)
