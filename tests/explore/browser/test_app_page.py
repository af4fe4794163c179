"""The explorer's own page, as `python -m cma.explore.app` opens it, in a real browser."""

import urllib.error
import urllib.request

import pytest

from cma.explore.gallery import Gallery
from tests.explore.browser import servers
from tests.explore.browser.explorer_page import ExplorerPage
from tests.toy_data import write_dataset
from tests.toy_media import write_clip

pytestmark = [pytest.mark.browser, pytest.mark.minis]

HOSTILE = '<img src=x onerror="window.harmed = true">'
NAME = "mini-flickr30k"  # what the adapter is called, after its folder


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A dataset folder of clips, one with a caption and a file name that would do harm."""
    folder = tmp_path_factory.mktemp("page") / "my media"
    captions = {f"clip{i}.mp4": f"a clip of number {i}" for i in range(5)}
    captions["<img src=x onerror=harmed=1>.mp4"] = HOSTILE
    lines = []
    for number, (name, caption) in enumerate(captions.items()):
        write_clip(folder / "media" / name, number)
        line = {"file_name": f"media/{name}", "id": str(number), "captions": [caption], "split": "test"}
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
        page.goto(address)
        shown.root.wait_for()
        yield shown


def test_words_and_dropped_clips_search_and_what_is_found_plays(shown, model, media, h264):
    indexes = Gallery(model, media).indexes([None, NAME])
    best = {label: index.query("a clip of number 1") for label, index in indexes.items()}
    assert shown.ask("a clip of number 1") == {
        label: [name for name, _ in found] for label, found in best.items()
    }
    path = media / "media" / "clip3.mp4"
    with shown.searching():
        shown.drop(path)
    for label, index in indexes.items():
        assert shown.results()[label] == [name for name, _ in index.query_media(path)]
    assert shown.playing()["width"] > 0
    shown.drop(media / "metadata.jsonl")
    shown.page.get_by_text("metadata.jsonl: neither picture nor clip").wait_for()


def test_the_page_fits_its_window_runs_no_caption_and_loads_nothing_from_elsewhere(shown, kept):
    shown.ask(HOSTILE)
    for width, least in ((1300, 230), (700, 150)):
        shown.page.set_viewport_size({"width": width, "height": 1000})
        shown.page.screenshot(path=kept / f"page-{width}.png", full_page=True)
        assert not shown.too_wide() and not shown.nameless()
        assert min(shown.preview_widths()) >= least
    right = shown.part("results").locator("figure.cma-right").first
    assert HOSTILE in right.inner_text()
    assert "<img src=x onerror=harmed=1>.mp4" in right.get_attribute("data-file")
    assert shown.root.locator("img[src=x]").count() == 0
    assert shown.page.evaluate("window.harmed") is None
    assert not shown.outside and not shown.errors


def test_without_its_token_nobody_sees_anything(address, media):
    bare, _, token = address.partition("?")
    with urllib.request.urlopen(bare) as answer:
        assert "/login" in answer.url
    for path in ("media/clip0.mp4", "explorer.ipynb"):
        with pytest.raises(urllib.error.HTTPError, match="403|404"):
            urllib.request.urlopen(f"{bare}voila/files/{path}?{token}")
