"""The pictures of the explorer in README.md and docs/explorer.md.

pytest tests/explorer/browser/readme_pictures.py    # not part of the tests, for it writes
notebooks/figures

The queries are chosen by rule. Pictures: the demo's first sentence whose picture CLIP does not have
among its first ten results and the adapter has first. A clip: the first caption whose moment CLIP
finds in a film of ten minutes.
"""

import io
from contextlib import contextmanager

import pytest
from PIL import Image

from cma import RetrievalModel, metrics
from explorer import Gallery
from explorer.demo import demo_galleries
from explorer.index import IndexConfig, MediaIndex
from tests.bench.moments import is_right, write_films
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.browser.servers import ROOT

FIGURES, MAX_BYTES = ROOT / "notebooks" / "figures", 150_000  # bytes of a picture
SIZE = {"width": 1000, "height": 640}


def ranks_by_both(gallery: Gallery) -> list[tuple[str, int, int]]:
    """Each sentence of a gallery, with the rank of its own item by CLIP and by the adapter."""
    indexes = gallery.index(), gallery.index(gallery.adapter)
    texts = indexes[0].captions
    both = [metrics.ranks(one.scores(texts), one.text_to_item).tolist() for one in indexes]
    return list(zip(texts, *both, strict=True))


def missed_by_clip(gallery: Gallery) -> str:
    """The first sentence that CLIP does not answer within ten results, and the adapter at once."""
    ranked = ranks_by_both(gallery)
    return next(text for text, before, after in ranked if before > 10 and after == 1)


@contextmanager
def answer_to(query, open_page, tmp_path, *command):
    """The explorer after a query, in a window of `SIZE`."""
    with servers.app(command, tmp_path, tmp_path / "state") as address, open_page("readme") as page:
        page.set_viewport_size(SIZE)
        shown = ExplorerPage(page)
        shown.open(address)
        shown.ask(query)
        shown.previews()
        yield shown


@pytest.fixture
def shown(open_page, tmp_path):
    query = missed_by_clip(demo_galleries()["pictures"])
    with answer_to(query, open_page, tmp_path, "--demo") as shown:
        shown.page.mouse.move(0, 0)
        yield shown


def write(picture: bytes, name: str) -> None:
    """Keep a screenshot as the best JPEG of at most `MAX_BYTES` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in range(90, 30, -5):
        image.save(buffer := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    (FIGURES / name).write_bytes(buffer.getvalue())
    assert buffer.tell() <= MAX_BYTES


def test_side_by_side_and_why(shown):
    write(shown.page.screenshot(), "explorer.jpg")
    adapted = shown.root.locator(".cma-column").nth(1)
    adapted.locator(".cma-tile").first.click()
    shown.wait_in_viewer("Why it matches")
    shown.wait_in_viewer("What the model saw")
    write(shown.page.screenshot(), "explorer_why.jpg")


def test_a_clip_at_its_moment(open_page, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    asked = write_films(films, 2)
    index = MediaIndex.build(RetrievalModel.from_pretrained("mini"), films, IndexConfig())
    caption = next(one.caption for one in asked if is_right(index, one))
    command = ["--media", str(films), "--backbone", "mini"]
    with answer_to(caption, open_page, tmp_path, *command) as shown:
        shown.tiles.first.click()
        shown.wait_in_viewer("Why it matches")
        shown.until("() => document.querySelector('dialog video').readyState >= 2")
        write(shown.page.screenshot(), "explorer_moment.jpg")
