"""Which items a run trains on, in which order, and the batches of tensors with their media."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPProcessor

from .. import data
from ..config import TrainConfig
from ..data import Item, RetrievalDataset
from ..media import MediaError, read_media, to_pixels
from ..model import RetrievalModel
from .stopping import end_with_parent


class Splits(NamedTuple):
    """The items of a run: trained on, evaluated after each epoch (or None), and evaluated at the end."""

    training: RetrievalDataset
    watched: RetrievalDataset | None
    final: RetrievalDataset


class Batch(NamedTuple):
    """B pairs: input_ids [B, L], frames [B, F, 3, H, W], mask [B, F], item_ids [B].

    Frames are uint8 as they are read, so that workers and transfers move a quarter of the bytes, or float
    where they are normalised already (`model_frames`).
    """

    input_ids: Tensor
    frames: Tensor
    mask: Tensor
    item_ids: Tensor | list

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(*(part.to(device) if isinstance(part, Tensor) else part for part in self))


def choose_splits(dataset: RetrievalDataset, config: TrainConfig) -> Splits:
    """The items of a run on the train split `dataset`.

    Watched is the test split with `select_on` "test"; otherwise the val split where the folder has one; where
    it has none, "val" holds out `val_items` of the training items, and "last" watches nothing. Final is the
    test split; the watched items if `report_on` is "val" or the folder has no test split. `eval_items` cuts
    what is evaluated. Raises ValueError if there is nothing to evaluate at the end.
    """
    present = data.splits(dataset.folder)

    def evaluated(split: str) -> RetrievalDataset:
        return data.load(dataset.folder, split).subset(config.eval_items, seed=config.seed)

    training, watched = dataset, None
    if config.select_on == "test":
        watched = evaluated("test")
    elif "val" in present:
        watched = evaluated("val")
    elif config.select_on == "val":
        held_out, training = hold_out(dataset, config.val_items, config.seed)
        watched = held_out.subset(config.eval_items, seed=config.seed)
    final = evaluated("test") if config.report_on == "test" and "test" in present else watched
    if final is None:
        hint = 'add a val or test split, or set select_on="val"'
        raise ValueError(f"{dataset.name}: no split to report on; {hint}")
    return Splits(training, watched, final)


def hold_out(dataset: RetrievalDataset, n: int, seed: int) -> tuple[RetrievalDataset, RetrievalDataset]:
    """(n items for validation, the rest), by a seeded permutation of ids; n is at most a fifth of the items.

    Raises ValueError for fewer than five items.
    """
    ids = sorted(item.id for item in dataset.items)
    n = min(n, len(ids) // 5)
    if n == 0:
        found = f"no validation split and {len(ids)} training items, expected at least 5 to hold some out"
        raise ValueError(f'{dataset.name}: {found}; use select_on="last" or more items')
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {ids[i] for i in order[:n]}
    held_out = tuple(item for item in dataset.items if item.id in chosen)
    rest = tuple(item for item in dataset.items if item.id not in chosen)
    return replace(dataset, items=held_out, split="train (held out)"), replace(dataset, items=rest)


def epoch_size(dataset: RetrievalDataset, config: TrainConfig) -> tuple[int, int]:
    """(examples, steps) of an epoch; an example is an (item, caption) pair or an item, as `epoch_unit` says.

    A last, smaller batch is dropped, as in the authors' code; a set smaller than one batch is one step.
    """
    examples = len(dataset.captions) if config.epoch_unit == "captions" else len(dataset)
    return examples, max(1, examples // config.batch_size)


def describe_epoch(dataset: RetrievalDataset, config: TrainConfig) -> str:
    """One line: what an epoch counts, how many steps it has and how many steps there are in all.

    Raises ValueError for batches of one example, whose loss is always 0.
    """
    count, steps = epoch_size(dataset, config)
    if min(count, config.batch_size) < 2:
        found = f"{count:,} {config.epoch_unit} in batches of {config.batch_size}"
        raise ValueError(f"{dataset.name}: {found}; one pair has no negatives: expected at least 2")
    pairs = config.epoch_unit == "captions"
    unit = "(item, caption) pairs, each once" if pairs else "items, one caption each"
    size = min(config.batch_size, count)
    return (
        f"an epoch counts {count:,} {unit}: {steps:,} steps of {size} ({count - steps * size} left over); "
        f"epochs × steps: {config.epochs} × {steps:,} = {config.epochs * steps:,} steps"
    )


def epoch_batches(dataset: RetrievalDataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """The batches of one epoch (from 0): indices [B] into `dataset.captions`, from seed and epoch alone."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    if config.epoch_unit == "captions":
        texts = torch.randperm(len(dataset.captions), generator=generator)
    else:
        counts = torch.tensor([len(item.captions) for item in dataset.items])
        first = counts.cumsum(0) - counts
        pick = (torch.rand(len(counts), generator=generator, dtype=torch.float64) * counts).long()
        texts = (first + pick)[torch.randperm(len(counts), generator=generator)]
    size = min(config.batch_size, len(texts))
    return list(texts[: len(texts) // size * size].split(size))


def digest(dataset: RetrievalDataset) -> str:
    """A short hash of ids and captions, in order: equal for equal training data."""
    text = "".join(repr((item.id, item.captions)) for item in dataset.items)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Pixels:
    """Reads media as CLIP's input, with the resizing, crop, mean and deviation of `processor`.

    Of `config` it uses `max_frames`, `fps` (see `cma.media.read_frames`) and `cache`, which keeps the resized
    frames (uint8) in the memory of the process that read them, so that an epoch does not decode them again.
    """

    def __init__(self, processor: CLIPProcessor, config: TrainConfig) -> None:
        self.image_processor = processor.image_processor
        self.config = config
        self.cache: dict[tuple, Tensor] = {}

    def __call__(self, dataset: RetrievalDataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(frames [V, F, 3, H, W] uint8, mask [V, F] int64) of the items at `indices`.

        F is 1 for pictures and `max_frames` for clips; a shorter clip is filled up with black frames that
        have mask 0. Raises `cma.media.MediaError` naming a file that cannot be read.
        """
        clips = [self._frames(dataset, dataset.items[index]) for index in indices]
        most = 1 if dataset.kind == "image" else self.config.max_frames
        frames = torch.zeros(len(clips), most, *clips[0].shape[1:], dtype=torch.uint8)
        mask = torch.zeros(len(clips), most, dtype=torch.long)
        for row, clip in enumerate(clips):
            frames[row, : len(clip)] = clip
            mask[row, : len(clip)] = 1
        return frames, mask

    def _frames(self, dataset: RetrievalDataset, item: Item) -> Tensor:
        """The item's frames [F, 3, H, W], resized and cropped, uint8."""
        key = path, start, end = dataset.path(item), item.start, item.end
        if key in self.cache:
            return self.cache[key]
        pictures = read_media(path, dataset.kind, self.config.max_frames, self.config.fps, start, end)
        raw = to_pixels(pictures, self.image_processor, do_rescale=False, do_normalize=False)
        frames = raw.to(torch.uint8)
        if self.config.cache:
            self.cache[key] = frames
        return frames


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
    statistics = (processor.image_mean, processor.image_std)
    mean, std = (torch.tensor(values, device=model.device).view(3, 1, 1) for values in statistics)
    normal = (frames * processor.rescale_factor - mean) / std
    return normal.masked_fill(~mask.bool()[..., None, None, None], 0.0)


def without_padding(model: RetrievalModel, ids: Tensor) -> Tensor:
    """Token ids [B, L] up to the end of the longest caption.

    CLIP reads a caption at its first end token, and its text tower is causal: what follows changes nothing.
    """
    end = model.clip.config.text_config.eos_token_id
    found = ids if end == 2 else (ids == end).int()  # as `CLIPTextModel`: 2 stands for the highest token
    return ids[:, : int(found.argmax(1).max()) + 1]


def load_media(
    dataset: RetrievalDataset, pixels: Pixels, batches: Sequence[list[int]], workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """(frames [B, F, 3, H, W], mask [B, F]) of each batch of item indices, decoded by `workers` processes.

    Raises `cma.media.MediaError` that names a file that cannot be read, or says that a worker has died.
    """
    own = torch.Generator()  # without it the loader draws from the global random state
    read = partial(_read_or_error, pixels, dataset)  # a worker reads a whole batch
    items = range(len(dataset))
    settings = {"num_workers": workers, "worker_init_fn": end_with_parent, "generator": own}
    loader = DataLoader(items, batch_sampler=batches, collate_fn=read, **settings)
    try:
        for found in loader:
            if isinstance(found, MediaError):
                raise found
            yield found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MediaError(f"{dataset.name}: {error}; use fewer workers, or fewer max_frames") from error


def _read_or_error(pixels: Pixels, dataset: RetrievalDataset, indices: list[int]) -> tuple | MediaError:
    """What `pixels` reads, or why it cannot: an error raised in a worker would arrive with its traceback."""
    try:
        return pixels(dataset, indices)
    except MediaError as error:
        return error


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
