"""Worlds whose pixels are not those that were frozen before the first row."""

import json

import pytest

from experiments import world
from experiments.world import PROTOCOL


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
