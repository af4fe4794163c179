"""The results tables, from the records of runs: see `python -m cma.training.report --help`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import NO_EFFECT
from ..files import parse_json, read_json, write_whole
from ..methods import NAMES
from ..recipes import VARIANTS
from . import published
from .record import RunRecord
from .rows import MethodRow

START, END = "<!-- results: python -m cma.training.report -->", "<!-- end of results -->"
RECALLS = ("R@1", "R@5", "R@10")
WAYS = ("text_to_visual", "visual_to_text")
HEADER = (
    "dataset", "method", "trained", f"T2I / T2V {' · '.join(RECALLS)}", f"I2T / V2T {' · '.join(RECALLS)}",
    "N", "epoch kept", "recipe", "seed", "seconds", "hardware", "commit",
)  # fmt: skip
Group = list[RunRecord]  # runs that differ in their seed alone


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


def table(records: Sequence[RunRecord]) -> str:
    """A markdown table: recalls in % with their 95 % interval, and how each was made.

    Runs that differ in their seed alone are one line: their mean, with the mean of their intervals, which is
    an interval over items; seeds are not drawn again. Raises ValueError that names a record whose metrics or
    config are not those of a run.
    """
    lines = [HEADER, ["---"] * len(HEADER), *(_named(_row, group) for group in by_seed(records))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside_published(records: Sequence[RunRecord], rows: Sequence[published.PublishedRow]) -> str:
    """A markdown table of published rows, with our results beside them; see `published.beside`."""
    ours: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for group in by_seed(records):
        cells = _named(_row, group)
        how = f"{cells[1]}: {cells[2]} trained; {'; '.join(cells[5:])}"
        ours.setdefault((group[0].dataset, group[0].method.lower()), []).append((cells[3], cells[4], how))
    return published.beside(rows, ours)


def by_seed(records: Sequence[RunRecord]) -> list[Group]:
    """Runs of one method on one dataset with the same settings, whatever their seeds, in the given order."""
    groups: dict[str, Group] = {}
    for record in records:
        settings = {key: value for key, value in record.config.items() if key not in (*NO_EFFECT, "seed")}
        same = [getattr(record, name) for name in ("dataset", "method", "backbone", "adapter", "select_on")]
        counts = [record.metrics.get(name) for name in ("split", "texts", "items")]
        key = json.dumps([settings, same, counts, _other_settings(record)], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def recipe_of(record: RunRecord) -> str:
    """Which recipe's arithmetic, optimiser and choice of epoch a run has: a key of `cma.recipes.VARIANTS`."""
    if not record.selected_epoch:
        return "–"
    fits = (name for name in ("paper", "bf16") if VARIANTS[name].items() <= record.config.items())
    return next(fits, record.config.get("precision", "float32"))


def as_csv(records: Sequence[RunRecord], rows: Sequence[published.PublishedRow]) -> str:
    """Every number: a line for each run, for each mean over seeds, and for what was published."""
    lines: list[dict] = []
    for group in by_seed(records):
        lines += [_named(_flat, [record]) for record in group]
        lines += [_named(_flat, group)] if len(group) > 1 else []
    lines += [row.flat() for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().replace("\r\n", "\n")


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


def _named(make: Callable, group: Group):
    """make(group), with the name of the record in the error if its metrics or config are not a run's."""
    try:
        return make(group)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        record = group[0]
        raise ValueError(f"{record.folder}: {record.name}: no metrics of a run ({error!r})") from error


def _row(group: Group) -> list[str]:
    record, found = group[0], group[0].metrics
    expected = found.get("expected_items")
    items = f"{found['items']:,}" + (f" of {expected:,}" if expected not in (None, found["items"]) else "")
    split = "" if found["split"] == "test" else f" on {found['split']}"
    others = _other_settings(record)
    how = (f" ({others})" if others else "") + (f" {record.label}" if record.select_on == "test" else "")
    share = f" ({record.trained_percent:.2f} %)" if record.trained_parameters else ""
    epochs = ", ".join(str(run.selected_epoch) for run in group)
    gpus = [run.hardware.get("gpu") or f"{run.hardware.get('threads', '?')} CPU threads" for run in group]
    seconds = statistics.mean(run.seconds for run in group)
    return [
        record.dataset,
        f"{record.method}{split}{how}",
        f"{record.trained_parameters:,}{share}",
        *(_recalls(group, way) for way in WAYS),
        f"{found['texts']:,} texts, {items} items",
        f"{epochs} of {record.config['epochs']}, {record.label}" if record.selected_epoch else "–",
        recipe_of(record),
        ", ".join(str(run.seed) for run in group),
        f"{seconds:,.0f}" if seconds else "–",
        ", ".join(dict.fromkeys(gpus)),
        ", ".join(dict.fromkeys(run.commit or "–" for run in group)),
    ]


def _recalls(group: Group, way: str) -> str:
    """`23.7 [20.1, 27.3] · 45.0 [..] · 66.6 [..]`."""
    parts = []
    for key in RECALLS:
        ends = _interval(group, way, key)
        between = f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""
        parts.append(f"{statistics.mean(run.metrics[way][key] for run in group):.1f}{between}")
    return " · ".join(parts)


def _interval(group: Group, way: str, key: str) -> list[float]:
    ends = [run.metrics.get("intervals", {}).get(way, {}).get(key) for run in group]
    return [statistics.mean(side) for side in zip(*ends, strict=True)] if all(ends) else []


def _flat(group: Group) -> dict:
    """The cells of a line of the CSV."""
    record, cells = group[0], _row(group)
    line = {"whose": "ours", "dataset": record.dataset, "method": record.method}
    line |= {"backbone": record.backbone.get("name"), "settings": _other_settings(record)}
    line |= {"seed": cells[8], "runs": len(group), "trained_millions": record.trained_parameters / 1e6}
    line["mR"] = round(statistics.mean(run.metrics["mR"] for run in group), 4)
    for way in WAYS:
        for key in (*RECALLS, "MdR", "MnR"):
            line[f"{way} {key}"] = round(statistics.mean(run.metrics[way][key] for run in group), 4)
            for end, value in zip(("low", "high"), _interval(group, way, key), strict=False):
                line[f"{way} {key} {end}"] = round(value, 4)
    line |= {name: record.metrics.get(name) for name in ("split", "texts", "items", "expected_items")}
    line |= {"epoch kept": cells[6], "recipe": cells[7], "seconds": cells[9], "hardware": cells[10]}
    return line | {"peak_memory_gib": record.peak_memory_gib, "commit": cells[11]}


def _other_settings(record: RunRecord) -> str:
    """The settings in a run's name that are not its recipe's; the seed has a column of its own."""
    given = record.name.partition(",")[2].split(",")
    usual = {f"{key}={value}" for key, value in VARIANTS.get(recipe_of(record), {}).items()}
    return ",".join(part for part in given if part not in usual and not part.startswith("seed="))


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
