"""Flickr30K: 31,014 photographs with five captions each, in Karpathy's split."""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from data_prep.benchmarks.albef import find_albef
from data_prep.benchmarks.flickr30k_files import HUB, TOKEN, find_hub_csv, find_split_csvs, find_token
from data_prep.benchmarks.forms import Form, add_form_option, read_first
from data_prep.benchmarks.hub import HubFile, add_hub_option, read_from_hub
from data_prep.benchmarks.karpathy import find_karpathy
from data_prep.dataset import Annotations, Counts

PUBLISHED = {"train": Counts(29_000, 145_000), "val": Counts(1_014, 5_070), "test": Counts(1_000, 5_000)}
KARPATHY = "dataset_flickr30k.json"
ON_HUB = HubFile("nlphuji/flickr30k", HUB, "hub")
FORMS = {
    "karpathy": Form(KARPATHY, (PUBLISHED,), partial(find_karpathy, names=(KARPATHY,))),
    "albef": Form("flickr30k_{train,val,test}.json", (PUBLISHED,), partial(find_albef, name="flickr30k")),
    "hub": Form(HUB, (PUBLISHED,), find_hub_csv),
    "token": Form(f"{TOKEN} with ids in {{train,val,test}}.txt", (PUBLISHED,), find_token),
    "csv": Form("flickr30k_{train,val,test}_karpathy.txt", (PUBLISHED,), find_split_csvs),
}


def read(source: Path, form: str | None = None) -> Annotations:
    """Read the annotations of Flickr30K from `source`."""
    return read_first("flickr30k", source, FORMS, form)


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    add_form_option(parser, FORMS)
    add_hub_option(parser, ON_HUB)
    parser.set_defaults(read=_read)


def _read(options: Namespace) -> Annotations:
    if options.from_hub:
        return read_from_hub(ON_HUB, partial(read, form=ON_HUB.form))
    return read(options.source, options.form)
