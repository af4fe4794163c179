"""A step of a rehearsal in a process of its own: how long it takes, its memory and its open files."""

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from cma.files import printable, read_json, write_whole
from data_prep.readers import BadInput

PROCESSES = Path("/proc")  # Linux alone has it; elsewhere memory and open files are not known
EVERY = 0.1  # seconds between two looks


def run_step(
    name: str, step: Callable[..., dict], folder: Path, *arguments: object, killed: bool = False
) -> dict:
    """Run `step(*arguments)` in a new process; returns what it did, with `cost`, as in `folder`/`name`.json.

    `cost` holds seconds, the most memory of the process and its workers at one moment (`peak_gib`: pages that
    they share count for each), and the most files that one of them had open. A step that is `killed` ends by
    SIGKILL, and returns nothing. Raises `BadInput` if it ends in another way than expected.
    """
    answer = folder / f"{name}.json"
    answer.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    process = multiprocessing.get_context("spawn").Process(target=_answer, args=(answer, step, *arguments))
    start = time.perf_counter()
    process.start()
    memory = files = 0
    try:
        while process.is_alive():
            looked = [look for pid in _with_children(process.pid) if (look := _look(pid))]
            memory = max(memory, sum(look[0] for look in looked))
            files = max([files, *(look[1] for look in looked)])
            process.join(EVERY)
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    seconds = round(time.perf_counter() - start, 2)
    if process.exitcode != 0 and not (killed and process.exitcode < 0):
        raise BadInput(f"{name}: the step ended with {process.exitcode}; what it printed is above")
    if killed and process.exitcode == 0:
        raise BadInput(f"{name}: the step was to be killed and came to its end; take more --steps")
    cost = {"seconds": seconds, "peak_gib": round(memory / 2**30, 2) or None, "open_files": files or None}
    done = ({"signal": -process.exitcode} if killed else read_json(answer, dict)) | {"cost": cost}
    write_whole(answer, json.dumps(done, indent=2) + "\n")
    return done


def _answer(answer: Path, step: Callable[..., dict], *arguments: object) -> None:
    """The child's side; what the user can correct is one line, anything else a traceback."""
    try:
        write_whole(answer, json.dumps(step(*arguments)) + "\n")
    except (BadInput, ImportError, OSError, ValueError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BaseException:
        traceback.print_exc()
        sys.exit(2)


def _with_children(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for listed in (PROCESSES / str(pid) / "task").glob("*/children"):
        try:
            children = listed.read_text().split()
        except OSError:  # ended meanwhile
            continue
        for child in children:
            yield from _with_children(int(child))


def _look(pid: int) -> tuple[int, int] | None:
    """(bytes in memory, open files) of a process, None if it ended or the system does not tell."""
    try:
        pages = int((PROCESSES / str(pid) / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(list((PROCESSES / str(pid) / "fd").iterdir()))
    except (OSError, IndexError):
        return None
