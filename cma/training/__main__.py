"""Train what a JSON file describes: `python -m cma.training run.json`.

On several GPUs it is `accelerate launch -m cma.training run.json`; SEVERAL_GPUS.md says more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence

import torch

from .. import recipes
from ..files import printable
from . import devices
from .launch import choose_device, example, read_description
from .loop import train
from .planning import plan
from .record import RunRecord

# one line; anything else keeps its traceback
USER_ERRORS = (ValueError, OSError, ImportError, MemoryError, torch.OutOfMemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; what the user can correct is one line on stderr, and 1."""
    parser = argparse.ArgumentParser(prog="python -m cma.training", description=__doc__)
    parser.add_argument("description", nargs="?", metavar="run.json", help="what to train, as JSON")
    parser.add_argument("--plan", action="store_true", help="say memory, time and hours, and stop")
    parser.add_argument(
        "--example", choices=recipes.RECIPES, metavar="NAME", help="print a run.json and stop"
    )
    options = parser.parse_args(arguments)
    if options.example:
        print(json.dumps(example(options.example), indent=2))
        return 0
    if not options.description:
        parser.error("expected a run.json, or --example NAME")
    first_here = os.environ.get("LOCAL_RANK", "0") == "0"
    if not first_here:
        warnings.simplefilter("ignore")  # the first process warns
    try:
        device = choose_device()
        with devices.joined(device):
            first_here = True  # from here on, one process has the error and the others have Stopped
            return _run(options, device)
    except devices.Stopped:
        return 1
    except KeyboardInterrupt:  # a run that had begun has said how it goes on
        return 130
    except USER_ERRORS as error:
        if first_here:
            print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, device: object) -> int:
    with devices.together():
        model, dataset, config = read_description(options.description).build(device)
    if options.plan:
        with devices.together():
            planned = plan(model, dataset, config)
        devices.say(str(planned))
        return 0
    record = train(model, dataset, config)
    devices.say(summary(record))
    return 0


def summary(record: RunRecord) -> str:
    """The recalls of a finished run in %, with the number of queries and the 95 % intervals."""
    found, lines = record.metrics, []
    counts = f"{found['texts']:,} texts, {found['items']:,} items"
    names = {"text_to_visual": f"text-to-{record.kind}", "visual_to_text": f"{record.kind}-to-text"}
    for direction, name in names.items():
        recalls = []
        for key, (low, high) in found["intervals"][direction].items():
            recalls.append(f"{key} {found[direction][key]:.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"{found['split']} {name} {', '.join(recalls)} ({counts}; {record.label})")
    return "\n".join([*lines, f"written to {record.folder}"])


if __name__ == "__main__":
    sys.exit(main())
