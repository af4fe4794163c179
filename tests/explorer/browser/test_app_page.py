"""The explorer's own page, as `python -m explorer` opens it, in a real browser."""

import time
from contextlib import contextmanager
from itertools import pairwise

import psutil
import pytest

from explorer.gallery import Gallery
from tests.conftest import build_clip, build_processor
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.toy_data import write_dataset
from tests.toy_media import write_clip, write_picture

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
def indexes(model, media):
    """The indexes that this process builds at once, by the page's labels."""
    return Gallery(model, media).indexes([None, NAME])


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


def agrees(found: dict[str, list[str]], indexes, query) -> bool:
    """Whether these are the answers of an index built at once; what is as alike may change places,
    since the page embeds smaller batches.
    """
    ask = "query" if isinstance(query, str) else "query_media"
    for label, index in indexes.items():
        scores = dict(getattr(index, ask)(query, 60))
        own = [scores[name] for name in found[label]]
        assert found[label] and set(found[label]) == scores.keys()
        assert all(one > other - 1e-5 for one, other in pairwise(own))
    return True


def test_words_and_dropped_clips_search(shown, indexes, media):
    assert agrees(shown.ask("a clip of number 1"), indexes, "a clip of number 1")
    path = media / "media" / "clip3.mp4"
    with shown.searching():
        shown.drop(path)
    assert agrees(shown.results(), indexes, path)
    assert shown.previews() > 10
    before = shown.results()
    shown.drop(media / "metadata.jsonl")
    shown.wait_for_text("metadata.jsonl: neither picture nor clip; choose one of")
    assert shown.results() == before and "the file clip3.mp4" in shown.root.inner_text()


def test_more_like_this_the_lists_and_the_address(shown, indexes, media):
    shown.ask("a clip of number 4")
    name = shown.results()["zero-shot"][1]
    shown.tiles.nth(1).click()
    with shown.searching():
        shown.button("more like this").click()
    assert agrees(shown.results(), indexes, media / name)
    if not shown.control("list").is_visible():
        shown.button("examples and history").click()
    suggestions = shown.root.get_by_label("suggestions").get_by_role("button")
    assert suggestions.count() > 8
    example = suggestions.nth(-4)  # before those that save, clear and list the keys
    text = example.inner_text()
    with shown.searching():
        example.click()
    assert agrees(shown.results(), indexes, text) and example.is_visible()
    shown.compare()
    shown.button("what CLIP misses").click()
    shown.wait_for_text("rank their picture or clip better with")
    with shown.searching():
        shown.page.go_back()
    assert agrees(shown.results(), indexes, media / name)
    shown.page.reload()
    shown.ready()
    shown.tiles.first.wait_for()
    assert agrees(shown.results(), indexes, media / name)


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
