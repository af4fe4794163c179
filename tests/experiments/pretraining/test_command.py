"""The command that makes a CLIP: from drawings to a folder that loads, and again from its
checkpoint.
"""

import json
from dataclasses import asdict

import pytest
import torch

import cma
from experiments.__main__ import main
from experiments.pretraining import icons
from tests.experiments.pretraining.conftest import CONFIG, corpus
from tests.toy_data import write_images


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    monkeypatch.setattr(icons, "build", lambda workers: corpus())


def test_a_clip_is_made_and_loads_and_a_longer_run_goes_on(tmp_path, capsys):

    def run(steps: int, **changes: object) -> list[str]:
        config = json.dumps(asdict(CONFIG) | {"steps": steps} | changes)
        places = {"out": "clip", "runs": "runs", "data": "data"}
        words = [f"--{option}={tmp_path / name}" for option, name in places.items()]
        assert main(["pretrain", *words, "--config", config]) == 0
        return capsys.readouterr().out.splitlines()

    lines = run(steps=1)
    said = "so no recall is logged and no norm is set; `python -m data_prep mini` builds it"
    assert said in lines[0] and json.loads(lines[1])["step"] == 1
    assert lines[-1].startswith(f"written to {tmp_path / 'clip'}, sha256 ")
    first = cma.load_backbone(tmp_path / "clip")[0].state_dict()
    write_images(tmp_path / "data" / "mini-flickr30k", {"val": 4})
    log = json.loads(run(steps=2)[0])
    assert log["step"] == 2 and 0 <= log["R@1"] <= log["R@10"] <= 100
    second, _ = cma.load_backbone(tmp_path / "clip")
    assert any(not torch.equal(weight, first[name]) for name, weight in second.state_dict().items())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--config", '{"step": 5}', "step"),
        ("--config", '{"mean": true}', "there is no --start"),
        ("--start", "mini", "--config gives its settings"),
    ],
)
def test_a_setting_that_does_not_fit_is_one_line(option, value, said, tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path), option, value]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option}: ") and said in error and error.count("\n") == 1
