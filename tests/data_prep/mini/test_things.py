"""The lexicon, and what the lots decide."""

import pytest

from data_prep.mini.things import (
    STYLES,
    read_things,
)


@pytest.fixture(scope="module")
def lexicon():
    return read_things()


def test_no_drawing_of_a_known_thing_both_trains_and_tests(lexicon):
    for thing in lexicon.values():
        train, test = set(thing.styles("train")), set(thing.styles("test"))
        assert train | test == set(STYLES)
        assert thing.is_new or (
            len(test) == 1 and train.isdisjoint(test) and test == set(thing.styles("val"))
        )
