"""Flickr30K: 31,014 photographs with five captions each, in Karpathy's split."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.annotations import Annotations, Counts
from data_prep.karpathy import read_karpathy
from data_prep.readers import require_file

PROTOCOL = {"query": "caption", "visual_to_text": "captions"}
PUBLISHED = {"train": Counts(29_000, 145_000), "val": Counts(1_014, 5_070), "test": Counts(1_000, 5_000)}


def read(source: Path) -> Annotations:
    """Read `dataset_flickr30k.json` from `source`."""
    path = require_file(source, ("dataset_flickr30k.json",))
    entries, notes = read_karpathy(path)
    return Annotations("flickr30k", "image", PROTOCOL, PUBLISHED, entries, "flickr30k", [path.name], notes)


def add_options(parser: ArgumentParser) -> None:
    """Flickr30K has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))
