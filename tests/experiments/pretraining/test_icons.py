"""What an icon's name says, which emoji it draws, and the drawing itself."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cma import data
from data_prep.dataset import Counts
from data_prep.mini.emoji import Words
from experiments.drawings import NAME, build_drawings
from experiments.pretraining import icons
from experiments.pretraining.icons import drawings, icon_phrase

WORDING = {
    "1F98A": Words("1F98A", "fox", ("fox face",), ("animal",), ()),
    "1F50C": Words("1F50C", "electric plug", (), ("power",), ()),
    "1F1F9-1F1F9": Words("1F1F9-1F1F9", "flag: italy", (), ("it",), ()),
}


@pytest.mark.parametrize(
    "name, phrase",
    [
        ("hot-dog-outline-24px", "hot dog"),
        ("parliament-flat", "parliament"),
        ("uv-index-9-fill", "uv index"),
    ],
)
def test_style_words_and_sizes_are_no_caption(name, phrase):
    assert icon_phrase(name) == phrase


def drawn(group, *icons):
    return list(drawings("s", {"icons": {icon: {"body": ""} for icon in icons}}, group, WORDING))


def test_emoji_are_found_by_any_of_their_names():
    found = drawn("emoji", "fox-face", "fox", "electricplug", "hard-disk", "flag-for-italy")
    assert [one.concept for one in found] == ["1F98A", "1F98A", "1F50C", "hard disk", "1F1F9-1F1F9"]


def test_drawings_of_a_set_are_captioned_and_skin_tones_left_out():
    icons = ("fox", "fox-dark-skin-tone", "teapot", "teapot-2")
    first, second, *_ = drawn("emoji", *icons)
    assert (first.concept, first.captions) == ("1F98A", ("fox", "fox face"))
    assert (second.concept, second.captions) == ("teapot", ("teapot",))
    assert [one.name for one in drawn("mono", *icons)] == ["fox", "teapot"]  # one of each phrase


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one icon set, fetched instead of the real one."""
    folder = tmp_path / "package"
    (folder / "json").mkdir(parents=True)
    (folder / "collections.json").write_text(json.dumps({"some": {"license": {"spdx": "MIT"}}}))
    bodies = {"fox": '<path d="M0 0h16v16z" fill="red"/>', "plug": "<circle r='9'/>"}
    bodies |= {"empty": "", "no": "<g"}
    content = {"icons": {name: {"body": body} for name, body in bodies.items()}}
    (folder / "json" / "some.json").write_text(json.dumps(content))
    monkeypatch.setattr(icons, "SETS", {"colour": ["some"]})
    monkeypatch.setattr(icons, "emoji_wording", lambda: WORDING)
    monkeypatch.setattr(icons, "fetch", lambda name: folder)
    monkeypatch.setenv("CMA_CACHE", str(tmp_path / "cache"))
    return folder


def test_the_corpus_is_what_can_be_drawn_and_is_rendered_once(package, monkeypatch, capsys):
    pixels, found = icons.build(workers=1)
    assert pixels.shape == (2, 80, 80, 4) and [row.name for row in found] == ["fox", "plug"]
    assert [row.concept for row in found] == ["1F98A", "plug"]
    assert "2 drawn / 4 chosen" in capsys.readouterr().out
    monkeypatch.setattr(icons, "fetch", None)
    again, rows = icons.build(workers=1)
    assert rows == found and np.array_equal(again, pixels)


def test_a_set_whose_licence_does_not_permit_it_is_refused(package):
    (package / "collections.json").write_text(
        json.dumps({"some": {"license": {"spdx": "GPL-3.0"}}})
    )
    with pytest.raises(ValueError, match=r"some: licence GPL-3\.0, expected one of"):
        icons.choose()


def test_the_artists_of_the_benchmarks_and_of_openmoji_stay_out():
    every = [source for sources in icons.SETS.values() for source in sources]
    assert not [source for source in every if source.startswith(("fluent-emoji", "openmoji"))]


def test_one_drawing_of_a_concept_becomes_a_dataset(package, tmp_path, monkeypatch, capsys):
    (package / "json" / "other.json").write_text((package / "json" / "some.json").read_text())
    licence = {"license": {"spdx": "MIT"}}
    (package / "collections.json").write_text(json.dumps({"some": licence, "other": licence}))
    monkeypatch.setattr(icons, "SETS", {"emoji": ["some"], "colour": ["other"], "mono": []})
    monkeypatch.setattr("experiments.drawings.EXPECTED", {"test": Counts(2, 3)})
    monkeypatch.setattr("experiments.drawings.SEEDS", {"test": 42})
    halves = SimpleNamespace(mix=(("emoji", 0.5), ("colour", 0.5)))
    monkeypatch.setattr("experiments.drawings.PretrainConfig", lambda: halves)
    build_drawings(tmp_path / "data", workers=1)
    drawings = data.load(tmp_path / "data" / NAME, "test")
    items = {item.captions: item for item in drawings.items}
    assert set(items) == {("fox", "fox face"), ("plug",)}
    assert {item.id.partition("-")[0] for item in drawings.items} == {"some", "other"}
    with Image.open(drawings.path(items["fox", "fox face"])) as picture:
        assert picture.size == (80, 80) and picture.getpixel((70, 5)) == (255, 0, 0)
        assert picture.getpixel((5, 70)) == (255, 255, 255)
    monkeypatch.setattr(icons, "build", None)  # it is there: nothing is drawn
    build_drawings(tmp_path / "data")
