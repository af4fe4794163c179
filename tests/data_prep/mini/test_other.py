"""The other world: free places, relations that are read from them, and captions that are true."""

import hashlib
import json
import random
import re
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from data_prep.mini.describers import ceiling
from data_prep.mini.other_describers import (
    FREE_HABITS,
    PATTERN_NAMES,
    FreeCaption,
    describe_freely,
    draw_others,
)
from data_prep.mini.other_scenes import (
    AROUND,
    BEHIND,
    DARK,
    LIGHT,
    MOST,
    NEXT_TO,
    PATTERNS,
    FreeScene,
    Spot,
    draw_free_scene,
    free_picture,
    paint_pattern,
)
from data_prep.mini.things import NUMBERS, pair_split, read_things

LEXICON = read_things()
RECORDS = "f2f3f586564b0596e0dc1a6005be5a5ea498d2104f6a171520d09cad7ab06bbe"


@pytest.fixture(scope="module")
def drawn():
    return draw_others(LEXICON)["mini-flickr30k-other"]


def scene(*spots: tuple) -> FreeScene:
    """A scene of (code, x, y, side) in front of red and blue stripes."""
    return FreeScene(
        "stripes", ("red", "blue"), tuple(Spot(code, "flat", *at) for code, *at in spots)
    )


def test_the_records_are_the_same_everywhere(drawn):
    lines = [json.dumps(asdict(one), ensure_ascii=False, sort_keys=True) for one in drawn]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == RECORDS


def test_things_pairs_and_styles_are_those_of_test(drawn):
    assert len(drawn) == 1000 and {one.split for one in drawn} == {"test"}
    for picture in drawn:
        codes = [group.code for group in picture.scene.groups]
        assert not any(LEXICON[code].is_new for code in codes)
        assert all(pair_split(a, b) == "test" for a in codes for b in codes if a < b)
        assert all(s.style == LEXICON[s.code].held_style for s in picture.scene.spots)


def test_every_caption_is_true_and_says_what_it_claims(drawn):
    patterns = {words: name for name, every in PATTERN_NAMES.items() for words in every}
    for picture in drawn:
        assert len(picture.captions) == len(FREE_HABITS)
        names = {code: LEXICON[code].names for code in (s.code for s in picture.scene.spots)}
        for caption in picture.captions:
            assert caption.is_true_of(picture.scene), caption
            said = caption.text.lower()
            for code, number in caption.things:
                forms = {
                    name.singular if number in (None, 1) else name.counted(number)
                    for name in names[code]
                }
                assert any(form.lower() in said for form in forms), caption
            numbers = {NUMBERS[n] for _, n in caption.things if n} | {NUMBERS[caption.total or 1]}
            assert {*re.findall("|".join(rf"\\b{n}\\b" for n in NUMBERS.values()), said)} <= (
                numbers | {"one"}
            )
            a, b = picture.scene.colours
            found = {name for words, name in patterns.items() if words.format(a=a, b=b) in said}
            assert not caption.pattern or caption.pattern in found
            assert all(colour in said for colour in caption.colours)


def test_relations_and_numbers_are_both_common_and_sizes_differ(drawn):
    kinds = Counter(kind for one in drawn for _, kind, _ in one.scene.relations())
    assert min(kinds[kind] for kind in (NEXT_TO, BEHIND, AROUND)) > 100
    claimed = [caption for one in drawn for caption in one.captions]
    assert sum(bool(caption.relations) for caption in claimed) > 1000
    assert sum(bool(caption.pattern) for caption in claimed) > 1500
    totals = Counter(len(one.scene.spots) for one in drawn)
    assert {*totals} == {*range(1, MOST + 1)} and min(totals.values()) > 50
    sides = [spot.side for one in drawn for spot in one.scene.spots]
    assert min(sides) < 0.18 and max(sides) > 0.8
    for one in drawn:
        for spot in one.scene.spots:
            assert spot.side / 2 <= min(spot.x, spot.y, 1 - spot.x, 1 - spot.y) + 0.02


def test_a_perfect_reader_finds_nearly_all(drawn):
    assert ceiling([one.captions for one in drawn], [one.scene for one in drawn]) > 95


ROW = (("fox", 0.2, 0.5, 0.3), ("fox", 0.5, 0.5, 0.3), ("egg", 0.8, 0.52, 0.3))
COVER = (("fox", 0.5, 0.4, 0.5), ("egg", 0.7, 0.6, 0.3))
RING = (
    ("egg", 0.5, 0.5, 0.3),
    ("fox", 0.5, 0.15, 0.2),
    ("fox", 0.2, 0.7, 0.2),
    ("fox", 0.8, 0.7, 0.2),
)


@pytest.mark.parametrize(
    ("spots", "relations"),
    [
        (ROW, {("fox", NEXT_TO, "egg"), ("egg", NEXT_TO, "fox")}),
        (
            (ROW[0], ROW[2], ("fox", 0.5, 0.5, 0.3)),
            {("fox", NEXT_TO, "egg"), ("egg", NEXT_TO, "fox")},
        ),
        ((ROW[0], ROW[2]), set()),  # a gap
        ((ROW[1], ("egg", 0.8, 0.9, 0.2)), set()),  # not level
        ((ROW[0], ("egg", 0.5, 0.5, 0.3), ("fox", 0.8, 0.5, 0.3)), set()),  # between two foxes
        (COVER, {("fox", BEHIND, "egg")}),
        (COVER[::-1], {("egg", BEHIND, "fox")}),  # the painting order
        ((COVER[0], ("egg", 0.5, 0.4, 0.5)), set()),  # nothing is left to see
        (RING, {("fox", AROUND, "egg")}),
        (RING[:3], set()),
        ((*RING[:3], ("fox", 0.5, 0.85, 0.2)), set()),  # on three sides
    ],
)
def test_a_relation_is_read_from_the_places(spots, relations):
    assert {*scene(*spots).relations()} == relations


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        (FreeCaption("", (("fox", 2), ("egg", None))), True),
        (FreeCaption("", (("fox", 3),)), False),
        (FreeCaption("", (("owl", None),)), False),
        (FreeCaption("", (("fox", None),), pattern="stripes", colours=("blue",)), True),
        (FreeCaption("", (("fox", None),), pattern="dots"), False),
        (FreeCaption("", (("fox", None),), colours=("green",)), False),
        (FreeCaption("", (("fox", 2),), total=3), True),
        (FreeCaption("", (("fox", 2),), total=2), False),
        (FreeCaption("", (("fox", 2),), relations=(("fox", NEXT_TO, "egg"),)), True),
        (FreeCaption("", (("fox", 2),), relations=(("fox", BEHIND, "egg"),)), False),
    ],
)
def test_a_caption_is_true_or_not(caption, true):
    assert caption.is_true_of(scene(*ROW)) == true


def test_each_describer_has_a_habit():
    fox, egg = "1f98a", "1f95a"
    shown = scene(*((fox if code == "fox" else egg, *at) for code, *at in COVER))
    said = {
        caption.text
        for n in range(400)
        for caption in describe_freely(shown, LEXICON, random.Random(n))
    }
    assert {
        "My fox behind your egg",
        "Can you spot a fox hidden behind an egg?",
        "A fox peeks out from behind an egg.",
        "I count one egg and one fox",
        "Mostly a striped wall, but also a fox.",
    } <= said


def test_a_picture_is_its_record():
    red, blue = (Image.new("RGBA", (64, 64), colour) for colour in ("red", "blue"))
    shown = replace(scene(*COVER), pattern="halves", colours=("white", "grey"))
    pixels = np.asarray(free_picture(shown, 100, lambda code, *_: red if code == "fox" else blue))
    assert pixels.shape == (100, 100, 3)
    assert pixels[40, 40].tolist() == [255, 0, 0] and pixels[60, 64].tolist() == [0, 0, 255]
    assert abs(int(pixels[2, 2, 0]) - 246) <= 8 and abs(int(pixels[98, 98, 0]) - 186) <= 8


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_shows_both_colours(pattern):
    chance = random.Random(pattern)
    for colours in (("white", "green"), ("black", "red")):
        shown = FreeScene(pattern, colours, (), chance.randrange(99))
        found = np.asarray(paint_pattern(shown, 96)).reshape(-1, 3).astype(int)
        for name in colours:
            near = np.abs(found - (LIGHT | DARK)[name]).max(1) <= 12
            assert near.mean() > 0.02, name


def test_the_ink_can_be_seen_on_every_pair_of_colours():
    things = list(LEXICON.values())[:40]
    for n in range(60):
        shown = draw_free_scene(random.Random(n), [t for t in things if not t.is_new], "test")
        assert {*shown.colours} <= {*LIGHT} or {*shown.colours} <= {*DARK}
