"""A user's own file of captions: CSV with the columns file_name,caption, or JSONL with the same names."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data_prep.dataset import SPLITS
from data_prep.readers import BadInput, read_csv, read_json_lines


class CaptionRow(NamedTuple):
    """Captions of one file; `where` is the file of captions and the line, for messages."""

    where: str
    file_name: str
    captions: list
    split: str | None


def read_rows(path: Path) -> Iterator[CaptionRow]:
    """Every row of a `.csv` or `.jsonl` file; `BadInput` with its line where one is not as expected."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a .csv or .jsonl file of captions")
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise BadInput(f"{path}: expected a file of captions that ends in .csv or .jsonl")
    empty = True
    for row in readers[path.suffix.lower()](path):
        empty = False
        if not isinstance(row.file_name, str) or not row.file_name.strip():
            raise BadInput(f"{row.where}: expected file_name to be text, found {row.file_name!r}")
        if row.split not in (None, *SPLITS):
            raise BadInput(f"{row.where}: expected split {', '.join(SPLITS)}, found {row.split!r}")
        yield row
    if empty:
        raise BadInput(f"{path}: no captions in this file")


def _read_csv(path: Path) -> Iterator[CaptionRow]:
    for line, row in read_csv(path, ("file_name", "caption")):
        yield CaptionRow(f"{path}:{line}", row["file_name"], [row["caption"]], row.get("split"))


def _read_jsonl(path: Path) -> Iterator[CaptionRow]:
    for where, fields in read_json_lines(path):
        captions = fields.get("captions", [fields.get("caption")])
        if "file_name" not in fields or not fields.keys() & {"caption", "captions"}:
            raise BadInput(f"{where}: expected file_name and caption or captions, found {', '.join(fields)}")
        if not isinstance(captions, list):
            raise BadInput(f"{where}: expected captions to be a list, found {captions!r}")
        yield CaptionRow(where, fields["file_name"], captions, fields.get("split"))
