"""`python -m cma.training run.json`: what it reads, the device of a process, and errors in one line."""

import json
import sys

import pytest
import torch

from cma.recipes import RECIPES
from cma.training import choose_device, devices
from cma.training.__main__ import main
from cma.training.launch import example, read_description
from tests.toy_data import write_images


@pytest.fixture
def description(tmp_path):
    data = write_images(tmp_path / "data", {"train": 12, "val": 4, "test": 4})
    config = {"name": "r", "runs_dir": str(tmp_path / "runs"), "epochs": 1, "workers": 0, "batch_size": 6}
    return {"data": str(data), "backbone": "mini", "adapter": {"bottleneck_dim": 2}, "config": config}


def run(tmp_path, description, *options) -> int:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(description))
    return main([str(path), *options])


def test_a_described_run_ends_with_its_recalls_their_number_and_intervals(tmp_path, description, capsys):
    assert run(tmp_path, description, "--plan") == 0
    assert "plan on cpu: 4 steps of 6 pairs" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert run(tmp_path, description) == 0
    said = capsys.readouterr().out
    assert "test text-to-image R@1 " in said and "(8 texts, 4 items; chosen on validation)" in said
    record = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())
    assert record["adapter"]["bottleneck_dim"] == 2 and record["hardware"]["processes"] == 1
    assert main([str(tmp_path / "runs" / "r" / "run.json")]) == 1
    assert "the record of a run that is done, not a description" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, said",
    [
        ({"data": "nowhere"}, "nowhere/dataset.json: no such file"),
        ({"recipes": "paper"}, r"run.json: 'recipes': Unexpected keyword"),
        ({"recipe": "fp16"}, "variant 'fp16': expected one of paper, float32, bf16"),
        ({"adapter": {"rank": 3}}, "cross-modal adapter: options are bottleneck_dim, shared_dim"),
        ({"method": "prompt"}, "unknown method 'prompt'; there are: zero-shot, full fine-tuning"),
        ({"method": "CoOp", "adapter": {"words": 3}}, "CoOp: "),
        ({"config": {"epoch": 3}}, "TrainConfig has no field 'epoch': did you mean epochs"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, description, change, said, capsys):
    assert run(tmp_path, description | change) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize("name", RECIPES)
def test_every_benchmark_has_an_example_that_can_be_read(name, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(example(name)))
    assert read_description(tmp_path / "run.json").backbone == RECIPES[name].backbone


def test_a_process_takes_its_own_gpu_and_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for key, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": 1, "RANK": 1}.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert choose_device() == torch.device("cuda", 1)
    with (
        pytest.raises(ValueError, match="is on cuda:0, expected cuda:1"),
        devices.joined(torch.device("cuda:0")),
    ):
        pass
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with pytest.raises(ValueError, match=r"4 processes .* 2 GPUs are visible \(CUDA_VISIBLE_DEVICES=0,3\)"):
        choose_device()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device() == torch.device("cpu")


def test_a_launch_that_is_not_complete_or_lacks_accelerate_is_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for key in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE=2 without RANK"), devices.joined(torch.device("cpu")):
        pass
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with (
        pytest.raises(ImportError, match=r"accelerate: not installed.*\[gpu\]"),
        devices.joined(torch.device("cpu")),
    ):
        pass
