"""A step of a rehearsal in a process of its own: how long it takes, its memory and its open files."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cma.files import printable, read_json, write_whole
from data_prep.readers import BadInput

PROCESSES = Path("/proc")  # Linux alone has it; elsewhere memory and open files are not known
EVERY = 0.1  # seconds between two looks
GRACE = 15  # seconds in which the workers of a process that was killed should end
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def run_step(
    name: str, step: Callable[..., dict], folder: Path, *arguments: object, killed: bool = False
) -> dict:
    """Run `step(*arguments)` in a new process; returns what it did, with `cost`, as in `folder`/`name`.json.

    `cost` holds seconds, the most memory of the process and its workers at one moment (`peak_gib`: pages that
    they share count for each), the most files that one of them had open, and how many workers outlived it by
    `GRACE` seconds (they are ended). A step that is `killed` ends by SIGKILL, and returns nothing. Raises
    `BadInput` if it ends in another way than expected.
    """
    answer = folder / f"{name}.json"
    answer.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    code = "from data_prep.rehearsal.watch import answer_to; answer_to()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=environment)
    memory, files, seen = 0, 0, set()
    try:
        with process.stdin as stream:
            pickle.dump((str(answer), step, arguments), stream)
        while process.poll() is None:
            looks = {pid: look for pid in _with_children(process.pid) if (look := _look(pid))}
            seen |= looks.keys()
            memory = max(memory, sum(look[0] for look in looks.values()))
            files = max([files, *(look[1] for look in looks.values())])
            time.sleep(EVERY)
    finally:
        process.kill()
        process.wait()
    seconds, ended = round(time.perf_counter() - start, 2), process.returncode
    left = _end(seen - {process.pid})
    if ended != 0 and not (killed and ended < 0):
        raise BadInput(f"{name}: the step ended with {ended}; what it printed is above")
    if killed and ended == 0:
        raise BadInput(f"{name}: the step was to be killed and came to its end; take more --steps")
    cost = {"seconds": seconds, "peak_gib": round(memory / 2**30, 2) or None, "open_files": files or None}
    cost["workers_left"] = left
    done = ({"signal": -ended} if killed else read_json(answer, dict)) | {"cost": cost}
    write_whole(answer, json.dumps(done, indent=2) + "\n")
    return done


def answer_to() -> None:
    """The child's side: what the user can correct is one line, anything else a traceback."""
    answer, step, arguments = pickle.load(sys.stdin.buffer)
    try:
        write_whole(answer, json.dumps(step(*arguments)) + "\n")
    except (BadInput, ImportError, OSError, ValueError) as error:
        sys.exit(f"error: {printable(str(error))}")


def _end(pids: set[int]) -> int:
    """Wait for processes whose parent has ended, and end those that stay; returns how many did."""
    until = time.monotonic() + GRACE
    while (alive := {pid for pid in pids if (look := _look(pid)) and look[0]}) and time.monotonic() < until:
        time.sleep(EVERY)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, KILL)
    return len(alive)


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
