"""README's pictures of the explorer, with the adapters that `make run` has left.

pytest tests/explore/browser/readme_pictures.py    # not part of the tests, for it writes notebooks/figures
"""

import io

import pytest
from PIL import Image

from cma import data
from tests.explore.browser import servers
from tests.explore.browser.explorer_page import ExplorerPage
from tests.explore.browser.servers import ROOT

FIGURES, MOST = ROOT / "notebooks" / "figures", 150_000  # bytes of a picture
DATASET, K = "mini-msrvtt", 4  # asked for the caption of its first test clip; results a model


@pytest.fixture
def shown(open_page, tmp_path):
    if not (ROOT / "runs" / f"{DATASET}-cross-modal").is_dir():
        pytest.fail(f"no adapter in runs/{DATASET}-cross-modal; notebook 04 leaves one (`make run`)")
    with servers.app(["-k", str(K)], ROOT, tmp_path / "state") as address, open_page("readme") as page:
        shown = ExplorerPage(page)
        page.goto(address)
        shown.root.wait_for()
        shown.page.set_viewport_size({"width": 1000, "height": 1400})
        shown.control("dataset").select_option(DATASET)
        shown.ask(data.load(ROOT / "data" / DATASET, "test").captions[0])
        shown.playing()
        shown.page.mouse.move(0, 0)
        shown.page.wait_for_timeout(5000)  # until the browser hides the controls of clips that play
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
    write(shown.root.screenshot(), "explorer.jpg")
    shown.control("why").select_option(index=1 + K)  # the adapter's first, after zero-shot's results
    shown.part("reason").locator("img").first.wait_for()
    write(shown.part("reason").screenshot(), "explorer_why.jpg")
    assert all((FIGURES / name).stat().st_size <= MOST for name in ("explorer.jpg", "explorer_why.jpg"))
