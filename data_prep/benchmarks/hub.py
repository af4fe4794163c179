"""Annotation files from the Hugging Face hub, kept in its own cache; the pictures stay yours to obtain."""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.utils import logging

from data_prep.dataset import Annotations
from data_prep.readers import BadInput


class HubFile(NamedTuple):
    """A file of a data set on the hub, and the form (`--form`) that it has."""

    repo: str
    name: str
    form: str


def add_hub_option(parser: ArgumentParser, file: HubFile) -> None:
    """`--from-hub`: read the annotations from the hub; pictures are looked for under `--source` as ever."""
    parser.add_argument(
        "--from-hub",
        action="store_true",
        help=f"fetch the annotations: {file.name} of the hub's data set {file.repo}",
    )


def read_from_hub(file: HubFile, read: Callable[[Path], Annotations]) -> Annotations:
    """What `read` reads in the folder of the fetched file, which is named as the annotation file."""
    return replace(read(fetch(file).parent), files=[f"{file.repo}: {file.name}"])


def fetch(file: HubFile) -> Path:
    """The file in the hub's cache, fetched unless it is there; `BadInput` says what to do where it cannot be.

    Under its folder there lie only files of the same data set.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # each of its retries would be a line
    try:
        return _cached(file) or Path(hf_hub_download(file.repo, file.name, repo_type="dataset"))
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{file.name} of the hub's data set {file.repo} cannot be fetched ({reason}); connect to a "
            "network, or put the annotation file into --source and leave out --from-hub"
        ) from None
    finally:
        logging.set_verbosity(verbosity)


def _cached(file: HubFile) -> Path | None:
    try:
        return Path(hf_hub_download(file.repo, file.name, repo_type="dataset", local_files_only=True))
    except OSError:
        return None
