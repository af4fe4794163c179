"""Scenes: where things stand, what their captions say, and of which scenes that is true."""

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

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
    paint_background,
    picture_of,
    place,
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


def test_each_style_has_its_way():
    assert said("list", FOX_AND_BALLS) == {
        "fox, balls",
        "balls, fox",
        "fox, balls, grass",
        "balls, fox, grass",
    }
    sentences = said("sentence", FOX_AND_BALLS)
    assert "There is a fox and two balls on the grass." in sentences
    assert "There are two balls and a fox in a meadow." in sentences
    places = said("place", FOX_AND_BALLS)
    assert {"A fox is to the left of two balls.", "Two balls are right of a fox."} <= places
    assert "one fox and two balls, the background is green" in said("count", FOX_AND_BALLS)
    assert {
        "the fox on the left, on the grass",
        "look at the two balls on the right, on a lawn",
    } <= said("part", FOX_AND_BALLS, 400)


def test_one_thing_alone_is_said_with_its_size_and_place():
    scene = Scene("night", DOWN, (Group("owl", "flat", 1, "big"),), "top")
    assert "A big owl is at the top under the stars." in said("place", scene, 100)
    assert said("list", scene) == {"owl, night"}


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


def test_things_are_inside_the_picture_and_in_the_order_of_their_cells():
    for scene in scenes(300):
        placed = place(scene)
        assert all(
            side / 2 <= x <= 1 - side / 2 and side / 2 <= y <= 1 - side / 2
            for _, x, y, side in placed
        )
        axis = 1 if scene.axis == ACROSS else 2
        ends = [[spot[axis] for spot in placed if spot[0] is group] for group in scene.groups]
        assert all(max(before) < min(after) for before, after in zip(ends, ends[1:], strict=False))


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


def test_a_picture_is_its_record():
    red = Image.new("RGBA", (128, 128), (255, 0, 0, 255))
    blue = Image.new("RGBA", (128, 128), (0, 0, 255, 255))
    scene = Scene("white", ACROSS, (Group("fox", "flat"), Group("ball", "flat")), seed=5)
    pixels = np.asarray(picture_of(scene, 64, lambda code, *_: red if code == "fox" else blue))
    assert pixels.shape == (64, 64, 3)
    assert pixels[32, 16].tolist() == [255, 0, 0]
    assert pixels[32, 48].tolist() == [0, 0, 255]
    assert abs(int(pixels[2, 2, 0]) - 250) <= 12
    again = picture_of(scene, 64, lambda code, *_: red if code == "fox" else blue)
    assert np.array_equal(again, pixels)


def test_every_ground_is_painted_and_differs_from_its_neighbours():
    painted = {name: np.asarray(paint_background(name, 3, 48)).astype(int) for name in BACKGROUNDS}
    for one in painted:
        for other in painted:
            assert one == other or np.abs(painted[one] - painted[other]).max() > 20
