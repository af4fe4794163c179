"""Batches and held-out items follow from the seed alone."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cma import TrainConfig
from cma.data import load
from cma.training import sampling
from tests.toy_data import write_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(
        write_images(tmp_path_factory.mktemp("toy") / "data", {"train": 23, "test": 4}, captions=3), "train"
    )


@given(st.integers(1, 80), st.integers(0, 5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_an_epoch_of_captions_has_each_pair_at_most_once(dataset, size, epoch, seed):
    config = TrainConfig(batch_size=size, seed=seed)
    batches = sampling.epoch_batches(dataset, config, epoch)
    assert len(batches) == sampling.steps_per_epoch(dataset, config)
    assert {len(batch) for batch in batches} == {min(size, 69)}
    seen = torch.cat(batches).tolist()
    assert len(set(seen)) == len(seen) == 69 - 69 % min(size, 69)
    assert all(
        torch.equal(a, b)
        for a, b in zip(batches, sampling.epoch_batches(dataset, config, epoch), strict=True)
    )


def test_an_epoch_of_items_has_each_item_once_and_all_captions_in_time(dataset):
    config = TrainConfig(batch_size=23, epoch_unit="items")
    seen = set()
    for epoch in range(30):
        (batch,) = sampling.epoch_batches(dataset, config, epoch)
        assert sorted(dataset.text_to_item[batch].tolist()) == list(range(23))
        seen |= set(batch.tolist())
    assert seen == set(range(69))


@pytest.mark.parametrize("unit", ["captions", "items"])
def test_epochs_and_seeds_differ(dataset, unit):
    orders = {
        tuple(
            torch.cat(
                sampling.epoch_batches(dataset, TrainConfig(seed=seed, epoch_unit=unit), epoch)
            ).tolist()
        )
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


@given(st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_held_out_and_rest_are_the_whole_and_share_nothing(dataset, n, seed):
    held_out, rest = sampling.hold_out(dataset, n, seed)
    assert len(held_out) == min(n, 23 // 5)
    assert sorted([*held_out.items, *rest.items], key=lambda item: item.id) == list(dataset.items)
    assert held_out.items == sampling.hold_out(dataset, n, seed)[0].items
    assert held_out.split != "train"


def test_items_of_one_id_stay_on_one_side(dataset):
    twins = tuple(dataclasses.replace(item, id=f"{i // 2}") for i, item in enumerate(dataset.items))
    held_out, rest = sampling.hold_out(dataclasses.replace(dataset, items=twins), 2, seed=0)
    assert not {item.id for item in held_out.items} & {item.id for item in rest.items}


def test_too_few_items_to_hold_any_out(dataset):
    few = dataclasses.replace(dataset, items=dataset.items[:4])
    with pytest.raises(ValueError, match='only 4 training items.*select_on="last"'):
        sampling.hold_out(few, 10, seed=0)
