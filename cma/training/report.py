"""The results table, from the records of runs: see `python -m cma.training.report --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files import write_whole
from .record import METHODS, RunRecord

START, END = "<!-- results: python -m cma.training.report -->", "<!-- end of results -->"
RECALLS = ("R@1", "R@5", "R@10")
HEADER = (
    "dataset", "method", "trained", f"T2I / T2V {' · '.join(RECALLS)}", f"I2T / V2T {' · '.join(RECALLS)}",
    "N", "epoch kept", "seed", "seconds", "hardware", "commit",
)  # fmt: skip


def read_records(folder: Path | str) -> list[RunRecord]:
    """The records of finished runs in a folder, sorted for the table: its `*.json` and its `*/run.json`.

    Left out: a JSON file without `metrics` (a sweep), and runs that report on validation. Raises
    FileNotFoundError if the folder is missing, ValueError that names a file that is not as expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected one that holds run records, such as runs or results"
        )
    files = [file for file in folder.glob("*.json") if b'"metrics"' in file.read_bytes()]
    records = [RunRecord.load(file) for file in sorted([*folder.glob("*/run.json"), *files])]
    kept = [record for record in records if record.metrics and record.config.get("report_on") != "val"]
    order = {method: place for place, method in enumerate(METHODS)}
    return sorted(kept, key=lambda record: (record.dataset, order.get(record.method, 9), record.name))


def table(records: Sequence[RunRecord]) -> str:
    """A markdown table, one line a record: recalls in % with their 95 % interval, and how each was made.

    Raises ValueError that names a record whose metrics or config are not those of a run.
    """
    lines = [HEADER, ["---"] * len(HEADER)]
    for record in records:
        try:
            lines.append(_row(record))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{record.folder}: {record.name}: no metrics of a run ({error!r})") from error
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
    found, share = record.metrics, f" ({record.trained_percent:.2f} %)"
    expected = found.get("expected_items")
    items = f"{found['items']:,}" + (f" of {expected:,}" if expected not in (None, found["items"]) else "")
    split = "" if found["split"] == "test" else f" on {found['split']}"
    others = record.name.partition(",")[2]  # settings that are not the recipe's
    how = (f" ({others})" if others else "") + (f" {record.label}" if record.select_on == "test" else "")
    kept = f"{record.selected_epoch} of {record.config['epochs']}, {record.label}"
    return [
        record.dataset,
        f"{record.method}{split}{how}",
        f"{record.trained_parameters:,}{share if record.trained_parameters else ''}",
        _recalls(found, "text_to_visual"),
        _recalls(found, "visual_to_text"),
        f"{found['texts']:,} texts, {items} items",
        kept if record.selected_epoch else "–",
        str(record.seed),
        f"{record.seconds:,.0f}" if record.seconds else "–",
        record.hardware.get("gpu") or f"{record.hardware.get('threads', '?')} CPU threads",
        record.commit or "–",
    ]


def _recalls(found: dict, direction: str) -> str:
    """`23.7 [20.1, 27.3] · 45.0 [..] · 66.6 [..]`."""
    intervals = found.get("intervals", {}).get(direction, {})
    between = {key: " [{:.1f}, {:.1f}]".format(*interval) for key, interval in intervals.items()}
    return " · ".join(f"{found[direction][key]:.1f}{between.get(key, '')}" for key in RECALLS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of results, put it into a file (--readme) or keep its records (--keep).

    The last two leave out runs whose settings are not their recipe's and are therefore in the run's name.
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
