"""The widget shows what the plain functions return, follows its controls, and survives what goes wrong."""

import ipywidgets as widgets
import pytest

from cma import RetrievalModel
from cma.explore import answers, page
from cma.explore.gallery import Gallery
from cma.explore.widget import MOST, Explorer
from tests.conftest import build_clip, build_processor
from tests.toy_galleries import Page
from tests.toy_media import write_clip, write_picture


def shown(widget) -> dict[str, list[str]]:
    """The files in each column."""
    columns, label = {}, None
    for tag, attributes in Page(widget.results.value).tags:
        if tag == "section":
            label = attributes["aria-label"]
            columns[label] = []
        elif tag == "figure":
            columns[label].append(attributes["data-file"])
    return columns


def expected(gallery, query, adapters, scale=1.0, k=5):
    found = answers.search_both(gallery.indexes(adapters, scale), query, k)
    return {label: [hit.file.file_name for hit in answer.hits] for label, answer in found.items()}


def test_the_widget_answers_at_once_and_again(galleries):
    widget = Explorer(galleries, query="a red cat", k=3)
    gallery = galleries["pictures"]
    assert shown(widget) == expected(gallery, "a red cat", [None, "a"], k=3)
    widget.text.value = "a dog"
    assert shown(widget) == expected(gallery, "a dog", [None, "a"], k=3)
    widget.results.value = ""
    widget.button.click()
    assert shown(widget) == expected(gallery, "a dog", [None, "a"], k=3)


def test_without_galleries_or_widgets_it_says_what_is_missing(galleries):
    with pytest.raises(ValueError, match="no galleries were given"):
        Explorer({})
    text = Explorer(galleries)._repr_mimebundle_()["text/plain"]
    assert text.startswith("a query box over pictures, clips: run the notebook")


def test_the_widget_changes_media_and_takes_examples(galleries):
    widget = Explorer(galleries)
    assert widget.results.value == ""
    widget.dataset.value = "clips"
    assert widget.results.value == "", "nothing has been asked yet"
    assert widget.example.value is None
    label, example = widget.example.options[1]
    assert label == example and example in galleries["clips"].index().captions
    widget.example.value = example
    assert widget.text.value == example and widget.example.value is None
    assert len(Page(widget.results.value).all("video")) == 10
    widget.dataset.value = "pictures"
    assert shown(widget) == expected(galleries["pictures"], example, [None, "a"])


def test_columns_follow_the_adapters(galleries):
    widget, gallery = Explorer(galleries, query="a cat"), galleries["pictures"]
    assert [name for name, _ in widget.adapters[0].options] == ["—", "a", "b"]
    assert [control.value for control in widget.adapters] == ["a", None]
    widget.adapters[1].value = "b"
    assert shown(widget) == expected(gallery, "a cat", [None, "a", "b"])
    assert "switching adapters on the one backbone" in widget.status.value
    widget.adapters[0].value = "b"
    assert list(shown(widget)) == ["zero-shot", "b"], "the same adapter twice is one column"
    widget.adapters[0].value = widget.adapters[1].value = None
    assert list(shown(widget)) == ["zero-shot"] and "switching" not in widget.status.value


def test_ranks_follow_the_strength(galleries, capsys):
    widget, gallery = Explorer(galleries, query="a cat"), galleries["clips"]
    widget.dataset.value = "clips"
    for scale in (0.5, 0.0, 0.25, 1.0):
        widget.strength.value = scale
        assert shown(widget) == expected(gallery, "a cat", [None, "a"], scale)
        assert ("embedded in" in widget.status.value) == (scale in (0.5, 0.25)), "once for each strength"
    assert list(shown(widget)) == ["zero-shot", "a"]
    capsys.readouterr()
    widget.strength.value = 0.75
    assert "embedded in" in widget.status.value
    assert capsys.readouterr() == ("", ""), "nothing is printed into the notebook"
    widget.strength.value = 0.0
    assert list(shown(widget)) == ["zero-shot"], "an adapter of no strength is CLIP"


def test_a_dropped_file_asks(galleries, tmp_path):
    widget, gallery = Explorer(galleries, query="a cat"), galleries["pictures"]
    widget.why.value = widget.why.options[6][1]
    for path in (write_picture(tmp_path / "x.png", 3), write_clip(tmp_path / "x.mp4", 2)):
        content = {"name": "<i>my " + path.name, "part": 0, "parts": 1}
        widget.drop.receive(widget.drop, content, [path.read_bytes()])
        assert shown(widget) == expected(gallery, path, [None, "a"])
        assert widget.text.value == "" and widget.why.options == (("—", None),)
        assert widget.reason.value == "", "no words, no reasons"
        assert f"asked by <i>my {path.name}" in Page(widget.status.value).text
    widget.adapters[1].value = "b"
    assert shown(widget) == expected(gallery, path, [None, "a", "b"]), "still asked by the clip"
    widget.text.value = "a dog"
    assert shown(widget) == expected(gallery, "a dog", [None, "a", "b"])


def test_what_cannot_be_asked_is_a_message_and_the_last_query_stays(galleries, tmp_path):
    widget, gallery = Explorer(galleries, query="a cat"), galleries["pictures"]
    good = write_picture(tmp_path / "good.png", 5)

    def drop(content):
        widget.drop.receive(widget.drop, {"name": "x.png", "part": 0, "parts": 1}, [content])

    drop(b"no picture")
    assert 'role="alert"' in widget.status.value and "<b>Error:</b> x.png: cannot be" in widget.status.value
    assert shown(widget) == expected(gallery, "a cat", [None, "a"])
    drop(good.read_bytes())
    drop(b"no picture")
    widget.adapters[1].value = "b"
    assert shown(widget) == expected(gallery, good, [None, "a", "b"]), "a good file still asks"
    widget.text.value = "a dog"
    assert 'role="alert"' not in widget.status.value and shown(widget)["a"]
    widget.text.value = " "
    assert 'role="alert"' in widget.status.value and "blank" in widget.status.value
    widget.adapters[1].value = None
    assert shown(widget) == expected(gallery, "a dog", [None, "a"])


def test_clips_stand_still_where_that_is_chosen(galleries):
    widget = Explorer({"clips": galleries["clips"]}, query="a cat")
    assert all("autoplay" in clip for clip in Page(widget.results.value).all("video"))
    widget.play.value = False
    assert all("controls" in clip for clip in Page(widget.results.value).all("video"))
    widget.text.value = "a dog"
    assert not any("autoplay" in clip for clip in Page(widget.results.value).all("video"))


def test_why_explains_a_result_and_follows_it(galleries):
    widget, gallery = Explorer(galleries, query="a red cat", k=3), galleries["pictures"]
    assert len(widget.why.options) == 7 and widget.reason.value == ""
    label, value = widget.why.options[4]
    item = answers.ask(gallery.index("a"), "a red cat").hits[0].item
    assert value == ("a", item) and label.startswith("a, 1: ")
    widget.why.value = value
    assert widget.reason.value == page.render("why", "a", answers.why(gallery.index("a"), "a red cat", item))
    widget.text.value = "a blue boat"
    kept = ("a", item) in [value for _, value in widget.why.options]
    assert bool(widget.reason.value) == kept and (widget.why.value == ("a", item)) == kept
    widget.why.value = widget.why.options[1][1]
    assert "boat" in Page(widget.reason.value).text
    widget.why.value = None
    assert widget.reason.value == ""


def test_what_clip_misses_is_found_and_asked(galleries):
    widget, gallery = Explorer(galleries), galleries["pictures"]
    widget.find.click()
    changes = answers.rank_changes(gallery.index(), gallery.index("a"))
    better = [change for change in changes if change.after < change.before]
    assert [value for _, value in widget.missed.options[1:]] == [c.caption for c in better[:MOST]]
    assert f"{len(better)} captions rank better with a" in widget.status.value
    first = better[0]
    assert widget.missed.options[1][0] == f"{first.before} → {first.after} {first.caption}"
    widget.missed.value = first.caption
    assert widget.text.value == first.caption
    assert shown(widget) == expected(gallery, first.caption, [None, "a"])
    widget.adapters[0].value = None
    assert len(widget.missed.options) == 1
    widget.find.click()
    assert "choose an adapter first" in widget.status.value


def controls(widget) -> list[widgets.Widget]:
    return [one for row in widget.children for one in (row, *getattr(row, "children", ()))]


def visible(widget) -> set[str]:
    """The names of the controls that are not hidden."""
    seen = [one for one in controls(widget) if one.layout.display != "none"]
    return {name.removeprefix("cma-") for one in seen for name in one._dom_classes}


def test_only_controls_of_use_are_shown(galleries, tmp_path):
    own = {"dataset", "query", "search", "drop", "about", "status", "results", "reason"}
    captions, adapters = {"examples"}, {"adapter-1", "adapter-2", "strength"}
    every = own | captions | adapters | {"find", "missed"}
    widget = Explorer(galleries)
    assert visible(widget) == every
    widget.dataset.value = "clips"
    widget.text.value = "a cat"
    assert visible(widget) == every | {"play", "why"}
    write_picture(tmp_path / "a.png", 1)
    (tmp_path / "b.png").touch()
    bare = RetrievalModel(build_clip(), build_processor())
    widget = Explorer({"mine": Gallery(bare, tmp_path)}, query="a cat")
    assert visible(widget) == own | {"why"}
    assert shown(widget) == {"zero-shot": ["a.png"]}
    assert "1 file could not be read" in widget.status.value and "b.png: empty file" in widget.status.value
    widget.drop.taken(tmp_path / "a.png", "a.png")
    assert "why" not in visible(widget), "no words, no reasons"
    widget = Explorer({"gone": Gallery(bare, tmp_path / "gone")}, query="a cat")
    assert 'role="alert"' in widget.status.value and "no such folder" in widget.status.value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mini", "backbone mini: knows simple drawn scenes, not photographs"),
        ("openai/clip-vit-base-patch32", "backbone openai/clip-vit-base-patch32: knows photographs"),
        ("mini-clips/one", "backbone mini-clips/one"),
        ("{folder}", "backbone my <b>clip"),
        ("", "backbone CLIP"),
    ],
)
def test_the_backbone_is_always_named(galleries, name, said, tmp_path, monkeypatch):
    (tmp_path / "my <b>clip").mkdir()
    config = galleries["pictures"].model.clip.config
    monkeypatch.setattr(config, "name_or_path", name.format(folder=tmp_path / "my <b>clip"))
    htmls = [one for one in controls(Explorer(galleries)) if isinstance(one, widgets.HTML)]
    text = [Page(one.value).text.strip() for one in htmls]
    assert any(one.endswith(said) for one in text), text
