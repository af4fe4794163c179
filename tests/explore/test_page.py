"""The page shows what was answered, no text of the media is markup, and previews can be decoded."""

import base64
import io
from dataclasses import replace

import matplotlib
import pytest
from PIL import Image

from cma import RetrievalModel, plots
from cma.explore import answers
from cma.explore import page as pages
from cma.media import MediaError, read_frames, seconds
from cma.search import MediaFile, MediaIndex
from tests.search.test_index import holding
from tests.toy_galleries import HOSTILE, Page, write_hostile
from tests.toy_media import write_animation, write_clip, write_picture

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")


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
    found = answers.search_both(indexes["clips"], "a dog", k=3)
    page = Page(pages.results_html(indexes["clips"], found))
    clips = page.all("video")
    assert len(clips) == 6 and not page.all("img")
    wanted = {"autoplay", "loop", "muted", "playsinline"}
    assert all(wanted < set(clip) and "controls" not in clip and clip["aria-label"] for clip in clips)
    still = Page(pages.results_html(indexes["clips"], found, play=False)).all("video")
    assert len(still) == 6 and all("controls" in clip and "autoplay" not in clip for clip in still)
    assert all(clip["src"].startswith("data:video/mp4;base64,") for clip in clips)
    weights = [hit.weights.tolist() for answer in found.values() for hit in answer.hits]
    bars = [div for div in page.all("div") if div["class"] == "cma-bars"]
    for bar, values in zip(bars, weights, strict=True):
        assert bar["role"] == "img" and bar["aria-label"].endswith(", ".join(f"{v:.2f}" for v in values))
    heights = [float(i["style"].removeprefix("height: ").removesuffix("%")) for i in page.all("i")]
    assert heights == pytest.approx([100 * v / max(values) for values in weights for v in values], abs=0.1)
    assert "query cut" not in page.text
    assert "query cut to the text tower's length" in page_of(indexes["clips"], "a dog " * 20).text


def test_captions_and_file_names_are_text(hostile):
    page = page_of({'<b onclick="x">': hostile}, HOSTILE)
    assert {tag for tag, _ in page.tags} == {
        "div", "section", "b", "figure", "img", "figcaption", "br", "small",
    }  # fmt: skip
    assert HOSTILE in page.text and page.all("img")[0]["alt"] == HOSTILE
    assert page.all("figure")[0]["title"].endswith("a'b\"c<i>&d.png")
    assert "✓ right answer" in page.text
    reason = Page(pages.render("why", "<script>", answers.why(hostile, HOSTILE, 0)))
    asked = Page(pages.render("asked", "data:,", "image", "<i>.png", True))
    assert "script" not in {tag for tag, _ in reason.tags} and HOSTILE.split()[0] in reason.text
    assert "i" not in {tag for tag, _ in asked.tags} and "asked by <i>.png" in asked.text
    for one in (page, reason, asked):
        assert not [name for _, attributes in one.tags for name in attributes if name.startswith("on")]
    alert = Page(pages.render("alert", "<b>no</b>"))
    assert alert.tags == [("p", {"role": "alert"}), ("b", {})] and "<b>no</b>" in alert.text


def test_an_explanation_shows_words_frames_and_weights(indexes):
    index = indexes["clips"]["adapted"]
    found = answers.why(index, "a red boat", 3)
    page = Page(pages.render("why", "adapted", found))
    assert [mark["title"] for mark in page.all("mark")] == [f"{weight:.2f}" for _, weight in found.words]
    assert "a red boat" in page.text and f"cosine {found.score:.3f}" in page.text
    assert len(page.all("img")) == len(found.frames) == 4
    for number, image in enumerate(page.all("img"), start=1):
        assert image["alt"].startswith(f"frame {number} of 4, weight {found.weights[number - 1]:.2f}")
    heights = [float(i["style"].removeprefix("height: ").removesuffix("%")) for i in page.all("i")]
    assert heights == pytest.approx([100 * weight for weight in found.weights], abs=0.1)
    one = Page(pages.render("why", "adapted", answers.why(indexes["pictures"]["adapted"], "a cat", 0)))
    assert len(one.all("img")) == 1 and not one.all("i")


def test_what_could_not_be_read_is_listed():
    assert not pages.render("skipped", ()).strip()
    page = Page(pages.render("skipped", (("<b>.jpg", "empty file"), ("c.mp4", "<i>"))))
    assert page.text.strip().startswith("2 files could not be read")
    assert "<b>.jpg: empty file" in page.text and "c.mp4: <i>" in page.text
    assert {tag for tag, _ in page.tags} == {"details", "summary", "ul", "li"}


def test_grid_has_a_row_a_model_and_marks_the_right_ones(indexes):
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
    plots.plt.close("all")


def test_a_file_that_is_gone_leaves_a_message_in_its_place(hostile):
    file = hostile.files[0]
    hostile.path(file).unlink()
    gone = {"gone": holding(hostile, [replace(file, digest="new")], hostile.frames(0))}
    page = page_of(gone, "a dog")
    assert "cannot be read as a picture" in page.text and not page.all("img")
    figure = pages.results_grid(gone, answers.search_both(gone, HOSTILE))
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
    plots.plt.close("all")


# ---- previews


def preview(path, kind, head, **known) -> bytes:
    uri = pages.data_uri(path, MediaFile(path.name, path.name, kind, **known))
    assert uri.startswith(f"data:{head};base64,")
    return base64.b64decode(uri.partition(",")[2])


def picture_of(path, **known) -> Image.Image:
    """The preview of a picture, decoded."""
    return Image.open(io.BytesIO(preview(path, "image", "image/jpeg", **known)), formats=["JPEG"])


def clip_of(path, **known):
    """The preview of a clip or a folder of frames, as a file."""
    file = path.with_name("preview.mp4")
    file.write_bytes(preview(path, "video", "video/mp4", **known))
    return file


@pytest.mark.parametrize(
    ("name", "mode"), [("p.png", "RGB"), ("p.tif", "CMYK"), ("p.gif", "P"), ("p.png", "RGBA")]
)
def test_a_picture_becomes_a_small_jpeg(tmp_path, name, mode):
    Image.new("RGB", (400, 200), "red").convert(mode).save(tmp_path / name)
    picture = picture_of(tmp_path / name)
    red, green, blue = picture.getpixel((128, 64))
    assert picture.size == (256, 128) and red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize(
    ("name", "frames", "rate", "lasts", "shows"),
    [
        *[(name, 24, 24, 1, pages.FPS) for name in ("c.mp4", "c.mkv", "c.avi")],
        ("slow.mp4", 6, 2, 3, 6),
        ("long.mp4", 90, 10, pages.MOST / pages.FPS, pages.MOST),
    ],
)
def test_a_clip_becomes_an_mp4_of_its_own_speed(tmp_path, name, frames, rate, lasts, shows):
    clip = clip_of(write_clip(tmp_path / name, 1, frames, rate))
    assert seconds(clip) == pytest.approx(lasts, abs=0.1)
    shown = read_frames(clip, 100, None)
    assert len(shown) == pytest.approx(shows, abs=1) and shown[0].size == (64, 48)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_becomes_an_mp4_of_its_own_speed(tmp_path, suffix):
    path = write_animation(tmp_path / f"a{suffix}", [0, 9, 18], [500, 500, 1000])
    assert seconds(clip_of(path)) == pytest.approx(2, abs=0.1)


def test_a_part_of_a_clip_and_a_folder_of_frames(tmp_path):
    clip = write_clip(tmp_path / "c.mp4", 1, frames=36, rate=12)
    assert len(read_frames(clip_of(clip, start=1.0, end=1.5), 100, None)) == 6
    for i in range(3):
        write_picture(tmp_path / "frames" / f"{i}.png", i, size=(301, 99))  # odd sides: H.264 has none
    frames = read_frames(clip_of(tmp_path / "frames"), 100, None)
    assert len(frames) == 3 and frames[0].size == (256, 84)
    folder = MediaFile("frames", "frames", "video")
    assert pages.still(tmp_path / "frames", folder).getpixel((10, 10)) == (0, 128, 0)  # the middle one


def test_a_new_content_has_a_new_preview(tmp_path):
    path = write_picture(tmp_path / "p.png", 0)
    before = picture_of(path, digest="1")
    write_picture(path, 9)
    assert picture_of(path, digest="2").tobytes() != before.tobytes()
    path.unlink()
    with pytest.raises(MediaError, match="p.png"):
        picture_of(path, digest="3")


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 1), (257, 7)])
def test_sizes_at_the_edge(tmp_path, size):
    assert max(picture_of(write_picture(tmp_path / "p.png", 1, size)).size) <= pages.SIDE
    write_picture(tmp_path / "frames" / "0.png", 1, size)
    assert len(read_frames(clip_of(tmp_path / "frames"), 9, None)) == 1
