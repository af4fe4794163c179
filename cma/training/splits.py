"""Which items a run trains on and is evaluated on, and in which order it sees them."""

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
from ..files import read_json, read_jsonl


class Splits(NamedTuple):
    """The items of a run: trained on, evaluated after each epoch (or None), and evaluated at the
    end.
    """

    training: RetrievalDataset
    watched: RetrievalDataset | None
    final: RetrievalDataset


def choose_splits(dataset: RetrievalDataset, config: TrainConfig) -> Splits:
    """Return the items of a run on the train split `dataset`; its folder is read once.

    `watched` is the split that `select_on` names. For "val" it is `val_items` of the training
    items, held out from training, if the folder has no val split; for "last" it is None. `final` is
    the test split. If `report_on` is "val" or there is no test split, it is `watched` (unless that
    is test), or else the val split. Of both at most `eval_items` are used. Raises ValueError for a
    dataset that is no train split, if there is nothing to evaluate at the end, and for an item
    without captions.
    """
    is_split = isinstance(dataset, RetrievalDataset)
    if not is_split or dataset.split != "train":
        found = f"{dataset.name}'s {dataset.split}" if is_split else reprlib.repr(dataset)
        raise ValueError(f'expected a train split, cma.load_dataset(folder, "train"), not {found}')

    there = other_splits(dataset)
    usable = {key: split.subset(config.eval_items, config.seed) for key, split in there.items()}
    training = dataset
    watched = usable.get(config.select_on)
    if config.select_on == "val" and watched is None:
        held_out, training = hold_out(dataset, config.val_items, config.seed)
        watched = held_out.subset(config.eval_items, config.seed)
    if config.select_on == "test" and watched is None:
        raise ValueError(f"{dataset.folder}: no test split; expected one for select_on='test'")

    final = None if config.select_on == "test" else watched
    if config.report_on == "test":
        final = usable.get("test", final)
    final = final or usable.get("val")
    if final is None:
        hint = 'add a val or test split, or set select_on="val"'
        raise ValueError(f"{dataset.name}: no split to report on; {hint}")
    splits = Splits(training, watched, final)
    for split in filter(None, splits):
        split.require_captions()
    return splits


def other_splits(dataset: RetrievalDataset) -> dict[str, RetrievalDataset]:
    """Return the val and test splits of a train split's folder, those that it has, from one
    reading.
    """
    about = read_json(dataset.folder / "dataset.json", data.About, data.HINT)
    items = {"val": [], "test": [], "train": []}
    for _, item in read_jsonl(dataset.folder / "metadata.jsonl", data.Item, data.HINT):
        items[item.split].append(item)
    found = {}
    for split in ("val", "test"):
        if items[split]:
            expected = about.counts.get(split, data.Count()).expected
            own = {"split": split, "items": tuple(items[split]), "expected": expected}
            found[split] = replace(dataset, **own)
    return found


def require_negatives(dataset: RetrievalDataset, ids: Tensor, config: TrainConfig) -> None:
    """Raise ValueError if no pair of a training set can be another's negative; `ids` [T, L]: the
    tokens of its captions.

    Pairs of one item, or of one caption, are no negatives of each other, so that the loss is 0.
    """
    alike = "one item" if len(dataset) == 1 else "the same caption for all items"
    if config.mask_same_item and (len(dataset) == 1 or bool((ids == ids[0]).all())):
        remedy = "add items with other captions"
        raise ValueError(f"{dataset.name}: {alike}, so no pair is another's negative; {remedy}")


def hold_out(
    dataset: RetrievalDataset, n: int, seed: int
) -> tuple[RetrievalDataset, RetrievalDataset]:
    """Return (n items for validation, the rest), by a seeded permutation of ids; n is at most a
    fifth.

    Raises ValueError for fewer than five items.
    """
    ids = sorted(item.id for item in dataset.items)
    n = min(n, len(ids) // 5)
    if n == 0:
        problem = f"no validation split and {len(ids)} training items, expected at least 5 to hold some out"
        raise ValueError(f'{dataset.name}: {problem}; use select_on="last" or more items')
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {ids[i] for i in order[:n]}
    held_out = tuple(item for item in dataset.items if item.id in chosen)
    rest = tuple(item for item in dataset.items if item.id not in chosen)
    return replace(dataset, items=held_out, split="train (held out)"), replace(dataset, items=rest)


def epoch_size(dataset: RetrievalDataset, config: TrainConfig) -> tuple[int, int]:
    """Return (examples, steps) of an epoch; an example is an (item, caption) pair or item, by
    `epoch_unit`.

    A last, smaller batch is dropped, as in the authors' code. A set smaller than one batch is one
    step.
    """
    examples = len(dataset.captions) if config.epoch_unit == "captions" else len(dataset)
    return examples, max(1, examples // config.batch_size)


def describe_epoch(dataset: RetrievalDataset, config: TrainConfig) -> str:
    """Return one line: what an epoch counts, how many steps it has and how many steps there are in
    all.

    Raises ValueError for batches of one example, whose loss is always 0.
    """
    count, steps = epoch_size(dataset, config)
    size = min(config.batch_size, count)
    if size < 2:
        batches = f"{count:,} {config.epoch_unit} in batches of {config.batch_size}"
        raise ValueError(
            f"{dataset.name}: {batches}; one pair has no negatives: expected at least 2"
        )
    pairs = config.epoch_unit == "captions"
    unit = "(item, caption) pairs, each once" if pairs else "items, one caption each"
    return (
        f"an epoch counts {count:,} {unit}: {steps:,} steps of {size} ({count - steps * size} left over); "
        f"epochs × steps: {config.epochs} × {steps:,} = {config.epochs * steps:,} steps"
    )


def epoch_batches(dataset: RetrievalDataset, config: TrainConfig, epoch: int) -> list[Tensor]:
    """Return one epoch's batches, indices [B] into `dataset.captions`, from seed and epoch (from 0)
    only.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    if config.epoch_unit == "captions":
        texts = torch.randperm(len(dataset.captions), generator=generator)
    else:  # one caption of each item, drawn anew in each epoch
        counts = torch.tensor([len(item.captions) for item in dataset.items])
        first = counts.cumsum(0) - counts
        pick = (torch.rand(len(counts), generator=generator, dtype=torch.float64) * counts).long()
        texts = (first + pick)[torch.randperm(len(counts), generator=generator)]
    size = min(config.batch_size, len(texts))
    return list(texts[: len(texts) // size * size].split(size))


def digest(dataset: RetrievalDataset) -> str:
    """Return a short hash of ids and captions, in order: equal for equal training data."""
    text = "".join(repr((item.id, item.captions)) for item in dataset.items)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
