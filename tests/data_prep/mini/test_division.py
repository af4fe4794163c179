"""What trains and what is held out: no caption of a test item is nearly one that it was trained on."""

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.mini import division
from data_prep.mini.division import clip_split, divide, is_near, still_split, word_set
from data_prep.mini.emoji import Emoji

WORDS = ["fox", "foxes", "red", "animal", "animals", "wild", "tail", "den"]
SOME = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
CAPTIONS = st.lists(SOME.map(" ".join), min_size=1, max_size=5, unique=True).map(tuple)
CONCEPTS = st.lists(CAPTIONS, min_size=1, max_size=4).map(
    lambda all: [Emoji(str(code), captions[0], captions) for code, captions in enumerate(all)]
)


@pytest.mark.parametrize(
    "caption, trained, near",
    [
        ("fox", "fox face", True),  # contained
        ("Foxes, face", "fox face", False),  # "foxe" is another word: of a plural only the s is cut
        ("eyes", "big eye", True),
        ("animal, fox", "fox face", False),  # one of three words
        ("animal, fox, face", "fox face", True),  # two of three
        ("red fox tail wild", "fox red den house", False),  # two of six
        ("red fox tail", "fox red tail den house bush", True),
    ],
)
def test_near_is_contained_or_overlaps_by_half(caption, trained, near):
    assert is_near(word_set(caption), [word_set("another thing"), word_set(trained)]) is near


def naive_words(text):
    return {re.sub("s$", "", word) for word in text.split()}


@given(CONCEPTS)
def test_every_caption_is_in_one_part_and_what_is_held_out_is_new(emoji):
    found = divide(emoji)
    assert found == divide(emoji[::-1])
    everywhere = [naive_words(text) for parts in found.values() for text in parts.trained]
    for one in emoji:
        trained, held_out, near = found[one.code]
        assert sorted(trained + held_out + near) == sorted(one.captions)
        assert len(trained) == max(1, len(one.captions) // 2)
        for text in held_out:
            words = naive_words(text)
            assert words not in everywhere
            for other in map(naive_words, trained):
                assert not words <= other and len(words & other) / len(words | other) < 0.5


def test_the_captions_that_train_are_those_that_leave_most_of_the_others():
    captions = ("red fox", "fox", "den, tail, wild, burrow", "den, tail, wild, hole, red fox face")
    parts = divide([Emoji("1f98a", "red fox", captions)])["1f98a"]

    def left(trained):
        own = list(map(word_set, trained))
        return sum(not is_near(word_set(text), own) for text in captions if text not in trained)

    assert len(parts.held_out) == left(parts.trained) == max(map(left, combinations(captions, 2))) > 0
    assert min(map(left, combinations(captions, 2))) < len(parts.held_out)


@given(st.lists(st.sampled_from(["", "man ", "woman "]), min_size=1), st.integers(0, 400))
def test_twins_share_a_split(people, number):
    labels = [f"{who}profession {number}" for who in people]
    assert len({still_split(label) for label in labels}) == len({clip_split(label) for label in labels}) == 1


def test_the_shares_of_the_splits_and_validation_is_the_same_for_stills_and_clips():
    labels = [f"thing {number}" for number in range(8000)]
    still, clip = [still_split(label) for label in labels], [clip_split(label) for label in labels]
    assert set(still) == {"val", "test"}
    assert still.count("val") / 8000 == pytest.approx(division.VAL_SHARE, abs=0.02)
    assert clip.count("train") / 8000 == pytest.approx(division.CLIP_SHARE, abs=0.02)
    assert [one == "val" for one in still] == [one == "val" for one in clip]
