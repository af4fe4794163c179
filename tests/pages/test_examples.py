"""The examples in the docstrings run, on the backbone that the package brings."""

import doctest
from importlib import import_module
from operator import attrgetter

import pytest
import torch
from PIL import Image

import cma
import explorer
from tests import ROOT

WITH_EXAMPLES = [
    "load_backbone",
    "RetrievalModel.from_pretrained",
    "RetrievalModel.add_adapter",
    "RetrievalModel.set_adapter",
    "RetrievalModel.save_adapter",
    "RetrievalModel.load_adapter",
    "RetrievalModel.encode_text",
    "RetrievalModel.encode_images",
    "RetrievalModel.encode_videos",
    "methods.attach",
]


def examples() -> dict[str, doctest.DocTest]:
    """The docstrings that have an example, by their full names."""
    found = {}
    for path in sorted(
        path for package in ("cma", "explorer") for path in (ROOT / package).rglob("*.py")
    ):
        if ">>> " in path.read_text("utf-8"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tests = doctest.DocTestFinder().find(import_module(name.removesuffix(".__init__")))
            found |= {test.name: test for test in tests if test.examples}
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_shows(name, tmp_path):
    known = {
        "cma": cma,
        "explorer": explorer,
        "torch": torch,
        "Image": Image,
        "folder": tmp_path / "new",
    }
    EXAMPLES[name].globs = known
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(EXAMPLES[name], out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("verb", WITH_EXAMPLES)
def test_what_readme_lists_has_an_example(verb):
    public = attrgetter(verb)(cma)
    assert f"{public.__module__}.{public.__qualname__}" in EXAMPLES
