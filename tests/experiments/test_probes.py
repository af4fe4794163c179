"""Contrast pairs, caption styles and shuffled words."""

import json

import numpy as np
import pytest
import torch

from cma import RetrievalModel, TrainConfig, data
from cma.training import encode, query_ranks
from data_prep.mini.world import RECORDS
from experiments.probes import (
    CHANCE,
    contrast_hits,
    pair_hits,
    recall_by_style,
    share_of_pairs,
    shuffled,
)
from tests.conftest import build_clip
from tests.toy_data import write_images


@pytest.mark.parametrize(
    ("pair", "text", "image"),
    [
        ([[2, 1], [1, 2]], True, True),
        ([[2, 1], [3, 4]], False, True),  # both items score the second caption higher
        ([[2, 3], [1, 4]], True, False),  # both captions score the second item higher
        ([[1, 1], [1, 1]], False, False),
        ([[1, 2], [2, 1]], False, False),
    ],
)
def test_a_pair_is_told_apart_by_text_by_image_or_by_both(pair, text, image):
    similarity = torch.full((6, 6), 9.0)  # what other pairs score does not matter
    similarity[2:4, 2:4] = torch.tensor(pair)
    hits = {name: hit[1] for name, hit in pair_hits(similarity).items()}
    assert hits == {"text": text, "image": image, "group": text and image}


def test_twins_are_scored_by_kind(tmp_path, toy_processor):
    contrasts = data.load(write_images(tmp_path / "twins", {"test": 8}, captions=1), "test")
    model, config = RetrievalModel(build_clip(), toy_processor), TrainConfig()
    records = tmp_path / "twins" / "media" / RECORDS
    lines = [json.dumps({"id": f"{kind}-0-a"}) for kind in ("order", "count") for _ in range(4)]
    records.write_text("\n".join(lines) + "\n")
    encoded = encode(model, contrasts, config)
    found = contrast_hits(encoded, contrasts, config)
    assert list(found) == ["order", "count"]
    assert all(set(of) == set(CHANCE) for of in found.values())
    assert share_of_pairs([0] * 20) == pytest.approx((0, 0, 16.1), abs=0.1)
    records.write_text(lines[0])
    with pytest.raises(ValueError, match="1 records / 8 items"):
        contrast_hits(encoded, contrasts, config)


def test_recall_is_told_by_style():
    ranks, owner = [1, 5, 1, 9, 1, 1], [4, 4, 7, 7, 2, 2]
    found = recall_by_style(ranks, owner, ("list", "part"))
    assert found["list"] == (100, 100, 100)
    assert found["part"][0] == pytest.approx(100 / 3) and found["part"][1] < found["part"][2]
    more = recall_by_style(ranks, owner, ("list", "part"), k=5)
    assert more["part"][0] == pytest.approx(200 / 3)
    for order, styles in (([0, 1, 2, 3, 4, 5], "abcd"), ([0, 2, 1, 3, 4, 5], "ab")):
        said = f"6 captions: expected {len(styles)} of each item, one after the other"
        with pytest.raises(ValueError, match=said):
            recall_by_style(ranks, np.array(owner)[order], styles)


def test_shuffled_captions_have_the_same_words(folder, toy_processor):
    dataset = data.load(folder, "test")
    mixed = shuffled(dataset)
    pairs = list(zip(dataset.captions, mixed.captions, strict=True))
    assert all(sorted(one.split()) == sorted(other.split()) for one, other in pairs)
    assert any(one != other for one, other in pairs)
    assert mixed.captions == shuffled(dataset).captions != shuffled(dataset, seed=1).captions
    model, config = RetrievalModel(build_clip(), toy_processor), TrainConfig()
    ranks = query_ranks(encode(model, mixed, config), mixed, config)
    assert len(ranks["text_to_visual"]) == len(pairs)
