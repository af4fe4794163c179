"""What is frozen before the first row, and what was measured on the backbone before."""

import json
from pathlib import Path

import pytest

from cma.backbone import identity, known_by, load_backbone
from data_prep.mini.build import READERS
from experiments import world
from experiments.__main__ import main
from experiments.drawings import NAME
from experiments.world import PROTOCOL
from tests.experiments.conftest import revision

NOTEBOOKS = Path(world.__file__).parents[1] / "notebooks"


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(world, "build_drawings", lambda out: None)
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / PROTOCOL).write_text('{"about": "kept", "frozen": {"states": {"10": "ab"}}}')
    for name in (*READERS, NAME):
        source = tmp_path / "data" / "sources" / name
        source.mkdir(parents=True)
        own = {} if name == "mini-msrvtt-whole" else {"pixels": name}  # it has the clips of another
        (source / "origin.json").write_text(json.dumps(own))
    return folder


def freeze(results, *words) -> int:
    places = ["--results", results, "--data", results.parent / "data"]
    return main(list(map(str, ["freeze", *places, *words])))


def test_digests_are_those_of_the_files(results, tmp_path, capsys):
    assert freeze(results) == 0
    content = world.kept_in(results)
    frozen = content["frozen"]
    assert content["about"] == "kept" and frozen["states"] == {"10": "ab"}
    names = (*READERS, NAME)
    assert frozen["pixels"] == {name: name for name in names if name != "mini-msrvtt-whole"}
    assert revision(frozen["backbone"]) == known_by(identity(load_backbone("mini")[0]))
    (tmp_path / "data" / "sources" / "mini-msrvtt" / "origin.json").unlink()
    assert freeze(results) == 1 and "mini-msrvtt/origin.json" in capsys.readouterr().err


def test_other_pixels_than_those_that_were_frozen_are_said(results, capsys):
    assert freeze(results) == 0
    data = results.parent / "data"
    world.check_pixels(data, results)
    world.check_pixels(data / "nothing built yet", results)
    world.warn_of_other_pixels(data, results)
    assert "warning" not in capsys.readouterr().out
    (data / "sources" / "mini-msrvtt" / "origin.json").write_text('{"pixels": "ab"}')
    with pytest.raises(ValueError, match=r"mini-msrvtt: its pixels are ab, expected mini-msrv"):
        world.check_pixels(data, results)
    world.warn_of_other_pixels(data, results)
    assert "warning: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["03_train_flickr30k", "04_train_msrvtt", "06_compare_methods"])
def test_notebooks_say_so_before_they_read_a_record(name):
    code = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    warned = code.index("world.warn_of_other_pixels(ROOT / data_root, ROOT / ")
    reads = [code.index(read) for read in ("read_rows(", "Findings.read(") if read in code]
    assert reads and warned < min(reads)
