"""The batches of a run: captions and their media as tensors, and as the model takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import RetrievalDataset
from ..model import RetrievalModel
from .reading import Pixels, load_media


class Batch(NamedTuple):
    """B pairs: input_ids [B, L], frames [B, F, 3, H, W], mask [B, F], item_ids [B], caption_ids [B] or None.

    Frames are uint8 as they are read, so that workers and transfers move a quarter of the bytes, or float
    where they are normalised already (`model_frames`). Pairs of one item, or of one caption, are no negatives
    of each other (`cma.losses`).
    """

    input_ids: Tensor
    frames: Tensor
    mask: Tensor
    item_ids: Tensor | list
    caption_ids: Tensor | list | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(*(field.to(device) if isinstance(field, Tensor) else field for field in self))

    def part(self, rows: slice | Tensor) -> Batch:
        """Some of the pairs."""
        return Batch(*(None if field is None else field[rows] for field in self))

    def split(self, size: int | None) -> list[Batch]:
        """Parts of at most `size` pairs, in order; None: the whole batch."""
        pairs = len(self.input_ids)
        size = size or pairs
        return [self.part(slice(start, start + size)) for start in range(0, pairs, size)]


def read_batches(
    dataset: RetrievalDataset, ids: Tensor, pixels: Pixels, batches: list[Tensor], workers: int
) -> Iterator[Batch]:
    """A `Batch` for each of `batches`, indices [B] into `dataset.captions`, whose token ids are `ids` [T, L].

    An item that is in a batch twice is decoded once. `item_ids` are indices into `dataset.items`.
    """
    items = [dataset.text_to_item[batch].unique(return_inverse=True) for batch in batches]
    media = load_media(dataset, pixels, [distinct.tolist() for distinct, _ in items], workers)
    for batch, (distinct, where), (frames, mask) in zip(batches, items, media, strict=True):
        yield Batch(ids[batch], frames[where], mask[where], distinct[where])


def model_frames(model: RetrievalModel, frames: Tensor, mask: Tensor) -> Tensor:
    """The frames of a batch [B, F, 3, H, W] on the model's device, normalised as its processor says.

    Frames with mask 0 become zeros; float frames are taken as they are. Raises ValueError for uint8 frames
    and a model without processor.
    """
    frames, mask = frames.to(model.device), mask.to(model.device)
    if frames.dtype != torch.uint8:
        return frames
    if model.processor is None:
        raise ValueError("uint8 frames need RetrievalModel(clip, processor), or give normalised frames")
    processor = model.processor.image_processor
    mean = torch.tensor(processor.image_mean, device=model.device).view(3, 1, 1)
    std = torch.tensor(processor.image_std, device=model.device).view(3, 1, 1)
    normal = (frames * processor.rescale_factor - mean) / std
    return normal.masked_fill(~mask.bool()[..., None, None, None], 0.0)


def without_padding(model: RetrievalModel, ids: Tensor) -> Tensor:
    """Token ids [B, L] up to the end of the longest caption.

    CLIP reads a caption at its first end token, and its text tower is causal: what follows changes nothing.
    """
    end = model.clip.config.text_config.eos_token_id
    is_end = ids if end == 2 else (ids == end).int()  # as `CLIPTextModel`: 2 stands for the highest token
    return ids[:, : int(is_end.argmax(1).max()) + 1]
