"""Make files like a benchmark's own, of its real sizes, and go the whole way of a run on them.

The way: prepare the dataset, plan the run, train a few steps of the paper's recipe, kill that process by
SIGKILL, resume it, evaluate the gallery, and build and ask an index.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from cma.files import read_json, write_whole
from tests.rehearsal import stages
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.stages import Rehearsal
from tests.rehearsal.watch import run_stage

KILLED = "train, killed"
STAGES = {
    "make": stages.make,
    "prepare": stages.prepare_twice,
    "plan": stages.measure,
    KILLED: stages.train_until_killed,
    "resume": stages.resume,
    "evaluate": stages.evaluate_gallery,
    "explore": stages.explore,
}
NUMBERS = {
    "items": "items of all splits (the published number)",
    "workers": "processes that make and read media",
    "batch_size": "pairs in a batch of the four that are trained",
    "frames": "frames of a clip at most (those of the recipe)",
    "gallery": "test items that are evaluated and indexed at most (all)",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Rehearse what the command line says."""
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.rehearsal", description=__doc__, formatter_class=shown)
    parser.add_argument("--like", choices=LIKENESSES, required=True, help="the benchmark")
    parser.add_argument("--out", type=Path, help="folder to make (data/rehearsal/LIKE-ITEMS)")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--backbone", help="mini, a hub id or a folder (a ViT-B/32 of random weights)")
    variants = ("paper", "float32", "bf16")
    parser.add_argument("--recipe", choices=variants, default="paper", help="half precision is slow on a CPU")
    for name, what in NUMBERS.items():
        usual = getattr(Rehearsal, name, None)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=usual, metavar="N", help=what)
    options = parser.parse_args(arguments)
    options.items = LIKENESSES[options.like].total if options.items is None else options.items
    options.out = options.out or Path("data", "rehearsal", f"{options.like}-{options.items}")
    it = Rehearsal(**{field.name: getattr(options, field.name) for field in fields(Rehearsal)})
    rehearse(it, options.only or list(STAGES))


def rehearse(it: Rehearsal, names: Sequence[str]) -> None:
    """Run the named stages in their order, each in a process of its own, and print a table of them.

    `it.out`/report.json has it all, also of earlier calls. Raises RuntimeError for a stage that fails.
    """
    path = it.out / "report.json"
    for name in (name for name in STAGES if name in names):
        done = run_stage(name, STAGES[name], it.out / "stages" / f"{name}.json", it, killed=name == KILLED)
        kept = read_json(path, dict)["stages"] if path.is_file() else {}
        report = {
            "rehearsal": asdict(it) | {"out": it.out.name},
            "stages": kept | {name: done},
        }
        write_whole(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print("      seconds  peak GiB  open files  workers left  stage: what it did")
    for name, done in report["stages"].items():
        print("{:13}{:10}{:12}{:14}".format(*done["cost"].values()), f" {name}: {done['said']}")


if __name__ == "__main__":
    main()
