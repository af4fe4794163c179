"""Another hand: other words for our scenes, and our words for other scenes."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from data_prep.mini.caption_styles import ceiling
from data_prep.mini.other_hand import (
    BEHIND,
    OTHER_CAPTION_STYLES,
    SHADE,
    LooseScene,
    describe_otherwise,
    draw_other_hand,
    loose_picture,
    paint_loosely,
    place_loosely,
)
from data_prep.mini.pictures import draw_pictures
from data_prep.mini.scenes import ACROSS, BACKGROUNDS, Group, Scene, picture_of
from data_prep.mini.things import pair_split, read_things

LEXICON = read_things()
RECORDS = {
    "mini-flickr30k-words": "e94bb11e9dfa5e8273855da718ace15a7e8553fd4784f0ca52ee4c3be7e37c9a",
    "mini-flickr30k-scenes": "b201cb17d55991886322e49cad4fcdd63d943cf45aece6010349a99a50bf093e",
}


@pytest.fixture(scope="module")
def train():
    return [one for one in draw_pictures(LEXICON)["mini-flickr30k"] if one.split == "train"]


@pytest.fixture(scope="module")
def drawn(train):
    return draw_other_hand(LEXICON, train)


@pytest.mark.parametrize("name", RECORDS)
def test_the_records_are_the_same_everywhere(drawn, name):
    lines = [json.dumps(asdict(one), sort_keys=True, default=sorted) for one in drawn[name]]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == RECORDS[name]


@pytest.mark.parametrize("name", RECORDS)
def test_things_pairs_and_styles_are_those_of_test_and_no_caption_is_of_training(
    drawn, train, name
):
    known = {caption.text for one in train for caption in one.captions}
    assert len(drawn[name]) == 1000 and {one.split for one in drawn[name]} == {"test"}
    for picture in drawn[name]:
        groups = picture.scene.groups
        codes = [group.code for group in groups]
        assert not any(LEXICON[code].is_new for code in codes)
        assert all(pair_split(a, b) == "test" for a in codes for b in codes if a < b)
        assert all(group.style == LEXICON[group.code].held_style for group in groups)
        assert not known & {caption.text for caption in picture.captions}


@pytest.mark.parametrize("name", RECORDS)
def test_every_caption_is_true_and_a_perfect_reader_finds_nearly_all(drawn, name):
    pictures = drawn[name]
    assert all(len(one.captions) == 5 for one in pictures)
    assert all(caption.is_true_of(one.scene) for one in pictures for caption in one.captions)
    assert ceiling([one.captions for one in pictures], [one.scene for one in pictures]) > 90


def test_the_scenes_of_the_two_sets_and_of_the_sets_put_aside_differ(drawn, train):
    aside = draw_other_hand(LEXICON, train[:10], use=" aside")
    scenes = [{one.scene.seed for one in of} for of in (*drawn.values(), *aside.values())]
    assert all(not a & b for a in scenes for b in scenes if a is not b)


def test_each_style_says_what_it_is_for():
    fox, egg = Group("1f98a", "flat"), Group("1f95a", "flat", 2)
    scene = Scene("sand", ACROSS, (fox, egg))
    said = Counter()
    for number in range(400):
        captions = describe_otherwise(scene, LEXICON, random.Random(number))
        said.update(caption.text for caption in captions)
    assert len(captions) == len(OTHER_CAPTION_STYLES)
    for text in (
        "I put a fox and two eggs in front of sand dunes",
        "Who left a fox and two eggs near a sandy shore?",
        "From left to right: a fox, then two eggs.",
        "I count one fox plus two eggs",
        "Mostly hot yellow sand, but also a fox.",
    ):
        assert said[text], text
    assert {*BEHIND} == {*BACKGROUNDS}


def test_things_stand_freely_but_as_the_record_says(drawn):
    grid = 0
    for picture in drawn["mini-flickr30k-scenes"]:
        placed = place_loosely(picture.scene)
        assert len(placed) == sum(group.count for group in picture.scene.groups)
        for _, x, y, side, _ in placed:
            assert side / 2 - 1e-9 <= min(x, y) and max(x, y) <= 1 - side / 2 + 1e-9
        axis = 1 if picture.scene.axis == ACROSS else 2
        groups = picture.scene.groups
        for one, other in zip(groups, groups[1:], strict=False):
            before, after = ([p[axis] for p in placed if p[0] is g] for g in (one, other))
            assert max(before) < min(after)
        grid += len({round(p[1], 2) for p in placed}) < len(placed)
    assert grid < 400  # things of one group rarely stand in one straight line


def test_a_picture_is_its_record():
    red = Image.new("RGBA", (64, 64), "red")
    scene = LooseScene("white", ACROSS, (Group("1f98a", "flat"),), "middle", seed=5)
    pixels = np.asarray(loose_picture(scene, 100, lambda *_: red))
    assert pixels.shape == (100, 100, 3) and pixels[50, 50].tolist() == [255, 0, 0]
    plain = picture_of(scene, 100, lambda *_: red)
    assert pixels.tolist() != np.asarray(plain).tolist()


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_ground_has_two_shades_and_stays_near_its_colour(name):
    background = BACKGROUNDS[name]
    pixels = np.asarray(paint_loosely(name, 3, 96)).reshape(-1, 3).astype(int)
    assert len(np.unique(pixels, axis=0)) > 10
    if background.horizon == 1:
        assert np.abs(pixels - background.above).max() <= SHADE + 13
