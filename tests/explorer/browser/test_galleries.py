"""Galleries of every kind on the page, which a thread of this process serves."""

import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from cma import RetrievalModel
from explorer import MediaIndex, session
from explorer.gallery import Gallery
from explorer.index import Where
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.serving import PATIENCE, TOKEN, serving
from tests.toy_media import COLOURS, encode, write_clip, write_film, write_picture
from tests.toy_s3 import serving_s3

pytestmark = [pytest.mark.browser, pytest.mark.minis]  # it runs with the other tests in a browser
MINUTES = 60
CLIP = """() => {
  const video = document.querySelector("video");
  const { currentTime, duration, hidden, src } = video;
  return { currentTime, duration, hidden, src };
}"""


@pytest.fixture
def toy_model(toy_clip, toy_processor):
    return RetrievalModel(toy_clip, toy_processor)


@pytest.fixture
def shown(open_page):
    """Open a page over one gallery until the end of the block."""

    @contextmanager
    def shown(name: str, gallery: Gallery):
        with serving({"mine": gallery}) as (port, _), open_page(name) as page:
            page.emulate_media(reduced_motion="reduce")
            one = ExplorerPage(page)
            one.open(f"http://127.0.0.1:{port}/?token={TOKEN}")
            yield one
            assert not one.errors and not one.outside

    return shown


@pytest.fixture
def s3():
    with serving_s3() as address:
        yield address


@pytest.mark.parametrize("at", ["folder", "memory", "s3"])
def test_each_kind_of_index_is_shown_filtered_and_asked_by_a_picture_of_its_own(
    at, toy_model, shown, tmp_path, monkeypatch, request, kept
):
    media = tmp_path / "my media"
    for number, name in enumerate(("a/x.png", "a/b/y.png", "ab/z.png", "v.png")):
        write_picture(media / name, 9 * number)
    write_clip(media / "a" / "clip.mp4", 1)
    index = MediaIndex.build(toy_model, media)
    if at != "memory":
        place = request.getfixturevalue("s3") if at == "s3" else tmp_path / "index"
        MediaIndex.build(toy_model, media, store=place)
        index = MediaIndex.load(place, toy_model)
    opened = []
    monkeypatch.setattr(session.webbrowser, "open", opened.append)
    with shown(f"index-{at}", Gallery(toy_model, index)) as page:
        assert page.tiles.count() == 5, "the newest"
        assert page.ask("a red cat") == {"zero-shot": names(index.query("a red cat", 9))}
        with page.searching():
            page.control("folder").select_option("a")
        of_folder = index.query("a red cat", 9, where=Where(folder="a"))
        assert page.results() == {"zero-shot": names(of_folder)} and len(of_folder) == 3
        with page.searching():
            page.control("kind").select_option("image")
        assert set(page.results()["zero-shot"]) == {"a/x.png", "a/b/y.png"}
        page.previews()
        page.root.locator("[data-file='a/b/y.png']").click()
        page.button("show in its folder").click()
        page.wait_in_viewer("What the model saw")
        with page.searching():
            page.button("more like this").click()
        assert opened == [(media / "a" / "b").as_uri()]  # messages are answered in their order
        asks = page.control("chips").get_by_role("img", name="what asks: a/b/y.png")
        page.until("document.querySelector('[data-part=chips] img').naturalWidth > 0")
        with page.searching():
            page.box.fill("a red cat")
            page.box.press("Enter")
        both = index.query("a red cat", 9, index.files[0], where=Where("image", "a"))
        assert page.results() == {"zero-shot": names(both)} and asks.is_visible()
        page.page.screenshot(path=kept / f"asked-{at}.png")
        with page.searching():
            page.control("chips").get_by_role("button").click()
        assert not asks.is_visible() and page.box.input_value() == "a red cat"


def names(found: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in found]


def test_a_clip_of_an_hour_is_one_result_that_begins_at_its_best_moment(
    toy_model, shown, tmp_path, kept
):
    colours = [Image.new("RGB", (64, 48), COLOURS[minute % 8]) for minute in range(MINUTES)]
    frames = [colour for colour in colours for _ in range(60)]
    path = tmp_path / "hour.mp4"
    encode(path, frames, 1, preset="ultrafast", g="10")
    index = MediaIndex.build(toy_model, tmp_path)
    assert len(index) == 299
    best = int(index.ranking("a red cat")[0][0])
    frame = int(index.frame_weights("a red cat", best).argmax())
    moment = index.files[best].start + frame / index.config.rate
    with shown("hour", Gallery(toy_model, index)) as page:
        (name,) = page.ask("a red cat")["zero-shot"]
        assert name == f"hour.mp4#t={index.files[best].start:g}"
        page.previews()
        page.tiles.first.click()
        page.until("document.querySelector('video').videoWidth > 0")
        page.until("(at) => document.querySelector('video').currentTime === at", moment - 1)
        assert page.page.evaluate(CLIP)["duration"] == pytest.approx(3600, abs=2)
        page.wait_in_viewer("Why it matches")
        others = page.viewer.get_by_role("button", name="play from ")
        others.first.wait_for()
        assert others.count() == 5
        minutes, seconds = others.last.get_attribute("aria-label").split()[2].strip(",").split(":")
        others.last.click()
        there = 60 * int(minutes) + float(seconds) - 1
        page.until("(at) => document.querySelector('video').currentTime === at", there)
        page.page.screenshot(path=kept / "hour.png")


@pytest.mark.parametrize("reduced", [False, True])
def test_a_clip_plays_from_its_best_moment_with_sound_and_goes_to_its_frames(
    toy_model, shown, tmp_path, kept, reduced
):
    """Of the four colours of a film the one that fits the sentence best is shown."""
    film = write_film(tmp_path / "film.mp4", ["aac"])
    old = write_film(tmp_path / "old.avi", ["mp2"], "mpeg4")
    index = MediaIndex.build(toy_model, tmp_path)
    with shown(f"film-{reduced}", Gallery(toy_model, index)) as page:
        page.page.emulate_media(reduced_motion="reduce" if reduced else "no-preference")
        page.ask("a red flag")
        for path in (film, old):
            (item,) = [i for i, one in enumerate(index.files) if one.file_name == path.name]
            weights = index.frame_weights("a red flag", item)
            moment = int(weights.argmax()) * 8 / len(weights)  # within a frame that is compared
            page.root.locator(f"[data-file='{path.name}']").click()
            page.until("document.querySelector('video').videoWidth > 0")
            page.wait_in_viewer("Why it matches")
            page.until("(reduced) => document.querySelector('video').paused === reduced", reduced)
            clip = page.page.evaluate(CLIP)
            served_whole = path == film
            assert clip["src"].startswith("http" if served_whole else "blob:")
            if reduced and served_whole:
                assert abs(clip["currentTime"] - max(0, moment - 1)) < 1
            assert not page.axe() and not clip["hidden"]
            page.page.screenshot(path=kept / f"film-{path.suffix[1:]}-{reduced}.png")
            page.viewer.get_by_label("about this result").focus()
            page.press(" ")
            page.until("(reduced) => document.querySelector('video').paused !== reduced", reduced)
            page.press(" ")
            frame = page.viewer.locator("figure", has_text="frame 2 at 0:0")
            frame.get_by_role("button").click()
            page.until("document.querySelector('video').currentTime < 3")
            page.press("Escape")
            page.viewer.wait_for(state="hidden")


def test_a_gallery_whose_files_come_late_is_searched_meanwhile(
    toy_model, shown, tmp_path, monkeypatch
):
    """On a slow network nothing but previews and what is shown large waits for the files."""
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", number)
    index = MediaIndex.build(toy_model, tmp_path)
    here, opened = threading.Event(), Path.open

    def late(path, *given, **more):
        assert not path.is_relative_to(tmp_path) or here.wait(PATIENCE)
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", late)
    try:
        with shown("late", Gallery(toy_model, index)) as page:
            assert page.tiles.count() == 6
            assert page.ask("a red cat") == {"zero-shot": names(index.query("a red cat", 9))}
            assert page.root.locator(".cma-tile img[src]").count() == 0
            page.tiles.first.click()
            page.wait_in_viewer("rank 1, match ")
            here.set()
            page.wait_in_viewer("What the model saw")
            page.press("Escape")
            assert page.previews() == 6
    finally:
        here.set()
