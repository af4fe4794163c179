"""A browser, adapters that change what is found, and pages whose pictures are kept under
runs/browser.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page

from cma import RetrievalModel, load_backbone, recipes
from tests.explorer.browser import chromium
from tests.explorer.browser.servers import ROOT

OpenPage = Callable[[str], AbstractContextManager[Page]]
KEPT = ROOT / "runs" / "browser"
MISSING = "no Chromium found: browser test skipped (make browser installs one)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it once for all of the tests."""
    skipped = terminalreporter.stats.get("skipped", [])
    if any(MISSING in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(MISSING)


@pytest.fixture(scope="package")
def executable() -> Path:
    """The Chromium to drive. Without one the tests are skipped; where CMA_BROWSER is "required"
    they fail.
    """
    found = chromium.find()
    if found is None and os.environ.get("CMA_BROWSER") == "required":
        pytest.fail("no Chromium found, and CMA_BROWSER=required (make browser installs one)")
    if found is None:
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="package")
def browser(executable: Path) -> Iterator[Browser]:
    """That Chromium, running."""
    with chromium.launched(executable) as browser:
        yield browser


@pytest.fixture(scope="package")
def kept() -> Path:
    """The folder for all that these tests leave, emptied."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    return KEPT


def add_random(model: RetrievalModel, benchmark: str) -> None:
    """Add an adapter of random weights, by the name of a benchmark, with its settings."""
    adapter = model.add_adapter(benchmark, recipes.recipe(benchmark).adapter_config())
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)


@pytest.fixture(scope="package")
def model(kept: Path) -> RetrievalModel:
    """The bundled CLIP with an adapter a benchmark, of random weights, saved for notebook 05."""
    model = RetrievalModel(*load_backbone("mini"))
    torch.manual_seed(0)
    for name in ("mini-flickr30k", "mini-msrvtt"):
        add_random(model, name)
        model.save_adapter(kept / f"{name}-cross-modal", name)
    return model


@pytest.fixture(scope="module")
def open_page(browser: Browser, kept: Path) -> OpenPage:
    """A page of 1,300 × 1,000 pixels, kept as a picture as it is in the end."""

    @contextmanager
    def opened(name: str) -> Iterator[Page]:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        try:
            yield page
        finally:
            page.screenshot(path=kept / f"{name}-end.png")
            page.close()

    return opened
