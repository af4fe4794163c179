"""The lexicon, and what the lots decide."""

import pytest

from data_prep.mini.things import (
    STYLES,
    Name,
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


def test_no_drawing_of_a_known_thing_both_trains_and_tests(lexicon):
    for thing in lexicon.values():
        train, test = set(thing.styles("train")), set(thing.styles("test"))
        assert train | test == set(STYLES)
        assert thing.is_new or (
            len(test) == 1 and train.isdisjoint(test) and test == set(thing.styles("val"))
        )
