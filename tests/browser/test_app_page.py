"""The explorer's own page, as `python -m cma.app` opens it, in a real browser."""

import json
import urllib.error
import urllib.request

import pytest
from toy_media import write_clip

from browser import servers
from browser.explorer_page import ExplorerPage
from cma.gallery import Gallery

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
        lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"name": "mine", "kind": "video"}))
    return folder


@pytest.fixture(scope="module")
def address(model, kept, media, tmp_path_factory):
    """Where the page is served, with an adapter."""
    folder = tmp_path_factory.mktemp("app")
    arguments = ["--media", str(media), "--adapter", str(kept / f"{NAME}-cross-modal"), "-k", "6"]
    with servers.app(arguments, folder, folder / "state") as address:
        yield address


@pytest.fixture(scope="module")
def shown(address, open_page):
    with open_page("page") as page:
        shown = ExplorerPage(page)
        page.goto(address)
        shown.root.wait_for()
        yield shown


def test_a_query_is_answered_as_the_index_does(shown, model, media, kept):
    found = shown.ask("a clip of number 1")
    indexes = Gallery(model, media).indexes([None, NAME])
    expected = {
        label: [name for name, _ in index.query("a clip of number 1", 6)] for label, index in indexes.items()
    }
    assert found == expected and list(found) == ["zero-shot", NAME]
    shown.page.screenshot(path=kept / "page.png", full_page=True)


def test_clips_play_there_too(shown, h264):
    shown.ask("a clip of number 2")
    assert shown.playing()["width"] > 0


def test_a_hostile_caption_and_file_name_are_text(shown):
    shown.ask(HOSTILE)
    right = shown.part("results").locator("figure.cma-right").first
    assert HOSTILE in right.inner_text()
    assert "<img src=x onerror=harmed=1>.mp4" in right.get_attribute("data-file")
    assert shown.root.locator("img[src=x]").count() == 0
    assert shown.page.evaluate("window.harmed") is None


def test_a_dropped_clip_searches_there_too(shown, model, media):
    path = media / "media" / "clip3.mp4"
    with shown.searching():
        shown.drop(path)
    for label, index in Gallery(model, media).indexes([None, NAME]).items():
        assert shown.results()[label] == [name for name, _ in index.query_media(path, 6)]


def test_the_page_fits_a_thousand_pixels_and_loads_nothing_from_elsewhere(shown):
    shown.page.set_viewport_size({"width": 1000, "height": 900})
    shown.ask("a picture")
    assert not shown.too_wide() and not shown.nameless()
    assert not shown.outside and not shown.errors


def test_without_its_token_nobody_sees_anything(address, media):
    bare, _, token = address.partition("?")
    with urllib.request.urlopen(bare) as answer:
        assert "/login" in answer.url
    for path in ("media/clip0.mp4", "explorer.ipynb"):
        with pytest.raises(urllib.error.HTTPError, match="403|404"):
            urllib.request.urlopen(f"{bare}voila/files/{path}?{token}")
