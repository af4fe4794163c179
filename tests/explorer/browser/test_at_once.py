"""A page that is up before anything is embedded, and follows its folder."""

import threading
import time

import pytest

from cma import RetrievalModel
from explorer.gallery import Gallery
from explorer.index import embed
from tests.conftest import build_clip, build_processor
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.serving import TOKEN, serving
from tests.toy_media import write_picture

pytestmark = pytest.mark.browser
FILES = 3 * embed.POLITE  # three batches
SOON = 5  # seconds


@pytest.fixture
def files(monkeypatch):
    """A semaphore: each release lets one file be read."""
    allowed, real = threading.Semaphore(0), embed.read_pixels

    def slow(*given):
        allowed.acquire()
        return real(*given)

    monkeypatch.setattr(embed, "read_pixels", slow)
    monkeypatch.setattr(embed, "BATCH_SECONDS", 0)
    yield allowed
    allowed.release(1000)


@pytest.fixture
def gallery(files, tmp_path):
    """Pictures in a folder, of which nothing is embedded yet."""
    for number in range(FILES):
        write_picture(tmp_path / "media" / f"{number}.png", number)
    model = RetrievalModel(build_clip(), build_processor())
    made = Gallery(model, tmp_path / "media", folder=tmp_path / "kept")
    made.start()
    yield made
    files.release(1000)
    made.stop()


def test_it_is_up_at_once_and_results_come_in_without_moving_others(
    gallery, files, open_page, kept
):
    with serving({"mine": gallery}) as (port, _), open_page("at-once") as page:
        shown = ExplorerPage(page)
        page.goto(f"http://127.0.0.1:{port}/?token={TOKEN}")
        shown.tiles.first.wait_for()
        assert shown.tiles.count() == FILES and shown.previews() == FILES
        shown.wait_for_text(f"0 of {FILES} pictures can be found")
        empty = shown.ask("a red boat")
        assert empty == {"zero-shot": []}
        files.release(embed.POLITE)
        shown.wait_for_text(f"{embed.POLITE} of {FILES} pictures can be found, about ")
        shown.tiles.first.wait_for()  # nobody looks at anything yet, so they come by themselves
        with shown.searching():
            shown.button("show what is new").click()
        first = shown.results()
        assert len(first["zero-shot"]) == embed.POLITE and not shown.axe()
        page.screenshot(path=kept / "growing.png")
        shown.tiles.nth(1).focus()
        files.release(1000)
        shown.button("show what is new").wait_for()
        shown.until("() => !document.querySelector('[data-part=grown]').textContent")
        assert shown.results() == first and shown.focused().startswith("2. ")
        with shown.searching():
            shown.button("show what is new").click()
        assert len(shown.results()["zero-shot"]) == FILES
        assert not shown.button("show what is new").is_visible()
        assert not shown.errors and not shown.outside


def test_what_is_added_changed_or_removed_appears_within_seconds(
    gallery, files, open_page, tmp_path
):
    files.release(1000)
    with serving({"mine": gallery}) as (port, _), open_page("watched") as page:
        shown = ExplorerPage(page)
        shown.open(f"http://127.0.0.1:{port}/?token={TOKEN}")
        tile = shown.root.locator("[data-file='new.png']")
        for act, there in (
            (lambda: write_picture(tmp_path / "media" / "new.png", 99), 1),
            (lambda: (tmp_path / "media" / "new.png").unlink(), 0),
        ):
            start = time.monotonic()
            act()
            shown.until("(n) => document.querySelectorAll('[data-file^=new]').length === n", there)
            assert tile.count() == there and time.monotonic() - start < SOON
        key = tile.page.locator("[data-file='0.png']")
        write_picture(tmp_path / "media" / "0.png", 50)
        start = time.monotonic()
        shown.until("() => document.querySelector('.cma-tile').dataset.file === '0.png'")
        assert key.count() == 1 and time.monotonic() - start < SOON
        assert not shown.errors
