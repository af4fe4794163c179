"""The command line: `python -m tests.bench [NAME …] [--quick]` prints JSON, bench by bench; `gpu`
is a command of its own.
"""

import argparse
import contextlib
import json
import platform
import sys
from functools import partial

import torch

from cma.training.record import commit
from tests.bench import (
    gpu,
    index,
    likely,
    loader,
    methods,
    moments,
    ranking,
    sentence_transformers,
    step,
)

FIGURES = (step, loader, ranking, methods, index, moments, likely)
BESIDE = "sentence_transformers"  # only if it is asked for by name
BENCHES = {module.__name__.rpartition(".")[2]: module.figures for module in FIGURES}


def main() -> None:
    """Print the figures that are asked for, with the machine they are of."""
    if sys.argv[1:2] == ["gpu"]:
        sys.exit(gpu.main(sys.argv[2:]))
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHES)}; all these without; or {BESIDE}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer pairs")
    parser.add_argument(
        "--python",
        default=sys.executable,
        metavar="FILE",
        help=f"the interpreter that {BESIDE} runs, with `datasets`",
    )
    options = parser.parse_args()
    names = options.names or [*BENCHES]
    BENCHES[BESIDE] = partial(sentence_transformers.figures, python=options.python)
    if unknown := set(names) - set(BENCHES):
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    machine = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit(),
    }
    for name in names:
        with contextlib.redirect_stdout(sys.stderr):  # what a build prints is no figure
            found = BENCHES[name](options.quick)
        content = machine | {name: found}
        print(json.dumps(content, indent=1, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
