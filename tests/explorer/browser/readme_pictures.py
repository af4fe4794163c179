"""README's pictures of the explorer, with the adapters that `make run` has left.

pytest tests/explorer/browser/readme_pictures.py    # not part of the tests, for it writes
notebooks/figures
"""

import io
import json

import pytest
from PIL import Image

from cma import data
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.browser.servers import ROOT
from tests.toy_data import write_dataset

FIGURES, MOST = ROOT / "notebooks" / "figures", 150_000  # bytes of a picture
# the first test items, asked for the caption of the very first
DATASET, ITEMS = "mini-flickr30k", 500


@pytest.fixture
def first_items(tmp_path):
    """A dataset folder of the first items of the test split."""
    source, folder = ROOT / "data" / DATASET, tmp_path / DATASET
    lines = (source / "metadata.jsonl").read_text("utf-8").splitlines()
    lines = [line for line in map(json.loads, lines) if line["split"] == "test"][:ITEMS]
    write_dataset(folder, lines, {"name": DATASET, "kind": "image"})
    (folder / "media").symlink_to((source / "media").resolve())
    return folder


@pytest.fixture
def shown(first_items, open_page, tmp_path):
    adapter = ROOT / "runs" / f"{DATASET}-cross-modal"
    if not adapter.is_dir():
        pytest.fail(f"no adapter in {adapter}; notebook 03 leaves one (`make run`)")
    command = ["--media", str(first_items), "--adapter", str(adapter)]
    with servers.app(command, tmp_path, tmp_path / "state") as address, open_page("readme") as page:
        shown = ExplorerPage(page)
        page.set_viewport_size({"width": 1000, "height": 640})
        shown.open(address)
        shown.ask(data.load(first_items, "test").captions[0])
        shown.previews()
        page.mouse.move(0, 0)
        yield shown


def write(picture: bytes, name: str) -> None:
    """Keep a screenshot as the best JPEG of at most `MOST` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in range(90, 30, -5):
        image.save(buffer := io.BytesIO(), "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST:
            break
    (FIGURES / name).write_bytes(buffer.getvalue())


def test_side_by_side_and_why(shown):
    write(shown.page.screenshot(), "explorer.jpg")
    adapted = shown.root.locator(".cma-column").nth(1)
    adapted.locator(".cma-tile").first.click()
    shown.viewer.get_by_text("Why it matches").wait_for()
    shown.viewer.get_by_text("What the model saw").wait_for()
    write(shown.page.screenshot(), "explorer_why.jpg")
    assert all(
        (FIGURES / name).stat().st_size <= MOST for name in ("explorer.jpg", "explorer_why.jpg")
    )
