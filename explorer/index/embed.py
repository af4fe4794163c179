"""Embed every file of a source once, and save batch by batch, so that a kill loses little."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cma import media
from cma.data import RetrievalDataset
from cma.files import printable
from cma.media import MediaError, to_pixels
from cma.model import RetrievalModel

from . import listing, moments
from .copies import picture_hash
from .listing import MediaFile, Problem
from .moments import IndexConfig
from .table import MEMORY, StorageError, Table, address, writing
from .weights import Header

BATCH_SECONDS = 30  # a build that is killed loses at most the work of this many seconds,
SHARE = 0.2  # or this share of the time since it began, but at least a second
# files read at once, and between two turns of others; most and fewest frames that a core embeds at
# once
FILES, POLITE, FRAMES, FEW = 32, 8, 128, 4
logger = logging.getLogger("explorer.index")

Source = RetrievalDataset | str | Path
# the result of reading a file: pixels [F, 3, H, W], an error, or None if we have its embeddings
Read: TypeAlias = Tensor | MediaError | None
# within which a batch is embedded, so that others may use the model between two batches
WhenIdle = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Step:
    """How far a build is: the table as it was last written, and `done` of `total` files."""

    table: Table
    done: int
    total: int


def grow(
    model: RetrievalModel,
    source: Source,
    header: Header,
    uri: str | Path | None,
    shard: tuple[int, int] = (0, 1),
    shared: bool = False,
    max_files: int | None = None,
    when_idle: WhenIdle | None = None,
) -> Generator[Step]:
    """List the files of a source, update the table at an address, and yield how far this is after
    every file; see `MediaIndex.build`.

    A `shared` table is never replaced. With `when_idle` the newest files come first, and the model
    is held only within it, otherwise until the end.
    """
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard={shard!r}: expected (number, how many), from (0, {count}) on")
    root, files, problems = found(source, max_files)
    uri = address(uri)
    with writing(uri, shard):
        building = Building(model, Table.new(uri, header, root), root, when_idle)
        if uri != MEMORY:
            building.take_over(shared, whole=count == 1)
        own = files[number::count]
        if when_idle:
            own.sort(key=lambda file: -modified(root / file.media))
        # a moment belongs to the shard of its clip
        others = {file.key for file in files} - {file.key for file in own}
        step = Step(building.table.now(), 0, len(own))
        yield step
        for done, written in building.run(own, () if number else problems, others, shard):
            step = Step(building.table.now() if written else step.table, done, len(own))
            yield step
        yield Step(building.table.now(), len(own), len(own))


def found(source: Source, max_files: int | None) -> tuple[Path, list[MediaFile], Sequence[Problem]]:
    """Return what `listing.find` does, each key once, and at most `max_files`, evenly spread."""
    root, files, problems = listing.find(source)
    files = list({file.key: file for file in files}.values())
    return root, [files[place] for place in spread(len(files), max_files)], problems


def modified(path: Path) -> int:
    """Return when a file was last changed (ns); 0 if that cannot be read."""
    try:
        return media.stamp(path).modified
    except (OSError, ValueError):
        return 0


def spread(count: int, at_most: int | None) -> list[int]:
    """Return the places of at most `at_most` of `count` things, evenly spread."""
    some = count if at_most is None else min(count, at_most)
    return [number * count // some for number in range(some)]


class Building:
    """One build of an index: the files `known` from the `table`, and those that it adds.

    `kept` has the keys of the items in the source.
    """

    def __init__(
        self, model: RetrievalModel, table: Table, root: Path, when_idle: WhenIdle | None = None
    ) -> None:
        self.model = model
        self.when_idle = when_idle
        self.table = table
        self.config = table.header.config
        self.root = root
        # `MediaFile.part` → a file with that part, and its row
        self.known: dict[str, tuple[MediaFile, int]] = {}
        self.keys: dict[str, MediaFile] = {}  # of all rows
        self.kept: set[str] = set()
        # items not written yet, with their embeddings, or the rows that have these
        self._new: list[tuple[MediaFile, Tensor | int]] = []
        self._begun = self._written = time.monotonic()

    def take_over(self, shared: bool, whole: bool) -> None:
        """Use the undamaged parts of a table of the same model, adapter, scale and config.

        Refuses (ValueError, OSError) a `shared` table of another model, and a damaged one unless
        this process reads all files (`whole`).
        """
        uri, header = self.table.uri, self.table.header
        try:
            there = Table.open(uri)
        except FileNotFoundError:
            return
        try:
            there.header.check(uri, header)
        except ValueError as error:
            if shared:
                raise
            logger.info(f"not taken over: {printable(str(error))}")
            return
        try:
            self._know(there)
        except (OSError, ValueError) as error:
            if not whole:
                raise
            logger.info(f"not taken over: {printable(str(error))}")
            there = there.mended(self.root)
            self._know(there)
        if whole and there.media_root != self.root:
            there = there.mended(self.root)
            self._know(there)
        self.table = there

    def _know(self, table: Table) -> None:
        self.known, self.keys = {}, {}
        for file, row in table.known():
            self.known[file.part] = (file, row)
            self.keys[file.key] = file

    def run(
        self,
        files: Sequence[MediaFile],
        problems: Sequence[Problem],
        others: set[str],
        shard: tuple[int, int],
    ) -> Generator[tuple[int, bool]]:
        """Embed the files that are not `known`; skip, count and log those that cannot be read.

        `problems` are those of listing. Deletes items that are neither in a file nor among the keys
        of `others`. Yields how many files are done, and whether some were just written. Raises
        ValueError if no file can be read.
        """
        skipped = dict(problems)
        if files:
            yield from self._embed_all(files, skipped)
        gone = [
            key
            for key, file in self.keys.items()
            if key not in self.kept and listed(file).key not in others
        ]
        self.table.delete(gone)
        self.table.skip(tuple(skipped.items()), shard)
        try:
            self.table.tidy()
        except StorageError:
            if shard == (0, 1):
                raise
            logger.info(
                f"{self.table.uri}: other processes write there; a later build will tidy it"
            )

    def _embed_all(
        self, files: Sequence[MediaFile], skipped: dict[str, str]
    ) -> Generator[tuple[int, bool]]:
        embedded: set[int] = set()
        unread: set[int] = set()
        bar = tqdm(desc="index", total=len(files), unit="file", mininterval=1)
        reading = closing(self._embed_files(files))
        with ExitStack() as stack:
            if not self.when_idle:
                stack.enter_context(self.model.using(self.model.active, self.model.scale))
            stack.enter_context(bar)
            read = stack.enter_context(reading)
            try:
                for number, file, result in read:
                    bar.update(number + 1 - bar.n)
                    if isinstance(result, MediaError):
                        reason = str(result).removeprefix(printable(f"{self.root / file.media}: "))
                        skipped[file.file_name] = reason
                        unread.add(number)
                        continue
                    if result is not None:
                        embedded.add(number)
                    self._keep(file, result)
                    if due := self._due():
                        self._write()
                    yield number + 1, due
            finally:  # even after KeyboardInterrupt, so that nothing embedded is lost
                self._write()
        # it may be unplugged; it may also be a shard
        top = self.root.joinpath(*Path(files[0].media).parts[:-1][:1])
        if not top.exists():
            raise FileNotFoundError(f"{top}: gone while being read; bring it back and start again")
        there, items = len(files) - len(unread), len(self.kept)
        parts = f", {items:,} items with moments" if items > there else ""
        counts = f"{there:,} / {len(files):,} files, {len(embedded):,} of them embedded now"
        logger.info(f"indexed {counts}{parts}")
        for name, reason in list(skipped.items())[:5]:
            logger.info(f"  skipped {printable(name)}: {reason}")
        if len(skipped) > 5:
            logger.info(f"  … and {len(skipped) - 5:,} more, listed in `skipped`")
        if not self.kept:
            reason = next(iter(skipped.values()))
            raise ValueError(
                f"{self.root}: none of its {len(files)} files can be read ({reason}, …)"
            )

    def _due(self) -> bool:
        """Whether to write what was embedded; often at first, since others may look at it."""
        now = time.monotonic()
        wait = min(BATCH_SECONDS, max(1, SHARE * (now - self._begun)))
        return now - self._written >= wait

    def _keep(self, file: MediaFile, vectors: Tensor | None) -> None:
        """Note that an item exists; queue it for writing if it is new or has changed."""
        if vectors is not None:
            self._new.append((file, vectors))
        elif file != self.keys.get(file.key):
            self._new.append((file, self.known[file.part][1]))
        self.kept.add(file.key)

    def _write(self) -> None:
        """Write the items that were embedded since the last call, if there are any."""
        files, found = zip(*self._new, strict=True) if self._new else ((), ())
        self._new = []
        self._written = time.monotonic()
        rows = [one for one in found if isinstance(one, int)]
        again = iter(self.table.frames_at(np.array(rows))) if rows else iter(())
        frames = [next(again) if isinstance(one, int) else one for one in found]
        if files:
            new = self.keys.keys().isdisjoint(file.key for file in files)
            self.table.add(list(zip(files, frames, strict=True)), new)

    def _embed_files(self, files: Sequence[MediaFile]) -> Generator[tuple[int, MediaFile, Read]]:
        """Yield (number of a file, the file or a moment of it, its embeddings [F, D]).

        In place of embeddings comes an error, or None if the file is unchanged.

        One thread per core reads the files. If `reads_ahead`, they read the next `FILES` files
        while the model embeds the ones before.
        """
        rest = iter(enumerate(files))
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def begin() -> list[tuple[int, Future]]:
                some = islice(rest, POLITE if self.when_idle else FILES)
                return [(at, pool.submit(self._tried, self._read, file)) for at, file in some]

            try:
                following = begin()
                while following:
                    batch = [(at, *reading.result()) for at, reading in following]
                    following = begin() if reads_ahead(self.model.device) else []
                    pixels = [read for *_, read in batch if isinstance(read, Tensor)]
                    embedded = iter(self._embed(embed, pixels))
                    for at, file, read in batch:
                        if isinstance(read, list):
                            for moment, result in self._embed_moments(read, pool):
                                yield at, moment, result
                        else:
                            yield at, file, next(embedded) if isinstance(read, Tensor) else read
                    following = following or begin()
            finally:  # even after Ctrl-C: do not read files that no thread has begun
                pool.shutdown(cancel_futures=True)

    def _embed_moments(
        self, parts: Sequence[MediaFile], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[MediaFile, Read]]:
        """Yield the moments of a clip with their embeddings; two groups at a time are in memory."""
        groups = iter(moments.groups(parts))
        while some := list(islice(groups, 2)):  # decoders of large films take much memory
            reading = [pool.submit(self._tried, self._read_group, *group) for group in some]
            for group, future in zip(some, reading, strict=True):
                _, read = future.result()
                if isinstance(read, tuple):
                    read = self._embed(embed_parts, *read)
                for number, moment in enumerate(group):
                    yield moment, read[number] if isinstance(read, list) else read

    def _embed(self, how: Callable[..., list[Tensor]], *read: object) -> list[Tensor]:
        """Return what one of the functions below embeds, within `when_idle`."""
        with self.when_idle() if self.when_idle else nullcontext():
            return how(self.model, *read)

    def _tried(self, read: Callable[..., tuple], file: MediaFile, *more: object) -> tuple:
        """Return the result of `read`, or (file, the error as a MediaError)."""
        try:
            return read(file, *more)
        except MediaError as error:
            return file, error
        except (OSError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or repr(error)
            return file, MediaError(f"{self.root / file.media}: {reason}")

    def _read(self, file: MediaFile) -> tuple[MediaFile, Tensor | list[MediaFile] | None]:
        """Return the file as it is now, and its pixels, its moments, or None if it is unchanged."""
        path = self.root / file.media
        # this part identifies a clip that was cut
        first = replace(file, start=0.0, end=self.config.frames / self.config.rate)
        old, *_ = self.known.get(file.part) or self.known.get(first.part) or (None,)
        now = listing.stamp(file, path, old)
        same = old is not None and now.digest == old.digest
        if file.kind == "video" and not file.id:  # of a plain folder
            known = old.seconds if old and same else None
            now = replace(now, seconds=known or media.seconds(path))
            if parts := moments.cut(now, self.config):
                return file, parts
        if old and same:
            return replace(now, copy_hash=old.copy_hash), None
        return read_pixels(now, path, self.model, self.config)

    def _read_group(self, *group: MediaFile) -> tuple[MediaFile, tuple | None]:
        """Return the first of some moments, and (all pixels, each moment's places); None if all are
        known.
        """
        first = group[0]
        known = [self.known.get(moment.part, (None,))[0] for moment in group]
        if all(old and old.digest == first.digest for old in known):
            return first, None
        path = self.root / first.media
        processor = self.model.of_processor("image_processor")

        def pixels_of(frame: Image.Image) -> Tensor:
            return to_pixels([frame], processor)

        pixels, places = moments.read(group, path, self.config, pixels_of)
        return first, (torch.cat(pixels), places)


def listed(file: MediaFile) -> MediaFile:
    """Return the file as it was listed; for a moment, its clip."""
    return replace(file, start=None, end=None) if file.is_moment else file


def reads_ahead(device: torch.device) -> bool:
    """Return whether to read files while the model embeds: not if both need the same cores."""
    return device.type != "cpu" or torch.get_num_threads() < (os.cpu_count() or 1)


def read_pixels(
    file: MediaFile, path: Path, model: RetrievalModel, config: IndexConfig
) -> tuple[MediaFile, Tensor]:
    """Return the file with its `copy_hash`, and CLIP's input [F, 3, H, W]. Raises MediaError."""
    pictures = moments.frames_of(file, path, config)
    copy_hash = picture_hash(pictures[0]) if file.kind == "image" else 0
    pixels = to_pixels(pictures, model.of_processor("image_processor"))
    return replace(file, copy_hash=copy_hash), pixels


def looks_across(model: RetrievalModel) -> bool:
    """Return whether the active adapter needs all frames of a clip at once."""
    return model.active is not None and model.get_adapter(model.active).across_frames


def embed_parts(
    model: RetrievalModel, pixels: Tensor, places: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Return the embeddings [F, D] of moments that share frames, embedding each frame once."""
    if looks_across(model):
        return embed(model, [pixels[own] for own in places])
    (vectors,) = embed(model, [pixels])
    return [vectors[own] for own in places]


def embed(model: RetrievalModel, pixels: Sequence[Tensor]) -> list[Tensor]:
    """Return the un-normalised embeddings [F, D] of each item from its pixels [F, 3, H, W].

    On a CPU each core embeds its own share of at least `FEW` frames; all cores on one share are
    slower.
    """
    if not pixels:
        return []
    across = looks_across(model)
    frames = torch.cat(list(pixels))
    threads = torch.get_num_threads() if model.device.type == "cpu" else 1
    rounds = math.ceil(len(frames) / (threads * min(FRAMES, model.frames_at_once)))
    shares = max(1, min(len(frames) // FEW, rounds * threads))
    parts = pixels if across else frames.tensor_split(shares)

    def encode(part: Tensor) -> Tensor:
        with torch.no_grad():  # here, because threads do not inherit it
            embedded = model.encode_videos(part[None])[0] if across else model.encode_frames(part)
            return model.family.comparable(embedded).float().cpu()

    of_each = max(1, threads // len(parts))

    def begin() -> None:
        torch.set_num_threads(of_each)

    with model.lock, model.using(model.active, model.scale):  # the pool's threads work for this one
        if threads == 1 or len(parts) == 1 or across:
            vectors = torch.cat(list(map(encode, parts)))
        else:
            try:
                with ThreadPoolExecutor(threads, "embed", begin) as pool:
                    vectors = torch.cat(list(pool.map(encode, parts)))
            finally:
                torch.set_num_threads(threads)  # later threads would keep the lower number
    return list(check_finite(vectors, model).split([len(one) for one in pixels]))


def check_finite(vectors: Tensor, model: RetrievalModel) -> Tensor:
    """Return the embeddings. Raises ValueError if one is infinite or NaN (damaged weights)."""
    if not vectors.isfinite().all():
        owner = "the backbone"
        if model.active is not None:
            owner = f"adapter {model.active!r} or {owner}"
        raise ValueError(
            f"an embedding is not finite: weights of {owner} are damaged; load them again"
        )
    return vectors
