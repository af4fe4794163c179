"""What is forgotten: kept adapters of a toy study, tested on other pictures."""

import json
from dataclasses import replace

import pytest

from cma import data
from experiments import forgetting
from experiments.__main__ import main
from experiments.rows import DIRECTIONS, Budget
from experiments.study import Study
from tests.conftest import build_clip
from tests.toy_data import write_images


@pytest.fixture
def study(folder, config, toy_processor, tmp_path) -> Study:
    budget = Budget(epochs=1, rates=[1e-3, 1e-2], rate_seeds=[9], seeds=[1, 2], scan=False)
    return Study(build_clip(), toy_processor, folder, config, budget, tmp_path / "methods")


def test_kept_adapters_are_tested_once(study, tmp_path, monkeypatch, capsys):
    row, zero_shot = study.run("projection"), study.run("zero-shot")
    runs = {seed: record["name"] for seed, record in row.records.items()}
    assert forgetting.tested(study, row, runs).ranks == row.ranks  # on the row's own test split
    assert forgetting.tested(study, zero_shot, {"0": ""}).ranks == zero_shot.ranks

    drawings = write_images(tmp_path / "data" / forgetting.NAME, {"test": 12})
    # whose adapters are not there; by name it comes first
    replace(row, method="LoRA").save(study.results)
    monkeypatch.setattr(forgetting, "build_drawings", lambda out, workers: None)
    monkeypatch.setattr(forgetting, "backbone_of", lambda name: (study.clip, study.processor))
    places = ["--data", tmp_path / "data", "--runs", study.config.runs_dir]
    words = ["forgetting", *map(str, places), "--results"]
    assert main([*words, str(tmp_path)]) == 0
    assert "toy-lora: left out: " in capsys.readouterr().out
    content = json.loads((tmp_path / forgetting.FILE).read_text())
    (entry,) = content["rows"].values()
    assert set(content["rows"]) == {row.name} and set(entry["finished"]) == {"1", "2"}
    assert (content["items"], content["texts"]) == (12, len(data.load(drawings, "test").captions))
    for way in DIRECTIONS:
        gain = entry["R@1"][way][0] - content["R@1 of zero-shot"][way][0]
        assert entry["difference"][way][0] == pytest.approx(gain, abs=0.02)
    assert (entry["lr"], entry["gentlest"]["lr"]) == (row.lr, forgetting.gentlest(row))
    assert set(entry["gentlest"]) == {"lr", "R@1", "difference"}
    (study.results / "toy-lora.json").unlink()
    monkeypatch.setattr(forgetting, "gentlest", None)
    assert main([*words, str(tmp_path)]) == 0  # the row is not measured again
    assert main([*words, str(tmp_path / "empty")]) == 1
    assert "methods: no rows; `python -m experiments study` m" in capsys.readouterr().err
