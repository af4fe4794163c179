"""The results table, from the records of runs: `python -m cma.training.report --help` has the options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files import write_whole
from .record import RunRecord

START, END = "<!-- results: python -m cma.training.report -->", "<!-- end of results -->"
HEADER = (
    "dataset", "method", "trained", "T2V R@1 · R@5 · R@10", "V2T R@1 · R@5 · R@10", "N", "epoch kept", "seed",
    "seconds", "hardware", "commit",
)  # fmt: skip


def read_records(folder: Path | str) -> list[RunRecord]:
    """The finished records of a folder: its `*.json`, the `run.json` of its subfolders; sorted for the table.

    Left out: a JSON file without `metrics` (a sweep), and runs that were told to report on validation.
    Raises FileNotFoundError if the folder is missing, ValueError naming a file that is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected one that holds run records, such as runs or results"
        )
    files = sorted(folder.glob("*/run.json")) + sorted(
        file for file in folder.glob("*.json") if _has_metrics(file)
    )
    records = [RunRecord.load(file) for file in files]
    order = ("zero-shot", "adapter without sharing", "cross-modal adapter")
    return sorted(
        (record for record in records if record.metrics and record.config.get("report_on") != "val"),
        key=lambda r: (r.dataset, order.index(r.method) if r.method in order else len(order), r.name),
    )


def table(records: Sequence[RunRecord]) -> str:
    """A markdown table, one line a record: recalls in % with their 95 % interval, and how each was made."""
    lines = [HEADER, ["---"] * len(HEADER), *(_row(record) for record in records)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def update(path: Path | str, text: str) -> None:
    """Put `text` between the markers of a file. Raises ValueError if they are not there once each."""
    path = Path(path)
    content = path.read_text(encoding="utf-8")
    if content.count(START) != 1 or content.count(END) != 1 or content.index(START) > content.index(END):
        raise ValueError(f"{path}: expected the line {START!r} once and {END!r} once after it")
    before, rest = content.split(START)
    write_whole(path, f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")


def _row(record: RunRecord) -> list[str]:
    found = record.metrics
    trained = (
        f"{record.trained_parameters:,} ({record.trained_percent:.2f} %)"
        if record.trained_parameters
        else "0"
    )
    expected = found.get("expected_items")
    items = f"{found['items']:,}" + (f" of {expected:,}" if expected not in (None, found["items"]) else "")
    hardware = record.hardware.get("gpu") or f"{record.hardware.get('threads', '?')} CPU threads"
    split = "" if found["split"] == "test" else f" on {found['split']}"
    others = record.name.partition(",")[2]  # settings that are not the recipe's
    how = (f" ({others})" if others else "") + (f" {record.label}" if record.select_on == "test" else "")
    return [
        record.dataset,
        f"{record.method}{split}{how}",
        trained,
        _recalls(found, "text_to_visual"),
        _recalls(found, "visual_to_text"),
        f"{found['texts']:,} texts, {items} items",
        f"{record.selected_epoch} of {record.config['epochs']}, {record.label}"
        if record.selected_epoch
        else "–",
        str(record.seed),
        f"{record.seconds:,.0f}" if record.seconds else "–",
        hardware,
        record.commit or "–",
    ]


def _recalls(found: dict, direction: str) -> str:
    """`23.7 [20.1, 27.3] · 45.0 [..] · 66.6 [..]`."""
    intervals = found.get("intervals", {}).get(direction, {})
    parts = []
    for key in ("R@1", "R@5", "R@10"):
        low, high = intervals.get(key, (None, None))
        between = "" if low is None else f" [{low:.1f}, {high:.1f}]"
        parts.append(f"{found[direction][key]:.1f}{between}")
    return " · ".join(parts)


def _has_metrics(file: Path) -> bool:
    return '"metrics"' in file.read_text(encoding="utf-8", errors="replace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; `--readme` puts it between the markers of that file, `--keep` copies its records.

    Both leave out runs of other settings than their recipe's, which have them in their name.
    """
    parser = argparse.ArgumentParser(prog="python -m cma.training.report", description=main.__doc__)
    parser.add_argument("--records", default="runs", help="folder of run records: runs (default) or results")
    parser.add_argument("--readme", help="file whose table between the markers is replaced")
    parser.add_argument("--keep", type=Path, help="folder that gets each record as NAME.json")
    options = parser.parse_args(arguments)
    try:
        records = read_records(options.records)
        if not records:
            raise ValueError(f"{options.records}: 0 finished runs found; train one first")
        text, usual = table(records), [record for record in records if "," not in record.name]
        if options.readme:
            update(options.readme, table(usual))
        for record in usual if options.keep else ():
            write_whole(options.keep / f"{record.name}.json", record.to_json())
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
