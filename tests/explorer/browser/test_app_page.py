"""The explorer's own page, as `python -m explorer` opens it, in a real browser."""

import time
from contextlib import contextmanager
from itertools import pairwise

import psutil
import pytest

from cma import RetrievalModel, load_backbone
from explorer import MediaIndex
from explorer.gallery import Gallery
from tests.conftest import build_clip, build_processor
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.toy_data import write_dataset
from tests.toy_media import write_clip, write_film, write_picture

pytestmark = [pytest.mark.browser, pytest.mark.minis]

HOSTILE = '<img src=x onerror="window.harmed = true">'
NAME = "mini-flickr30k"  # what the adapter is called, after its folder
WIDTHS = (1300, 390)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A dataset folder of clips, one with a caption and a file name that would do harm."""
    folder = tmp_path_factory.mktemp("page") / "my media"
    captions = {f"clip{i}.mp4": f"a clip of number {i}" for i in range(24)}
    captions["<img src=x onerror=harmed=1>.mp4"] = HOSTILE
    lines = []
    for number, (name, caption) in enumerate(captions.items()):
        write_clip(folder / "media" / name, number)
        line = {
            "file_name": f"media/{name}",
            "id": str(number),
            "captions": [caption],
            "split": "test",
        }
        lines.append(line)
    return write_dataset(folder, lines, {"name": "mine", "kind": "video"})


@pytest.fixture(scope="module")
def address(model, kept, media, tmp_path_factory):
    """Where the page is served, with an adapter."""
    folder = tmp_path_factory.mktemp("app")
    arguments = ["--media", str(media), "--adapter", str(kept / f"{NAME}-cross-modal")]
    with servers.app(arguments, folder, folder / "state") as address:
        yield address


@pytest.fixture(scope="module")
def shown(address, open_page):
    with open_page("page") as page:
        shown = ExplorerPage(page)
        shown.open(address)
        yield shown


@pytest.fixture(scope="module")
def toy_backbone(tmp_path_factory):
    """A folder with a small CLIP of random weights, with which many pictures are embedded soon."""
    folder = tmp_path_factory.mktemp("toy") / "clip"
    build_clip().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@contextmanager
def stopped_server():
    """The server that this process started computes nothing in the block; what it is sent waits."""
    ours = psutil.Process().children(recursive=True)
    # a process that has ended, but is still listed, has no command
    servers = [
        one
        for one in ours
        if {"explorer", "--media"} <= set(one.as_dict(["cmdline"], [])["cmdline"])
    ]
    assert servers
    for one in servers:
        one.suspend()
    try:
        yield
    finally:
        for one in servers:
            one.resume()


def agrees(found: dict[str, list[str]], model, media, query) -> bool:
    """Whether these are the answers of an index built at once; what is as alike may change places,
    since the page embeds smaller batches.
    """
    ask = "query" if isinstance(query, str) else "query_media"
    for label, index in Gallery(model, media).indexes([None, NAME]).items():
        scores = dict(getattr(index, ask)(query, 60))
        own = [scores[name] for name in found[label]]
        assert found[label] and set(found[label]) == scores.keys()
        assert all(one > other - 1e-5 for one, other in pairwise(own))
    return True


def test_words_and_dropped_clips_search(shown, model, media):
    assert agrees(shown.ask("a clip of number 1"), model, media, "a clip of number 1")
    path = media / "media" / "clip3.mp4"
    with shown.searching():
        shown.drop(path)
    assert agrees(shown.results(), model, media, path)
    assert shown.previews() > 10
    before = shown.results()
    shown.drop(media / "metadata.jsonl")
    shown.wait_for_text("metadata.jsonl: neither picture nor clip; choose one of")
    assert shown.results() == before and "the file clip3.mp4" in shown.root.inner_text()


def test_the_keyboard_is_enough(shown):
    shown.ask("a clip of number 2")
    shown.page.locator("body").press("/")
    assert shown.focused() == "query"
    shown.tiles.first.focus()
    for key, number in (
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("ArrowDown", None),
    ):
        shown.press(key)
        assert number is None or shown.focused().startswith(f"{number}. ")
    row = int(shown.focused().partition(".")[0])
    assert row > 3, "below"
    shown.press("ArrowUp")
    shown.press("Enter")
    shown.wait_in_viewer("Why it matches")
    shown.wait_in_viewer("What the model saw")
    assert shown.viewer.locator("mark").all_inner_texts() == ["a", "clip", "of", "number", "2"]
    assert shown.viewer.locator("figcaption", has_text="frame ").count() == 6
    assert "zero-shot: rank 2, match " in shown.viewer.inner_text()
    shown.press("ArrowRight")
    shown.wait_in_viewer("zero-shot: rank 3, match ")
    shown.press("Escape")
    shown.wait_for_focus("3. ")
    assert not shown.viewer.is_visible()


def test_more_like_this_the_lists_and_the_address(shown, model, media):
    shown.ask("a clip of number 4")
    name = shown.results()["zero-shot"][1]
    shown.tiles.nth(1).click()
    with shown.searching():
        shown.button("more like this").click()
    assert agrees(shown.results(), model, media, media / name)
    if not shown.control("list").is_visible():
        shown.button("examples and history").click()
    suggestions = shown.root.get_by_label("suggestions").get_by_role("button")
    assert suggestions.count() > 8
    example = suggestions.nth(-4)  # before those that save, clear and list the keys
    text = example.inner_text()
    with shown.searching():
        example.click()
    assert agrees(shown.results(), model, media, text) and example.is_visible()
    shown.compare()
    shown.button("what CLIP misses").click()
    shown.wait_for_text("rank their picture or clip better with")
    with shown.searching():
        shown.page.go_back()
    assert agrees(shown.results(), model, media, media / name)
    shown.page.reload()
    shown.ready()
    shown.tiles.first.wait_for()
    assert agrees(shown.results(), model, media, media / name)


def test_it_fits_both_widths_and_themes_runs_no_caption_and_loads_nothing_from_elsewhere(
    shown, kept
):
    for scheme in ("light", "dark"):
        shown.page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            shown.page.set_viewport_size({"width": width, "height": 900})
            shown.ask(HOSTILE)
            shown.previews()
            right = shown.root.locator(".cma-tile.cma-right").first
            assert "<img src=x onerror=harmed=1>.mp4" in right.get_attribute("data-file")
            assert not shown.too_wide() and not shown.axe()
            shown.page.screenshot(path=kept / f"page-{scheme}-{width}.png")
            right.click()
            shown.wait_in_viewer("What the model saw")
            shown.wait_in_viewer("Why it matches")
            assert HOSTILE in shown.viewer.inner_text() and not shown.axe()
            shown.page.screenshot(path=kept / f"viewer-{scheme}-{width}.png")
            shown.press("Escape")
    assert shown.root.locator("img[src=x]").count() == 0
    assert shown.page.evaluate("window.harmed") is None
    assert not shown.outside and not shown.errors
    shown.page.set_viewport_size({"width": 1300, "height": 900})


def test_it_begins_with_something_to_do_and_a_telephone_shows_pictures(address, browser, kept):
    size = {"width": 390, "height": 800}
    page = browser.new_page(viewport=size, has_touch=True, is_mobile=True, color_scheme="dark")
    shown = ExplorerPage(page)
    shown.open(address)
    suggestions = shown.root.get_by_label("suggestions").get_by_role("button")
    suggestions.first.wait_for()
    shown.wait_for_text("or drop a picture or clip here")
    box = shown.box.evaluate("(box) => getComputedStyle(box, '::placeholder').color")
    assert box.startswith("color(srgb 0.7") and not shown.axe(), "light on dark"
    page.screenshot(path=kept / "telephone-start.png")
    shown.ask("a clip of number 1")
    shown.previews()
    assert suggestions.count() == 0 and shown.tiles.first.bounding_box()["y"] < 300
    assert (
        shown.tiles.first.locator(".cma-info").evaluate("(info) => getComputedStyle(info).opacity")
        == "0"
    )
    assert shown.tiles.first.bounding_box()["height"] > 60
    page.screenshot(path=kept / "telephone.png")
    shown.button("examples and history").tap()
    assert not shown.too_wide()
    shown.tiles.nth(1).tap()
    shown.wait_in_viewer("What the model saw")
    page.close()


def test_what_takes_long_is_said_dims_the_old_results_and_can_be_cancelled(shown, kept):
    before = shown.ask("a clip of number 5")
    with stopped_server():  # a fast machine would be done before one can cancel
        shown.set_strength(1)
        shown.button("cancel").wait_for()
        assert shown.root.locator(".cma-results[aria-busy]").count() == 1
        shown.page.screenshot(path=kept / "busy.png")
        shown.button("cancel").click()
        shown.wait_for_text("Cancelled.")
        assert (
            shown.root.locator(".cma-results[aria-busy]").count() == 0 and shown.results() == before
        )
    assert shown.control("strength").input_value() == "4", "that of the results"
    with shown.searching():
        shown.set_strength(1)
    assert list(shown.results()) == ["zero-shot", f"{NAME} × 0.25"]


def test_the_page_comes_back_after_a_restart(toy_backbone, tmp_path, open_page, kept):
    for number in range(6):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
    served = ["--media", str(tmp_path / "pictures"), "--backbone", str(toy_backbone)]
    with open_page("gone") as page:
        shown = ExplorerPage(page)
        with servers.app(served, tmp_path, tmp_path / "state") as address:
            shown.open(address)
            before = shown.ask("a red boat")
        start = time.monotonic()
        said = "The server does not answer. Start it again by the same command"
        shown.wait_for_text(said)
        assert time.monotonic() - start < 5
        page.screenshot(path=kept / "gone.png")
        port = address.rpartition(":")[2].partition("/")[0]
        with servers.app([*served, "--port", port], tmp_path, tmp_path / "state") as again:
            assert again == address
            shown.until(
                "document.querySelector('.cma-explorer')?.innerText.includes('boat') &&"
                "!document.querySelector('.cma-explorer').innerText.includes('not answer')"
            )
            shown.tiles.first.wait_for()
            assert shown.results() == before and shown.box.input_value() == "a red boat"


def test_a_second_tab_and_a_reload_are_ready_at_once_and_cost_little(address, shown, browser):
    (server,) = [
        one for one in psutil.Process().children(recursive=True) if address_of(one, address)
    ]
    shown.ask("a clip of number 1")
    before = server.memory_info().rss
    pages, opened, reloaded = [], [], []
    for _ in range(3):
        pages.append(browser.new_page(viewport={"width": 1300, "height": 900}))
        other = ExplorerPage(pages[-1])
        start = time.monotonic()
        other.open(address)
        other.tiles.first.wait_for()
        opened.append(time.monotonic() - start)
        start = time.monotonic()
        other.page.reload()
        other.tiles.first.wait_for()
        reloaded.append(time.monotonic() - start)
    assert min(opened) < 2 and min(reloaded) < 2
    other.ask("a clip of number 2")
    other.previews()
    assert server.memory_info().rss - before < 50e6
    for page in pages:
        page.close()


def address_of(process: psutil.Process, address: str) -> bool:
    """Whether a process serves the page at an address."""
    port = int(address.partition("127.0.0.1:")[2].partition("/")[0])
    try:
        found = process.net_connections("tcp")
    except psutil.Error:  # a process of the browser ended meanwhile
        return False
    return any(one.status == "LISTEN" and one.laddr.port == port for one in found)


CLIP = """() => {
  const video = document.querySelector("video");
  const { currentTime, duration, paused, videoWidth, hidden, src } = video;
  return { currentTime, duration, paused, videoWidth, hidden, src };
}"""


@pytest.mark.parametrize("reduced", [False, True])
def test_a_clip_plays_from_its_best_moment_with_sound_and_goes_to_its_frames(
    model, kept, tmp_path, open_page, reduced
):
    """Of the four colours of a film the one that fits the sentence best is shown."""
    film = write_film(tmp_path / "media" / "film.mp4", ["aac"])
    old = write_film(tmp_path / "media" / "old.avi", ["mp2"], "mpeg4")
    served = ["--media", str(film.parent), "--backbone", "mini"]
    index = MediaIndex.build(RetrievalModel(*load_backbone("mini")), film.parent)
    with (
        servers.app(served, tmp_path, tmp_path / "state") as address,
        open_page(f"film-{reduced}") as page,
    ):
        page.emulate_media(reduced_motion="reduce" if reduced else "no-preference")
        shown = ExplorerPage(page)
        shown.open(address)
        shown.ask("a red flag")
        for path in (film, old):
            (item,) = [i for i, one in enumerate(index.files) if one.file_name == path.name]
            weights = index.frame_weights("a red flag", item)
            moment = int(weights.argmax()) * 8 / len(weights)  # within a frame that is compared
            page.locator(f"[data-file='{path.name}']").click()
            shown.until("document.querySelector('video').videoWidth > 0")
            shown.wait_in_viewer("Why it matches")
            shown.until("(reduced) => document.querySelector('video').paused === reduced", reduced)
            clip = page.evaluate(CLIP)
            served_whole = path == film
            assert clip["src"].startswith("http" if served_whole else "blob:")
            if reduced and served_whole:
                assert abs(clip["currentTime"] - max(0, moment - 1)) < 1
            assert not shown.axe() and not clip["hidden"]
            page.screenshot(path=kept / f"film-{path.suffix[1:]}-{reduced}.png")
            shown.viewer.get_by_label("about this result").focus()
            page.keyboard.press(" ")
            shown.until("(reduced) => document.querySelector('video').paused !== reduced", reduced)
            page.keyboard.press(" ")
            frame = shown.viewer.locator("figure", has_text="frame 2 at 0:0")
            frame.get_by_role("button").click()
            shown.until("document.querySelector('video').currentTime < 3")
            page.keyboard.press("Escape")
            shown.viewer.wait_for(state="hidden")
        assert not shown.errors and not shown.outside


def test_back_closes_what_is_large_first_and_the_address_opens_the_same_results(shown):
    before = shown.ask("a clip of number 7")
    address = shown.page.url
    shown.tiles.nth(2).click()
    shown.wait_in_viewer("Why it matches")
    shown.page.go_back()
    shown.viewer.wait_for(state="hidden")
    assert shown.results() == before and shown.page.url == address
    cookies = shown.page.context.storage_state()  # the token of a page that was opened before
    context = shown.page.context.browser.new_context(storage_state=cookies)
    other = ExplorerPage(context.new_page())
    other.open(address)
    other.wait_for_text("Results for “a clip of number 7”")
    assert other.results() == before and other.box.input_value() == "a clip of number 7"
    context.close()
