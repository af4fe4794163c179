"""MSCOCO: 123,287 photographs with five captions or more each, in Karpathy's split with 5,000 test images."""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from data_prep.benchmarks.albef import find_albef
from data_prep.benchmarks.forms import Form, add_form_option, read_first
from data_prep.benchmarks.hub import HubFile, add_hub_option, read_from_hub
from data_prep.benchmarks.karpathy import SAME, find_karpathy
from data_prep.dataset import Annotations, Counts

HELD = {"val": Counts(5_000, 25_010), "test": Counts(5_000, 25_010)}
TRAIN = {"restval": Counts(113_287, 566_747), "no-restval": Counts(82_783, 414_113)}
DEFAULT_SPLIT = "restval"
ON_HUB = HubFile("openflamingo/eval_benchmark", "mscoco_karpathy/karpathy_coco.json", "karpathy")
NAMES = ("dataset_coco.json", "karpathy_coco.json")


def forms(split: str = DEFAULT_SPLIT) -> dict[str, Form]:
    """The forms of MSCOCO, with the training images that `split`, a key of TRAIN, says."""
    divisions = ({"train": TRAIN[split]} | HELD,)
    restval = "train" if split == "restval" else None
    keep = None if restval else _is_no_restval
    named = partial(find_karpathy, names=NAMES, splits=SAME | {"restval": restval})
    return {
        "karpathy": Form("dataset_coco.json", divisions, named),
        "albef": Form(
            "coco_karpathy_{train,val,test}.json", divisions, partial(find_albef, name="coco", keep=keep)
        ),
    }


def read(source: Path, split: str = DEFAULT_SPLIT, form: str | None = None) -> Annotations:
    """Read MSCOCO's annotations from `source`; "restval" trains on the rest of the validation images too."""
    return read_first("coco", source, forms(split), form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    parser.add_argument(
        "--split",
        choices=TRAIN,
        default=DEFAULT_SPLIT,
        help="training images: with those of val2014 that are in neither val nor test, or without them "
        "(default: %(default)s)",
    )
    add_form_option(parser, forms())
    add_hub_option(parser, ON_HUB)
    parser.set_defaults(read=_read)


def _read(options: Namespace) -> Annotations:
    if options.from_hub:
        return read_from_hub(ON_HUB, partial(read, split=options.split, form=ON_HUB.form))
    return read(options.source, options.split, options.form)


def _is_no_restval(file: str, split: str) -> bool:
    """Whether an image is no validation image used for training, told by its folder or its name."""
    return split != "train" or "val2014" not in file
