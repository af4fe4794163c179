"""Build an index: embed every file of a source once, and save it in parts, so that a kill loses
little.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..config import ReadConfig
from ..data import RetrievalDataset
from ..files import parse_json, printable
from ..media import MediaError, read_media, to_pixels
from ..model import RetrievalModel
from ..patching import on_clip
from . import listing, store
from .copies import picture_hash
from .listing import MediaFile, Problem
from .segment import LARGE, Segment
from .store import Embedded
from .weights import Header

PART_SECONDS = 30  # a build that is killed loses at most the work of this many seconds
# frames; a build joins segments with fewer and keeps larger ones, so small additions are quick
SMALL = 2**13
# files read at once; most and fewest frames that a core embeds at once
FILES, FRAMES, FEW = 32, 128, 4

Source = RetrievalDataset | str | Path
Item = tuple[MediaFile, Tensor]  # a file and the embeddings [F, D] of its frames


def build(
    model: RetrievalModel,
    source: Source,
    header: Header,
    previous: Embedded | None,
    folder: Path | None,
) -> Embedded:
    """List the files of a source, embed those not known yet, and save all of them; see
    `MediaIndex.build`.
    """
    if previous:
        previous.header.check("`previous`", header)
    root, files, problems = listing.find(source)
    half = len(files) >= LARGE

    def keep(new: Sequence[Item]) -> Segment:
        files, vectors = zip(*new, strict=True)
        lengths = torch.tensor([len(frames) for frames in vectors])
        segment = Segment.of(files, torch.cat(vectors), lengths, half)
        return segment.write(folder, store.as_json(header)) if folder else segment

    building = Building(model, header, root, keep)
    for segment in previous.segments if previous else ():
        building.know(segment)
    if folder is None:
        return building.run(files, problems)
    with store.writing(folder):
        building.take_over(folder)
        index = building.run(files, problems)
        store.publish(folder, index := store.joined(folder, index, SMALL))
    return index


class Building:
    """One build of an index: its `segments`, the files that are `known` from them, and the files it
    adds.

    `keep` turns the items embedded in the last `PART_SECONDS` into a segment, and may also write it
    to disk.
    """

    def __init__(
        self,
        model: RetrievalModel,
        header: Header,
        root: Path,
        keep: Callable[[Sequence[Item]], Segment],
    ) -> None:
        self.model, self.header, self.root, self.keep = model, header, root, keep
        self.segments: list[Segment] = []
        # key → file, number of its segment, its row
        self.known: dict[str, tuple[MediaFile, int, int]] = {}
        self.unread: list[MediaFile] = []
        # items in no segment yet; time of the last write
        self._new, self._written = [], time.monotonic()

    def take_over(self, folder: Path) -> None:
        """Reuse the segments in a folder, including those of builds that were stopped.

        Segments that are damaged or were made with another model, adapter, scale or config are not
        used; the first reason is printed.
        """
        refused = []
        for path in store.written(folder):
            try:
                (segment := Segment.open(path)).check()
                made = parse_json(segment.about["made_with"], Header, str(path))
                made.check(path, self.header)
                self.know(segment)
            except ValueError as error:
                refused.append(str(error))
        if refused:
            print(printable(f"not taken over: {refused[0]}"))

    def know(self, segment: Segment) -> None:
        """Add a segment, whose embeddings are reused for files that have not changed."""
        for row in range(len(segment)):
            file = segment.file(row)
            self.known[file.key] = file, len(self.segments), row
        self.segments.append(segment)

    def run(self, files: Sequence[MediaFile], problems: Sequence[Problem]) -> Embedded:
        """Embed the files that are not `known`; skip, count and print those that cannot be read."""
        places, skipped, embedded = [], list(problems), 0
        reading = closing(self._embed_files(files))
        with self.model.acting(self.model.active, self.model.scale), reading as read:
            try:
                for file, result in tqdm(read, "index", len(files), unit="file", mininterval=1):
                    if isinstance(result, MediaError):
                        reason = str(result).removeprefix(printable(f"{self.root / file.media}: "))
                        skipped.append((file.file_name, reason))
                        self.unread.append(file)
                        continue
                    old, number, row = self.known[file.key] if result is None else (None, 0, 0)
                    embedded += result is not None
                    if file != old:  # it is new, or its time or captions have changed
                        if result is None:
                            result = self.segments[number].frames(torch.tensor([row]))
                        number, row = len(self.segments), len(self._new)
                        self._new.append((file, result))
                    places.append((number, row))
                    if time.monotonic() - self._written >= PART_SECONDS:
                        self._write()
            finally:  # also after KeyboardInterrupt, so that nothing embedded is lost
                self._write()
        # e.g. unplugged
        if not (top := self.root.joinpath(*Path(files[0].media).parts[:-1][:1])).is_dir():
            raise FileNotFoundError(f"{top}: gone while it was read; bring it back and start again")
        print(f"indexed {len(places):,} / {len(files):,} files, {embedded:,} of them embedded now")
        for name, reason in skipped[:5]:
            print(f"  skipped {printable(name)}: {reason}")
        if len(skipped) > 5:
            print(f"  … and {len(skipped) - 5:,} more, listed in `skipped`")
        if not places:
            raise ValueError(
                f"{self.root}: none of its {len(files)} files can be read ({skipped[0][1]}, …)"
            )
        starts = torch.tensor([0, *map(len, self.segments)]).cumsum(0)
        numbers, rows = torch.tensor(places).T
        order = starts[numbers] + rows
        return Embedded(self.header, self.root, tuple(self.segments), order, tuple(skipped))

    def _write(self) -> None:
        """Turn the items embedded since the last call into a segment, if there are any."""
        new, self._new, self._written = self._new, [], time.monotonic()
        if new:
            self.segments.append(self.keep(new))

    def _embed_files(
        self, files: Sequence[MediaFile]
    ) -> Iterator[tuple[MediaFile, Tensor | MediaError | None]]:
        """Yield each file with the embeddings [F, D] of its frames, or an error, or None if it is
        unchanged.

        One thread per core reads the files. If `reads_ahead`, they read the next `FILES` files
        while the model embeds the ones before.
        """
        rest = iter(files)
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def begin() -> list[Future]:
                return [pool.submit(self._read, file) for file in islice(rest, FILES)]

            try:
                following = begin()
                while following:
                    batch = [reading.result() for reading in following]
                    following = begin() if reads_ahead(self.model.device) else []
                    pixels = [read for _, read in batch if isinstance(read, Tensor)]
                    embedded = iter(embed(self.model, pixels))
                    for file, read in batch:
                        yield file, next(embedded) if isinstance(read, Tensor) else read
                    following = following or begin()
            finally:  # also after Ctrl-C: files that no thread has begun are not read
                pool.shutdown(cancel_futures=True)

    def _read(self, file: MediaFile) -> tuple[MediaFile, Tensor | MediaError | None]:
        """Return the file as it is now, and its pixels, or an error, or None if it is known and
        unchanged.
        """
        path, old = self.root / file.media, self.known.get(file.key, (None,))[0]
        try:
            stamped = listing.stamp(file, path, old)
            if old is not None and stamped.digest == old.digest:
                return replace(stamped, copy_hash=old.copy_hash), None
            return read_pixels(stamped, path, self.model, self.header.config)
        except MediaError as error:
            return file, error
        except (OSError, ValueError, MemoryError) as error:
            return file, MediaError(f"{path}: {getattr(error, 'strerror', None) or repr(error)}")


def reads_ahead(device: torch.device) -> bool:
    """Whether to read files while the model embeds others: not if both need the same cores."""
    return device.type != "cpu" or torch.get_num_threads() < (os.cpu_count() or 1)


def read_pixels(
    file: MediaFile, path: Path, model: RetrievalModel, config: ReadConfig
) -> tuple[MediaFile, Tensor]:
    """Return the file with its `copy_hash`, and CLIP's input [F, 3, H, W]. MediaError names the
    path.
    """
    pictures = read_media(path, file.kind, config.max_frames, config.fps, file.start, file.end)
    copy_hash = picture_hash(pictures[0]) if file.kind == "image" else 0
    return replace(file, copy_hash=copy_hash), to_pixels(
        pictures, model.of_processor("image_processor")
    )


def embed(model: RetrievalModel, pixels: Sequence[Tensor]) -> list[Tensor]:
    """Return the un-normalised embeddings [F, D] of each item from its pixels [F, 3, H, W].

    On a CPU each core embeds its own share of at least `FEW` frames; all cores on one share are
    slower.
    """
    if not pixels:
        return []
    frames, threads = (
        torch.cat(list(pixels)),
        1 if model.device.type != "cpu" else torch.get_num_threads(),
    )
    rounds = math.ceil(len(frames) / (threads * min(FRAMES, model.frames_at_once)))
    # it looks across frames
    across = model.active and "image" not in model.get_adapter(model.active).kinds
    parts = (
        pixels if across else frames.tensor_split(max(1, min(len(frames) // FEW, rounds * threads)))
    )

    def encode(part: Tensor) -> Tensor:
        with torch.no_grad():  # here, because threads do not inherit it
            embedded = model.encode_videos(part[None])[0] if across else model.encode_images(part)
            return check_finite(model.family.comparable(embedded).float().cpu(), model)

    if threads == 1 or len(parts) == 1 or across:
        vectors = torch.cat(list(map(encode, parts)))
    else:

        def begin() -> None:
            torch.set_num_threads(max(1, threads // len(parts)))
            on_clip(model.clip).turn.join()  # it works for this thread, which has the turn

        try:
            with model.turn(), ThreadPoolExecutor(threads, "embed", begin) as pool:
                vectors = torch.cat(list(pool.map(encode, parts)))
        finally:
            torch.set_num_threads(threads)  # otherwise later threads would keep the lower number
    return list(vectors.split([len(one) for one in pixels]))


def check_finite(vectors: Tensor, model: RetrievalModel) -> Tensor:
    """Return the embeddings. Raises ValueError if any is infinite or NaN, as happens with damaged
    weights.
    """
    if not vectors.isfinite().all():
        acting = (
            "the backbone" if model.active is None else f"adapter {model.active!r} or the backbone"
        )
        raise ValueError(
            f"an embedding is not finite: weights of {acting} are damaged; load them again"
        )
    return vectors
