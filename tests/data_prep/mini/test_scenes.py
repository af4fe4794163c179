"""Scenes: where things stand, what their captions say, and of which scenes that is true."""

import random
from collections import Counter

import pytest

from data_prep.mini.caption_styles import (
    CAPTION_STYLES,
    CaptionWriter,
    ceiling,
    describe,
    describe_contrast,
)
from data_prep.mini.scenes import (
    ACROSS,
    BACKGROUNDS,
    DOWN,
    PAIR_KINDS,
    Group,
    Scene,
    contrast_of,
    draw_scene,
)
from data_prep.mini.things import Name, Thing, pair_split, read_things

LEXICON = {
    "fox": Thing("fox", (Name("a", "fox", "foxes"),), "animal"),
    "ball": Thing("ball", (Name("a", "ball", "balls"),), "object"),
    "owl": Thing("owl", (Name("an", "owl", "owls"),), "animal"),
}
FOX_AND_BALLS = Scene("grass", ACROSS, (Group("fox", "flat"), Group("ball", "flat", 2)))


def said(style, scene, times=40):
    """All that a style may say about a scene."""
    return {
        CAPTION_STYLES[style](CaptionWriter(scene, LEXICON, random.Random(n))).text
        for n in range(times)
    }


def scenes(count, split="train"):
    chance, things = random.Random(1), list(read_things().values())
    return [draw_scene(chance, things, split) for _ in range(count)]


@pytest.mark.parametrize(
    ("style", "other", "true"),
    [
        ("place", Scene("grass", ACROSS, FOX_AND_BALLS.groups[::-1]), False),  # places exchanged
        ("place", Scene("grass", DOWN, FOX_AND_BALLS.groups), False),
        ("list", Scene("grass", ACROSS, FOX_AND_BALLS.groups[::-1]), True),
        ("count", Scene("green", ACROSS, FOX_AND_BALLS.groups), True),  # green behind, too
        ("count", Scene("sea", ACROSS, FOX_AND_BALLS.groups), False),
        ("sentence", Scene("green", ACROSS, FOX_AND_BALLS.groups), False),
        ("count", Scene("grass", ACROSS, (Group("fox", "flat"), Group("ball", "flat", 3))), False),
        (
            "sentence",
            Scene("grass", ACROSS, (Group("fox", "flat", 2), Group("ball", "flat", 2))),
            True,
        ),
        ("sentence", Scene("grass", ACROSS, (*FOX_AND_BALLS.groups, Group("owl", "flat"))), True),
    ],
)
def test_a_caption_is_true_of_another_scene_or_not(style, other, true):
    captions = [
        CAPTION_STYLES[style](CaptionWriter(FOX_AND_BALLS, LEXICON, random.Random(n)))
        for n in range(20)
    ]
    assert all(caption.is_true_of(FOX_AND_BALLS) for caption in captions)
    assert {caption.is_true_of(other) for caption in captions} == {true}


def test_the_ceiling_counts_the_scenes_of_which_a_caption_is_true():
    gallery = [FOX_AND_BALLS, Scene("green", ACROSS, FOX_AND_BALLS.groups)]
    captions = [
        [CAPTION_STYLES["count"](CaptionWriter(scene, LEXICON, random.Random(0)))]
        for scene in gallery
    ]
    assert ceiling(captions, gallery) == 50


def test_scenes_show_pairs_of_their_split_alone_and_every_caption_is_true():
    lexicon = read_things()
    for split in ("train", "val", "test"):
        for scene in scenes(150, split):
            codes = [group.code for group in scene.groups]
            assert all(pair_split(a, b) == split for a in codes for b in codes if a < b)
            assert sum(group.count for group in scene.groups) <= 4
            for caption in describe(scene, lexicon, random.Random(0)):
                assert caption.is_true_of(scene), caption


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_twins_differ_in_one_respect_and_are_described_in_the_same_words(kind):
    lexicon, chance, found = read_things(), random.Random(2), 0
    for number, scene in enumerate(scenes(200, "test")):
        contrast = contrast_of(scene, kind, chance)
        if contrast is None:
            continue
        found += 1
        differs = {
            "ground": BACKGROUNDS[scene.ground].colour != BACKGROUNDS[contrast.ground].colour
            and scene.groups == contrast.groups,
            "places": scene.groups == contrast.groups[::-1] and scene.ground == contrast.ground,
            "count": sum(a != b for a, b in zip(scene.groups, contrast.groups, strict=True)) == 1,
        }
        assert differs[kind]
        words = [
            describe_contrast(one, kind, lexicon, number).text.lower().split()
            for one in (scene, contrast)
        ]
        if kind == "places" and all(group.count == 1 for group in scene.groups):
            assert Counter(word.strip(".,") for word in words[0]) == Counter(
                word.strip(".,") for word in words[1]
            )
    assert found > 30
