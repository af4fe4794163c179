"""Annotation files from the Hugging Face hub, kept in the hub's own cache; images are not
downloaded.
"""

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.utils import logging

from data_prep.readers import BadInput


class HubFile(NamedTuple):
    """A file of a dataset on the hub, and the form (`--form`) in which it is read."""

    repo: str
    name: str
    form: str

    @property
    def option(self) -> dict:
        """The settings of the option `--from-hub`."""
        text = f"download the annotations: {self.name} of the dataset {self.repo} on the Hugging Face hub"
        return {"action": "store_true", "help": text}


def fetch(file: HubFile) -> Path:
    """Return the path of the file in the hub's cache; download it if it is not there yet.

    Raises `BadInput` that says what to do if it cannot be downloaded.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # otherwise each retry prints a line
    try:
        return _cached(file) or Path(hf_hub_download(file.repo, file.name, repo_type="dataset"))
    except Exception as error:  # the client's errors differ from release to release
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{file.name} of the dataset {file.repo} on the hub cannot be downloaded ({reason}); connect to "
            "the internet, or put the annotation file into --source and leave out --from-hub"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _cached(file: HubFile) -> Path | None:
    try:
        return Path(
            hf_hub_download(file.repo, file.name, repo_type="dataset", local_files_only=True)
        )
    except OSError:
        return None
