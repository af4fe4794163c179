"""How a figure is measured: pairs in turn, and the peak memory of a fresh process."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests import ROOT


def ratio(
    one: Callable[[], object], other: Callable[[], object], pairs: int
) -> dict[str, float | int]:
    """Seconds of `one` divided by those of `other`, pair by pair after one of each that is not
    counted.
    """
    found, seconds = [], []
    for _ in range(pairs + 1):
        took = []
        for run in (one, other):
            start = time.perf_counter()
            run()
            took.append(time.perf_counter() - start)
        found.append(took[0] / took[1])
        seconds.append(took)
    names = {"median": statistics.median, "min": min, "max": max}
    summary = {name: round(function(found[1:]), 3) for name, function in names.items()}
    medians = (statistics.median(column) for column in zip(*seconds[1:], strict=True))
    return summary | {"pairs": pairs, "seconds": [round(value, 3) for value in medians]}


def report(name: str, figures: object) -> None:
    """Say a part of a bench as it comes; the whole is printed at its end."""
    print(json.dumps({name: figures}, ensure_ascii=False), file=sys.stderr, flush=True)


class Peak(NamedTuple):
    """GiB of a process at its peak, and how much of that came after everything had been loaded."""

    process: float
    above: float


def peak_gib(function: str, *arguments: object, times: int = 1) -> Peak:
    """The peak memory of a fresh process (Linux), such as of "step.step", a function of
    `tests.bench`.

    The function loads what is needed and returns what is to be run so many `times`: twice for a
    step, so that the optimiser's state is there at the peak. `process` counts the interpreter,
    torch and the weights too; `above` is what the runs add: activations, gradients, the optimiser's
    state. Tensors above 1 MiB go back to the system when they are freed, so that their sum is
    counted and not what glibc keeps for later.
    """
    module, _, name = function.rpartition(".")
    code = (
        f"import json, re, sys\nfrom tests.bench.{module} import {name}\n"
        'field = lambda key: re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]\n'
        f"run = {name}(*json.loads(sys.argv[1]))\nbefore = field('VmRSS')\n"
        f"for _ in range({times}):\n    run()\n"
        "print(field('VmHWM'), before)"
    )  # not ru_maxrss, which begins at the parent's
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    own = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    peak, before = (int(kib) / 2**20 for kib in done.stdout.split()[-2:])
    return Peak(round(peak, 3), round(peak - before, 3))
