"""Read media, in this process or in workers, and turn a run's batches into tensors."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..media import MediaError, read_media, to_pixels
from ..model import RetrievalModel


class Batch(NamedTuple):
    """B pairs: input_ids [B, L], frames [B, F, 3, H, W], mask [B, F], item_ids, caption_ids [B].

    Frames are uint8 as read, so that workers and transfers move a quarter of the bytes, or float
    once they are normalised (`model_frames`). Pairs of one item, or of one caption, are not
    negatives for each other (`cma.losses`); `caption_ids` may be None.
    """

    input_ids: Tensor
    frames: Tensor
    mask: Tensor
    item_ids: Tensor | list
    caption_ids: Tensor | list | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch._make(
            field.to(device) if isinstance(field, Tensor) else field for field in self
        )

    def part(self, rows: slice | Tensor) -> Batch:
        """Return a batch of the pairs at `rows`."""
        return Batch._make(None if field is None else field[rows] for field in self)


class Pixels:
    """Reads media as CLIP's input, resized and cropped by `processor`.

    Of `config` it uses `max_frames`, `fps` (see `cma.media.read_frames`) and `cache`, which keeps
    the resized frames (uint8) in the memory of the process that read them, so that an epoch does
    not decode them again.
    """

    def __init__(self, processor: Any, config: TrainConfig) -> None:
        self.image_processor = processor.image_processor
        self.config = config
        self.cache: dict[tuple, Tensor] = {}

    def __call__(self, dataset: RetrievalDataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (frames [V, F, 3, H, W] uint8, mask [V, F] int64) of the items at `indices`.

        F is 1 for pictures and `max_frames` for clips; a shorter clip is padded with black frames
        that have mask 0. Raises `cma.media.MediaError` naming a file that cannot be read.
        """
        config = self.config
        clips = []
        for item in map(dataset.items.__getitem__, indices):
            part = (dataset.path(item), item.start, item.end)
            frames = self.cache.get(part)
            if frames is None:
                path, *seconds = part
                pictures = read_media(path, dataset.kind, config.max_frames, config.fps, *seconds)
                frames = to_pixels(
                    pictures, self.image_processor, do_rescale=False, do_normalize=False
                ).to(torch.uint8)
            if config.cache:
                self.cache[part] = frames
            clips.append(frames)

        max_frames = 1 if dataset.kind == "image" else config.max_frames
        lengths = torch.tensor([len(clip) for clip in clips])
        padded = torch.zeros(len(clips), max_frames, *clips[0].shape[1:], dtype=torch.uint8)
        for row, clip in zip(padded, clips, strict=True):
            row[: len(clip)] = clip
        return padded, (torch.arange(max_frames) < lengths[:, None]).long()


def load_media(
    dataset: RetrievalDataset, pixels: Pixels, batches: Sequence[list[int]], workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (frames [B, F, 3, H, W], mask [B, F]) of each batch of item indices.

    `workers` processes decode, at most one for each core.

    Raises `cma.media.MediaError` if a file cannot be read (named), or a worker has died.
    """
    loader: DataLoader[Any] = DataLoader(
        range(len(dataset)),  # type: ignore[arg-type]  # torch takes any sequence
        batch_sampler=batches,
        collate_fn=partial(_read_or_error, pixels, dataset),  # a worker reads a whole batch
        num_workers=min(workers, cores()),
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # without it the loader draws from the global random state
    )
    try:
        for read in loader:
            if isinstance(read, MediaError | ImportError):
                raise read
            yield read
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MediaError(
            f"{dataset.name}: {error}; use fewer workers, or fewer max_frames"
        ) from error


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_or_error(
    pixels: Pixels, dataset: RetrievalDataset, indices: list[int]
) -> tuple | Exception:
    """Return what `pixels` reads, or its error (a worker would raise it with a traceback)."""
    try:
        return pixels(dataset, indices)
    except (MediaError, ImportError) as error:
        return error


def _end_with_parent(worker: int) -> None:
    """End a worker when its parent is killed; else it would forever wait to hand over a batch."""

    parent: Any = multiprocessing.parent_process()  # a worker has one

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_batches(
    dataset: RetrievalDataset, ids: Tensor, pixels: Pixels, batches: list[Tensor], workers: int
) -> Iterator[Batch]:
    """Yield a `Batch` for each of `batches`, indices [B] into the captions, whose `ids` are [T, L].

    `item_ids`: indices into `dataset.items`, each decoded once per batch; `caption_ids`: equal for
    equal ids.
    """
    captions = ids.unique(dim=0, return_inverse=True)[1]
    items = [dataset.text_to_item[batch].unique(return_inverse=True) for batch in batches]
    media = load_media(dataset, pixels, [distinct.tolist() for distinct, _ in items], workers)
    for batch, (distinct, where), (frames, mask) in zip(batches, items, media, strict=True):
        yield Batch(ids[batch], frames[where], mask[where], distinct[where], captions[batch])


def model_frames(model: RetrievalModel, frames: Tensor, mask: Tensor) -> Tensor:
    """Return frames [B, F, 3, H, W] on the model's device, normalised as its processor says.

    Frames with mask 0 become zeros; float frames are taken as they are. Raises ValueError for uint8
    frames and a model without processor.
    """
    frames = frames.to(model.device)
    if frames.dtype != torch.uint8:
        return frames
    processor = model.of_processor("image_processor")
    pixels = frames * (processor.rescale_factor if processor.do_rescale else 1.0)
    if processor.do_normalize:
        mean = pixels.new_tensor(processor.image_mean).view(3, 1, 1)
        std = pixels.new_tensor(processor.image_std).view(3, 1, 1)
        pixels = (pixels - mean) / std
    padding = ~mask.to(model.device).bool()[..., None, None, None]
    return pixels.masked_fill(padding, 0.0)
