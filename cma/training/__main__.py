"""Train what a JSON file describes: `python -m cma.training run.json`.

On several GPUs it is `accelerate launch -m cma.training run.json`; SEVERAL_GPUS.md says more.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

import torch

from ..files import printable
from . import devices
from .launch import read_description
from .loop import train
from .planning import plan
from .record import sentence

# one line; anything else keeps its traceback
USER_ERRORS = (ValueError, OSError, ImportError, MemoryError, torch.OutOfMemoryError, devices.Stopped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; what the user can correct is one line on stderr, and 1."""
    parser = argparse.ArgumentParser(prog="python -m cma.training", description=__doc__)
    parser.add_argument("description", metavar="run.json", help="what to train, as JSON")
    parser.add_argument("--plan", action="store_true", help="say memory, time and hours, and stop")
    options = parser.parse_args(arguments)
    number = os.environ.get("RANK", "0")
    if number != "0":
        warnings.simplefilter("ignore")  # the first process warns
    try:
        device = devices.choose_device()
        model, dataset, config = read_description(options.description).build(device)
        with devices.joined(device) as team:
            if options.plan:
                team.say(str(plan(model, dataset, config, team)))
            else:
                record = train(model, dataset, config, team=team)
                said = f"{sentence(record.metrics, record)}; epoch {record.selected_epoch}, {record.label}"
                team.say(f"{said}; all metrics are in {record.folder}")
    except KeyboardInterrupt:  # a run that had begun has said how it goes on
        return 130
    except USER_ERRORS as error:
        which = f"process {number}: " if "WORLD_SIZE" in os.environ else ""
        print(f"error: {which}{printable(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
