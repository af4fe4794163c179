"""Make the tables of results from the records of runs: `python -m experiments report --help`."""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cma.config import NO_EFFECT
from cma.files import parse_json, read_json, write_whole
from cma.methods import NAMES
from cma.metrics import RECALLS
from cma.recipes import VARIANTS
from cma.training import RunRecord

from . import published
from .gains import Findings
from .rows import MethodRow
from .tables import MADE, WAYS
from .world import single_records

HOW = ("method", "trained", "N", "epoch kept", "recipe", "seed", "hardware", "commit")  # columns
Group = list[RunRecord]  # runs that differ only in their seed


def read_records(folder: Path | str) -> list[RunRecord]:
    """Read the records of finished runs in a folder, sorted for the table.

    They are in `*.json`, `*/run.json` and, from a study, `methods/*.json`. JSON files without
    `metrics` and runs that report on validation are left out; of runs with one name, one is kept.
    Raises FileNotFoundError if the folder is missing, ValueError that names a file that is not as
    expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        hint = "expected one that holds run records, such as runs or results"
        raise FileNotFoundError(f"{folder}: no such folder; {hint}")
    files = [*folder.glob("*/run.json"), *single_records(folder)]
    records = [RunRecord.load(file) for file in sorted(files)]
    for file in sorted(folder.glob("methods/*.json")):
        of_seeds = read_json(file, MethodRow).records.values()
        records += [parse_json(json.dumps(record), RunRecord, str(file)) for record in of_seeds]
    kept = {
        run.name: run for run in records if run.metrics and run.config.get("report_on") != "val"
    }
    order = {method: place for place, method in enumerate(NAMES)}
    return sorted(
        kept.values(), key=lambda run: (run.dataset, order.get(run.method, len(order)), run.name)
    )


def by_seed(records: Sequence[RunRecord]) -> list[Group]:
    """Group runs of one method on one dataset that differ only in their seed, in order."""
    groups: dict[str, Group] = {}
    for record in records:
        same = [record.dataset, record.method, record.adapter, record.select_on]
        same.append(record.backbone.get("revision") or record.backbone)
        same += [record.metrics.get(key) for key in ("split", "texts", "items")]
        settings = {k: v for k, v in record.config.items() if k not in (*NO_EFFECT, "seed")}
        groups.setdefault(json.dumps([same, settings], sort_keys=True), []).append(record)
    return list(groups.values())


def recipe_of(record: RunRecord) -> str:
    """Return "paper" or "bf16" if a run has that variant's settings, else its precision."""
    names = ("paper", "bf16") if record.selected_epoch else ()
    fits = (name for name in names if VARIANTS[name].items() <= record.config.items())
    return next(fits, record.config.get("precision", "float32"))


def tables(
    records: Sequence[RunRecord], rows: Sequence[published.PublishedRow] = ()
) -> dict[str, str]:
    """Return Markdown tables: `results`; with published `rows` also `paper` (its own method) and
    `methods`.

    Recalls are in % with their 95 % interval. Runs that differ only in their seed share a line,
    which has their mean, with the mean of their intervals: an interval over items that does not
    resample seeds. Raises ValueError that names a record whose metrics or config are not those of a
    run.
    """
    lines, ours = [], {}
    for group in by_seed(records):
        record = group[0]
        try:
            line = _line(group)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{record.folder}: {record.name}: no metrics of a run ({error!r})"
            ) from error
        lines.append(line)
        how = "; ".join(line[column] for column in HOW)
        recalls = (line[_column(way)] for way in WAYS)
        ours.setdefault((record.dataset, record.method.lower()), []).append((*recalls, how))
    made = {"results": published.markdown(lines)}
    if rows:
        paper = [row for row in rows if row.method == published.PAPER]
        others = [row for row in rows if row.method != published.PAPER]
        made |= {"paper": published.beside(paper, ours), "methods": published.beside(others, ours)}
    return made


def _line(group: Group) -> dict[str, str]:
    """Return a line of the table of our results: {column: cell}."""
    record, metrics = group[0], group[0].metrics
    expected = metrics.get("expected_items")
    of_expected = f" of {expected:,}" if expected not in (None, metrics["items"]) else ""
    split = "" if metrics["split"] == "test" else f" on {metrics['split']}"
    others = _other_settings(record)
    how = f" ({others})" if others else ""
    if record.select_on == "test":
        how += f" {record.label}"
    share = f" ({record.trained_percent:.2f} %)" if record.trained_parameters else ""
    epochs = ", ".join(str(run.selected_epoch) for run in group) + f" of {record.config['epochs']}"
    hardware = [
        run.hardware.get("gpu") or f"{run.hardware.get('threads', '?')} CPU threads"
        for run in group
    ]
    return {
        "run": ", ".join(dict.fromkeys(re.sub(r"-seed\d+$", "", run.name) for run in group)),
        "dataset": record.dataset,
        "method": f"{record.method}{split}{how}",
        "trained": f"{record.trained_parameters:,}{share}",
        **{_column(way): _recalls(group, way) for way in WAYS},
        "N": f"{metrics['texts']:,} texts, {metrics['items']:,}{of_expected} items",
        "epoch kept": f"{epochs}, {record.label}" if record.selected_epoch else "–",
        "recipe": recipe_of(record),
        "seed": ", ".join(str(run.seed) for run in group),
        "hardware": ", ".join(dict.fromkeys(hardware)),
        "commit": ", ".join(dict.fromkeys(run.commit or "–" for run in group)),
    }


def _column(way: str) -> str:
    return f"{WAYS[way]} {' · '.join(RECALLS)}"


def _recalls(group: Group, way: str) -> str:
    """Return means, recalls with intervals: `23.7 [20.1, 27.3] · 45.0 [..] · 66.6 [..] (MdR 6)`."""
    names = (*RECALLS, "MdR", "MnR")
    mean = {key: statistics.mean(run.metrics[way][key] for run in group) for key in names}
    parts = []
    for key in RECALLS:
        # None: no interval
        ends = [run.metrics.get("intervals", {}).get(way, {}).get(key) for run in group]
        span = " [{:.1f}, {:.1f}]".format(*np.mean(ends, axis=0)) if all(ends) else ""
        parts.append(f"{mean[key]:.1f}{span}")
    return f"{' · '.join(parts)} (MdR {round(mean['MdR'], 2):g}, MnR {mean['MnR']:.1f})"


def _other_settings(record: RunRecord) -> str:
    """Return the settings in a run's name that are not its recipe's, without seed and digest."""
    given = re.sub(r",[0-9a-f]{8}$", "", record.name).partition(",")[2].split(",")
    usual = {f"{key}={value}" for key, value in VARIANTS.get(recipe_of(record), {}).items()}
    return ",".join(part for part in given if part not in usual and not part.startswith("seed="))


def markers(name: str) -> tuple[str, str]:
    """Return the lines before and after the text `name`, such as `summary` or `results`."""
    return f"<!-- {name}: python -m experiments report -->", f"<!-- end of {name} -->"


def update(path: Path | str, texts: dict[str, str]) -> None:
    """Put each text between its markers in a file. Raises ValueError for no markers, or half of a
    pair.
    """
    content = Path(path).read_text(encoding="utf-8")
    replaced = 0
    for name, text in texts.items():
        start, end = markers(name)
        lines = content.count(start) + content.count(end)
        new = f"{start}\n{text}\n{end}"
        content, pairs = re.subn(f"(?s){start}.*?{end}", lambda _, new=new: new, content)
        if lines != 2 * pairs or pairs > 1:
            raise ValueError(f"{path}: expected the line {start!r} once and {end!r} once after it")
        replaced += pairs
    if not replaced:
        raise ValueError(f"{path}: expected the line {start!r}, or that of another table")
    write_whole(path, content)


def pages_of(folder: Path) -> dict[str, str]:
    """Return every text for the pages, by the name of its markers, from a folder of results."""
    file = folder / published.FILE
    theirs = published.read_published(file) if file.exists() else ()
    found = Findings.read(folder)
    made = tables(read_records(folder), theirs)
    return made | {name: make(found) for name, make in MADE.items()}


OPTIONS = {"records": "runs", "--readme": [], "--keep": None}


def run(options: argparse.Namespace) -> None:
    """Print the table of results and, if the folder has a file published.csv, tables with published
    numbers.

    --readme puts the tables and README's sentences between the markers of files. --keep copies the
    records to a folder, except runs with settings in their names that are not their recipe's. The
    tables for --readme are then made from that folder. A table without a record says so.
    """
    records, folder = read_records(options.records), Path(options.records)
    printed = [tables(records)["results"]]  # before anything is written
    if options.keep:
        folder = options.keep
        for record in records:
            if "," not in record.name:
                write_whole(folder / f"{record.name}.json", record.to_json())
    made = pages_of(folder)
    for path in options.readme:
        update(path, made)
    print("\n\n".join([*printed, *(made[name] for name in ("paper", "methods") if name in made)]))
