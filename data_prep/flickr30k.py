"""Flickr30K: 31,014 photographs with five captions each, in Karpathy's split."""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from data_prep.annotations import Annotations, Counts
from data_prep.forms import Form, add_form_option, read_first
from data_prep.karpathy import read_named

PUBLISHED = {"train": Counts(29_000, 145_000), "val": Counts(1_014, 5_070), "test": Counts(1_000, 5_000)}
KARPATHY = "dataset_flickr30k.json"
FORMS = {"karpathy": Form(KARPATHY, PUBLISHED, partial(read_named, names=(KARPATHY,)))}


def read(source: Path, form: str | None = None) -> Annotations:
    """Read the annotations of Flickr30K from `source`."""
    return read_first("flickr30k", source, FORMS, form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    add_form_option(parser, FORMS)
    parser.set_defaults(read=lambda options: read(options.source, options.form))
