"""`kill -9` at any moment, also while a file is written: resumed, a run is bitwise the unbroken
one.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

import cma
from cma.data import load
from cma.training import loop
from tests import ROOT
from tests.toy_data import write_images
from tests.training.toy_runs import config_of, model_of
from tests.training.worlds import begin, end

TIMES = ("seconds", "finished", "peak_memory_gib")
ONCE, OFTEN = 2, pytest.param(10, marks=pytest.mark.night)  # kills, by turns of each kind
METHODS = multiprocessing.get_all_start_methods()  # the usual one is the first
FILE_EVENTS = 68  # nine events a step: three files are opened, synced and replaced
pytestmark = pytest.mark.processes


def train_until(file: int, folder) -> None:
    """Train, with a checkpoint after each step; end by SIGKILL when files are opened or replaced so
    often.
    """
    left = iter(range(file - 1, -1, -1))

    def hook(event: str, arguments: tuple) -> None:
        writes = (
            event == "os.rename" or event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and str(arguments[0]).startswith(str(folder / "r")) and next(left, None) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    loop.CHECKPOINT_SECONDS = 0
    config = config_of(folder, epochs=3, batch_size=8, select_on="val")
    cma.train(model_of(dropout=0.2), load(folder.parent / "data", "train"), config)


def without_times(text: bytes) -> dict:
    record = json.loads(text)
    history = [{**epoch, "seconds": 0} for epoch in record["history"]]
    return {key: value for key, value in record.items() if key not in TIMES} | {"history": history}


def attempt(out, file: int = 0, wait: float | None = None) -> bool:
    """Begin a run or go on; whether it was killed, at a file or `wait` seconds after it took its
    folder.
    """
    (process,) = begin(1, {"run": partial(train_until, file)}, out)
    while wait is not None and process.is_alive() and not (out / "r" / ".run.lock").exists():
        time.sleep(0.01)
    if wait is not None:
        time.sleep(wait)
        process.kill()
    end([process])
    assert process.exitcode in (0, -signal.SIGKILL)  # the lock of one that was killed is free
    return process.exitcode != 0


def files_of(out) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in (out / "r").rglob("*")
        if path.is_file()
    }


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("kills", [ONCE, OFTEN])
def test_a_run_that_is_killed_is_the_unbroken_one(tmp_path, kills):
    """In turn while a file is written and at any time; another run follows a finished one."""
    write_images(tmp_path / "data", {"train": 24, "val": 8, "test": 10})
    assert not attempt(tmp_path / "whole")
    whole, chance, killed, runs = files_of(tmp_path / "whole"), random.Random(7), [], 0
    seconds = json.loads(whole["r/run.json"])["seconds"]

    def way() -> dict:
        if len(killed) >= kills:
            return {}
        if len(killed) % 2:
            return {"wait": chance.uniform(0, seconds)}
        return {"file": chance.randint(5, FILE_EVENTS)}

    while len(killed) < kills:
        out, runs = tmp_path / str(runs), runs + 1
        how = way()
        while attempt(out, **how):
            killed.append(how)
            how = way()
        files = files_of(out)
        assert files.keys() == whole.keys()  # no temporary file either
        assert without_times(files["r/run.json"]) == without_times(whole["r/run.json"])
        for name in whole.keys() - {"r/run.json", "r/checkpoint.pt"}:  # which hold times
            assert files[name] == whole[name], name
    assert {next(iter(how)) for how in killed} == {"file", "wait"}


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize(
    "method", [METHODS[0], *(pytest.param(one, marks=pytest.mark.night) for one in METHODS[1:])]
)
def test_the_workers_of_a_killed_run_end(method, folder):
    """They hold batches that nobody will take."""
    command = [sys.executable, "-m", "tests.training.reading", method, folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        workers = [psutil.Process(worker) for worker in json.loads(parent.stdout.readline())]
        parent.kill()
    assert len(workers) == 2
    assert not psutil.wait_procs(workers, timeout=30)[1]
