"""`python -m tests.training.killing DATA OUT SEED`: runs that are killed again and again, as JSON.

Imports take seconds, so they are done once: each attempt is a fork of this process. The first run,
`OUT/whole`, is not killed. The others are killed `KILLS` times in all, in turn from outside at any time, and
when a file of the run is opened for writing or replaced; every run goes on until it is finished.
"""

import json
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

import torch

import cma
from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.data import load
from cma.training import loop
from tests.conftest import build_clip, build_processor

KILLS = 10
FILE_EVENTS = 45  # six a step: three files are opened and replaced


def kill_at_file(number: int, out: Path) -> None:
    """End this process when files below `out` are opened for writing or replaced for the `number`-th time."""
    left = iter(range(number - 1, -1, -1))

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "os.rename" or event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes and str(arguments[0]).startswith(str(out)) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(data: Path, out: Path, model: RetrievalModel, file: int | None, wait: float | None) -> bool:
    """Train in a fork; whether it was killed, at a file or after a `wait` in seconds. Both None: never."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(out.parent / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 1)
            os.dup2(1, 2)
            if file:
                kill_at_file(file, out)
            settings = {"epoch_unit": "items", "batch_size": 8, "lr": 1e-2, "max_frames": 1, "epochs": 3}
            cma.train(model, load(data, "train"), TrainConfig(name="r", runs_dir=out, **settings))
            sys.stdout.flush()
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    if wait:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with {code}:\n{(out.parent / 'said.txt').read_text()[-3000:]}")
    return code != 0


def main() -> None:
    data, out, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)  # with more, a fork would wait for threads that it does not have
    sys.stdout.reconfigure(line_buffering=True)  # what a killed process said is there too
    sys.modules["matplotlib"] = None  # no curve
    loop.CHECKPOINT_SECONDS = 0
    torch.manual_seed(0)
    model = RetrievalModel(build_clip(), build_processor())
    model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8, dropout=0.2))
    model.set_adapter("a")
    start, chance, killed = time.perf_counter(), random.Random(seed), []
    attempt(data, out / "whole", model, None, None)
    took = time.perf_counter() - start
    for run in count():
        attempts, finished = 0, False
        while not finished:
            file, wait = None, None
            if len(killed) < KILLS:
                if len(killed) % 2:
                    file = chance.randint(5, FILE_EVENTS)
                else:
                    wait = chance.uniform(0.2, 0.7) * took
            finished = not attempt(data, out / str(run), model, file, wait)
            attempts += 1
            if not finished:
                killed.append([run, "file" if file else "time"])
        if len(killed) == KILLS:
            break
    print(json.dumps({"killed": killed, "seconds": round(took, 2)}))


if __name__ == "__main__":
    main()
