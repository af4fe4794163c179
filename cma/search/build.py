"""Building an index: every file of a source embedded once, and kept in parts so that a kill costs little."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..config import ReadConfig
from ..data import RetrievalDataset
from ..files import printable
from ..media import MediaError, to_pixels
from ..model import RetrievalModel
from . import listing, store
from .listing import MediaFile, Problem
from .store import Digests, Embedded

PART_SECONDS = 30  # a build that is killed loses the work of so many seconds at most
FILES, FRAMES, FEW = 32, 128, 4  # files read at once, frames embedded at once, and by one core at least

Known = dict[tuple, tuple[MediaFile, Tensor]]  # what is embedded already: key → file, embeddings [F, D]


def build(
    model: RetrievalModel,
    source: RetrievalDataset | str | Path,
    config: ReadConfig,
    built_with: Digests,
    previous: Embedded | None = None,
    folder: Path | None = None,
) -> Embedded:
    """List the files of a source, embed what is not known yet, and save all of it; as `MediaIndex.build`."""
    if previous and (previous.built_with, previous.config) != (built_with, config):
        raise ValueError("`previous` is of another model, adapter or config; build the index without it")
    root, files, problems = listing.find(source)
    about = {"built_with": built_with, "config": config, "media_root": root}
    building = Building(model, about, _known(previous) if previous else {}, folder)
    if folder is None:
        return building.run(files, problems)
    with store.writing(folder):
        building.take_over()
        index = building.run(files, problems)
        store.write(folder / store.INDEX, model, index)
        for part in store.parts(folder):
            part.unlink()
    return index


class Building:
    """One build of an index: the files `known` from before, those embedded now, and the parts on disk.

    A part is an index of its own, `part-000001.safetensors` in `folder` (None: no parts are kept), which is
    to be used inside `store.writing`. `about` are the first fields of `Embedded`.
    """

    def __init__(self, model: RetrievalModel, about: dict, known: Known, folder: Path | None) -> None:
        self.model, self.about, self.known, self.folder = model, about, known, folder
        self.root, self.config = about["media_root"], about["config"]
        self._new: list[tuple[MediaFile, Tensor]] = []  # embedded by this build
        self._kept, self._written = 0, time.monotonic()  # how many of them are in parts, and since when

    def take_over(self) -> None:
        """Know what `folder` holds: a finished index, and the parts of builds that were stopped.

        What was made with another model, adapter, scale or config, or is damaged, is left aside, and a line
        is printed that says so.
        """
        refused = []
        for path in [*self.folder.glob(store.INDEX), *store.parts(self.folder)]:
            try:
                index = store.read(path, self.model, self.about["built_with"])
                if index.config != self.config:
                    raise ValueError(f"{path}: built with {index.config}, now {self.config} is wanted")
                self.known |= _known(index)
            except ValueError as error:
                refused.append(str(error))
        if refused:
            print(printable(f"not taken over: {refused[0]}"))

    def run(self, files: Sequence[MediaFile], problems: Sequence[Problem]) -> Embedded:
        """Embed the files that are not `known`; skip, count and print those that cannot be read."""
        embedded, skipped = [], list(problems)
        reading = closing(self._embed_files(files))
        with self.model.acting(self.model.active, self.model.scale), reading as read:
            try:
                for file, result, new in tqdm(read, "index", len(files), unit="file", mininterval=1):
                    if isinstance(result, MediaError):
                        reason = str(result).removeprefix(printable(f"{self.root / file.media}: "))
                        skipped.append((file.file_name, reason))
                        continue
                    embedded.append((file, result))
                    if new:
                        self._new.append((file, result))
                    if time.monotonic() - self._written >= PART_SECONDS:
                        self._write_part()
            except BaseException:  # also KeyboardInterrupt: nothing that was embedded is lost
                self._write_part()
                raise
        print(f"indexed {len(embedded):,} / {len(files):,} files, {len(self._new):,} of them embedded now")
        for name, reason in skipped[:5]:
            print(f"  skipped {printable(name)}: {reason}")
        if len(skipped) > 5:
            print(f"  … and {len(skipped) - 5:,} more, listed in `skipped`")
        if not embedded:
            raise ValueError(f"{self.root}: none of its {len(files)} files can be read ({skipped[0][1]}, …)")
        return _joined(embedded, self.about | {"skipped": tuple(skipped)})

    def _write_part(self) -> None:
        """Write what was embedded since the last part, to a file of a new name."""
        if self.folder and self._new[self._kept :]:
            names = (self.folder / store.PART.replace("*", f"{i:06}") for i in count(1))
            path = next(name for name in names if not name.exists())
            store.write(path, self.model, _joined(self._new[self._kept :], self.about))
        self._kept, self._written = len(self._new), time.monotonic()

    def _embed_files(
        self, files: Sequence[MediaFile]
    ) -> Iterator[tuple[MediaFile, Tensor | MediaError, bool]]:
        """Every file with the embeddings [F, D] of its frames, or why there are none; whether it was read.

        As many threads as there are cores read the files; where `reads_ahead`, the next `FILES` while the
        model embeds those before them.
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
                        if read is None:
                            yield file, self.known[file.key][1], False
                        else:
                            yield file, next(embedded) if isinstance(read, Tensor) else read, True
                    following = following or begin()
            finally:  # also Ctrl-C: what is not being read yet is not read
                pool.shutdown(cancel_futures=True)

    def _read(self, file: MediaFile) -> tuple[MediaFile, Tensor | MediaError | None]:
        """The file as it is now, and its pixels; None if it is known and has not changed."""
        path, (old, _) = self.root / file.media, self.known.get(file.key, (None, None))
        try:
            stamped = listing.stamp(file, path, old)
            same = old is not None and stamped.digest == old.digest
            return stamped, None if same else read_pixels(file, path, self.model, self.config)
        except MediaError as error:
            return file, error
        except (OSError, ValueError, MemoryError) as error:
            return file, MediaError(f"{path}: {getattr(error, 'strerror', None) or repr(error)}")


def reads_ahead(device: torch.device) -> bool:
    """Whether files are read while the model embeds others: not on a CPU, where both need the same cores."""
    return device.type != "cpu"


def read_pixels(file: MediaFile, path: Path, model: RetrievalModel, config: ReadConfig) -> Tensor:
    """CLIP's input [F, 3, H, W] of one file. Raises MediaError that names the path."""
    pictures = listing.read_pictures(file, path, config.max_frames, config.fps)
    return to_pixels(pictures, model.processor.image_processor)


def embed(model: RetrievalModel, pixels: Sequence[Tensor]) -> list[Tensor]:
    """The un-normalised embeddings [F, D] of every item's pixels [F, 3, H, W].

    On a CPU each core embeds a share of them, if that is `FEW` frames or more: all cores on one share after
    another take longer.
    """
    if not pixels:
        return []
    frames, threads = torch.cat(list(pixels)), 1 if model.device.type != "cpu" else torch.get_num_threads()
    rounds = math.ceil(len(frames) / (threads * min(FRAMES, model.frames_at_once)))
    parts = frames.tensor_split(max(1, min(len(frames) // FEW, rounds * threads)))

    def encode(part: Tensor) -> Tensor:
        with torch.no_grad():  # which another thread does not inherit
            embedded = model.family.comparable(model.encode_images(part))
            return check_finite(embedded.float().cpu(), model)

    if threads == 1 or len(parts) == 1:
        vectors = torch.cat(list(map(encode, parts)))
    else:
        of_each = (max(1, threads // len(parts)),)
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=of_each) as pool:
                vectors = torch.cat(list(pool.map(encode, parts)))
        finally:
            torch.set_num_threads(threads)  # it holds for every thread that begins later
    return list(vectors.split([len(one) for one in pixels]))


def check_finite(vectors: Tensor, model: RetrievalModel) -> Tensor:
    """The embeddings. Raises ValueError if one is infinite or no number, as those of damaged weights are."""
    if not vectors.isfinite().all():
        acting = "the backbone" if model.active is None else f"adapter {model.active!r} or the backbone"
        raise ValueError(f"an embedding is not finite: weights of {acting} are damaged; load them again")
    return vectors


def _joined(embedded: Sequence[tuple[MediaFile, Tensor]], about: dict) -> Embedded:
    files, vectors = zip(*embedded, strict=True)
    lengths = torch.tensor([len(frames) for frames in vectors])
    return Embedded(files=files, vectors=torch.cat(vectors), lengths=lengths, **about)


def _known(index: Embedded) -> Known:
    rows = zip(index.files, index.vectors.split(index.lengths.tolist()), strict=True)
    return {file.key: (file, frames) for file, frames in rows}
