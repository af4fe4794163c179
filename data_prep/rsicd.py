"""RSICD: 10,921 remote sensing pictures with five captions each, 1,093 of them for the test."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.annotations import Annotations, Counts
from data_prep.forms import add_form_option, read_first
from data_prep.remote_sensing import remote_sensing_forms

OFFICIAL = {"train": Counts(8_734, 43_670), "val": Counts(1_094, 5_470), "test": Counts(1_093, 5_465)}
RESPLIT = {"train": Counts(7_862, 39_310), "val": Counts(1_966, 9_830), "test": Counts(1_093, 5_465)}
FORMS = remote_sensing_forms("rsicd", "dataset_rsicd.json", OFFICIAL, RESPLIT)


def read(source: Path, form: str | None = None) -> Annotations:
    """Read the annotations of RSICD from `source`."""
    return read_first("rsicd", source, FORMS, form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    add_form_option(parser, FORMS)
    parser.set_defaults(read=lambda options: read(options.source, options.form))
