"""How a figure is measured: pairs in turn, and the peak memory of a fresh process."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from tests import ROOT


def ratio(one: Callable[[], object], other: Callable[[], object], pairs: int) -> dict[str, float | int]:
    """Seconds of `one` divided by those of `other`, pair by pair after one of each that is not counted."""
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


def peak_gib(function: str, *arguments: object) -> float:
    """The peak memory of a process that calls a function of `tests.bench`, such as "step.steps" (Linux)."""
    module, _, name = function.rpartition(".")
    code = (
        f"import json, re, sys\nfrom tests.bench.{module} import {name}\n{name}(*json.loads(sys.argv[1]))\n"
        'print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])'
    )  # not ru_maxrss, which begins at the parent's
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return round(int(done.stdout.split()[-1]) / 2**20, 3)
