"""Make files like a benchmark's own, of its real sizes, and go the whole way of a run on them."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cma.files import read_json, write_whole
from tests.rehearsal import stages
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.stages import Rehearsal
from tests.rehearsal.watch import run_stage

KILLED = "train-killed"
STAGES = {
    "make": stages.make,
    "prepare": stages.prepare_twice,
    "plan": stages.measure,
    KILLED: stages.train_until_killed,
    "resume": stages.resume,
    "evaluate": stages.evaluate_gallery,
    "explore": stages.explore,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that the command line says, each in a process of its own, and print a table of
    them.

    report.json in the folder has it all, also of earlier calls. Raises RuntimeError for a stage
    that fails.
    """
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m tests.rehearsal", description=__doc__, formatter_class=shown
    )
    parser.add_argument("--like", choices=LIKENESSES, required=True, help="the benchmark")
    parser.add_argument("--items", type=int, help="items of all splits (the published number)")
    parser.add_argument("--out", type=Path, help="folder to make (data/rehearsal/LIKE-ITEMS)")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}"
    )
    parser.add_argument(
        "--backbone", help="mini, a hub id or a folder (a ViT-B/32 of random weights)"
    )
    variants = ("paper", "float32", "bf16")
    parser.add_argument(
        "--recipe", choices=variants, default="paper", help="half precision is slow on a CPU"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that make and read media")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs in a batch of the four")
    parser.add_argument("--frames", type=int, help="frames of a clip at most (those of the recipe)")
    parser.add_argument(
        "--gallery", type=int, help="test items evaluated and indexed at most (all)"
    )
    options = vars(parser.parse_args(arguments))
    names, like = options.pop("only") or STAGES, LIKENESSES[options["like"]]
    options["items"] = like.total if options["items"] is None else options["items"]
    try:
        like.scaled(options["items"])
    except ValueError as error:
        parser.error(str(error))
    options["out"] = options["out"] or Path("data", "rehearsal", "{like}-{items}".format(**options))
    it, path = Rehearsal(**options), options["out"] / "report.json"
    for name in (name for name in STAGES if name in names):
        done = run_stage(
            name, STAGES[name], it.out / "stages" / f"{name}.json", it, killed=name == KILLED
        )
        kept = read_json(path, dict)["stages"] if path.is_file() else {}
        report = {"rehearsal": asdict(it) | {"out": it.out.name}, "stages": kept | {name: done}}
        write_whole(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print("      seconds  peak GiB  open files  workers left  stage: what it did")
    for name, done in report["stages"].items():
        print("{:13}{:10}{:12}{:14}".format(*done["cost"].values()), f" {name}: {done['message']}")


if __name__ == "__main__":
    main()
