"""Files of pictures and clips into embeddings, read by as many threads as there are cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..media import MediaError
from ..model import RetrievalModel
from . import listing
from .listing import MediaFile

# Files read at once, and frames embedded at once. To read ahead while embedding is slower on two cores (2.4 s
# for 1.8 s on 600 pictures, 3.5 s for 3.2 s on 80 clips): each keeps both busy by itself.
FILES, FRAMES = 32, 128

Known = dict[tuple, tuple[MediaFile, Tensor]]  # what is embedded already: key → file, embeddings [F, D]
Result = Tensor | MediaError


@dataclass(frozen=True)
class IndexConfig:
    """How an index reads and compares clips; the fields are `TrainConfig`'s of the same names.

    The default similarity serves pictures too: for an item of one frame it is the plain cosine. `fps` None
    spreads `max_frames` over the whole clip. Raises ValueError for another similarity.
    """

    similarity: str = "text_conditioned"  # "mean_pooled" | "text_conditioned"
    temperature: float = 5.0
    max_frames: int = 12
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.similarity not in ("mean_pooled", "text_conditioned"):
            raise ValueError(f"similarity={self.similarity!r}: expected mean_pooled or text_conditioned")


def embed_files(
    model: RetrievalModel, root: Path, files: Sequence[MediaFile], config: IndexConfig, known: Known
) -> Iterator[tuple[MediaFile, Result, bool]]:
    """Every file with the embeddings of its frames [F, D], un-normalised, or the reason there are none.

    A file that is in `known` and has not changed, by size and time or by content, is not read again; the
    last value says whether it was read.
    """

    def read(file: MediaFile) -> tuple[MediaFile, Result | None]:
        path, (old, _) = root / file.media, known.get(file.key, (None, None))
        try:
            stamped = listing.stamp(file, path, old)
            same = old is not None and stamped.digest == old.digest
            return stamped, None if same else _read(model, file, path, config)
        except MediaError as error:
            return file, error
        except OSError as error:
            return file, MediaError(f"{path}: {error.strerror or error}")

    rest = iter(files)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(pool.map(read, islice(rest, FILES))):
            embedded = iter(_embed(model, [pixels for _, pixels in batch if isinstance(pixels, Tensor)]))
            for file, pixels in batch:
                if pixels is None:
                    yield file, known[file.key][1], False
                else:
                    yield file, next(embedded) if isinstance(pixels, Tensor) else pixels, True


def embed_file(model: RetrievalModel, file: MediaFile, path: Path, config: IndexConfig) -> Tensor:
    """The embeddings of one file's frames [F, D], un-normalised. Raises MediaError naming the path."""
    return _embed(model, [_read(model, file, path, config)])[0]


def _read(model: RetrievalModel, file: MediaFile, path: Path, config: IndexConfig) -> Tensor:
    return listing.read_pixels(file, path, model.processor, config.max_frames, config.fps)


def _embed(model: RetrievalModel, pixels: Sequence[Tensor]) -> list[Tensor]:
    """The embeddings [F, D] of every item's pixels [F, 3, H, W]."""
    if not pixels:
        return []
    parts = torch.cat(list(pixels)).split(FRAMES)
    vectors = torch.cat([model.encode_images(part).float().cpu() for part in parts])
    return list(vectors.split([len(one) for one in pixels]))
