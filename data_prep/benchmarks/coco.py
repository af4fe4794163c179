"""MSCOCO: 123,287 photographs with five captions or more each, in Karpathy's split with 5,000 test
images.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import (
    SAME,
    Benchmark,
    Form,
    Row,
    find_named,
    form_option,
    read_form,
    read_rows,
)
from data_prep.benchmarks.hub import HubFile
from data_prep.benchmarks.image_files import albef_rows, find_albef, karpathy_rows
from data_prep.dataset import Annotations, Counts

HELD = {"val": Counts(5_000, 25_010), "test": Counts(5_000, 25_010)}
TRAIN = {"restval": Counts(113_287, 566_747), "no-restval": Counts(82_783, 414_113)}
DEFAULT_SPLIT = "restval"
ON_HUB = HubFile("openflamingo/eval_benchmark", "mscoco_karpathy/karpathy_coco.json", "karpathy")
NAMES = ("dataset_coco.json", "karpathy_coco.json")


def read(
    downloads: Downloads,
    split: str = DEFAULT_SPLIT,
    form: str | None = None,
    from_hub: bool = False,
) -> Annotations:
    """Read the downloaded annotations, or with `from_hub` those on the hub; `form` is a key of
    `forms()`.

    With `split` "restval", the images of val2014 that are in neither val nor test are training
    images too.
    """
    return read_form("coco", downloads, forms(split), form, ON_HUB if from_hub else None)


def forms(split: str = DEFAULT_SPLIT) -> dict[str, Form]:
    """Return the forms of MSCOCO; `split`, a key of TRAIN, chooses the training images."""
    divisions = ({"train": TRAIN[split]} | HELD,)
    splits = SAME | {"restval": "train" if split == "restval" else None}
    return {
        "karpathy": Form(
            "dataset_coco.json",
            divisions,
            partial(find_named, names=NAMES),
            partial(read_rows, karpathy_rows, splits=splits),
        ),
        "albef": Form(
            "coco_karpathy_{train,val,test}.json",
            divisions,
            partial(find_albef, name="coco"),
            partial(read_rows, _albef_rows, splits=splits),
        ),
    }


def _albef_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield ALBEF's rows; training images with val2014 in folder or name get the split "restval"."""
    for row in albef_rows(path, split):
        yield (
            row._replace(split="restval")
            if split == "train" and "val2014" in str(row.image)
            else row
        )


SPLIT = {
    "choices": TRAIN,
    "default": DEFAULT_SPLIT,
    "help": "training images: with those of val2014 that are in neither val nor test, or without them "
    "(default: %(default)s)",
}
BENCHMARK = Benchmark(
    __doc__, read, {"--split": SPLIT, "--form": form_option(forms()), "--from-hub": ON_HUB.option}
)
