"""The stages of `make test`, one after the other, each with its seconds; a table of them ends it.

    python tests/stages.py            # make test
    python tests/stages.py fast       # make fast: neither network nor offline benchmarks
    python tests/stages.py nightly    # make nightly: what takes long, and more of what is random
    python tests/stages.py pull       # a pull request: what is fast, and tiny notebooks

The first stage that fails is the last one. Each prints its command, which also works alone.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(".github/workflows/*"))
COMPARED = "notebooks/02_adapter_anatomy.ipynb"  # its outputs have to be those that are committed
OTHERS = sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb") if path.stem not in COMPARED)
# a worker takes whole files; pytest 9.2 no longer lets xdist's `loadgroup` group tests
TWO = ["-m", "pytest", "-q", "--durations=15"]
TWO += ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
STAGES = {
    "style": ["-m", "ruff", "check"],
    "layout": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy"],
    "workflows": ["-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    + WORKFLOWS,
    "worlds": ["-m", "data_prep", "mini"],
    "tests": [*TWO, "--nbval-lax", "--nbval-cell-timeout", "600"]
    + ["-m", "not book and not browser and not night", COMPARED, "tests"],
    "notebooks": ["notebooks/run.py", "--tiny", "--replace", "--jobs", "2", "--out", "runs/ci"]
    + OTHERS,
    "book and browser": [*TWO, "-m", "(book or browser) and not night"],
    "fast": [*TWO, "-m", "fast"],
    # `hypothesis` marks what draws its examples
    "night": [*TWO, "--hypothesis-profile", "night", "-m", "night or hypothesis"],
}
GOALS = {
    "fast": ["fast"],
    "nightly": ["worlds", "night"],
    "pull": ["style", "layout", "worlds", "fast", "notebooks"],
    "test": [name for name in STAGES if name not in ("fast", "night")],
}


def run(name: str) -> tuple[float, int]:
    """Run a stage; its seconds and exit status."""
    command, start = STAGES[name], time.monotonic()
    print(f"\n== {name}: python {shlex.join(command)}", flush=True)
    # a kernel and a worker have one thread each, as they run two at a time
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or "1"}
    status = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment).returncode
    seconds = time.monotonic() - start
    print(f"== {name}: {seconds:.0f} s", flush=True)
    return seconds, status


def main() -> int:
    """Run the stages of a goal and print the table; 1 if a stage failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("goal", nargs="?", choices=GOALS, default="test")
    goal, table, status = parser.parse_args().goal, {}, 0
    for name in GOALS[goal]:
        table[name], status = run(name)
        if status:
            break
    print(f"\n| stage of `make {goal}` | s |\n|---|---|")
    for name, seconds in (table | {"all": sum(table.values())}).items():
        print(f"| {name} | {seconds:.0f} |")
    if status:
        print(f"\nfailed: {[*table][-1]}")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
