"""Datasets on the Hugging Face hub: list what they hold, ask, and fetch it into the hub's own
cache.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils import logging

from data_prep.readers import BadInput

T = TypeVar("T")
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+", re.ASCII)
SHOWN = 10  # the most files that are listed
# what `data_prep folder` fetches
KINDS = (
    "*.parquet",
    "*.tar",
    "*.jpg",
    "*.jpeg",
    "*.png",
    "*.webp",
    "*metadata.csv",
    "*metadata.jsonl",
)


class Repository(NamedTuple):
    """A dataset on the hub: the patterns of the files to fetch, and what it lacks."""

    id: str
    files: Sequence[str]
    lacks: str = ""

    def origin(self, revision: str, commit: str) -> dict[str, str]:
        """Return the origin that `dataset.json` records."""
        return {"repository": self.id, "revision": revision, "commit": commit}


class Fetched(NamedTuple):
    """The folder of fetched files, and their origin for `dataset.json`."""

    folder: Path
    origin: dict[str, str]


def obtain(repository: Repository, revision: str = "main", yes: bool = False) -> Fetched:
    """Fetch the files of a dataset: list them with size and licence, ask unless `yes`, and
    download.

    Cached files are not fetched again, and a stopped download continues. Without a network what is
    in the cache is used. Raises `BadInput` if the answer is no, if the dataset has none of the
    files, or if it cannot be reached.
    """
    what = f"the dataset {repository.id}"
    download = partial(
        snapshot_download,
        repository.id,
        repo_type="dataset",
        revision=revision,
        allow_patterns=list(repository.files),
    )
    try:
        about = _asked(
            lambda: HfApi().dataset_info(repository.id, revision=revision, files_metadata=True),
            what,
            "fetch it where there is a network and give its folder as --source",
        )
    except BadInput as unreachable:
        try:
            kept = download(local_files_only=True)
        except OSError:
            raise unreachable from None
        print(f"{repository.id}: the hub cannot be reached; what is in its cache is used")
        return Fetched(Path(kept), repository.origin(revision, Path(kept).name))
    sizes = {
        it.rfilename: it.size or 0
        for it in about.siblings or ()
        if any(fnmatch(it.rfilename, pattern) for pattern in repository.files)
    }
    if not sizes:
        raise BadInput(
            f"{repository.id} at {about.sha}: has none of {', '.join(repository.files)}; choose "
            "another by --hub USER/NAME or --revision"
        )
    card = about.card_data
    licence = (card.get("license") if card else None) or "not said; see its page"
    total = sum(sizes.values())
    print(f"{repository.id} at {about.sha}: {len(sizes):,} files, {total / 1e6:,.1f} MB")
    print(f"  licence: {licence}")
    for name in list(sizes)[:SHOWN]:
        print(f"  {name} ({sizes[name] / 1e6:,.1f} MB)")
    if len(sizes) > SHOWN:
        print(f"  and {len(sizes) - SHOWN:,} more")
    if repository.lacks:
        print(f"  it lacks {repository.lacks}")
    if not yes and not _agreed():
        raise BadInput(f"{repository.id}: nothing was fetched; answer y, or add --yes")
    folder = _asked(
        download,
        what,
        "run the same command again: it continues from there",
    )
    return Fetched(Path(folder), repository.origin(revision, Path(folder).name))


def _agreed() -> bool:
    try:
        return input("Fetch them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # no user to answer
        return False


def _asked(ask: Callable[[], T], what: str, otherwise: str) -> T:
    """Return what the hub answers; its client's errors become `BadInput` in one line."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # otherwise each retry prints a line
    try:
        return ask()
    except Exception as error:  # the client's errors differ from release to release
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"{what} on the hub cannot be downloaded ({reason}); connect to the internet, or "
            f"{otherwise}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
