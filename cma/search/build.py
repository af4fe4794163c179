"""Building an index: every file of a source embedded once, in parts on disk, so that a kill costs little."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..media import MediaError, printable
from ..model import RetrievalModel
from . import store
from .embedding import IndexConfig, Known, embed_files
from .listing import MediaFile, Problem

PART_SECONDS = 30  # so much is lost at most when a build is killed


class Built(NamedTuple):
    """What `MediaIndex` is made of; letters as there."""

    media_root: Path
    files: tuple[MediaFile, ...]
    vectors: Tensor
    lengths: Tensor
    skipped: tuple[tuple[str, str], ...]


class Parts:
    """What `folder` holds of an index: a finished one, and the parts of a build that was stopped.

    A part is an index of its own, `part-000001.safetensors`. `known` are the files that need not be read
    again; what was made with another model, adapter, scale or config is left aside, and a line printed that
    says so. To be used inside `index_storage.writing`.
    """

    def __init__(self, folder: Path, model: RetrievalModel, config: IndexConfig, media_root: Path) -> None:
        self.folder = folder
        self._about = store.describe(model, config, media_root)
        self._pending, self._written = [], time.monotonic()
        self.known: Known = {}
        refused = []
        for kept in [folder / store.INDEX, *store.parts(folder)]:
            try:
                found = store.read(kept, model)
                if found["config"] != config:
                    raise ValueError(f"{kept}: built with {found['config']}, now {config} is wanted")
                self.known |= as_known(found["files"], found["vectors"], found["lengths"])
            except FileNotFoundError:  # none was finished here
                continue
            except ValueError as error:
                refused.append(str(error))
        if refused:
            print(printable(f"not taken over: {refused[0]}"))

    def add(self, file: MediaFile, vectors: Tensor) -> None:
        """Keep the embeddings [F, D] of one file; they are on disk within `PART_SECONDS`."""
        self._pending.append((file, vectors))
        if time.monotonic() - self._written >= PART_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was added since the last part, under the next name that nothing has."""
        if self._pending:
            names = (self.folder / store.PART.replace("*", f"{i:06}") for i in count(1))
            path = next(name for name in names if not name.exists())
            store.write(path, self._about, *packed(self._pending))
        self._pending, self._written = [], time.monotonic()


def build(
    model: RetrievalModel,
    found: tuple[Path, list[MediaFile], list[Problem]],
    config: IndexConfig,
    known: Known,
    folder: Path | None,
) -> Built:
    """Embed what `media.find` has found and is not `known`, or in `folder`; raises as `MediaIndex.build`."""
    root, listed, problems = found
    parts = Parts(folder, model, config, root) if folder else None
    embedded, skipped, new = [], list(problems), 0
    with model.acting(model.active, model.scale):
        read = embed_files(model, root, listed, config, known | (parts.known if parts else {}))
        try:
            for file, result, fresh in tqdm(read, "index", len(listed), unit="file", mininterval=1):
                if isinstance(result, MediaError):
                    reason = str(result).removeprefix(printable(f"{root / file.media}: "))
                    skipped.append((file.file_name, reason))
                    continue
                embedded.append((file, result))
                new += fresh
                if parts and fresh:
                    parts.add(file, result)
        except KeyboardInterrupt:
            if parts:
                parts.write()
            raise
    print(f"indexed {len(embedded):,} / {len(listed):,} files, {new:,} of them embedded now")
    for name, reason in skipped[:5]:
        print(f"  skipped {printable(name)}: {reason}")
    if len(skipped) > 5:
        print(f"  … and {len(skipped) - 5:,} more, listed in `skipped`")
    if not embedded:
        raise ValueError(f"{root}: none of its {len(listed)} files can be read ({skipped[0][1]}, …)")
    return Built(root, *packed(embedded), tuple(skipped))


def packed(embedded: Sequence[tuple[MediaFile, Tensor]]) -> tuple[tuple[MediaFile, ...], Tensor, Tensor]:
    """(files [V], their embeddings one after the other [N, D], how many each has [V])."""
    files, vectors = zip(*embedded, strict=True)
    return files, torch.cat(vectors), torch.tensor([len(one) for one in vectors])


def as_known(files: Sequence[MediaFile], vectors: Tensor, lengths: Tensor) -> Known:
    """The reverse of `packed`: every file and its embeddings [F, D], by its key."""
    rows = zip(files, vectors.split(lengths.tolist()), strict=True)
    return {file.key: (file, frames) for file, frames in rows}
