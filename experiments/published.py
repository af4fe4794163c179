"""Published numbers of the paper and of other methods (`results/published.csv`), beside our own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = "published.csv"
# PAPER: the paper's own
PAPER, FULL, ZERO_SHOT = "cross-modal adapter", "full fine-tuning", "zero-shot"
# in %; t2v also text-to-image
RECALLS = [f"{way}_r{k}" for way in ("t2v", "v2t") for k in (1, 5, 10)]
NUMBERS = [*RECALLS, "t2v_mnr", "v2t_mnr", "mr", "parameters_m"]  # mean ranks, mR, millions trained
WORDS = ["dataset", "method", "backbone", "source", "note"]
OF_RUN = ("ours: T2I / T2V R@1 · R@5 · R@10", "ours: I2T / V2T", "ours: how")  # columns
NOT_MEASURED = "not measured yet"
NONE = "Not measured yet: no run on this backbone that this table is made of has finished."


@dataclass(frozen=True)
class PublishedRow:
    """One line of the file: published numbers of one method on one benchmark; "" for those not
    given.
    """

    dataset: str
    method: str
    backbone: str
    source: str
    note: str
    numbers: dict[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """(dataset, method in lower case). A run of ours with the same key is shown beside this
        row.
        """
        return self.dataset, self.method.lower()


def read_published(path: Path | str) -> list[PublishedRow]:
    """Read the rows of a file like `results/published.csv`.

    Raises ValueError that names file and line, for other columns. (A test checks the cells.)
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader, rows = csv.DictReader(file, restkey="too many"), []
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if cells.keys() != {*WORDS, *NUMBERS} or None in cells.values():
                wanted = ", ".join([*WORDS, *NUMBERS])
                raise ValueError(f"{where}: expected a cell for each of the columns {wanted}")
            numbers = {name: cells.pop(name) for name in NUMBERS}
            rows.append(PublishedRow(**cells, numbers=numbers))
    return rows


def beside(
    rows: Sequence[PublishedRow], ours: dict[tuple[str, str], list[tuple[str, str, str]]]
) -> str:
    """Return a Markdown table of published rows with our results beside them; blank where we have
    none.

    `ours` has (T2V, V2T, how) of each of our results by `PublishedRow.key`. They are put beside the
    last source of their method, one line each.
    """
    lines, last = [], {row.key: row for row in rows}
    for row in rows:
        millions = row.numbers["parameters_m"]
        theirs = {
            "dataset": row.dataset,
            "method": row.method,
            "theirs: trained": f"{millions} M" if millions else "",
            "theirs: T2I / T2V R@1 · R@5 · R@10": _recalls(row, "t2v"),
            "theirs: I2T / V2T": _recalls(row, "v2t"),
            "source": "; ".join(filter(None, [row.source, row.note])),
        }
        results = ours.get(row.key) if row is last[row.key] else None
        for result in results or [("", "", "")]:
            lines.append(theirs | dict(zip(OF_RUN, result, strict=True)))
    return markdown(lines)


def markdown(lines: Sequence[dict[str, str]]) -> str:
    """Return a table in Markdown, of lines with the same columns."""
    if not lines:
        return NONE
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(line.values() for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _recalls(row: PublishedRow, way: str) -> str:
    recalls = [row.numbers[name] or "–" for name in RECALLS if name.startswith(way)]
    ranks = f" (MnR {row.numbers[f'{way}_mnr']})" if row.numbers[f"{way}_mnr"] else ""
    mean = f" (mR {row.numbers['mr']})" if way == "v2t" and row.numbers["mr"] else ""
    return "" if set(recalls) == {"–"} else " · ".join(recalls) + ranks + mean
