"""README's pictures of the explorer, with the adapters that `make run` has left.

pytest tests/browser/readme_pictures.py        # not part of the tests, for it writes notebooks/figures
"""

import io

import pytest
from PIL import Image

from browser import servers
from browser.explorer_page import ExplorerPage
from browser.servers import ROOT

FIGURES, MOST = ROOT / "notebooks" / "figures", 150_000  # bytes of a picture
DATASET, QUERY = "mini-msrvtt", "rocket flying through the sky"


@pytest.fixture
def shown(new_page, tmp_path):
    if missing := [name for name in (DATASET,) if not (ROOT / "runs" / f"{name}-cross-modal").is_dir()]:
        pytest.fail(f"no adapter of {missing[0]}; run notebooks 03 and 04 first (`make run`)")
    with servers.app([], ROOT, tmp_path / "state") as address:
        shown = ExplorerPage(new_page())
        shown.page.goto(address)
        shown.root.wait_for()
        shown.page.set_viewport_size({"width": 1000, "height": 800})
        shown.control("dataset").select_option(DATASET)
        shown.ask(QUERY)
        shown.playing()
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


def test_side_by_side_and_why(shown):
    write(shown.root.screenshot(), "explorer.jpg")
    shown.control("why").select_option(index=1)
    shown.part("reason").locator("img").first.wait_for()
    write(shown.part("reason").screenshot(), "explorer_why.jpg")
    assert all((FIGURES / name).stat().st_size <= MOST for name in ("explorer.jpg", "explorer_why.jpg"))
