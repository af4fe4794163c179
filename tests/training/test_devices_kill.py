"""`kill -9` of two processes or of one of them, at random moments: resumed, the run is the unbroken one."""

import json
import random
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import cma
from cma.data import load
from cma.training import RunRecord, loop
from tests.toy_data import write_images
from tests.training.test_devices import config_of, model_of
from tests.training.worlds import begin, end, world

pytestmark = pytest.mark.processes
KILLS, SEED = 10, 7


def trained(folder: Path, name: str) -> None:
    """A run of three epochs of three steps, with dropout and a checkpoint after each step."""
    loop.CHECKPOINT_SECONDS = 0
    config = config_of(folder, name=name, epochs=3, select_on="val")
    cma.train(model_of(dropout=0.2), load(folder.parent / "data", "train"), config)


def left(folder: Path) -> tuple[dict, dict]:
    """The record without names and times, and every tensor of the three adapters."""
    record = json.loads(RunRecord.load(folder).to_json())
    for key in ("name", "seconds", "finished", "peak_memory_gib"):
        record.pop(key)
    record["config"].pop("name")
    record["history"] = [entry | {"seconds": 0} for entry in record["history"]]
    tensors = {
        f"{place}/{key}": value
        for place in (".", "best", "last")
        for key, value in load_file(folder / place / "adapter_model.safetensors").items()
    }
    return record, tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("k") / "data", {"train": 24, "val": 8, "test": 10}).parent


def compare(one: Path, other: Path) -> None:
    (record, tensors), (its_record, its_tensors) = left(one), left(other)
    assert record == its_record and tensors.keys() == its_tensors.keys()
    assert all(torch.equal(value, its_tensors[key]) for key, value in tensors.items())


def test_a_run_of_two_that_is_killed_ten_times_is_the_unbroken_one(folder):
    part, chance = folder / "two", random.Random(SEED)
    end(begin(2, {}, part))  # imports are done by then
    start = time.monotonic()
    world(2, {"whole": partial(trained, name="whole")}, part)
    seconds = time.monotonic() - start
    kills, number, resumed = 0, 0, 0
    while kills < KILLS or not (part / f"k{number}" / "run.json").exists():
        if (part / f"k{number}" / "run.json").exists():
            number += 1
        before = (part / f"k{number}" / "checkpoint.pt").exists()
        processes = begin(2, {"run": partial(trained, name=f"k{number}")}, part)
        if kills < KILLS:
            time.sleep(chance.uniform(0.3, 0.9) * seconds)
            for process in chance.choice([processes, processes[:1], processes[1:]]):
                process.kill()
        if kills < KILLS:
            for process in processes:
                process.join(5)
                process.kill()  # as a launcher ends one that waits for the other
        end(processes)
        killed = any(process.exitcode == -9 for process in processes)
        kills, resumed = kills + killed, resumed + (before and killed)
    print(f"{kills} kills in {number + 1} runs, {resumed} of them after a checkpoint")
    assert resumed >= 2
    for run in range(number + 1):
        compare(part / f"k{run}", part / "whole")
