"""The pictures of the explorer in README.md and docs/library.md, with the recorded adapter.

pytest tests/explorer/browser/readme_pictures.py    # not part of the tests, for it writes
notebooks/figures

The queries are chosen by rule. Pictures: the first caption of the test split that both models
answer with the right picture. A clip: the first caption whose moment CLIP finds in a film of ten
minutes.
"""

import io
import json
from contextlib import contextmanager

import pytest
from PIL import Image

from cma import RetrievalModel, data
from cma.recipes import recipe
from cma.training import encode, query_ranks
from explorer.index import IndexConfig, MediaIndex
from tests.bench.moments import is_right, write_films
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.browser.servers import ROOT
from tests.toy_data import write_dataset

FIGURES, MOST = ROOT / "notebooks" / "figures", 150_000  # bytes of a picture
DATASET, ITEMS = "mini-flickr30k", 500  # the first test items
ADAPTER = ROOT / "results" / "methods" / f"{DATASET}-cross-modal-adapter"
SIZE = {"width": 1000, "height": 640}


@pytest.fixture
def first_items(tmp_path):
    """A dataset folder of the first items of the test split."""
    source, folder = ROOT / "data" / DATASET, tmp_path / DATASET
    lines = (source / "metadata.jsonl").read_text("utf-8").splitlines()
    lines = [line for line in map(json.loads, lines) if line["split"] == "test"][:ITEMS]
    write_dataset(folder, lines, {"name": DATASET, "kind": "image"})
    (folder / "media").symlink_to((source / "media").resolve())
    return folder


def answered(folder) -> str:
    """The first caption whose picture is the first result of CLIP alone and of the adapter."""
    model = RetrievalModel.from_pretrained("mini")
    model.load_adapter(ADAPTER, "adapter")
    test, config = data.load(folder, "test"), recipe(DATASET).train_config()
    ranks = []
    for name in (None, "adapter"):
        model.set_adapter(name)
        ranks.append(query_ranks(encode(model, test, config), test, config)["text_to_visual"])
    return next(
        caption
        for caption, before, after in zip(test.captions, *ranks, strict=True)
        if before == after == 1
    )


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
def shown(first_items, open_page, tmp_path):
    if not ADAPTER.is_dir():
        pytest.fail(f"no adapter in {ADAPTER}; notebook 03 leaves one (`make run`)")
    command = ["--media", str(first_items), "--adapter", str(ADAPTER)]
    with answer_to(answered(first_items), open_page, tmp_path, *command) as shown:
        shown.page.mouse.move(0, 0)
        yield shown


def write(picture: bytes, name: str) -> None:
    """Keep a screenshot as the best JPEG of at most `MOST` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in range(90, 30, -5):
        image.save(buffer := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST:
            break
    (FIGURES / name).write_bytes(buffer.getvalue())
    assert buffer.tell() <= MOST


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
