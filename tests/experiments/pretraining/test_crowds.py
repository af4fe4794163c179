"""Scenes of other artists' drawings: what they show, what is said of them, and a step of training
on them.
"""

import random
import re
from dataclasses import replace

import pytest
import torch

from data_prep.mini.caption_styles import Caption
from data_prep.mini.scenes import BACKGROUNDS, Scene, draw_scene
from data_prep.mini.things import Name, Thing, pair_split
from experiments.pretraining import contrastive
from experiments.pretraining.crowds import Crowds, truths
from tests.experiments.pretraining.conftest import CONFIG, corpus


def crowds_of(backgrounds: float, at_once: int | None = None) -> Crowds:
    pixels, drawings = corpus()
    names = {one.concept: (Name("a", one.concept, f"{one.concept}s"),) for one in drawings}
    things = {code: Thing(code, own, "object") for code, own in names.items()}
    return Crowds(pixels, drawings, things, backgrounds, at_once)


@pytest.fixture(scope="module")
def crowds():
    return crowds_of(backgrounds=0.0)


def drawn(crowds: Crowds, count: int, seed: int) -> list[tuple[Scene, Caption]]:
    """Scenes as a batch draws them, each with a caption."""
    chance = random.Random(seed)
    scenes = [draw_scene(chance, crowds.things, "train") for _ in range(count)]
    return [(scene, crowds.caption(scene, chance)) for scene in scenes]


def test_scenes_are_the_same_for_one_seed(crowds):
    pictures, captions, right = crowds.batch(60, 32, seed=3)
    again, *_ = crowds.batch(60, 32, seed=3)
    assert torch.equal(pictures, again)
    assert pictures.shape == (60, 3, 32, 32) and pictures.min() >= 0 and pictures.max() <= 1
    assert not torch.equal(pictures, crowds.batch(60, 32, seed=4)[0])
    assert len(captions) == 60 and right.shape == (60, 60) and right.diagonal().all()


def test_scenes_show_pairs_that_train_and_captions_name_what_they_show(crowds):
    for scene, caption in drawn(crowds, 60, seed=3):
        codes = [group.code for group in scene.groups]
        assert all(pair_split(a, b) == "train" for a in codes for b in codes if a < b)
        assert all(code in caption.text.lower() for code in codes)


def test_a_caption_is_right_for_every_scene_of_which_it_is_true(crowds):
    pairs = drawn(crowds_of(backgrounds=0.5), 80, seed=1)
    scenes = [scene for scene, _ in pairs]
    captions = [caption for _, caption in pairs]
    right = truths(captions, scenes)
    naive = [[caption.is_true_of(scene) for scene in scenes] for caption in captions]
    assert torch.equal(right, torch.tensor(naive)) and right.sum() > len(scenes)


def test_the_scenes_of_a_batch_may_share_few_things(crowds):
    def named(crowds: Crowds) -> set[str]:
        captions = " ".join(crowds.batch(60, 16, seed=2)[1]).lower()
        return {thing.code for thing in crowds.things if thing.code in captions}

    assert len(named(crowds_of(backgrounds=0.0, at_once=8))) <= 8 < len(named(crowds))


FORBIDDEN = {"left", "right", "above", "below", "top", "bottom", "behind", "there", "see", "shows"}
FORBIDDEN |= {"small", "big"}  # of things; "a small picture showing" is about the picture
IN_NAMES = {"red", "blue"}


def words_of(captions: list[str]) -> set[str]:
    return {
        word
        for caption in captions
        for word in re.findall(r"[a-z]+", caption.lower().replace("a small picture showing", ""))
    }


def test_captions_say_no_place_and_no_size_and_the_background_only_if_asked(crowds):
    backgrounds = {word for name in BACKGROUNDS for word in (name, BACKGROUNDS[name].colour)} | {
        "background"
    }
    backgrounds -= IN_NAMES
    silent = words_of([caption.text for _, caption in drawn(crowds, 300, seed=5)])
    assert FORBIDDEN.isdisjoint(silent) and backgrounds.isdisjoint(silent)
    assert {"a", "and", "two", "three"} <= silent
    telling = words_of([one.text for _, one in drawn(crowds_of(backgrounds=1.0), 300, seed=5)])
    assert FORBIDDEN.isdisjoint(telling) and backgrounds <= telling | {"sand"}


def test_a_named_ground_is_what_the_caption_claims():
    for scene, caption in drawn(crowds_of(backgrounds=1.0), 200, seed=6):
        assert scene.ground in caption.grounds and len(caption.grounds) < len(BACKGROUNDS)


def test_a_batch_may_hold_scenes(crowds, tmp_path):
    pixels, drawings = corpus()
    config = replace(CONFIG, scenes=0.5)
    clip, tokenizer, log = contrastive.pretrain(pixels, drawings, config, tmp_path, crowds=crowds)
    assert log[-1]["step"] == config.steps
    alone, *_ = contrastive.pretrain(pixels, drawings, CONFIG, tmp_path / "alone")
    assert not torch.equal(clip.logit_scale, alone.logit_scale)
