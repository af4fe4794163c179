"""An index on disk: segments that never change, and `index.json`, which lists them and is replaced
whole.

Opening it compares `index.json` with its digest. A tensor is compared with its digest when it is
first used (about a second for two gigabytes), so a million items open at once, and damaged data is
never used in an answer. Adding items writes a segment; an item is deleted when `index.json` no
longer lists its row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from torch import Tensor

from ..config import ReadConfig
from ..files import parse_json, read_json, write_whole
from .listing import MediaFile, Name, Problem
from .segment import LARGE, SEGMENT, Segment, digest_of, spread
from .weights import Header

INDEX, LOCK, SEGMENTS = "index.json", ".index.lock", SEGMENT.format("[0-9a-f]" * 16)
FORMAT_VERSION = 6  # 5 was one file, `index.safetensors`
FULL = 2**17  # frames of a joined segment; joining needs twice the memory that they take


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """The content of an index: `segments`, and `order` [V], each item's row, counted through all of
    them.

    `skipped` lists (name, reason) of what could not be read.
    """

    header: Header
    media_root: Path
    segments: tuple[Segment, ...]
    order: Tensor
    skipped: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.order)

    @property
    def config(self) -> ReadConfig:
        return self.header.config

    @cached_property
    def files(self) -> Files:
        """The files, item by item [V]; each is parsed when it is accessed."""
        return Files(self)

    @cached_property
    def lengths(self) -> Tensor:
        """The number of each item's frames [V]."""
        return self.column("lengths").long()

    def column(self, name: str) -> Tensor:
        """One number for each item [V]: "lengths", or one of `segment.COLUMNS`."""
        return torch.cat([segment[name] for segment in self.segments])[self.order]

    def gather(self, items: Tensor) -> Tensor:
        """The embeddings [N, D] of all frames of some items, item by item, in float32."""
        owners, lengths = self.owners[items], self.lengths[items]
        rows, places = self.order[items] - self.starts[owners], lengths.cumsum(0) - lengths
        gathered = torch.empty(int(lengths.sum()), self.segments[0]["vectors"].shape[1])
        for number in owners.unique().tolist():
            own = owners == number
            gathered[spread(places[own], lengths[own])] = self.segments[number].frames(rows[own])
        return gathered

    @cached_property
    def starts(self) -> Tensor:
        """The first row of each segment."""
        sizes = torch.tensor([len(segment) for segment in self.segments])
        return sizes.cumsum(0) - sizes

    @cached_property
    def owners(self) -> Tensor:
        """The number of each item's segment [V]."""
        return torch.bucketize(self.order, self.starts, right=True) - 1


class Files(Sequence):
    """The files of an index, item by item; each is parsed when it is accessed."""

    def __init__(self, index: Embedded) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, item: int | slice) -> MediaFile | list[MediaFile]:
        if isinstance(item, slice):
            return [self[one] for one in range(len(self))[item]]
        owner = int(self._index.owners[item])
        return self._index.segments[owner].file(
            int(self._index.order[item] - self._index.starts[owner])
        )


@dataclass(frozen=True)
class Manifest:
    """The content of `index.json`: names of segments, and `order` as runs of (first row, last row +
    1).
    """

    header: Header
    media_root: Name
    skipped: tuple[Problem, ...]
    segments: tuple[str, ...]
    runs: tuple[tuple[int, int], ...]
    format_version: Literal[FORMAT_VERSION]


def as_json(record: Header | Manifest) -> str:
    return TypeAdapter(type(record)).dump_json(record).decode()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock `folder`, which is created if needed, to write an index into it; waits for other
    writers.

    Raises ValueError if it is a file, or holds other things and no index; hidden files do not
    count.
    """
    advice = "give the index a folder of its own"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    folder.mkdir(parents=True, exist_ok=True)
    if (others := sorted(folder.glob("[!.]*"))) and not any(folder.glob(SEGMENTS)):
        found = f"holds no index of this version but other things ({others[0].name!r}, …)"
        raise ValueError(f"{folder}: {found}; delete them if they are an older index, or {advice}")
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is writing this index; waiting until it ends")
        held = lock.acquire()
    with held:
        yield


def written(folder: Path) -> list[Path]:
    """The paths of the segments in `folder`, oldest first, including those of stopped builds."""
    return sorted(folder.glob(SEGMENTS), key=lambda path: path.stat().st_mtime_ns)


def publish(folder: Path, index: Embedded) -> None:
    """Write `index.json` for `index`, whose segments are in `folder`, and delete all other segments
    there.

    A kill at any moment leaves the old index or the new one. Call it inside `writing`.
    """
    names, order = tuple(segment.path.name for segment in index.segments), index.order
    first, after = order.diff(prepend=order[:1] - 2) != 1, order.diff(append=order[-1:] + 2) != 1
    runs = tuple(zip(order[first].tolist(), (order[after] + 1).tolist(), strict=True))
    manifest = Manifest(
        index.header, str(index.media_root), index.skipped, names, runs, FORMAT_VERSION
    )
    write_whole(folder / INDEX, json.dumps([digest_of([], text := as_json(manifest)), text]))
    # and what a kill has left behind
    for path in [*written(folder), *folder.glob(".segment-*.tmp")]:
        with suppress(PermissionError):  # on Windows, while it is mapped; the next build deletes it
            path.name in names or path.unlink()


def joined(folder: Path, index: Embedded, least: float = math.inf, codes: bool = False) -> Embedded:
    """Return the same index, with segments of fewer than `least` frames rewritten into new ones in
    `folder`.

    Segments with half or more of their rows unused, or that lie outside `folder`, are rewritten
    too. The new segments have "codes" if `codes` is true.
    """
    used = torch.bincount(index.owners, minlength=len(index.segments)).tolist()
    order, rows, segments, moving = index.order.clone(), 0, [], index.order >= 0
    for number, part in enumerate(index.segments):
        here = part.path and part.path.parent == folder
        if here and len(part["vectors"]) >= least and 2 * used[number] > len(part):
            own = index.owners == number
            order[own] += rows - index.starts[number]
            moving &= ~own
            rows += len(part)
            segments.append(part)
    at_once = max(1, FULL * len(index) // int(index.lengths.sum()))
    for items in moving.nonzero().flatten().split(at_once) if moving.any() else ():
        files = [index.files[item] for item in items.tolist()]
        new = Segment.of(files, index.gather(items), index.lengths[items], len(index) >= LARGE)
        segments.append((new.with_codes() if codes else new).write(folder, as_json(index.header)))
        order[items] = torch.arange(rows, rows := rows + len(items))
    return replace(index, segments=tuple(segments), order=order)


def read(folder: Path) -> Embedded:
    """Open the index in `folder`; its tensors stay in their files.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged or of another
    format.
    """
    path, hint = folder / INDEX, "; build the index again"
    digest, text = read_json(path, tuple[str, str], hint)
    if digest_of([], text) != digest:
        raise ValueError(f"{path}: its content does not have its digest{hint}")
    manifest = parse_json(text, Manifest, str(path), hint)
    try:
        segments = tuple(Segment.open(folder / name) for name in manifest.segments)
    except FileNotFoundError as error:
        # another process has just replaced the index
        if read_json(path, tuple[str, str], hint)[0] != digest:
            return read(folder)
        raise ValueError(f"{path}: a segment is not there ({error}){hint}") from error
    order = torch.cat([torch.arange(*run) for run in manifest.runs])
    return Embedded(manifest.header, Path(manifest.media_root), segments, order, manifest.skipped)
