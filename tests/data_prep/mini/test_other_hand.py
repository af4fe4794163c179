"""Another hand: other words for our scenes, and our words for other scenes."""

import hashlib
import json
from dataclasses import asdict

import pytest

from data_prep.mini.other_hand import (
    draw_other_hand,
)
from data_prep.mini.pictures import draw_pictures
from data_prep.mini.things import read_things

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
