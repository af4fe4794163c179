"""The lexicon, and what the lots decide."""

from collections import Counter

import pytest

from data_prep.mini.things import (
    NEW_SHARE,
    PAIR_SHARES,
    STYLES,
    Name,
    pair_split,
    read_things,
)


@pytest.fixture(scope="module")
def lexicon():
    return read_things()


def test_names_are_said_with_article_size_and_number():
    scissors, owl = Name("a pair of", "scissors", "pairs of scissors"), Name("an", "owl", "owls")
    assert [scissors.one(), scissors.one("big"), scissors.one(definite=True)] == [
        "a pair of scissors",
        "a big pair of scissors",
        "the pair of scissors",
    ]
    assert [owl.one(), owl.one("small"), owl.one("small", definite=True)] == [
        "an owl",
        "a small owl",
        "the small owl",
    ]


def test_the_lots_share_out_things_pairs_and_drawings(lexicon):
    new = sum(thing.is_new for thing in lexicon.values())
    assert new / len(lexicon) == pytest.approx(NEW_SHARE, abs=0.04)
    held = Counter(thing.held_style for thing in lexicon.values())
    assert all(held[style] / len(lexicon) == pytest.approx(1 / 3, abs=0.06) for style in STYLES)
    codes = list(lexicon)[:100]
    pairs = Counter(pair_split(one, other) for one in codes for other in codes if one < other)
    for split, share in PAIR_SHARES.items():
        assert pairs[split] / pairs.total() == pytest.approx(share, abs=0.02)
    assert pair_split("1f98a", "26bd") == pair_split("26bd", "1f98a")


def test_no_drawing_of_a_known_thing_both_trains_and_tests(lexicon):
    for thing in lexicon.values():
        train, test = set(thing.styles("train")), set(thing.styles("test"))
        assert train | test == set(STYLES)
        assert thing.is_new or (
            len(test) == 1 and train.isdisjoint(test) and test == set(thing.styles("val"))
        )
