"""Several processes on this machine, as a launcher starts them, for functions that are tests
inside.
"""

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

LIMIT = 150  # seconds


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launched(rank: int, count: int, port: int) -> dict[str, str]:
    """What `accelerate launch` and `torchrun` tell a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return {key: str(value) for key, value in (numbers | address).items()}


def begin(count: int, jobs: dict[str, Callable[[Path], object]], folder: Path) -> list:
    """Start processes that do every job; they come from a server that has imported all."""
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(
            ["accelerate", "cma.training.__main__", "tests.training.test_devices"]
        )
    folder.mkdir(exist_ok=True)
    port = free_port()
    processes = [
        context.Process(target=_process, args=(rank, count, port, jobs, folder))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def end(processes: list) -> None:
    """Wait until all have ended; none may hang."""
    limit = time.monotonic() + LIMIT
    for process in processes:
        process.join(max(0, limit - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging, f"{len(hanging)} of {len(processes)} processes hang"


def world(
    count: int, jobs: dict[str, Callable[[Path], object]], folder: Path
) -> list[dict[str, object]]:
    """What every process returns from every job, in order of rank; an error is returned as (its
    type, text).

    A job is a function of a folder, at the top of a module.
    """
    end(begin(count, jobs, folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _process(rank: int, count: int, port: int, jobs: dict, folder: Path) -> None:
    os.environ.update(launched(rank, count, port))
    torch.set_num_threads(1)
    sys.modules["matplotlib"] = None  # no curves: they take most of the time of a toy run
    found = {}
    for name, job in jobs.items():
        try:
            found[name] = job(folder)
        except Exception as error:
            found[name] = type(error).__name__, str(error), traceback.format_exc()
        torch.save(found, folder / f"{rank}.pt")
