"""What is forgotten, on kept adapters of a toy study; and what was measured."""

import json

import pytest

from experiments import forgetting
from experiments.rows import DIRECTIONS, Budget, MethodRow, read_rows, recall
from experiments.study import Study
from tests import ROOT
from tests.conftest import build_clip


def test_kept_adapters_are_tested_again_without_training(folder, config, toy_processor, tmp_path):
    budget = Budget(epochs=1, rungs=[1], keep=[1], rates=[1e-2], seeds=[1, 2])
    study = Study(build_clip(), toy_processor, folder, config, budget, tmp_path / "rows")
    study.choose_rate = lambda row, method: 1e-2
    row, zero_shot = study.run("projection"), study.run("zero-shot")
    study.run = None
    after, before = (forgetting.tested(study, one) for one in (row, zero_shot))
    assert after.ranks == row.ranks and before.ranks == zero_shot.ranks  # here on the row's own test split
    found = forgetting.entry(row, after, before)
    assert set(found["finished"]) == {"1", "2"}
    for way in DIRECTIONS:
        assert found["R@1"][way] == pytest.approx(recall(row, way), abs=0.01)
        gain = recall(row, way)[0] - recall(zero_shot, way)[0]
        assert found["difference"][way][0] == pytest.approx(gain, abs=1e-3)


def test_what_is_recorded_is_of_the_runs_of_the_rows_here():
    kept = json.loads((ROOT / "results" / forgetting.FILE).read_text("utf-8"))
    rows: dict[str, MethodRow] = {row.name: row for row in read_rows(ROOT / "results" / "methods")}
    for name, found in kept["rows"].items():
        if name in rows:
            runs = {seed: record["finished"] for seed, record in rows[name].records.items()}
            assert found["finished"].items() <= runs.items()
        for way, (difference, low, high, p) in found["difference"].items():
            assert low <= difference <= high and 0 < p <= 1
            zero_shot, here = kept["R@1 of zero-shot"][way][0], found["R@1"][way][0]
            assert here - zero_shot == pytest.approx(difference, abs=0.02)
