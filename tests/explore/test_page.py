"""What the explorer shows is what was answered, and nothing in it is markup but its own."""

from dataclasses import replace

import matplotlib
import pytest
from PIL import Image

from cma import RetrievalModel, plots
from cma.explore import answers
from cma.explore import page as pages
from cma.search.index import MediaIndex
from tests.toy_galleries import HOSTILE, Page, build_galleries, write_hostile

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Zero-shot and adapted indexes, by gallery."""
    galleries = build_galleries(tmp_path_factory.mktemp("pages"))
    return {name: {"zero-shot": one.index(), "adapted": one.index("a")} for name, one in galleries.items()}


@pytest.fixture
def hostile(tmp_path, toy_clip, toy_processor):
    return MediaIndex.build(RetrievalModel(toy_clip, toy_processor), write_hostile(tmp_path))


def page_of(indexes, query, k=5):
    return Page(pages.results_html(indexes, answers.search_both(indexes, query, k)))


def test_each_model_has_its_answers_and_the_right_answer_is_marked(indexes):
    found = answers.search_both(indexes["pictures"], "a red cat", k=14)
    page = Page(pages.results_html(indexes["pictures"], found))
    assert [section["aria-label"] for section in page.all("section")] == ["zero-shot", "adapted"]
    assert len(page.all("img")) == 28
    right = len(indexes["pictures"]["zero-shot"].right("a red cat"))
    assert right and page.text.count("✓ right answer") == 2 * right
    assert [f["class"] for f in page.all("figure")].count("cma-right") == 2 * right
    for label, answer in found.items():
        assert f"right answer at rank {answer.right_rank}" in page.text.split(label)[1]
    hits = [hit for answer in found.values() for hit in answer.hits]
    assert [image["alt"] for image in page.all("img")] == [hit.file.captions[0] for hit in hits]
    assert [figure["data-file"] for figure in page.all("figure")] == [hit.file.file_name for hit in hits]


def test_clips_play_by_themselves_over_the_weights_of_their_frames(indexes):
    page = page_of(indexes["clips"], "a dog", k=3)
    clips = page.all("video")
    assert len(clips) == 6 and not page.all("img")
    wanted = {"autoplay", "loop", "muted", "playsinline"}
    assert all(wanted < set(clip) and "controls" not in clip and clip["aria-label"] for clip in clips)
    found = answers.search_both(indexes["clips"], "a dog", k=3)
    still = Page(pages.results_html(indexes["clips"], found, play=False)).all("video")
    assert len(still) == 6 and all("controls" in clip and "autoplay" not in clip for clip in still)
    assert all(clip["src"].startswith("data:video/mp4;base64,") for clip in clips)
    found = answers.search_both(indexes["clips"], "a dog", k=3)
    weights = [hit.weights.tolist() for answer in found.values() for hit in answer.hits]
    bars = [div for div in page.all("div") if div["class"] == "cma-bars"]
    for bar, values in zip(bars, weights, strict=True):
        assert bar["role"] == "img" and bar["aria-label"].endswith(", ".join(f"{v:.2f}" for v in values))
    heights = [float(i["style"].removeprefix("height: ").removesuffix("%")) for i in page.all("i")]
    assert heights == pytest.approx([100 * v / max(values) for values in weights for v in values], abs=0.1)


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_captions_and_file_names_are_text(hostile):
    page = page_of({'<b onclick="x">': hostile}, HOSTILE)
    assert {tag for tag, _ in page.tags} == {
        "div", "section", "b", "figure", "img", "figcaption", "br", "small",
    }  # fmt: skip
    assert HOSTILE in page.text and page.all("img")[0]["alt"] == HOSTILE
    assert page.all("figure")[0]["title"].endswith("a'b\"c<i>&d.png")
    assert "✓ right answer" in page.text
    reason = Page(pages.why_html("<script>", answers.why(hostile, HOSTILE, 0)))
    asked = Page(pages.asked_html("<i>.png", hostile.path(hostile.files[0]), "image"))
    assert "script" not in {tag for tag, _ in reason.tags} and HOSTILE.split()[0] in reason.text
    assert "i" not in {tag for tag, _ in asked.tags} and "asked by <i>.png" in asked.text
    for one in (page, reason, asked):
        assert not [name for _, attributes in one.tags for name in attributes if name.startswith("on")]
    alert = Page(pages.alert_html(ValueError("<b>no</b>")))
    assert alert.tags == [("p", {"role": "alert"}), ("b", {})] and "<b>no</b>" in alert.text


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_a_query_that_was_cut_is_said_to_be(indexes):
    assert "query cut to the text tower's length" in page_of(indexes["clips"], "a dog " * 20).text
    assert "query cut" not in page_of(indexes["clips"], "a dog").text


def test_a_file_that_is_gone_leaves_a_message_in_its_place(hostile):
    file = hostile.files[0]
    hostile.path(file).unlink()
    page = page_of({"gone": replace(hostile, files=(replace(file, digest="new"),))}, "a dog")
    assert "cannot be read as a picture" in page.text and not page.all("img")


def test_an_explanation_shows_words_frames_and_weights(indexes):
    index = indexes["clips"]["adapted"]
    found = answers.why(index, "a red boat", 3)
    page = Page(pages.why_html("adapted", found))
    assert [mark["title"] for mark in page.all("mark")] == [f"{weight:.2f}" for _, weight in found.words]
    assert "a red boat" in page.text and f"cosine {found.score:.3f}" in page.text
    assert len(page.all("img")) == len(found.frames) == 4
    for number, image in enumerate(page.all("img"), start=1):
        assert image["alt"].startswith(f"frame {number} of 4, weight {found.weights[number - 1]:.2f}")
    heights = [float(i["style"].removeprefix("height: ").removesuffix("%")) for i in page.all("i")]
    assert heights == pytest.approx([100 * weight for weight in found.weights], abs=0.1)
    one = Page(pages.why_html("adapted", answers.why(indexes["pictures"]["adapted"], "a cat", 0)))
    assert len(one.all("img")) == 1 and not one.all("i")


def test_what_could_not_be_read_is_listed(indexes):
    index = indexes["pictures"]["adapted"]
    assert pages.skipped_html(index) == ""
    page = Page(pages.skipped_html(replace(index, skipped=(("<b>.jpg", "empty file"), ("c.mp4", "<i>")))))
    assert page.text.startswith("2 files could not be read")
    assert "<b>.jpg: empty file" in page.text and "c.mp4: <i>" in page.text
    assert {tag for tag, _ in page.tags} == {"details", "summary", "ul", "li"}


def test_what_was_dropped_is_shown_small(indexes):
    index = indexes["clips"]["zero-shot"]
    page = Page(pages.asked_html("mine.mp4", index.path(index.files[0]), "video"))
    assert page.all("video")[0]["aria-label"] == "mine.mp4" and "asked by mine.mp4" in page.text


@pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")
def test_grid_has_a_row_a_model_and_marks_the_right_ones(indexes, hostile):
    found = answers.search_both(indexes["clips"], "clip 2 of test", k=5)
    figure = pages.results_grid(indexes["clips"], found)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 10
    assert [axis.get_ylabel() for axis in shown] == ["zero-shot", *[""] * 4, "adapted", *[""] * 4]
    hits = [hit for answer in found.values() for hit in answer.hits]
    assert any(hit.right for hit in hits)
    for axis, hit in zip(shown, hits, strict=True):
        assert axis.get_xlabel().startswith(f"{hit.rank}. {hit.score:.3f}")
        assert axis.spines["left"].get_visible() == hit.right
    hostile.path(hostile.files[0]).unlink()
    figure = pages.results_grid({"one": hostile}, answers.search_both({"one": hostile}, HOSTILE))
    figure.canvas.draw()  # a lone $ would be read as mathematics
    plots.plt.close("all")


def test_explanations_as_a_figure(indexes):
    found = {label: answers.why(index, "a $ boat", 3) for label, index in indexes["clips"].items()}
    figure = pages.why_figure(found)
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 8
    weights = [weight for one in found.values() for weight in one.weights]
    assert [axis.get_xlabel() for axis in shown] == [f"{weight:.0%}" for weight in weights]
    assert figure.axes[0].get_title(loc="left").startswith("zero-shot, cosine")
    assert all(isinstance(frame, Image.Image) for one in found.values() for frame in one.frames)
    plots.plt.close("all")
