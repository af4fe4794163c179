"""The explorer's functions, and that its widget shows what they return."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import pytest
import torch
from toy_data import write_images
from toy_media import write_picture, write_videos

from cma import AdapterConfig, RetrievalModel, explorer, metrics, plots
from cma.explorer import Explorer
from cma.search import MediaIndex

matplotlib.use("Agg")
HOSTILE = '<img src=x onerror="alert(1)"> $x_ & "cat\''


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, toy_processor):
    """Zero-shot and adapted indexes of pictures and of clips, by dataset."""
    from conftest import build_clip

    folder = tmp_path_factory.mktemp("explorer")
    sources = {
        "pictures": write_images(folder / "pictures", {"test": 14}),
        "clips": write_videos(folder / "clips", {"test": 5}),
    }
    torch.manual_seed(0)
    model = RetrievalModel(build_clip(), toy_processor)
    model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8, init_std=0.3))
    found = {}
    for name, source in sources.items():
        model.set_adapter(None)
        zero_shot = MediaIndex.build(model, source)
        model.set_adapter("a")
        found[name] = {"zero-shot": zero_shot, "adapted": MediaIndex.build(model, source)}
    model.set_adapter(None)
    return found


@pytest.fixture
def hostile(tmp_path, toy_clip, toy_processor):
    """An index whose captions and file name try to be markup."""
    name = "a'b\"c<i>&d.png"
    write_picture(tmp_path / "media" / name, 3)
    line = {"file_name": f"media/{name}", "id": "1", "captions": [HOSTILE, HOSTILE * 2], "split": "test"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "dataset.json").write_text('{"kind": "image"}')
    return MediaIndex.build(RetrievalModel(toy_clip, toy_processor), tmp_path)


class Page(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_answers_are_the_index_s_own(indexes):
    answers = explorer.search_both(indexes["pictures"], "a red cat", k=4)
    assert list(answers) == ["zero-shot", "adapted"]
    for label, answer in answers.items():
        index = indexes["pictures"][label]
        assert [(hit.file.file_name, hit.score) for hit in answer.hits] == index.query("a red cat", k=4)
        assert [hit.rank for hit in answer.hits] == [1, 2, 3, 4]
        assert [hit.right for hit in answer.hits] == ["a red cat" in hit.file.captions for hit in answer.hits]
        everything = [name for name, _ in index.query("a red cat", k=99)]
        right = [index.files[item].file_name for item in index.right("a red cat")]
        assert answer.right_rank == 1 + min(everything.index(name) for name in right)
        assert answer.items == 14 and answer.seconds > 0
    assert explorer.ask(indexes["pictures"]["adapted"], "no caption of any").right_rank is None


def test_the_page_shows_models_side_by_side_and_marks_the_right_answer(indexes):
    answers = explorer.search_both(indexes["pictures"], "a red cat", k=14)
    page = Page(explorer.results_html(indexes["pictures"], answers))
    assert [section["aria-label"] for section in page.all("section")] == ["zero-shot", "adapted"]
    assert len(page.all("img")) == 28
    right = len(indexes["pictures"]["zero-shot"].right("a red cat"))
    assert right and page.text.count("✓ right answer") == 2 * right
    assert [f["class"] for f in page.all("figure")].count("cma-right") == 2 * right
    for label, answer in answers.items():
        assert f"right answer at rank {answer.right_rank}" in page.text.split(label)[1]
    alternatives = [hit.file.captions[0] for answer in answers.values() for hit in answer.hits]
    assert [image["alt"] for image in page.all("img")] == alternatives


def test_clips_play_by_themselves(indexes):
    page = Page(explorer.respond(indexes["clips"], "a dog", k=3))
    clips = page.all("video")
    assert len(clips) == 6 and not page.all("img")
    assert all(
        {"autoplay", "loop", "muted", "playsinline"} < set(clip) and clip["aria-label"] for clip in clips
    )
    assert all(clip["src"].startswith("data:video/mp4;base64,") for clip in clips)


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_captions_and_file_names_are_text(hostile):
    page = Page(explorer.respond({'<b onclick="x">': hostile}, HOSTILE))
    allowed = {"style", "div", "section", "b", "figure", "img", "figcaption", "br", "small"}
    assert {tag for tag, _ in page.tags} == allowed
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in page.text and page.all("img")[0]["alt"] == HOSTILE
    assert page.all("figure")[0]["title"].endswith("a'b\"c<i>&d.png")
    assert "✓ right answer" in page.text


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_a_query_that_was_cut_is_said_to_be(indexes):
    assert "query cut to the text tower's length" in explorer.respond(indexes["clips"], "a dog " * 20)
    assert "query cut" not in explorer.respond(indexes["clips"], "a dog")


def test_what_goes_wrong_is_shown(indexes, hostile):
    page = Page(explorer.respond(indexes["pictures"], "  "))
    assert page.tags[0] == ("p", {"role": "alert"}) and "the query is blank" in page.text
    broken = replace(hostile, vectors=hostile.vectors[:, :5])
    assert Page(explorer.respond({"broken": broken}, "a dog")).tags[0] == ("p", {"role": "alert"})
    file = hostile.files[0]
    hostile.path(file).unlink()
    page = Page(explorer.respond({"gone": replace(hostile, files=(replace(file, digest="new"),))}, "a dog"))
    assert "cannot be read as a picture" in page.text and not page.all("img")


def test_rank_changes_against_the_sorted_scores(indexes):
    before, after = indexes["clips"]["zero-shot"], indexes["clips"]["adapted"]
    changes = explorer.rank_changes(before, after)
    assert sorted(change.caption for change in changes) == sorted(before.captions)
    for change in changes:
        for index, rank in ((before, change.before), (after, change.after)):
            scores = index.scores([change.caption])[0].tolist()
            assert rank == 1 + sum(score > scores[index.files.index(change.file)] for score in scores)
    factors = [change.before / change.after for change in changes]
    assert factors == sorted(factors, reverse=True) and factors[0] > 1 > factors[-1]
    ranks = metrics.ranks(after.scores(after.captions), after.text_to_item)
    assert sorted(change.after for change in changes) == sorted(ranks.tolist())
    with pytest.raises(ValueError, match=r"different files \(5 and 14\)"):
        explorer.rank_changes(before, indexes["pictures"]["adapted"])


def test_examples_are_captions_and_the_same_each_time(indexes):
    index = indexes["clips"]["zero-shot"]
    found = explorer.examples(index, n=3)
    assert len(set(found)) == 3 and set(found) <= set(index.captions)
    assert found == explorer.examples(index, n=3)
    assert len(explorer.examples(index, n=99)) == 5


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_grid_has_a_row_a_model_and_marks_the_right_ones(indexes, hostile):
    answers = explorer.search_both(indexes["clips"], "clip 2 of test", k=5)
    figure = explorer.results_grid(indexes["clips"], answers)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 10
    assert [axis.get_ylabel() for axis in shown] == ["zero-shot", *[""] * 4, "adapted", *[""] * 4]
    hits = [hit for answer in answers.values() for hit in answer.hits]
    assert any(hit.right for hit in hits)
    for axis, hit in zip(shown, hits, strict=True):
        assert axis.get_xlabel().startswith(f"{hit.rank}. {hit.score:.3f}")
        assert axis.spines["left"].get_visible() == hit.right
    hostile.path(hostile.files[0]).unlink()
    figure = explorer.results_grid({"one": hostile}, explorer.search_both({"one": hostile}, HOSTILE))
    figure.canvas.draw()  # a lone $ would be read as mathematics
    plots.plt.close("all")


# ---- the widget


def test_the_widget_answers_at_once_and_again(indexes):
    widget = Explorer(indexes, query="a red cat", k=3)
    expected = explorer.respond(indexes["pictures"], "a red cat", 3)
    assert stripped(widget.results.value) == stripped(expected)
    widget.text.value = "a dog"
    assert stripped(widget.results.value) == stripped(explorer.respond(indexes["pictures"], "a dog", 3))
    widget.results.value = ""
    widget.button.click()
    assert stripped(widget.results.value) == stripped(explorer.respond(indexes["pictures"], "a dog", 3))


def test_a_page_without_widgets_says_what_is_missing(indexes):
    shown = Explorer(indexes, query="a dog")._repr_mimebundle_()
    assert shown["text/plain"].startswith("a query box over pictures, clips: run the notebook")


def test_the_widget_changes_dataset_and_takes_examples(indexes):
    widget = Explorer(indexes)
    assert widget.results.value == ""
    widget.dataset.value = "clips"
    assert widget.results.value == "", "nothing has been asked yet"
    assert widget.example.label == "choose one"
    label, example = widget.example.options[1]
    assert label == example and example in indexes["clips"]["zero-shot"].captions
    widget.example.value = example
    assert widget.text.value == example and widget.example.label == "choose one"
    assert len(Page(widget.results.value).all("video")) == 10
    widget.dataset.value = "pictures"
    assert len(Page(widget.results.value).all("img")) == 10


def test_the_widget_shows_an_error_and_goes_on(indexes):
    widget = Explorer(indexes, query="a dog")
    widget.text.value = " "
    assert 'role="alert"' in widget.results.value
    widget.text.value = "a cat"
    assert 'role="alert"' not in widget.results.value


def stripped(html: str) -> str:
    """The page without its timings."""
    return re.sub(r" · \d+\.\d+ s", "", html)
