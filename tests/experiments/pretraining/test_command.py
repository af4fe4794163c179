"""The command that makes a CLIP: from drawings to a folder that loads, and again from its
checkpoint.
"""

import json

import pytest
import torch

import cma
from experiments.__main__ import main
from experiments.pretraining import command, icons
from tests.experiments.pretraining.conftest import CONFIG, corpus
from tests.toy_data import write_images


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Run the command with some stages into a folder, and return the weights of the last one."""
    monkeypatch.setattr(icons, "build", lambda workers: corpus())
    write_images(tmp_path / "data" / "mini-flickr30k", {"val": 4})

    def run(name: str, *stages) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(command, "STAGES", stages)
        places = {"out": f"{name}/clip", "runs": f"runs/{name}", "data": "data"}
        words = [f"--{option}={tmp_path / place}" for option, place in places.items()]
        assert main(["pretrain", *words]) == 0
        return cma.load_backbone(tmp_path / name / "clip")[0].state_dict()

    return run


def test_a_clip_is_made_and_loads_and_made_again_from_its_checkpoint(tmp_path, make, capsys):
    first = make("a", CONFIG)
    said = capsys.readouterr().out.splitlines()
    log = json.loads(said[0])
    assert log["step"] == 4 and 0 <= log["R@1"] <= log["R@10"] <= 100
    assert said[-1].startswith(f"written to {tmp_path / 'a' / 'clip'}, sha256 ")
    again = make("a", CONFIG)  # nothing is left to train
    assert '"step"' not in capsys.readouterr().out
    assert all(torch.equal(weight, first[name]) for name, weight in again.items())


def test_without_the_set_for_its_log_the_command_says_what_builds_it(tmp_path, capsys):
    places = [f"--{name}={tmp_path / name}" for name in ("out", "runs", "data")]
    assert main(["pretrain", *places]) == 1
    error = capsys.readouterr().err
    assert "mini-flickr30k" in error and "data_prep" in error and error.count("\n") == 1
