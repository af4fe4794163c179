"""Batches and held-out items follow from the seed alone; media come with their captions."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cma import TrainConfig
from cma.data import load
from cma.media import MediaError, read_frames
from cma.training import Pixels, model_frames, splits
from cma.training.reading import read_batches
from tests.grey_media import write_clip
from tests.toy_data import write_images


@pytest.fixture(scope="module")
def dataset(folder):
    return load(folder, "train")


@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 9))
def test_an_epoch_of_captions_has_each_pair_at_most_once(dataset, size, epoch, seed):
    config = TrainConfig(batch_size=size, seed=seed)
    found = splits.epoch_batches(dataset, config, epoch)
    assert (48, len(found)) == splits.epoch_size(dataset, config)
    assert {len(batch) for batch in found} == {min(size, 48)}
    seen = torch.cat(found)
    assert len(seen.unique()) == len(seen) == 48 - 48 % min(size, 48)
    assert torch.equal(seen, torch.cat(splits.epoch_batches(dataset, config, epoch)))


def test_an_epoch_of_items_has_each_item_once_and_all_captions_in_time(dataset):
    config, seen = TrainConfig(batch_size=24, epoch_unit="items"), set()
    for epoch in range(30):
        (batch,) = splits.epoch_batches(dataset, config, epoch)
        assert sorted(dataset.text_to_item[batch].tolist()) == list(range(24))
        seen |= set(batch.tolist())
    assert seen == set(range(48))


@given(st.integers(1, 50), st.integers(0, 99))
def test_held_out_and_rest_are_the_whole_and_share_nothing(dataset, n, seed):
    held_out, rest = splits.hold_out(dataset, n, seed)
    assert len(held_out) == min(n, 24 // 5)
    assert sorted([*held_out.items, *rest.items], key=lambda item: item.id) == list(dataset.items)
    assert held_out.items == splits.hold_out(dataset, n, seed)[0].items
    assert held_out.split != "train" and held_out.expected is None


@pytest.mark.parametrize(
    "others, settings, sizes",
    [
        ({"val": 5, "test": 6}, {}, (12, 5, 6)),
        ({"val": 5, "test": 6}, {"report_on": "val"}, (12, 5, 5)),
        ({"val": 5, "test": 6}, {"select_on": "test"}, (12, 6, 6)),
        ({"val": 5, "test": 6}, {"eval_items": 4}, (12, 4, 4)),
        ({"test": 6}, {"val_items": 2}, (10, 2, 6)),
        ({"test": 6}, {"select_on": "last"}, (12, None, 6)),
        ({"val": 5}, {"select_on": "last"}, (12, None, 5)),
        ({"val": 5, "test": 6}, {"select_on": "test", "report_on": "val"}, (12, 6, 5)),
        ({"val": 5, "test": 6}, {"select_on": "last", "report_on": "val"}, (12, None, 5)),
    ],
)
def test_which_items_are_trained_on_watched_and_reported(tmp_path, others, settings, sizes):
    folder = write_images(tmp_path / "data", {"train": 12, **others})
    found = splits.choose_splits(load(folder, "train"), TrainConfig(**settings))
    assert tuple(split and len(split) for split in found) == sizes


def test_a_batch_has_each_caption_with_the_pixels_of_its_item(dataset, make_model, config):
    """Pairs of one and the same caption have the same caption id."""
    model = make_model()
    ids, _ = model.tokenize(dataset.captions, 32)
    ids[40] = ids[2]
    pixels = Pixels(model.processor, config)
    order = [torch.tensor([3, 40, 2]), torch.tensor([2, 7])]  # captions 2 and 3 are of item 1
    found = list(read_batches(dataset, ids, pixels, order, 0))
    for batch, texts in zip(found, order, strict=True):
        items = dataset.text_to_item[texts].tolist()
        frames, mask = pixels(dataset, items)
        assert torch.equal(batch.frames, frames) and torch.equal(batch.mask, mask)
        assert torch.equal(batch.input_ids, ids[texts]) and list(batch.item_ids) == items
    one, other = (batch.caption_ids for batch in found)
    assert one[1] == one[2] == other[0] and len({*one.tolist(), *other.tolist()}) == 3


def expected_pixels(processor, pictures):
    return processor.image_processor(pictures, return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("without", [None, "do_normalize", "do_rescale"])
def test_pixels_are_those_of_the_processor_and_the_cache_holds_them(
    tmp_path, toy_processor, model, without, monkeypatch
):
    if without:
        monkeypatch.setattr(toy_processor.image_processor, without, False)
    dataset = load(write_images(tmp_path / "data", {"test": 3}), "test")
    cached = Pixels(toy_processor, TrainConfig(cache=True))
    frames, mask = cached(dataset, [2, 0])
    pictures = [Image.open(dataset.path(dataset.items[i])) for i in (2, 0)]
    wanted = expected_pixels(toy_processor, pictures)[:, None]
    torch.testing.assert_close(model_frames(model, frames, mask), wanted, atol=2e-6, rtol=1e-6)
    assert model_frames(model, wanted, mask) is wanted
    assert frames.dtype == torch.uint8 and mask.tolist() == [[1], [1]] and mask.dtype == torch.int64
    dataset.path(dataset.items[2]).unlink()
    assert torch.equal(cached(dataset, [0, 2])[0], frames.flip(0))
    with pytest.raises(MediaError, match=r"test002\.png"):
        Pixels(toy_processor, TrainConfig())(dataset, [2])


def test_a_short_clip_is_filled_up_with_masked_zeros_and_a_part_is_cut_out(
    tmp_path, toy_processor, model
):
    greys = {"short": [50], "long": [50, 100, 150, 200, 250], "part": [20] * 10 + [220] * 10}
    lines = []
    for name, values in greys.items():
        write_clip(tmp_path / "media" / f"{name}.mp4", values)
        lines.append(
            {"file_name": f"media/{name}.mp4", "id": name, "captions": ["grey"], "split": "val"}
        )
    lines[2] |= {"start": 1.0, "end": 2.0}
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "toy", "kind": "video"}))
    dataset = load(tmp_path, "val")
    raw, mask = Pixels(toy_processor, TrainConfig(max_frames=3, fps=None))(dataset, [0, 1, 2])
    frames = model_frames(model, raw, mask)
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert not frames[0, 1:].any()
    pictures = read_frames(dataset.path(dataset.items[1]), 3, fps=None)
    torch.testing.assert_close(
        frames[1], expected_pixels(toy_processor, pictures), atol=2e-6, rtol=0
    )
    assert frames[2].min() > 1  # light in every frame: nothing of the dark first second
