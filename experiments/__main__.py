"""Compare many runs and make `results/`, or make the bundled CLIP again."""

from __future__ import annotations

import argparse
import dis
import sys
from collections.abc import Sequence
from pathlib import Path

from cma import log_to_stdout
from cma.files import printable
from data_prep.readers import expand_home

from . import (
    ablations,
    curves,
    forgetting,
    fronts,
    graded,
    inflation,
    parts,
    pretraining,
    report,
    study,
)
from .options import ABOUT

COMMANDS = {
    "study": study,
    "curves": curves,
    "fronts": fronts,
    "ablations": ablations,
    "parts": parts,
    "forgetting": forgetting,
    "graded": graded,
    "inflation": inflation,
    "report": report,
    "pretrain": pretraining.command,
}


OURS = Path(__file__).resolve().parents[1]


def is_meant_for_users(error: Exception) -> bool:
    """Return whether our own code raised an error, with a message for users.

    A TypeError or ValueError from Python or a library is a bug, which only its traceback explains.
    """
    if not isinstance(error, TypeError | ValueError):
        return True
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    code = last.tb_frame.f_code
    raised = code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    packages = {OURS / name for name in ("cma", "data_prep", "experiments")}
    return raised and not packages.isdisjoint(Path(code.co_filename).resolve().parents)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 for an error that the user can correct, with one line on
    stderr. Any other error is raised.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = module.run.__doc__
        first = " ".join(text.partition("\n\n")[0].split())
        command = commands.add_parser(name, help=first, description=text)
        for option, default in module.OPTIONS.items():
            command.add_argument(option, default=default, **ABOUT[option])
        command.set_defaults(run=module.run)
    options = expand_home(parser.parse_args(arguments))
    log_to_stdout()
    try:
        options.run(options)
    except KeyboardInterrupt:  # a run that had started has already said how to continue it
        return 130
    except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        if not is_meant_for_users(error):
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
