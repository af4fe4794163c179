"""RSITMD: 4,743 remote sensing pictures with five captions each, 452 of them for the test."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.benchmarks.forms import add_form_option, read_first
from data_prep.benchmarks.remote_sensing import remote_sensing_forms
from data_prep.dataset import Annotations, Counts

TEST = {"test": Counts(452, 2_260)}
DIVISIONS = {
    "official": {"train": Counts(4_291, 21_455)} | TEST,  # it has no val split
    "re-split": {"train": Counts(3_435, 17_175), "val": Counts(856, 4_280)} | TEST,
    "re-split at 80 %": {"train": Counts(3_432, 17_160), "val": Counts(859, 4_295)}
    | TEST,  # AMFMN's code draws it
}
FORMS = remote_sensing_forms("rsitmd", "dataset_RSITMD.json", DIVISIONS)


def read(source: Path, form: str | None = None) -> Annotations:
    """Read the annotations of RSITMD from `source`."""
    return read_first("rsitmd", source, FORMS, form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    add_form_option(parser, FORMS)
    parser.set_defaults(read=lambda options: read(options.source, options.form))
