"""Adapters that change what is found, and pages whose pictures are kept under runs/browser."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page

from cma import RetrievalModel, load_backbone, recipes

OpenPage = Callable[[str], AbstractContextManager[Page]]


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
