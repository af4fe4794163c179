"""What holds the items of an index, and the one that is a folder of segments.

The segments never change, and `index.json`, which lists them, is replaced whole. Opening it
compares `index.json` with its digest. A tensor is compared with its digest when it is first used
(about a second for two gigabytes), so a million items open at once, and damaged data is never used
in an answer. Adding items writes a segment; an item is deleted when `index.json` no longer lists
its row.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Protocol

import torch
from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter
from torch import Tensor

from cma.files import parse_json, read_json, write_whole

from .listing import EVERYWHERE, MediaFile, Name, Problem, Where
from .segment import LARGE, SEGMENT, Segment, digest_of, spread
from .weights import Header

INDEX, LOCK, SEGMENTS = "index.json", ".index.lock", SEGMENT.format("[0-9a-f]" * 16)
FORMAT_VERSION = 6  # 5 was one file, `index.safetensors`
FULL = 2**17  # frames of a joined segment; joining needs twice the memory that they take
# kept, since torch starts threads for each new one
THREADS = ThreadPoolExecutor(os.cpu_count(), "search")
logger = logging.getLogger("cma.index")

Item = tuple[MediaFile, Tensor]  # a file and the embeddings [F, D] of its frames


class Store(Sized, Protocol):
    """The V items of an index, by their numbers from 0: `Segments`, or `lance.Table`.

    It stays as it is; `now` gives the newest. `whole`: whether all items are ranked, not only the
    nearest.
    """

    header: Header
    media_root: Path
    skipped: tuple[Problem, ...]  # (name, reason) of what could not be read
    whole: bool

    def now(self) -> Store:
        """What other processes have made of it meanwhile; itself if nothing."""

    def add(self, items: Sequence[Item]) -> Sized:
        """Keep new items, and return a part that holds them."""

    def files(self, items: Tensor) -> list[MediaFile]:
        """The files of some items."""

    def frames(self, items: Tensor) -> Tensor:
        """The embeddings [N, D] of all frames of some items, item by item, in float32."""

    def lengths(self, items: Tensor) -> Tensor:
        """The numbers of their frames."""

    def column(self, name: str, items: Tensor | None = None) -> Tensor:
        """One number of `segment.COLUMNS` for each of some items (None: of all)."""

    def nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        """Of the items that are `where`, the `count` whose means are nearest to a unit vector [D].

        Returns their numbers, ascending, and their cosines.
        """


@dataclass(frozen=True, eq=False, repr=False)
class Segments:
    """Items in `segments`, in memory or in `folder`, in the order of `order` [V]: each item's row,
    counted through all of them.

    What is added is in half precision if `half`.
    """

    header: Header
    media_root: Path
    segments: tuple[Segment, ...]
    order: Tensor
    skipped: tuple[Problem, ...] = ()
    folder: Path | None = None
    half: bool = False
    _columns: dict[str, Tensor] = field(default_factory=dict, init=False)
    _inside: dict[Where, Tensor] = field(default_factory=dict, init=False)  # of the last question

    def __len__(self) -> int:
        return len(self.order)

    @property
    def whole(self) -> bool:
        return len(self) < LARGE

    def now(self) -> Segments:
        return self

    def add(self, items: Sequence[Item]) -> Segment:
        files, vectors = zip(*items, strict=True)
        lengths = torch.tensor([len(frames) for frames in vectors])
        segment = Segment.of(files, torch.cat(vectors), lengths, self.half)
        return segment.write(self.folder, as_json(self.header)) if self.folder else segment

    def files(self, items: Tensor) -> list[MediaFile]:
        owners, rows = self._places(items)
        pairs = zip(owners.tolist(), rows.tolist(), strict=True)
        return [self.segments[owner].file(row) for owner, row in pairs]

    def _places(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The number of each item's segment, and its row there."""
        owners = self.owners[items]
        return owners, self.order[items] - self.starts[owners]

    def lengths(self, items: Tensor) -> Tensor:
        return self.column("lengths", items).long()

    def column(self, name: str, items: Tensor | None = None) -> Tensor:
        if name not in self._columns:
            whole = torch.cat([segment[name] for segment in self.segments])
            self._columns[name] = whole[self.order]
        found = self._columns[name]
        return found if items is None else found[items]

    def frames(self, items: Tensor) -> Tensor:
        owners, rows = self._places(items)
        lengths = self.lengths(items)
        places = lengths.cumsum(0) - lengths
        gathered = torch.empty(int(lengths.sum()), self.segments[0]["vectors"].shape[1])
        for number in owners.unique().tolist():
            own = owners == number
            gathered[spread(places[own], lengths[own])] = self.segments[number].frames(rows[own])
        return gathered

    def nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        everywhere = where == EVERYWHERE
        rows = sum(map(len, self.segments))
        # rows of deleted items may be among the nearest, and so may all that are elsewhere
        most = count + rows - len(self) if everywhere else rows
        found = THREADS.map(lambda part: part.cosines(vector, most), self.segments)
        # a slice copies nothing; with a million items, numbers would take a tenth of the time
        items = slice(None) if everywhere else self.inside(where)
        cosines = torch.cat(list(found))[self.order][items]
        best = cosines.topk(min(count, len(cosines))).indices.sort().values
        return best if everywhere else items[best], cosines[best]

    def inside(self, where: Where) -> Tensor:
        """The numbers of the items that are `where`, ascending."""
        found = self._inside.get(where)
        if found is None:
            inside = torch.cat([part.inside(where) for part in self.segments])
            found = inside[self.order].nonzero().flatten()
            self._inside.clear()
            self._inside[where] = found
        return found

    @cached_property
    def starts(self) -> Tensor:
        """The first row of each segment."""
        sizes = torch.tensor([len(segment) for segment in self.segments])
        return sizes.cumsum(0) - sizes

    @cached_property
    def owners(self) -> Tensor:
        """The number of each item's segment [V]."""
        return torch.bucketize(self.order, self.starts, right=True) - 1


def integers(numbers: Sequence[int]) -> Tensor:
    """Whole numbers as a tensor, also if there are none."""
    return torch.tensor(numbers, dtype=torch.long)


class Files(Sequence):
    """The files of an index, item by item; each is parsed when it is accessed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, item: int | slice) -> MediaFile | list[MediaFile]:
        chosen = range(len(self))[item]
        if isinstance(item, slice):
            return self._store.files(integers(chosen))
        return self._store.files(integers([chosen]))[0]

    def __iter__(self) -> Iterator[MediaFile]:
        for items in torch.arange(len(self)).split(FULL):
            yield from self._store.files(items)


@dataclass(frozen=True)
class Manifest:
    """The content of `index.json`: names of segments, and `order` as runs of (first row, last row +
    1).
    """

    header: Header
    media_root: Name
    skipped: tuple[Problem, ...]
    segments: tuple[Annotated[str, Field(pattern=f"^{SEGMENT.format('[0-9a-f]{16}')}$")], ...]
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
    if folder.is_file():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    folder.mkdir(parents=True, exist_ok=True)
    if (others := sorted(folder.glob("[!.]*"))) and not any(folder.glob(SEGMENTS)):
        found = f"holds no index of this version but other things ({others[0].name!r}, …)"
        raise ValueError(f"{folder}: {found}; delete them if they are an older index, or {advice}")
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        logger.info(f"{folder}: another process is writing this index; waiting until it ends")
        held = lock.acquire()
    with held:
        yield


def written(folder: Path) -> list[Path]:
    """The paths of the segments in `folder`, oldest first, including those of stopped builds."""
    return sorted(folder.glob(SEGMENTS), key=lambda path: path.stat().st_mtime_ns)


def publish(folder: Path, index: Segments) -> None:
    """Write `index.json` for `index`, whose segments are in `folder`, and delete all other segments
    there.

    A kill at any moment leaves the old index or the new one. Call it inside `writing`.
    """
    names = tuple(segment.path.name for segment in index.segments)
    ends = (index.order.diff() != 1).nonzero().flatten() + 1
    runs = tuple((int(run[0]), int(run[-1]) + 1) for run in index.order.tensor_split(ends))
    root = str(index.media_root)
    text = as_json(Manifest(index.header, root, index.skipped, names, runs, FORMAT_VERSION))
    write_whole(folder / INDEX, json.dumps([digest_of([], text), text]))
    # and what a kill has left behind
    left = [*folder.glob(".segment-*.tmp"), *folder.glob(f".{INDEX}.*.tmp")]
    for path in [*written(folder), *left]:
        if path.name not in names:
            # on Windows, while it is mapped; the next build deletes it
            with suppress(PermissionError):
                path.unlink()


def joined(folder: Path, index: Store, least: float = math.inf, codes: bool = False) -> Segments:
    """Return the same index in segments in `folder`: those of fewer than `least` frames, and what
    is no segment there, are rewritten into new ones.

    Segments with half or more of their rows unused are rewritten too. The new segments have "codes"
    if `codes` is true.
    """
    order = torch.zeros(len(index), dtype=torch.long)
    moving = torch.ones(len(index), dtype=torch.bool)
    segments = []
    rows = 0
    for number, part in enumerate(getattr(index, "segments", ())):
        own = index.owners == number
        here = part.path and part.path.parent == folder
        if here and len(part["vectors"]) >= least and 2 * int(own.sum()) > len(part):
            order[own] = index.order[own] - index.starts[number] + rows
            moving &= ~own
            rows += len(part)
            segments.append(part)
    half = len(index) >= LARGE
    lengths = index.lengths(torch.arange(len(index)))
    at_once = max(1, FULL * len(index) // int(lengths.sum()))
    for items in moving.nonzero().flatten().split(at_once) if moving.any() else ():
        new = Segment.of(index.files(items), index.frames(items), lengths[items], half)
        segments.append((new.with_codes() if codes else new).write(folder, as_json(index.header)))
        order[items] = torch.arange(rows, rows + len(items))
        rows += len(items)
    root = index.media_root
    return Segments(index.header, root, tuple(segments), order, index.skipped, folder)


def read(folder: Path) -> Segments:
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
    rows = sum(map(len, segments))
    listed = sum(last - first for first, last in manifest.runs)
    sound = all(0 <= first < last <= rows for first, last in manifest.runs)
    if not sound or not 0 < listed <= rows:
        raise ValueError(f"{path}: its 'runs' do not fit the {rows:,} rows of its segments{hint}")
    order = torch.cat([torch.arange(*run) for run in manifest.runs])
    root = Path(manifest.media_root)
    return Segments(manifest.header, root, segments, order, manifest.skipped, folder)
