"""Batches of tensors from a dataset: media decoded by workers, captions by their token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import TrainConfig
from ..data import Pixels, RetrievalDataset
from ..model import RetrievalModel


class Batch(NamedTuple):
    """B pairs: input_ids [B, L], frames [B, F, 3, H, W], mask [B, F], item_ids [B]."""

    input_ids: Tensor
    frames: Tensor
    mask: Tensor
    item_ids: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(*(tensor.to(device) for tensor in self))


class _Media(Dataset):
    """Batches of items by their indices, so that a worker decodes a whole batch."""

    def __init__(self, dataset: RetrievalDataset, pixels: Pixels) -> None:
        self.dataset, self.pixels = dataset, pixels

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.pixels(self.dataset, indices)


def load_media(
    dataset: RetrievalDataset, pixels: Pixels, batches: Sequence[list[int]], workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """(frames [B, F, 3, H, W], mask [B, F]) of every batch of item indices, read by `workers` processes."""
    own = torch.Generator()  # so that the global random state is not drawn from
    media = _Media(dataset, pixels)
    return iter(DataLoader(media, batch_size=None, sampler=batches, num_workers=workers, generator=own))


def make_pixels(model: RetrievalModel, config: TrainConfig) -> Pixels:
    """The reader of media that `config` asks for."""
    return Pixels(model.processor, max_frames=config.max_frames, cache=config.cache, fps=config.fps)


def read_batches(
    dataset: RetrievalDataset, ids: Tensor, pixels: Pixels, batches: list[Tensor], workers: int
) -> Iterator[Batch]:
    """The batches with their media; an item that stands in a batch twice is decoded once."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(item.id for item in dataset.items))}
    item_ids = torch.tensor([numbers[item.id] for item in dataset.items])
    items = [dataset.text_to_item[batch].unique(return_inverse=True) for batch in batches]
    media = load_media(dataset, pixels, [distinct.tolist() for distinct, _ in items], workers)
    for batch, (distinct, where), (frames, mask) in zip(batches, items, media, strict=True):
        yield Batch(ids[batch], frames[where], mask[where], item_ids[distinct][where])
