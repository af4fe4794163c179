"""What an icon's name says, which emoji it draws, and the drawing itself."""

import pytest

from data_prep.mini.icons import Wording, drawings, icon_phrase, render

WORDING = {
    "1F98A": Wording("fox", ("fox face",), ("animal",)),
    "1F50C": Wording("electric plug", (), ("power",)),
    "1F1F9-1F1F9": Wording("flag: italy", (), ("it",)),
}


@pytest.mark.parametrize(
    "name, phrase",
    [("hot-dog-outline-24px", "hot dog"), ("parliament-flat", "parliament"), ("uv-index-9-fill", "uv index")],
)
def test_style_words_and_sizes_are_no_caption(name, phrase):
    assert icon_phrase(name) == phrase


def drawn(group, *icons):
    return list(drawings("s", {"icons": {icon: {"body": ""} for icon in icons}}, group, WORDING))


@pytest.mark.parametrize(
    "icon, concept",
    [("fox-face", "1F98A"), ("fox", "1F98A"), ("electricplug", "1F50C"), ("hard-disk", "hard disk"),
     ("flag-for-italy", "1F1F9-1F1F9")],
)  # fmt: skip
def test_emoji_are_found_by_any_of_their_names(icon, concept):
    assert [drawing.concept for drawing in drawn("emoji", icon)] == [concept]


def test_drawings_of_a_set_are_captioned_and_skin_tones_left_out():
    icons = ("fox", "fox-dark-skin-tone", "teapot", "teapot-2")
    assert [(one.concept, one.captions) for one in drawn("emoji", *icons)][:2] == [
        ("1F98A", ("fox", "fox face")),
        ("teapot", ("teapot",)),
    ]
    assert [one.name for one in drawn("mono", *icons)] == ["fox", "teapot"]  # one of each phrase


def test_rendering_keeps_colour_and_alpha():
    body = '<rect width="1" height="1" fill="red"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1">{body}</svg>'
    picture = render(svg, size=40)
    assert picture.shape == (40, 40, 4)
    assert picture[20, 10].tolist() == [255, 0, 0, 255]  # 2:1, so centred from row 10 to 30
    assert picture[20, 30, 3] == 0 and picture[2, 10, 3] == 0


def test_a_broken_drawing_is_an_error():
    with pytest.raises(ValueError):
        render("<svg")
