"""Our caption styles, the other ones and pre-training share no form of sentence."""

import random
import re
from collections.abc import Callable
from itertools import chain
from types import SimpleNamespace

import pytest

from data_prep.mini.caption_styles import describe
from data_prep.mini.other_hand import BEHIND, describe_otherwise
from data_prep.mini.scenes import BACKGROUNDS, draw_scene
from data_prep.mini.things import NUMBERS, read_things
from experiments.pretraining.crowds import BACKGROUND_NAMES, COLOUR_FORMS, Crowds

LEXICON = read_things()
KNOWN = [thing for thing in LEXICON.values() if not thing.is_new]
CAPTIONS = 10_000
COLOURS = {background.colour for background in BACKGROUNDS.values()}


def masks() -> dict[str, str]:
    """Every name and way to say what is behind the things (X), and every number (N), in small
    letters. One mark for both, because `orange` is both.
    """
    names = list(chain.from_iterable(thing.names for thing in LEXICON.values()))
    of = {" ".join([*name.article.split()[1:], name.singular]) for name in names}
    said = {name.lower() for name in of.union(*(name[1:] for name in names))}
    backgrounds = {*chain.from_iterable(BACKGROUND_NAMES.values()), *COLOURS}
    backgrounds |= {*chain.from_iterable(BEHIND.values())}
    for background in BACKGROUNDS.values():
        backgrounds |= {background.word, *background.phrases}
    for colour in COLOURS:
        backgrounds |= {form.format(colour) for form in COLOUR_FORMS}
    return dict.fromkeys(backgrounds | said, "X") | dict.fromkeys(NUMBERS.values(), "N")


MASKS = masks()
LONGEST = max(len(text.split()) for text in MASKS)


def masked(caption: str) -> str:
    """The caption in small letters, with the longest names, numbers and grounds masked."""
    words = re.findall(r"[\w'’-]+|[^\w\s]", re.sub(r"\ban\b", "a", caption.lower()))
    kept = []
    while words:
        for length in range(min(LONGEST, len(words)), 0, -1):
            mask = MASKS.get(" ".join(words[:length]))
            if mask:
                break
        kept.append(mask or words[0])
        words = words[length if mask else 1 :]
    return " ".join(kept)


def forms(seed: str, draw: Callable, describe: Callable) -> set[str]:
    """The masked captions that are made of scenes."""
    chance, found = random.Random(seed), []
    while len(found) < CAPTIONS:
        found += describe(draw(chance, KNOWN, "test"), LEXICON, chance)
    return {masked(caption.text) for caption in found}


@pytest.fixture(scope="module")
def first() -> set[str]:
    return forms("first", draw_scene, describe)


@pytest.fixture(scope="module")
def other() -> set[str]:
    return forms("other", draw_scene, describe_otherwise)


def test_masking_leaves_the_form_of_a_sentence():
    assert masked("Two foxes and a wedge of cheese, on the grass.") == "N X and a X , X ."
    assert masked("fox, egg - snow") == masked("Ant, owl - red wall") == "X , X - X"
    assert masked("An owl is behind") == "a X is behind"


def test_the_other_styles_use_no_form_of_the_first(first, other):
    assert len(first) > 100 and len(other) > 50
    assert first.isdisjoint(other)


def test_no_pretraining_caption_that_names_a_background_has_a_form_of_a_style(first, other):
    drawings = [SimpleNamespace(concept=code, group="emoji") for code in LEXICON]
    crowds = Crowds(None, drawings, LEXICON, backgrounds=0.5)
    chance, found = random.Random("crowds"), []
    while len(found) < CAPTIONS:
        caption = crowds.caption(draw_scene(chance, KNOWN, "train"), chance)
        if caption.grounds != frozenset(BACKGROUNDS):
            found.append(masked(caption.text))
    assert not {*found} & (first | other)
