"""The results tables, from the records of runs: see `python -m cma.training.report --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files import parse_json, read_json, write_whole
from ..methods import NAMES
from . import published
from .record import RunRecord
from .rows import MethodRow
from .tables import as_csv, beside_published, table

START, END = "<!-- results: python -m cma.training.report -->", "<!-- end of results -->"


def read_records(folder: Path | str) -> list[RunRecord]:
    """The records of finished runs in a folder, sorted for the table.

    They are in `*.json`, `*/run.json` and, from `cma.training.study`, `methods/*.json`. Left out: a JSON file
    without `metrics` (a sweep), and runs that report on validation. Raises FileNotFoundError if the folder is
    missing, ValueError that names a file that is not as expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        hint = "expected one that holds run records, such as runs or results"
        raise FileNotFoundError(f"{folder}: no such folder; {hint}")
    files = [file for file in folder.glob("*.json") if b'"metrics"' in file.read_bytes()]
    records = [RunRecord.load(file) for file in sorted([*folder.glob("*/run.json"), *files])]
    for file in sorted(folder.glob("methods/*.json")):
        found = read_json(file, MethodRow).records.values()
        records += [parse_json(json.dumps(record), RunRecord, str(file)) for record in found]
    kept = [record for record in records if record.metrics and record.config.get("report_on") != "val"]
    order = {method: place for place, method in enumerate(NAMES)}
    return sorted(kept, key=lambda run: (run.dataset, order.get(run.method, len(order)), run.name))


def update(path: Path | str, blocks: dict[str, str]) -> None:
    """Put each text between the markers of its name. Raises ValueError if a file has none, or half of one."""
    path = Path(path)
    content, found = path.read_text(encoding="utf-8"), 0
    for name, text in blocks.items():
        start, end = markers(name)
        if start not in content and end not in content:
            continue
        if content.count(start) != 1 or content.count(end) != 1 or content.index(start) > content.index(end):
            raise ValueError(f"{path}: expected the line {start!r} once and {end!r} once after it")
        before, rest = content.split(start)
        content, found = f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}", found + 1
    if not found:
        raise ValueError(f"{path}: expected the line {START!r}, or that of another table; found none")
    write_whole(path, content)


def markers(name: str) -> tuple[str, str]:
    """The lines before and after the table `name`: results, paper or methods."""
    return START.replace("results", name), END.replace("results", name)


def blocks(records: Sequence[RunRecord], rows: Sequence[published.PublishedRow]) -> dict[str, str]:
    """The tables by name: our results; the paper's method, theirs and ours; the other methods likewise."""
    every = published.with_others(rows, [(record.dataset, record.method) for record in records])
    paper = [row for row in every if row.method == published.PAPER]
    others = [row for row in every if row.method != published.PAPER]
    sided = {"paper": paper, "methods": others} if rows else {}
    return {"results": table(records)} | {name: beside_published(records, it) for name, it in sided.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of results; with a file published.csv in the folder, also beside published numbers.

    --readme puts the tables between the markers of files, --csv writes all numbers, --keep keeps the records.
    The last leaves out runs with settings in their names, which are not their recipe's, and then the tables
    are those of the folder of kept records.
    """
    parser = argparse.ArgumentParser(prog="python -m cma.training.report", description=main.__doc__)
    parser.add_argument(
        "records", nargs="?", default="runs", help="folder of records: runs (default), results"
    )
    parser.add_argument("--readme", nargs="+", default=[], help="files whose tables are replaced")
    parser.add_argument("--csv", type=Path, help="file that gets every number, of each seed too")
    parser.add_argument("--keep", type=Path, help="folder that gets each record as NAME.json")
    options = parser.parse_args(arguments)
    try:
        records = read_records(options.records)
        if not records:
            raise ValueError(f"{options.records}: 0 finished runs found; train one first")
        text = table(records)  # before anything is written
        for record in records if options.keep else ():
            if "," not in record.name:
                write_whole(options.keep / f"{record.name}.json", record.to_json())
        shown, folder = (
            (read_records(options.keep), options.keep) if options.keep else (records, options.records)
        )
        file = Path(folder) / published.FILE
        rows = published.read_published(file) if file.exists() else []
        tables = blocks(shown, rows)
        for path in options.readme:
            update(path, tables)
        if options.csv:
            write_whole(options.csv, as_csv(shown, rows))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n\n".join([text, *(tables[name] for name in ("paper", "methods") if name in tables)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
