"""`kill -9` at any moment, also while a file is written: resumed, a run is bitwise the unbroken one.

And a folder belongs to one process, until it ends in whatever way.
"""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time

import psutil
import pytest

import cma
from cma.data import load
from tests import ROOT
from tests.toy_data import write_images

TIMES = ("seconds", "finished", "peak_memory_gib")
pytestmark = pytest.mark.processes


def without_times(text: str) -> dict:
    record = json.loads(text)
    history = [{**epoch, "seconds": 0} for epoch in record["history"]]
    return {key: value for key, value in record.items() if key not in TIMES} | {"history": history}


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_a_run_that_is_killed_ten_times_is_the_unbroken_one(tmp_path):
    data = write_images(tmp_path / "data", {"train": 24, "val": 8, "test": 10})
    command = [sys.executable, "-m", "tests.training.killing", data, tmp_path / "runs", "7"]
    (tmp_path / "runs").mkdir()
    alone = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout.splitlines()[-1])["killed"]
    assert len(killed) == 10 and {how for _, how in killed} == {"file", "time"}

    def files(run: str) -> dict[str, bytes]:
        folder = tmp_path / "runs" / run / "r"
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    whole = files("whole")
    said = (tmp_path / "runs" / "said.txt").read_text()
    assert len(set(re.findall("resumed after (.*)", said))) >= 3  # the kills are not all at one place
    for run in {number for number, _ in killed}:
        found = files(str(run))
        assert found.keys() == whole.keys()  # no temporary file either
        assert without_times(found["run.json"]) == without_times(whole["run.json"])
        for name in whole.keys() - {"run.json", "checkpoint.pt"}:  # which hold times
            assert found[name] == whole[name], name


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_workers_of_a_killed_run_end(method, folder):
    """They hold batches that nobody will take."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    command = [sys.executable, "-m", "tests.training.reading", method, folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        workers = json.loads(parent.stdout.readline())
        parent.kill()
    assert len(workers) == 2
    limit = time.monotonic() + 30
    while living := [worker for worker in workers if runs(worker)]:
        assert time.monotonic() < limit, f"workers {living} of {workers} have not ended"
        time.sleep(0.1)


def runs(process: int) -> bool:
    """Whether a process is there; one that has ended and was not yet fetched does not run."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_process_is_refused_until_the_first_has_ended(folder, config, make_model):
    """The first is killed: the system gives its lock back."""
    config = config.merge({"epochs": 1})
    code = "import sys, time\nfrom cma.training import resume\nfrom pathlib import Path\n"
    code += "with resume.writing(Path(sys.argv[1])):\n    print('there', flush=True)\n    time.sleep(600)"
    command = [sys.executable, "-c", code, config.runs_dir / "r"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == "there\n"
            with pytest.raises(ValueError, match="r: another run is being trained there now; choose another"):
                cma.train(make_model(), load(folder, "train"), config)
        finally:
            first.kill()
    assert cma.train(make_model(), load(folder, "train"), config).finished
