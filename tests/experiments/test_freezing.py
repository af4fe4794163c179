"""Worlds whose pixels are not those that were frozen before the first row."""

import json
from pathlib import Path

import pytest

from experiments import world
from experiments.world import PROTOCOL

NOTEBOOKS = Path(world.__file__).parents[1] / "notebooks"


@pytest.fixture
def results(tmp_path):
    """A folder of results whose protocol names the pixels of two worlds, which are in `data`."""
    folder = tmp_path / "results"
    folder.mkdir()
    worlds = {"mini-flickr30k": "cd", "mini-msrvtt": "ef"}
    (folder / PROTOCOL).write_text(json.dumps({"frozen": {"pixels": worlds}}))
    for name, pixels in worlds.items():
        source = tmp_path / "data" / "sources" / name
        source.mkdir(parents=True)
        (source / "origin.json").write_text(json.dumps({"pixels": pixels}))
    return folder


def test_other_pixels_than_those_that_were_frozen_are_said(results, capsys):
    data = results.parent / "data"
    world.check_pixels(data, results)
    world.check_pixels(data / "nothing built yet", results)
    world.warn_of_other_pixels(data, results)
    assert "warning" not in capsys.readouterr().out
    (data / "sources" / "mini-msrvtt" / "origin.json").write_text('{"pixels": "ab"}')
    with pytest.raises(ValueError, match=r"mini-msrvtt: its pixels are ab, expected ef"):
        world.check_pixels(data, results)
    world.warn_of_other_pixels(data, results)
    assert "warning: " in capsys.readouterr().out


STUDIED = (
    "03_train_flickr30k",
    "04_train_msrvtt",
    "06_compare_methods",
    "a3_inside_the_adapter",
)


@pytest.mark.parametrize("name", STUDIED)
def test_notebooks_say_so_before_they_read_a_record(name):
    code = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    warned = code.index("world.warn_of_other_pixels(ROOT / data_root, ROOT / ")
    reads = [
        code.index(read)
        for read in ("read_rows(", "Findings.read(", "helpers.recorded(")
        if read in code
    ]
    assert reads and warned < min(reads)
