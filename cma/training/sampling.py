"""Which items are trained on, which validate, and the batches of every epoch: all decided by the seed."""

from __future__ import annotations

import dataclasses
import hashlib

import torch
from torch import Tensor

from .. import data
from ..config import TrainConfig
from ..data import RetrievalDataset


def splits_of_a_run(
    dataset: RetrievalDataset, config: TrainConfig
) -> tuple[RetrievalDataset, RetrievalDataset | None]:
    """(training items, the items looked at after each epoch or None).

    `select_on` "test" looks at the test split. Otherwise the val split is used where the folder has one;
    where it has none, "val" holds out `val_items` training items, at most a fifth, and "last" looks at none.
    """
    if config.select_on == "test":
        return dataset, small(data.load(dataset.folder, "test"), config)
    if "val" in data.splits(dataset.folder):
        return dataset, small(data.load(dataset.folder, "val"), config)
    if config.select_on == "last":
        return dataset, None
    held_out, rest = hold_out(dataset, config.val_items, config.seed)
    return rest, small(held_out, config)


def reported(
    dataset: RetrievalDataset, watched: RetrievalDataset | None, config: TrainConfig
) -> RetrievalDataset:
    """The split of the final numbers: test, or what was watched if `report_on` is "val" or there is no test.

    Raises ValueError where there is neither.
    """
    if config.report_on == "test" and "test" in data.splits(dataset.folder):
        return small(data.load(dataset.folder, "test"), config)
    if watched is None:
        raise ValueError(
            f'{dataset.name}: no split to report on; add a val or test split, or set select_on="val"'
        )
    return watched


def small(dataset: RetrievalDataset, config: TrainConfig) -> RetrievalDataset:
    """The split that is evaluated: all of it, or `eval_items` of it in a tiny run."""
    return dataset if config.eval_items is None else dataset.subset(config.eval_items, seed=config.seed)


def hold_out(dataset: RetrievalDataset, n: int, seed: int) -> tuple[RetrievalDataset, RetrievalDataset]:
    """(n items for validation, the rest), by a seeded permutation of ids; n is at most a fifth of the items.

    Items of one id stay on one side. Raises ValueError where fewer than five ids leave nothing to hold out.
    """
    ids = sorted({item.id for item in dataset.items})
    n = min(n, len(ids) // 5)
    if n == 0:
        raise ValueError(
            f"{dataset.name}: no validation split and only {len(ids)} training items, expected at least 5 "
            'to hold some out; use select_on="last" or more items'
        )
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {ids[i] for i in order[:n]}
    inside = tuple(item for item in dataset.items if item.id in chosen)
    outside = tuple(item for item in dataset.items if item.id not in chosen)
    validation = dataclasses.replace(dataset, items=inside, split="train (held out)")
    return validation, dataclasses.replace(dataset, items=outside)


def epoch_length(dataset: RetrievalDataset, config: TrainConfig) -> int:
    """How many examples an epoch counts: (item, caption) pairs, or items."""
    return len(dataset.captions) if config.epoch_unit == "captions" else len(dataset)


def steps_per_epoch(dataset: RetrievalDataset, config: TrainConfig) -> int:
    """Full batches in an epoch: the last, smaller one is dropped as the authors do (a tiny set is one)."""
    return max(1, epoch_length(dataset, config) // config.batch_size)


def describe_epoch(dataset: RetrievalDataset, config: TrainConfig) -> str:
    """What an epoch counts, how many steps it has and how many steps there are in all."""
    pairs, steps = epoch_length(dataset, config), steps_per_epoch(dataset, config)
    unit = (
        "(item, caption) pairs, each once" if config.epoch_unit == "captions" else "items, one caption each"
    )
    size = min(config.batch_size, pairs)
    return (
        f"an epoch counts {pairs:,} {unit}: {steps:,} steps of {size} ({pairs - steps * size} left over); "
        f"epochs × steps: {config.epochs} × {steps:,} = {config.epochs * steps:,} steps"
    )


def epoch_batches(dataset: RetrievalDataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """The batches of one epoch (from 0), indices [B] into `dataset.captions`, from seed and epoch alone."""
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
    found = hashlib.sha256()
    for item in dataset.items:
        found.update(repr((item.id, tuple(item.captions))).encode())
    return found.hexdigest()[:16]
