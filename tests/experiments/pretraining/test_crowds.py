"""Scenes of other artists' drawings: what they show, what is said of them, and a step of training
on them.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from data_prep.mini.scenes import GROUNDS
from data_prep.mini.things import Name, Thing, pair_split
from experiments.pretraining import contrastive
from experiments.pretraining.crowds import Crowds
from tests.experiments.pretraining.conftest import CONFIG, corpus


@pytest.fixture(scope="module")
def crowds():
    pixels, drawings = corpus()
    names = {
        drawing.concept: (Name("a", drawing.concept, f"{drawing.concept}s"),)
        for drawing in drawings
    }
    return Crowds(
        pixels, drawings, {code: Thing(code, own, "object") for code, own in names.items()}
    )


def test_scenes_are_the_same_for_one_seed_and_show_pairs_that_train(crowds):
    pictures, contents, captions = crowds.batch(60, 32, seed=3)
    again, *_ = crowds.batch(60, 32, seed=3)
    assert torch.equal(pictures, again)
    assert pictures.shape == (60, 3, 32, 32) and pictures.min() >= 0 and pictures.max() <= 1
    assert not torch.equal(pictures, crowds.batch(60, 32, seed=4)[0])
    codes = [[part.partition("*")[0] for part in content.split(" + ")] for content in contents]
    assert all(pair_split(a, b) == "train" for own in codes for a in own for b in own if a < b)
    said = [caption.lower() for caption in captions]
    assert all(code in caption for own, caption in zip(codes, said, strict=True) for code in own)


def test_captions_are_lists_and_counts_that_name_no_place_and_no_ground(crowds):
    captions = crowds.batch(200, 16, seed=5)[2]
    words = Counter(
        word for caption in captions for word in caption.lower().replace(",", "").split()
    )
    forbidden = {
        "left",
        "right",
        "above",
        "below",
        "top",
        "bottom",
        "background",
        "behind",
        "there",
        "see",
        "shows",
    }
    assert forbidden.isdisjoint(words)
    grounds = {word for name in GROUNDS for word in (name, GROUNDS[name].colour)} - {
        "red",
        "blue",
    }  # in names
    assert grounds.isdisjoint(words)
    assert {"a", "and", "two", "three"} <= words.keys()


def test_a_batch_may_hold_scenes(crowds, tmp_path):
    pixels, drawings = corpus()
    config = replace(CONFIG, scenes=0.5)
    clip, tokenizer, log = contrastive.pretrain(pixels, drawings, config, tmp_path, crowds=crowds)
    assert log[-1]["step"] == config.steps
    alone, *_ = contrastive.pretrain(pixels, drawings, CONFIG, tmp_path / "alone")
    assert not torch.equal(clip.logit_scale, alone.logit_scale)
