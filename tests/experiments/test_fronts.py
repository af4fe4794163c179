"""Fronts: seeds tested at several strengths, and their ranks on disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import fronts
from experiments.__main__ import main
from experiments.fronts import DRAWINGS, STRENGTHS, read_fronts
from experiments.gains import LORA, OURS, ZERO_SHOT
from experiments.rows import DIRECTIONS, Budget, MethodRow, recall
from experiments.study import Study
from tests.conftest import build_clip
from tests.toy_data import write_images


@pytest.fixture
def folder(folder, tmp_path):
    """The toy dataset, in a folder that this test may put others beside."""
    return Path(shutil.copytree(folder, tmp_path / "data" / "toy"))


@pytest.fixture
def results(folder, config, toy_processor, tmp_path, monkeypatch):
    """A folder of results with the rate of ours, and of LoRA at its two places."""
    write_images(folder.with_name(DRAWINGS), {"val": 8, "test": 12})
    write_images(folder.with_name(f"{folder.name}-words"), {"test": 6})
    clip, budget = build_clip(), Budget(epochs=1, seeds=[4, 5])
    usual = Study(clip, toy_processor, folder, config, budget, tmp_path / "results" / "fronts")
    monkeypatch.setattr(fronts, "study_of", lambda options: usual)
    monkeypatch.setattr(fronts, "build_drawings", lambda out: None)
    MethodRow("toy", OURS, {}, lr=1e-2).save(tmp_path / "results" / "methods")
    MethodRow("toy", LORA, {}, lr=1e-3).save(tmp_path / "results" / "curves" / "places-r8")
    return tmp_path / "results"


def run(results, folder, *names) -> int:
    words = ["fronts", str(folder), "--results", str(results / "fronts")]
    return main([*words, "--methods", *names])


def test_a_front_is_tested_at_every_strength_and_read_again(results, folder, capsys):
    assert run(results, folder, ZERO_SHOT, OURS) == 0
    found = read_fronts(results, "toy")
    assert list(found) == [ZERO_SHOT, OURS]
    ours = found[OURS]
    assert ours.ranks["strengths"].tolist() == list(STRENGTHS)
    for short, items in (("val", 8), ("test", 10), ("words", 6), ("drawings", 12)):
        row = ours.at(short, 0.5)
        assert row.dataset == short and {*row.ranks} == {"4", "5"}
        assert len(row.ranks["4"]["visual_to_text"]) == items
    assert ours.at("test", 0) == found[ZERO_SHOT].at("test", 0.0)
    told = ours.row.records["5"]["metrics"]["text_to_visual"]["R@1"]
    whole = ours.at("test", 1.0)
    alone = replace(whole, ranks={"5": whole.ranks["5"]})
    assert recall(alone, DIRECTIONS[0])[0] == pytest.approx(told, abs=0.01)
    capsys.readouterr()
    before = fronts.ranks_file(ours.row, results / "fronts").read_bytes()
    assert run(results, folder, OURS) == 0 and "2 / 2 seeds" in capsys.readouterr().out
    assert fronts.ranks_file(ours.row, results / "fronts").read_bytes() == before
    with pytest.raises(ValueError, match=r"no strength 0.3; there are 0.25, 0.5, 0.75, 1, 1.25"):
        ours.at("test", 0.3)
