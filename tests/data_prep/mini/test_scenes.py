"""Scenes: where things stand, what their captions say, and of which scenes that is true."""

import random

import pytest

from data_prep.mini.caption_styles import (
    CAPTION_STYLES,
    CaptionWriter,
)
from data_prep.mini.scenes import (
    ACROSS,
    DOWN,
    Group,
    Scene,
)
from data_prep.mini.things import Name, Thing

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


def test_relevance_is_the_share_of_claims_that_are_true_of_a_scene_with_one_of_the_things():
    caption = CAPTION_STYLES["sentence"](CaptionWriter(FOX_AND_BALLS, LEXICON, random.Random(0)))
    # a fox, balls, how many balls, the grass
    assert caption.claims(FOX_AND_BALLS) == [True] * 4
    assert caption.relevance(FOX_AND_BALLS) == 1
    assert caption.relevance(Scene("sea", ACROSS, FOX_AND_BALLS.groups)) == 3 / 4
    assert caption.relevance(Scene("grass", ACROSS, (Group("fox", "flat"),))) == 2 / 4
    assert caption.relevance(Scene("grass", ACROSS, (Group("owl", "flat"),))) == 0
