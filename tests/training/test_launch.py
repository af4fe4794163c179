"""`python -m cma.training run.json`: what it reads, the device of a process, and errors in one
line.
"""

import json
import re
import subprocess
import sys
from dataclasses import fields
from unittest.mock import Mock

import psutil
import pytest
import torch

from cma.config import TrainConfig
from cma.files import parse_json
from cma.recipes import recipe
from cma.training import RunRecord, choose_device, devices
from cma.training.__main__ import RunDescription, main
from tests import ROOT
from tests.toy_data import write_images
from tests.training.worlds import LIMIT, free_port


@pytest.fixture
def description(tmp_path):
    data = write_images(tmp_path / "data", {"train": 12, "val": 4, "test": 4})
    config = {
        "name": "r",
        "runs_dir": str(tmp_path / "runs"),
        "epochs": 1,
        "workers": 0,
        "batch_size": 6,
    }
    return {
        "data": str(data),
        "backbone": "mini",
        "adapter": {"bottleneck_dim": 2},
        "config": config,
    }


def run(tmp_path, description, *options) -> int:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(description))
    return main([str(path), *options])


def test_a_described_run_ends_with_its_recalls_their_number_and_intervals(
    tmp_path, description, capsys
):
    assert run(tmp_path, description, "--plan") == 0
    assert "plan on cpu: 4 steps of 6 pairs" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert run(tmp_path, description) == 0
    said = capsys.readouterr().out
    (line,) = [
        line for line in said.splitlines() if line.startswith("test R@1 in %: text-to-image ")
    ]
    assert (
        "], image-to-text " in line
        and "] (8 texts, 4 items); epoch 1, chosen on validation" in line
    )
    record = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())
    assert record["adapter"]["bottleneck_dim"] == 2 and record["hardware"]["processes"] == 1
    assert main([str(tmp_path / "runs" / "r" / "run.json")]) == 1  # a record is no description
    assert "expected a description such as" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, said",
    [
        ({"data": "nowhere"}, "nowhere: no such folder; `python -m data_prep` makes"),
        ({"recipes": "paper"}, r"run.json: 'recipes': not a key"),
        ({"recipe": "fp16"}, "variant 'fp16': expected one of paper, float32, bf16"),
        ({"adapter": {"rank": 3}}, "cross-modal adapter: options are bottleneck_dim, shared_dim"),
        ({"adapter": {"seed": 1, "shared_dim": 16}}, "init_std, not seed\n"),
        ({"method": "prompt"}, "unknown method 'prompt'; there are: cross-modal adapter, "),
        ({"method": "CoOp", "adapter": {"words": 3}}, "CoOp: "),
        (
            {"config": {"epoch": 3}},
            "TrainConfig has no field 'epoch': the fields are similarity = ",
        ),
        # while the model is loaded
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, description, change, said, monkeypatch, capsys):
    if isinstance(change, Exception):
        monkeypatch.setattr("cma.RetrievalModel.from_pretrained", Mock(side_effect=change))
        change = {}
    monkeypatch.setenv("WORLD_SIZE", "1")  # a launcher started it
    assert run(tmp_path, description | change) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: process 0: ") and said in error and error.count("\n") == 1


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
    with pytest.raises(ValueError, match="4 processes .* 2 GPUs are visible: start at most 2 here"):
        choose_device()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert choose_device() == torch.device("cpu")


def test_a_launch_that_is_not_complete_or_lacks_accelerate_is_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for key in ("RANK", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(key, raising=False)
    with (
        pytest.raises(ValueError, match="WORLD_SIZE=2 without LOCAL_RANK"),
        devices.joined(torch.device("cpu")),
    ):
        pass
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with (
        pytest.raises(ImportError, match=r"accelerate: not installed.*\[gpu\]"),
        devices.joined(torch.device("cpu")),
    ):
        pass


def test_what_a_lack_of_memory_looks_like():
    lacking = ["out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
    errors = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]
    errors += [RuntimeError(f"CUDA error: {said}") for said in lacking]
    errors += [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    ]
    others = [
        ValueError("CUDA error: out of memory"),
        RuntimeError("CUDA error: an illegal memory access"),
    ]
    assert all(map(devices.is_out_of_memory, errors)) and not any(
        map(devices.is_out_of_memory, others)
    )


def ended(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of Python with `arguments`; no process of it stays."""
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            said, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            raise
    return process.returncode, said, errors


@pytest.mark.processes
def test_torchrun_trains_a_described_run_to_its_end(tmp_path, description):
    (tmp_path / "run.json").write_text(json.dumps(description))
    address = "--master-addr", "127.0.0.1", "--master-port", free_port()
    launcher = "-m", "torch.distributed.run", "--nproc-per-node", 2, *address
    status, said, errors = ended(*launcher, "-m", "cma.training", tmp_path / "run.json")
    assert status == 0, errors
    assert said.count("test R@1 in %: text-to-image ") == 1  # the first process alone speaks
    record = RunRecord.load(tmp_path / "runs" / "r")
    assert record.finished and record.hardware["processes"] == 2
    assert record.metrics["texts"] == 8 and len(record.history) == 1 and record.total_steps == 4


NOTEBOOK = """
import sys, pathlib
sys.modules["matplotlib"] = None  # no curve
import accelerate, torch, cma
from tests.training.toy_runs import config_of, model_of
torch.set_num_threads(1)  # more threads do not survive a fork
folder = pathlib.Path(sys.argv[1])
dataset = cma.load_dataset(folder / "data", "train")
model, config = model_of(), config_of(folder / "runs")

def run():
    cma.train(model.to(cma.training.choose_device()), dataset, config)

accelerate.notebook_launcher(run, num_processes=2, use_port=sys.argv[2])
record = cma.train(model, dataset, config)
print(record.hardware["processes"], record.metrics["texts"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has used torch")
@pytest.mark.processes
def test_several_processes_from_a_notebook_as_several_gpus_says(tmp_path):
    write_images(tmp_path / "data", {"train": 24, "val": 8, "test": 10})
    status, said, errors = ended("-c", NOTEBOOK, tmp_path, free_port())
    assert status == 0, errors
    assert said.splitlines()[-1] == "2 20" and "loaded its adapter" in said


def test_the_description_in_the_guide_is_one():
    guide = (ROOT / "docs" / "several-gpus.md").read_text("utf-8")
    (text,) = re.findall(r"```json\n(.+?)```", guide, re.DOTALL)
    described = parse_json(text, RunDescription, "docs/several-gpus.md")
    assert recipe("msrvtt").train_config(described.recipe).merge(described.config).epochs == 5


def test_help_lists_every_key_with_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for line in ("data", "recipe = 'float32'", "lr = 1e-05", "cache = False"):
        assert f"  {line}\n" in said
    assert all(f"  {one.name} = " in said for one in fields(TrainConfig))
