"""Fronts: seeds tested at several strengths, their ranks on disk, and the rule for a strength."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import fronts
from experiments.__main__ import main
from experiments.fronts import AT_PLACES, DRAWINGS, STRENGTHS, Front, read_fronts
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


def test_lora_at_the_places_of_the_adapter_has_a_front_of_its_own(results, folder):
    assert run(results, folder, ZERO_SHOT, AT_PLACES) == 0
    front = read_fronts(results, "toy")[AT_PLACES]
    assert front.row.lr == 1e-3
    options = next(iter(front.row.records.values()))["adapter"]
    assert options["targets"] == ["out_proj", "fc2"]


def made(first_hits: dict[float, float], world: str = "") -> Front:
    """A front of one seed whose R@1 in % on the validation drawings is given for each strength."""
    ranks = [[1] * round(hits) + [9] * (100 - round(hits)) for hits in first_hits.values()]
    values = {"seeds": np.array([1]), "strengths": np.array([*first_hits])}
    for way in DIRECTIONS:
        values[f"drawings-val/{way}"] = np.array([ranks], np.uint8)
    values["drawings-val/items"] = np.arange(100)
    return Front(MethodRow("toy", OURS, {}, world=world, records={"1": {}}), values, None)


@pytest.mark.parametrize(
    ("kept", "strength"),
    [
        ({0.25: 59, 0.5: 55, 0.75: 54, 1.0: 50}, 0.5),
        ({0.25: 59, 0.5: 54, 0.75: 56, 1.0: 50}, 0.75),  # the largest, whatever lies below
        ({0.25: 54, 0.5: 40}, 0.0),
        ({0.25: 70, 1.25: 61}, 1.25),
    ],
)
def test_the_strength_is_the_largest_that_keeps_the_drawings(kept, strength):
    front = made(kept)
    front.start = made({0.0: 60})
    assert front.strength == strength


def test_ranks_of_another_world_or_of_missing_seeds_are_refused(tmp_path):
    for world, name in (("ab", OURS), ("cd", ZERO_SHOT)):
        front = made({1.0: 60}, world)
        row = replace(front.row, method=name)
        row.save(tmp_path)
        fronts.save_ranks(fronts.ranks_file(row, tmp_path), 1, (1.0,), {"val/items": np.arange(3)})
    start = Front.read(row.path(tmp_path))
    file = replace(row, method=OURS).path(tmp_path)
    with pytest.raises(ValueError, match="another world or backbone than toy-zero-shot"):
        Front.read(file, start)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"records": {"1": {}, "7": {}}}))
    with pytest.raises(ValueError, match="no ranks of seed 7; delete both"):
        Front.read(file)


def test_a_seed_that_was_tested_but_not_recorded_replaces_its_ranks(tmp_path):
    file = tmp_path / "ranks.npz"
    for seed, rank in ((1, 3), (2, 4), (1, 5)):
        row = [np.array([rank, rank], np.uint8)]
        fronts.save_ranks(file, seed, (1.0,), {"val/text_to_visual": row})
    kept = np.load(file)
    assert kept["seeds"].tolist() == [2, 1]
    assert kept["val/text_to_visual"].tolist() == [[[4, 4]], [[5, 5]]]
