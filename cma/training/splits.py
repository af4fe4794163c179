"""Choose the items that a run trains on and is evaluated on, and their order."""

from __future__ import annotations

import hashlib
import reprlib
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import data
from ..config import TrainConfig
from ..data import RetrievalDataset

HELD_OUT_OF = 5  # without a val split, at most one of 5 training items is held out
FEW = 50  # a recall on fewer items says little


class Splits(NamedTuple):
    """A run's items: for training, for evaluation after each epoch (or None), and at the end."""

    training: RetrievalDataset
    watched: RetrievalDataset | None
    final: RetrievalDataset


def choose_splits(dataset: RetrievalDataset, config: TrainConfig) -> Splits:
    """Choose the items that a run trains on and is evaluated on.

    `watched` is the split that `select_on` names. For "val", if the folder has no val split,
    `val_items` of the training items are held out; for "last" it is None. `final` is the split that
    `report_on` names; without a test split it is the val split, or the held-out items. `eval_items`
    limits both. Raises ValueError if `dataset` is not a train split, if there is nothing to
    evaluate at the end, or if an item has no captions.
    """
    is_split = isinstance(dataset, RetrievalDataset)
    if not is_split or dataset.split != "train":
        found = f"{dataset.name}'s {dataset.split}" if is_split else reprlib.repr(dataset)
        raise ValueError(
            'expected a train split, cma.load_dataset(folder, "train") or '
            f'cma.data.from_pairs(pairs)["train"], not {found}'
        )

    there = dict(dataset.splits or data.load_all(dataset.folder))
    training = dataset
    if config.select_on == "val" and "val" not in there:
        there["val"], training = hold_out(dataset, config.val_items, config.seed)
    if config.select_on == "test" and "test" not in there:
        raise ValueError(f"{dataset.folder}: no test split; expected one for select_on='test'")

    usable = {key: split.subset(config.eval_items, config.seed) for key, split in there.items()}
    watched = usable.get(config.select_on)
    final = usable.get(config.report_on, usable.get("val"))
    if final is None:
        held = ', or set select_on="val"' if len(dataset) >= HELD_OUT_OF else ""
        raise ValueError(f"{dataset.name}: no split to report on; add a val or test split{held}")
    splits = Splits(training, watched, final)
    for split in filter(None, splits):
        split.require_captions()
    return splits


def hold_out(
    dataset: RetrievalDataset, n: int, seed: int
) -> tuple[RetrievalDataset, RetrievalDataset]:
    """Return (n items for validation, the rest), by a seeded order of ids; n is at most a fifth.

    Raises ValueError for fewer than five items.
    """
    ids = sorted(item.id for item in dataset.items)
    n = min(n, len(ids) // HELD_OUT_OF)
    if n == 0:
        last = ', or set select_on="last"' if "test" in dataset.splits else ""
        raise ValueError(
            f"{dataset.name}: no val split and {len(ids)} training items, too few to hold some "
            f"out; add a val split, or items until there are {HELD_OUT_OF}{last}"
        )
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {ids[i] for i in order[:n]}
    held_out = tuple(item for item in dataset.items if item.id in chosen)
    rest = tuple(item for item in dataset.items if item.id not in chosen)
    validation = replace(dataset, items=held_out, split="train (held out)", expected=None)
    return validation, replace(dataset, items=rest)


def epoch_size(dataset: RetrievalDataset, config: TrainConfig) -> tuple[int, int]:
    """Return (examples, steps) of an epoch; an example is a pair or an item, by `epoch_unit`.

    A last, smaller batch is dropped, as in the authors' code; a set smaller than one batch is one
    step.
    """
    examples = len(dataset.captions) if config.epoch_unit == "captions" else len(dataset)
    return examples, max(1, examples // config.batch_size)


def describe_epoch(dataset: RetrievalDataset, config: TrainConfig) -> str:
    """Return one line: what an epoch counts, its steps, and the steps of the whole run.

    Raises ValueError if a batch has only one example, or if all pairs share an item or a caption:
    without a negative the loss would always be 0.
    """
    count, steps = epoch_size(dataset, config)
    size = min(config.batch_size, count)
    if size < 2:
        raise ValueError(
            f"{dataset.name}: {count:,} {config.epoch_unit} in batches of {config.batch_size}; "
            "one pair has no negatives: expected at least 2"
        )
    texts = len(set(as_read(dataset)))
    if config.mask_same_item and 1 in (len(dataset), texts):
        what = "item" if len(dataset) == 1 else "caption"
        raise ValueError(
            f"{dataset.name}: all {count:,} {config.epoch_unit} have one {what}: no pair has "
            "negatives; add items with other captions"
        )
    unit = "items, one caption each"
    if config.epoch_unit == "captions":
        unit = "(item, caption) pairs, each once"
    return (
        f"an epoch counts {count:,} {unit}: {steps:,} steps of {size} "
        f"({count - steps * size} left over); "
        f"epochs × steps: {config.epochs} × {steps:,} = {config.epochs * steps:,} steps"
    )


def as_read(dataset: RetrievalDataset) -> list[tuple[str, ...]]:
    """Return the words of each caption as a tokenizer reads them, equal for equal captions."""
    return [tuple(caption.lower().split()) for caption in dataset.captions]


def remarks(splits: Splits, config: TrainConfig) -> list[str]:
    """Return a line for each unusual property of a run's items."""
    training, watched, final = splits
    examples, _ = epoch_size(training, config)
    lines = []
    if examples < config.batch_size:
        lines.append(f"a batch of {config.batch_size} is reduced to all {examples} examples")
    batches = epoch_batches(training, config, 0)
    texts = as_read(training)
    for distinct, what, ways_out in (
        (
            [len(training.text_to_item[batch].unique()) for batch in batches],
            "items: captions of one item are no negatives",
            'a smaller batch_size or epoch_unit="items" repeats fewer',
        ),
        (
            [len({texts[i] for i in batch.tolist()}) for batch in batches],
            "different captions: items with one caption are no negatives",
            "captions that say how items differ, or a smaller batch_size, leave more",
        ),
    ):
        if 2 * sum(distinct) <= sum(map(len, batches)):
            each = round(sum(distinct) / len(distinct))
            lines.append(f"a batch of {len(batches[0])} pairs has {each} {what}; {ways_out}")
    if watched and config.select_on != "last" and len(watched) < FEW:
        lines.append(
            f"{watched.split}: the epoch is chosen on {len(watched)} items; with fewer than {FEW} "
            "that is mostly chance"
        )
    places = {(training.path(item), item.start, item.end) for item in training.items}
    if again := sum((final.path(item), item.start, item.end) in places for item in final.items):
        lines.append(
            f"{final.split}: {again:,} of {len(final):,} items are trained on, too; their recall "
            "says nothing about new ones"
        )
    return lines


def epoch_batches(dataset: RetrievalDataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """Return an epoch's batches, indices [B] into captions, which depend on seed and epoch (from
    0).
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    if config.epoch_unit == "captions":
        texts = torch.randperm(len(dataset.captions), generator=generator)
    else:  # one caption of each item, drawn again in each epoch
        counts = dataset.text_to_item.bincount()  # the captions of each item
        first = counts.cumsum(0) - counts
        pick = (torch.rand(len(counts), generator=generator, dtype=torch.float64) * counts).long()
        texts = (first + pick)[torch.randperm(len(counts), generator=generator)]
    size = min(config.batch_size, len(texts))
    return list(texts[: len(texts) // size * size].split(size))


def digest(dataset: RetrievalDataset) -> str:
    """Return a short hash of ids and captions in order, equal for equal data."""
    text = "".join(repr((item.id, item.captions)) for item in dataset.items)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
