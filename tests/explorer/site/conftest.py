"""A page without a server, written once for all of its tests, and a plain server for its files."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cma import RetrievalModel, data, load_backbone, recipes
from explorer.gallery import Gallery
from explorer.site import publish
from tests import ROOT
from tests.explorer.browser.conftest import add_random
from tests.toy_galleries import write_hostile

PICTURES, CLIPS = "mini-flickr30k", "mini-msrvtt"
COUNTS = {PICTURES: 60, CLIPS: 12}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the files of a folder are served, to this computer alone."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def media_galleries(tmp_path_factory) -> dict[str, Gallery]:
    """Some pictures and clips of the offline benchmarks and a picture of a harmful name, under a
    model with an adapter of random weights for each benchmark.
    """
    model = RetrievalModel(*load_backbone("mini"))
    torch.manual_seed(0)
    galleries = {}
    for name, count in COUNTS.items():
        add_random(model, name)
        test = data.load(ROOT / "data" / name, "test").subset(count)
        galleries[name] = Gallery(model, test, recipes.recipe(name).config, None, name)
    hostile = write_hostile(tmp_path_factory.mktemp("hostile"))
    galleries["<i>hostile</i>"] = Gallery(model, hostile)
    model.set_adapter(None)
    return galleries


@pytest.fixture(scope="session")
def site(media_galleries, tmp_path_factory) -> Path:
    """The folder of the page, which can be asked by a picture."""
    folder = tmp_path_factory.mktemp("site") / "page"
    assert publish(media_galleries, folder, yes=True, with_vision=True)
    return folder


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    """Where the page is served."""
    with served(site) as address:
        yield address
