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

from ..data import RetrievalDataset
from ..files import printable
from ..media import MediaError, to_pixels
from ..model import RetrievalModel
from . import listing, store
from .listing import MediaFile, Problem
from .store import Embedded, IndexConfig

PART_SECONDS = 30  # a build that is killed loses the work of so many seconds at most
FILES, FRAMES, FEW = 32, 128, 4  # files read at once, frames embedded at once, and by one core at least

Known = dict[tuple, tuple[MediaFile, Tensor]]  # what is embedded already: key → file, embeddings [F, D]


def build(
    model: RetrievalModel,
    source: RetrievalDataset | str | Path,
    config: IndexConfig,
    previous: Embedded | None = None,
    folder: Path | None = None,
) -> Embedded:
    """List the files of a source, embed what is not known yet, and save all of it; as `MediaIndex.build`."""
    built_with, known = store.identify(model), {}
    if previous:
        if (previous.built_with, previous.config) != (built_with, config):
            raise ValueError("`previous` is of another model, adapter or config; build the index without it")
        known = _known(previous)
    root, files, problems = listing.find(source)
    about = {"built_with": built_with, "config": config, "media_root": root}
    if folder is None:
        return _embed_all(model, files, problems, known, about)
    with store.writing(folder):
        parts = Parts(folder, model, about)
        index = _embed_all(model, files, problems, known | parts.known, about, parts)
        store.write(folder / store.INDEX, model, index)
        for part in store.parts(folder):
            part.unlink()
    return index


class Parts:
    """What `folder` holds of an index: a finished one, and the parts of builds that were stopped.

    A part is an index of its own, `part-000001.safetensors`. `known` are the files that need not be read
    again. What was made with another model, adapter, scale or config is not taken over, and a line is printed
    that says so. To be used inside `store.writing`; `about` are the first fields of `Embedded`.
    """

    def __init__(self, folder: Path, model: RetrievalModel, about: dict) -> None:
        self.folder, self.model, self.about = folder, model, about
        self._pending, self._written = [], time.monotonic()
        self.known: Known = {}
        refused = []
        for path in [folder / store.INDEX, *store.parts(folder)]:
            try:
                found = store.read(path, model)
                if found.config != about["config"]:
                    raise ValueError(f"{path}: built with {found.config}, now {about['config']} is wanted")
                self.known |= _known(found)
            except FileNotFoundError:  # no build was finished here
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
        """Write what was added since the last part, to a file of a new name."""
        if self._pending:
            names = (self.folder / store.PART.replace("*", f"{i:06}") for i in count(1))
            path = next(name for name in names if not name.exists())
            store.write(path, self.model, _joined(self._pending, self.about))
        self._pending, self._written = [], time.monotonic()


def _embed_all(
    model: RetrievalModel,
    files: Sequence[MediaFile],
    problems: Sequence[Problem],
    known: Known,
    about: dict,
    parts: Parts | None = None,
) -> Embedded:
    """Embed the files that are not `known`; skip, count and print those that cannot be read."""
    root, embedded, skipped, new = about["media_root"], [], list(problems), 0
    reading = closing(_embed_files(model, root, files, about["config"], known))
    with model.acting(model.active, model.scale), reading as read:
        try:
            for file, result, fresh in tqdm(read, "index", len(files), unit="file", mininterval=1):
                if isinstance(result, MediaError):
                    reason = str(result).removeprefix(printable(f"{root / file.media}: "))
                    skipped.append((file.file_name, reason))
                    continue
                embedded.append((file, result))
                new += fresh
                if parts and fresh:
                    parts.add(file, result)
        except BaseException:  # also KeyboardInterrupt: nothing that was embedded is lost
            if parts:
                parts.write()
            raise
    print(f"indexed {len(embedded):,} / {len(files):,} files, {new:,} of them embedded now")
    for name, reason in skipped[:5]:
        print(f"  skipped {printable(name)}: {reason}")
    if len(skipped) > 5:
        print(f"  … and {len(skipped) - 5:,} more, listed in `skipped`")
    if not embedded:
        raise ValueError(f"{root}: none of its {len(files)} files can be read ({skipped[0][1]}, …)")
    return _joined(embedded, about | {"skipped": tuple(skipped)})


def _embed_files(
    model: RetrievalModel, root: Path, files: Sequence[MediaFile], config: IndexConfig, known: Known
) -> Iterator[tuple[MediaFile, Tensor | MediaError, bool]]:
    """Every file with the embeddings of its frames [F, D], or the reason there are none; whether it was read.

    As many threads as there are cores read the files; where `reads_ahead`, the next `FILES` while the model
    embeds those before them. A file that is `known` and has not changed, by size and time or by content, is
    not read again.
    """

    def read(file: MediaFile) -> tuple[MediaFile, Tensor | MediaError | None]:
        path, (old, _) = root / file.media, known.get(file.key, (None, None))
        try:
            stamped = listing.stamp(file, path, old)
            same = old is not None and stamped.digest == old.digest
            return stamped, None if same else read_pixels(file, path, model, config)
        except MediaError as error:
            return file, error
        except (OSError, ValueError, MemoryError) as error:
            return file, MediaError(f"{path}: {getattr(error, 'strerror', None) or repr(error)}")

    rest = iter(files)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begin() -> list[Future]:
            return [pool.submit(read, file) for file in islice(rest, FILES)]

        try:
            following = begin()
            while following:
                batch, following = [reading.result() for reading in following], None
                if reads_ahead(model.device):
                    following = begin()
                embedded = iter(embed(model, [pixels for _, pixels in batch if isinstance(pixels, Tensor)]))
                for file, pixels in batch:
                    if pixels is None:
                        yield file, known[file.key][1], False
                    else:
                        yield file, next(embedded) if isinstance(pixels, Tensor) else pixels, True
                following = begin() if following is None else following
        finally:  # also Ctrl-C: what is not being read yet is not read
            pool.shutdown(cancel_futures=True)


def reads_ahead(device: torch.device) -> bool:
    """Whether files are read while the model embeds others: not on a CPU, where both need the same cores."""
    return device.type != "cpu"


def read_pixels(file: MediaFile, path: Path, model: RetrievalModel, config: IndexConfig) -> Tensor:
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
            return model.encode_images(part).float().cpu()

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


def _joined(embedded: Sequence[tuple[MediaFile, Tensor]], about: dict) -> Embedded:
    files, vectors = zip(*embedded, strict=True)
    lengths = torch.tensor([len(frames) for frames in vectors])
    return Embedded(files=files, vectors=torch.cat(vectors), lengths=lengths, **about)


def _known(index: Embedded) -> Known:
    rows = zip(index.files, index.vectors.split(index.lengths.tolist()), strict=True)
    return {file.key: (file, frames) for file, frames in rows}
