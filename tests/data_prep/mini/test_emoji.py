import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.mini.emoji import emoji_code, has_skin_tone, make_captions, twin_key


def test_captions_start_with_the_label_and_do_not_repeat_a_spelling():
    found = make_captions(
        "flag: Åland",
        ["flag_åland", "åland", "flag_ax", "ax", "flag_ax2"],
        ["AX", "flag"],
        ["flag_aland", "island", ":D", "flag", "baltic", "nordic"],
    )
    assert found == ("flag: Åland", "åland", "flag ax", "island, flag, baltic, nordic")


def test_tags_that_both_sources_name_come_first_and_long_lists_are_cut():
    tags = ["animal", "barn", "cat", "deer", "elk", "fox", "goat", "horse"]
    found = make_captions("fox", [], tags, ["fox", "goat", "horse"])
    assert found == ("fox", "goat, horse, animal, barn, cat, deer", "goat, horse", "elk, fox")


WORDS = st.text("ab c_", max_size=6)


@given(WORDS, st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=20), st.lists(WORDS, max_size=20))
def test_at_most_five_different_captions(label, shortcodes, tags, keywords):
    found = make_captions(label, shortcodes, tags, keywords)
    assert found[0] == label and len(found) <= 5 and len(set(found)) == len(found)
    known = {word for text in (*shortcodes, *tags, *keywords) for word in text.replace("_", " ").split()}
    assert all(set(caption.replace(",", " ").split()) <= known for caption in found[1:])  # none invented


@pytest.mark.parametrize(
    "twins",
    [
        ["waving hand", "waving hand: light skin tone", "waving hand: medium-dark skin tone"],
        ["person walking", "man walking", "woman walking: facing right", "man walking: dark skin tone"],
        ["man: red hair", "woman: medium skin tone, red hair", "person: red hair"],
        ["kiss", "kiss: man, man", "kiss: woman, man, light skin tone, dark skin tone"],
        ["people holding hands", "men holding hands", "woman and man holding hands: medium skin tone"],
        ["left arrow", "up-right arrow", "left-right arrow"],
        ["leftwards pushing hand", "rightwards pushing hand: light skin tone"],
        ["family", "family: man, woman, girl, boy"],
        ["boy", "girl: dark skin tone", "child"],
        ["merman", "mermaid", "merperson"],
        ["prince", "princess", "person with crown"],
        ["Santa Claus", "Mrs. Claus", "Mx Claus: light skin tone"],
        ["older person", "old man", "old woman"],
        ["men’s room", "women’s room"],
        ["magnifying glass tilted left", "magnifying glass tilted right"],
    ],
)
def test_twins_have_one_key(twins):
    assert len({twin_key(label) for label in twins}) == 1
    others = ["light bulb", "dark", "woman’s hat", "woman’s shoe", "cat", "cat face", "student", "teacher"]
    assert len({twin_key(label) for label in [*others, twins[0]]}) == len(others) + 1


def test_one_code_for_the_many_spellings_of_a_file_name():
    assert emoji_code("23-FE0F-20E3") == emoji_code("0023-20e3") == "0023-20e3"
    assert emoji_code("1F3F4-E0067-E0062-E007F") == emoji_code("1f3f4-e0067_e0062") == "1f3f4-e0067-e0062"
    assert has_skin_tone("1f44b-1f3fd") and not has_skin_tone("1f44b")
