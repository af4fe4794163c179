"""Scenes of other artists' drawings: what they show, what is said of them, and a step of training
on them.
"""

import random
from dataclasses import replace

import pytest
import torch

from data_prep.mini.describers import Caption
from data_prep.mini.scenes import Scene, draw_scene
from data_prep.mini.things import Name, Thing, pair_split
from experiments.pretraining import contrastive
from experiments.pretraining.crowds import Crowds, truths
from tests.experiments.pretraining.conftest import CONFIG, corpus


def crowds_of(grounds: float, at_once: int | None = None) -> Crowds:
    pixels, drawings = corpus()
    names = {one.concept: (Name("a", one.concept, f"{one.concept}s"),) for one in drawings}
    things = {code: Thing(code, own, "object") for code, own in names.items()}
    return Crowds(pixels, drawings, things, grounds, at_once)


@pytest.fixture(scope="module")
def crowds():
    return crowds_of(grounds=0.0)


def drawn(crowds: Crowds, count: int, seed: int) -> list[tuple[Scene, Caption]]:
    """Scenes as a batch draws them, each with a caption."""
    chance = random.Random(seed)
    scenes = [draw_scene(chance, crowds.things, "train") for _ in range(count)]
    return [(scene, crowds.caption(scene, chance)) for scene in scenes]


def test_scenes_show_pairs_that_train_and_captions_name_what_they_show(crowds):
    for scene, caption in drawn(crowds, 60, seed=3):
        codes = [group.code for group in scene.groups]
        assert all(pair_split(a, b) == "train" for a in codes for b in codes if a < b)
        assert all(code in caption.text.lower() for code in codes)


def test_a_caption_is_right_for_every_scene_of_which_it_is_true(crowds):
    pairs = drawn(crowds_of(grounds=0.5), 80, seed=1)
    scenes = [scene for scene, _ in pairs]
    captions = [caption for _, caption in pairs]
    right = truths(captions, scenes)
    naive = [[caption.is_true_of(scene) for scene in scenes] for caption in captions]
    assert torch.equal(right, torch.tensor(naive)) and right.sum() > len(scenes)


FORBIDDEN = {"left", "right", "above", "below", "top", "bottom", "behind", "there", "see", "shows"}
FORBIDDEN |= {"small", "big"}  # of things; "a small picture showing" is about the picture


def test_a_batch_may_hold_scenes(crowds, tmp_path):
    pixels, drawings = corpus()
    config = replace(CONFIG, scenes=0.5)
    clip, tokenizer, log = contrastive.pretrain(pixels, drawings, config, tmp_path, crowds=crowds)
    assert log[-1]["step"] == config.steps
    alone, *_ = contrastive.pretrain(pixels, drawings, CONFIG, tmp_path / "alone")
    assert not torch.equal(clip.logit_scale, alone.logit_scale)
