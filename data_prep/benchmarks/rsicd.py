"""RSICD: 10,921 remote sensing pictures with five captions each, 1,093 of them for the test."""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from data_prep.benchmarks.forms import Form, add_form_option, read_first
from data_prep.benchmarks.json_lines import find_json_lines
from data_prep.benchmarks.remote_sensing import remote_sensing_forms
from data_prep.dataset import Annotations, Counts

TEST = {"test": Counts(1_093, 5_465)}
DIVISIONS = {
    "official": {"train": Counts(8_734, 43_670), "val": Counts(1_094, 5_470)} | TEST,
    "re-split": {"train": Counts(7_862, 39_310), "val": Counts(1_966, 9_830)} | TEST,
    "without val": {"train": Counts(9_828, 49_140)} | TEST,  # its images are in train
}
FORMS = remote_sensing_forms("rsicd", "dataset_rsicd.json", DIVISIONS)
FORMS["jsonl"] = Form(
    "{train,valid,test}_rsicd.jsonl", tuple(DIVISIONS.values()), partial(find_json_lines, name="rsicd")
)


def read(source: Path, form: str | None = None) -> Annotations:
    """Read the annotations of RSICD from `source`."""
    return read_first("rsicd", source, FORMS, form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    add_form_option(parser, FORMS)
    parser.set_defaults(read=lambda options: read(options.source, options.form))
