"""Batches and held-out items follow from the seed alone; media come with their captions."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cma import TrainConfig
from cma.data import load
from cma.training import batches
from tests.toy_data import write_images


@pytest.fixture(scope="module")
def dataset(folder):
    return load(folder, "train")


@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_an_epoch_of_captions_has_each_pair_at_most_once(dataset, size, epoch, seed):
    config = TrainConfig(batch_size=size, seed=seed)
    found = batches.epoch_batches(dataset, config, epoch)
    assert (48, len(found)) == batches.epoch_size(dataset, config)
    assert {len(batch) for batch in found} == {min(size, 48)}
    seen = torch.cat(found)
    assert len(seen.unique()) == len(seen) == 48 - 48 % min(size, 48)
    assert torch.equal(seen, torch.cat(batches.epoch_batches(dataset, config, epoch)))


def test_an_epoch_of_items_has_each_item_once_and_all_captions_in_time(dataset):
    config, seen = TrainConfig(batch_size=24, epoch_unit="items"), set()
    for epoch in range(30):
        (batch,) = batches.epoch_batches(dataset, config, epoch)
        assert sorted(dataset.text_to_item[batch].tolist()) == list(range(24))
        seen |= set(batch.tolist())
    assert seen == set(range(48))


@pytest.mark.parametrize("unit", ["captions", "items"])
def test_epochs_and_seeds_differ(dataset, unit):
    configs = [TrainConfig(seed=seed, epoch_unit=unit) for seed in (0, 1)]
    orders = [batches.epoch_batches(dataset, config, epoch)[0] for config in configs for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


@given(st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_held_out_and_rest_are_the_whole_and_share_nothing(dataset, n, seed):
    held_out, rest = batches.hold_out(dataset, n, seed)
    assert len(held_out) == min(n, 24 // 5)
    assert sorted([*held_out.items, *rest.items], key=lambda item: item.id) == list(dataset.items)
    assert held_out.items == batches.hold_out(dataset, n, seed)[0].items
    assert held_out.split != "train"


def test_too_few_items_to_hold_any_out(dataset):
    few = dataclasses.replace(dataset, items=dataset.items[:4])
    with pytest.raises(ValueError, match='only 4 training items.*select_on="last"'):
        batches.hold_out(few, 10, seed=0)


@pytest.mark.parametrize(
    "others, settings, sizes",
    [
        ({"val": 5, "test": 6}, {}, (12, 5, 6)),
        ({"val": 5, "test": 6}, {"report_on": "val"}, (12, 5, 5)),
        ({"val": 5, "test": 6}, {"select_on": "test"}, (12, 6, 6)),
        ({"val": 5, "test": 6}, {"eval_items": 4}, (12, 4, 4)),
        ({"test": 6}, {"val_items": 2}, (10, 2, 6)),
        ({"test": 6}, {"select_on": "last"}, (12, None, 6)),
        ({"val": 5}, {"select_on": "last"}, (12, 5, 5)),
    ],
)
def test_which_items_are_trained_on_watched_and_reported(tmp_path, others, settings, sizes):
    folder = write_images(tmp_path / "data", {"train": 12, **others})
    found = batches.choose_splits(load(folder, "train"), TrainConfig(**settings))
    assert tuple(split and len(split) for split in found) == sizes


def test_a_batch_has_each_caption_with_the_pixels_of_its_item(dataset, make_model, config):
    model = make_model()
    ids, _ = model.tokenize(dataset.captions, 32)
    pixels = batches.make_pixels(model, config)
    order = [torch.tensor([3, 40, 2]), torch.tensor([7])]  # captions 2 and 3 are of item 1
    for batch, texts in zip(batches.read_batches(dataset, ids, pixels, order, 0), order, strict=True):
        items = dataset.text_to_item[texts].tolist()
        frames, mask = pixels(dataset, items)
        assert torch.equal(batch.frames, frames) and torch.equal(batch.mask, mask)
        assert torch.equal(batch.input_ids, ids[texts]) and list(batch.item_ids) == items


def test_msrvtt_counts_180000_pairs_and_1406_steps():
    class Many:
        captions = range(180_000)

        def __len__(self):
            return 9_000

    words = batches.describe_epoch(Many(), TrainConfig(batch_size=128, epochs=5))
    assert "180,000 (item, caption) pairs, each once: 1,406 steps of 128 (32 left over)" in words
    assert "7,030 steps" in words
    words = batches.describe_epoch(Many(), TrainConfig(epoch_unit="items"))
    assert "9,000 items, one caption each: 70 steps" in words
