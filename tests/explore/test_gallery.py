"""A gallery builds an index when it is first asked for, and again only when the adapter changed."""

import re

import pytest
import torch

from cma.explore.gallery import Gallery, label
from cma.search.index import MediaIndex
from tests.toy_galleries import build_galleries


@pytest.fixture
def gallery(tmp_path):
    return build_galleries(tmp_path)["pictures"]


@pytest.fixture
def built(monkeypatch):
    """How often an index was built."""
    calls, build = [], MediaIndex.build.__func__
    counted = classmethod(lambda cls, *a, **k: calls.append(k) or build(cls, *a, **k))
    monkeypatch.setattr(MediaIndex, "build", counted)
    return calls


def test_each_index_is_built_once(gallery, built):
    assert not gallery.has(None) and not gallery.has("a")
    zero_shot = gallery.index()
    assert gallery.index() is zero_shot and gallery.index("a", 0) is zero_shot and gallery.has("b", 0.0)
    adapted, half = gallery.index("a"), gallery.index("a", 0.5)
    assert gallery.index("a", 0.5) is half and gallery.index("a", 1) is adapted and len(built) == 3
    assert (zero_shot.adapter, adapted.adapter, half.adapter) == (None, "a", "a")
    assert (adapted.scale, half.scale) == (1.0, 0.5)
    assert list(gallery.indexes([None, "b", "a"], 0.5)) == ["zero-shot", "b × 0.5", "a × 0.5"]
    assert gallery.model.active is None and gallery.model.scale == 1.0


def test_the_way_from_clip_to_the_adapter_is_walked(gallery):
    zero_shot, half, adapted = (gallery.index("a", scale).scores(["a cat"]) for scale in (0, 0.5, 1))
    assert not torch.allclose(half, zero_shot) and not torch.allclose(half, adapted)
    gallery.model.set_adapter("a", 0.5)
    torch.testing.assert_close(MediaIndex.build(gallery.model, gallery.source).scores(["a cat"]), half)


def test_an_adapter_that_was_trained_since_gets_a_new_index(gallery, built):
    old = gallery.index("a")
    before = old.scores(["a cat"])
    with torch.no_grad():
        gallery.model.get_adapter("a").shared_weight.add_(0.5)
    new = gallery.index("a")
    assert new is not old and len(built) == 2
    assert not torch.allclose(new.scores(["a cat"]), before)
    with pytest.raises(ValueError, match="changed since"):
        old.query("a cat")
    assert new.query("a cat")


def test_indexes_are_kept_in_a_folder(gallery, tmp_path, monkeypatch):
    first = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    expected = {scale: first.index("a", scale).query("a cat") for scale in (0.0, 0.5, 1.0)}
    again = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    monkeypatch.setattr(type(gallery.model), "encode_images", None)  # nothing is embedded again
    assert {scale: again.index("a", scale).query("a cat") for scale in (0.0, 0.5, 1.0)} == expected


@pytest.mark.parametrize("name", ["/elsewhere", "one/mine", "a\\b", "zero-shot", "ünï ·", "x" * 300, "?*:"])
def test_an_index_is_kept_in_a_plain_folder_of_its_own(gallery, built, tmp_path, name):
    gallery.model.add_adapter(name, gallery.model.get_adapter("a").config)
    kept = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    kept.indexes([None, name, "a"])
    kept.indexes([name], 0.5)
    folders = [call["folder"] for call in built]
    assert len(set(folders)) == 4 and {folder.parent for folder in folders} == {tmp_path / "kept"}
    assert all(re.fullmatch(r"[\w-]{1,50}", folder.name) for folder in folders)


def test_switching_leaves_the_model_as_it_was(gallery):
    gallery.model.set_adapter("b", 0.25)
    assert 0 < gallery.switching_seconds([None, "a"]) < 1
    assert (gallery.model.active, gallery.model.scale) == ("b", 0.25)


def test_labels():
    assert [label(None), label("a", 0), label("a"), label("a", 0.25)] == [
        "zero-shot",
        "zero-shot",
        "a",
        "a × 0.25",
    ]


def test_an_adapter_that_is_not_there_is_an_error(gallery):
    with pytest.raises(ValueError, match="no adapter 'c'; there are: a, b"):
        Gallery(gallery.model, gallery.source, adapter="c")
    with pytest.raises(ValueError, match="no adapter 'c'"):
        gallery.index("c")
