"""MSCOCO: 123,287 photographs with five captions or more each, in Karpathy's split with 5,000 test
images.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import (
    PICTURES,
    SAME,
    SPLIT_FROM,
    Benchmark,
    Form,
    Row,
    find_named,
    form_option,
    hub_rows,
    of_rows,
    read_form,
)
from data_prep.benchmarks.hub import Repository
from data_prep.benchmarks.image_files import (
    albef_rows,
    coco_style_rows,
    find_albef,
    find_coco_style,
    karpathy_rows,
)
from data_prep.benchmarks.packed import Tables, shard_form
from data_prep.benchmarks.undivided import Undivided
from data_prep.containers import Layout
from data_prep.dataset import Annotations, Counts

HELD = {"val": Counts(5_000, 25_010), "test": Counts(5_000, 25_010)}
TRAIN = {"restval": Counts(113_287, 566_747), "no-restval": Counts(82_783, 414_113)}
DEFAULT_SPLIT = "restval"
NAMES = ("dataset_coco.json", "karpathy_coco.json")
ON_HUB = "mscoco_karpathy/karpathy_coco.json"
HUB = "test_5k_mscoco_2014.csv"
OFFICIAL = Undivided(
    "coco",
    ("captions_train2014.json", "captions_val2014.json"),
    coco_style_rows,
    (*NAMES, HUB),
    "https://cs.stanford.edu/people/karpathy/deepimagesent/",
)
TABLES = Tables(
    "coco",
    (
        # yerevann/coco-karpathy, jxie/coco_captions, lmms-lab/COCO-Caption
        Layout("sentences", file="filename", folder="filepath", split="split"),
        Layout("caption", "image", "filename", also=("cocoid",)),
        Layout("answer", "image", "file_name", divided=False),
    ),
)


def read(
    downloads: Downloads,
    split: str = DEFAULT_SPLIT,
    form: str | None = None,
) -> Annotations:
    """Read the downloaded annotations; `form` is a key of `forms()`.

    With `split` "restval", the images of val2014 that are in neither val nor test are for training,
    too.
    """
    return read_form("coco", downloads, forms(split), form)


def forms(split: str = DEFAULT_SPLIT) -> dict[str, Form]:
    """Return the forms of MSCOCO; `split`, a key of TRAIN, chooses the training images."""
    divisions = ({"train": TRAIN[split]} | HELD,)
    splits = SAME | {"restval": "train" if split == "restval" else None}
    return {
        "karpathy": of_rows(
            "dataset_coco.json", divisions, find_named, karpathy_rows, splits, names=NAMES
        ),
        "albef": of_rows(
            "coco_karpathy_{train,val,test}.json",
            divisions,
            find_albef,
            partial(_marked, albef_rows),
            splits,
            name="coco",
        ),
        "hub": of_rows(HUB, divisions, find_named, hub_rows, splits, names=(HUB,)),
        "coco-style": of_rows(
            "coco_{train,val,test}_karpathy.json with images and annotations",
            divisions,
            find_coco_style,
            partial(_marked, coco_style_rows),
            splits,
            name="coco",
        ),
        "official": OFFICIAL.form(
            "captions_{train,val}2014.json with Karpathy's split", divisions, splits
        ),
        **TABLES.forms(divisions, OFFICIAL, splits, _restval),
        "shards": shard_form("coco", divisions),
    }


def _marked(rows: Callable[[Path, str], Iterator[Row]], path: Path, split: str) -> Iterator[Row]:
    return map(_restval, rows(path, split))


def _restval(row: Row) -> Row:
    """Return the row; a training image with val2014 in folder or name gets the split "restval"."""
    rest = row.split == "train" and "val2014" in str(row.image)
    return row._replace(split="restval") if rest else row


SPLIT = {
    "choices": TRAIN,
    "default": DEFAULT_SPLIT,
    "help": "training images: with those of val2014 that are in neither val nor test, or without "
    "them (default: %(default)s)",
}
BENCHMARK = Benchmark(
    __doc__,
    read,
    {
        "--split": SPLIT,
        "--form": form_option(forms()),
        "--split-from": SPLIT_FROM,
    },
    (
        Repository("jxie/coco_captions", ("*.parquet",)),
        Repository("openflamingo/eval_benchmark", (ON_HUB,), PICTURES),
    ),
)
