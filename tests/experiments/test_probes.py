"""Contrast pairs: told apart by text, by image, by kind."""

import json

import pytest
import torch

from cma import RetrievalModel, TrainConfig, data
from cma.training import encode
from data_prep.mini.world import RECORDS
from experiments.probes import (
    CHANCE,
    contrast_hits,
    pair_hits,
    share_of_pairs,
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
