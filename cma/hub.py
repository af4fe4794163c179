"""Fetch adapters from the Hugging Face hub, describe them in a model card, and push them.

Nothing fetched is executed: `cma.checkpoints` only reads and checks a config and tensors.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import HfApi, ModelCard, errors, snapshot_download

from .backbone import HUB_ID, known_by
from .files import printable, read_json, write_whole
from .method import Method, describe

CARD = "README.md"
TEMPLATE = Path(__file__).parent / "adapter_card.md"


def fetch(source: str | Path, files: Sequence[str], revision: str | None = None) -> Path:
    """Return an adapter's folder: `source` itself, or the cached `files` of the hub's "user/name".

    Raises FileNotFoundError if `source` is neither, OSError in one line if the files cannot be
    fetched. A file that the repository lacks only raises an error when it is read.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not (isinstance(source, str) and HUB_ID.fullmatch(source)):
        raise FileNotFoundError(
            f"{source}: no such folder; expected one of save_adapter, or 'user/name'"
        )
    snapshot = partial(snapshot_download, source, revision=revision, allow_patterns=[*files])
    with suppress(OSError, ValueError):  # files in the cache need no request
        folder = Path(snapshot(local_files_only=True))
    if not all((folder / file).is_file() for file in files):
        try:
            with _on_hub(source, revision):
                folder = Path(snapshot())
        except OSError as error:
            raise OSError(f"{error}; here is no folder of that name") from error.__cause__
    return folder


def card_of(method: Method, backbone: dict, record: Any, license: str, source: str) -> str:
    """Return an adapter's card (see `RetrievalModel.save_adapter`); `source`: hub id or folder."""
    own = (*describe(method), known_by(backbone))
    try:
        if isinstance(record, str | Path):
            path = Path(record).expanduser()
            record = read_json(path / "run.json" if path.is_dir() else path, dict)
        about = record if isinstance(record, dict | None) else json.loads(record.to_json())
        if about:
            trained = (about["method"], about["adapter"], known_by(about["backbone"]))
            if (
                trained != own or not about["selected_epoch"]
            ):  # without an epoch, it was not training
                raise ValueError(
                    f"of {str(trained)[:300]} after epoch {about['selected_epoch']}, but the "
                    f"adapter is {own}"
                )
        template = jinja2.Template(TEMPLATE.read_text("utf-8"), undefined=jinja2.StrictUndefined)
        card = template.render(
            own=own,
            backbone=backbone,
            record=about,
            license=license or "unknown",
            reading=method.reading and vars(method.reading.reading()),
            strength=method.strength,
            source=source,
        )
        return str(ModelCard(card))  # checks the metadata before the text
    except (AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError) as error:
        message = printable(f"record: {error}; expected that of the run which trained the adapter")
        raise ValueError(message) from error


def write_card(folder: Path, card: str) -> None:
    """Write README.md, but keep one that somebody has written or edited (warns)."""
    if not _kept(folder / CARD, str(folder / CARD)):
        write_whole(folder / CARD, _signed(card))


def push(
    folder: Path, repo_id: str, private: bool | None, revision: str | None, message: str
) -> str:
    """Commit the files in `folder` to `repo_id`, created if needed, and return its address."""
    api = HfApi()
    with _on_hub(repo_id, revision):
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        with suppress(errors.EntryNotFoundError):
            there = api.hf_hub_download(
                repo_id, CARD, revision=revision, cache_dir=folder / "there"
            )
            if _kept(Path(there), f"{repo_id}: {CARD}"):
                (folder / CARD).unlink()
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            ignore_patterns="there/*",
        )
    return str(address)


def _signed(card: str) -> str:
    """Return the card with its digest, by which we can later see whether somebody has edited it."""
    digest = hashlib.sha256(card.encode()).hexdigest()[:12]
    return f"{card}\n<!-- By cma, {digest}: a card that somebody has edited is kept. -->\n"


def _kept(readme: Path, name: str) -> bool:
    """Return whether there is a README.md to keep (not ours, or edited); warn if there is."""
    there = readme.read_text("utf-8", "replace") if readme.is_file() else ""
    if kept := there not in ("", _signed(there.rpartition("\n<!-- ")[0])):
        warnings.warn(
            f"{name}: kept, as we did not write this text; delete it for a new card", stacklevel=4
        )
    return kept


@contextmanager
def _on_hub(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors, which differ by release, into one line that says what to do."""
    try:
        yield
    except Exception as error:
        cause = isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ or error
        why = f"not in the cache, and the hub cannot be used ({cause}); go online, or give a folder"
        if isinstance(cause, errors.GatedRepoError):
            why = "gated: ask for access on its page, then run `hf auth login`"
        elif isinstance(cause, errors.RevisionNotFoundError):
            why = f"no revision {revision!r}; expected one of its branches, tags and commits"
        elif getattr(getattr(cause, "response", None), "status_code", None) in (401, 403, 404):
            login = "run `hf auth login` with a token that may use it"
            why = f"unknown, or private: check the name, or {login}"
        raise OSError(printable(f"{repo_id}: {' '.join(why.split())}")) from error
