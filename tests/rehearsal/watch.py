"""A stage of a rehearsal in a process of its own: its time, its memory and its open files."""

import json
import multiprocessing
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from cma.files import read_json, write_whole

EVERY = 0.1  # seconds between two looks
GRACE = 15  # seconds in which the workers of a process that was killed should end


def run_stage(
    name: str, stage: Callable[..., dict], answer: Path, *given: object, killed: bool
) -> dict:
    """Run `stage(*given)` in a new process; returns what it did, with `cost`, as in the file
    `answer`.

    `cost` holds seconds, the most memory of the process and its workers at one moment (pages that
    they share count for each), the most files that one had open, and how many workers outlived it
    by `GRACE` seconds. A stage that is `killed` returns nothing. Raises RuntimeError if it ends in
    another way than expected.
    """
    answer.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    process = multiprocessing.get_context("spawn").Process(
        target=_answer, args=(answer, stage, given)
    )
    start = time.perf_counter()
    process.start()
    watched, seen, peak, files = psutil.Process(process.pid), set(), 0, 0
    try:
        while process.exitcode is None:
            memory = 0
            with suppress(psutil.Error):  # one that ended meanwhile
                seen.update(watched.children(recursive=True))
            for one in (watched, *seen):
                with suppress(psutil.Error):
                    memory += one.memory_info().rss
                    files = max(files, one.num_fds())
            peak = max(peak, memory)
            time.sleep(EVERY)
    finally:
        process.kill()
        process.join()
    seconds, ended = round(time.perf_counter() - start, 2), process.exitcode
    _, left = psutil.wait_procs(seen, timeout=GRACE)
    for one in left:
        with suppress(psutil.Error):
            one.kill()
    if ended != (-signal.SIGKILL if killed else 0):
        raise RuntimeError(f"{name}: the stage ended with {ended}, see above")
    cost = {"seconds": seconds, "peak_gib": round(peak / 2**30, 2), "open_files": files}
    done = {"message": "ended by SIGKILL"} if killed else read_json(answer, dict)
    return done | {"cost": cost | {"workers_left": len(left)}}


def _answer(path: Path, stage: Callable[..., dict], given: tuple) -> None:
    write_whole(path, json.dumps(stage(*given)) + "\n")
