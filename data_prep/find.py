"""Identify an unknown download: its benchmark and form, what is missing, and what to type."""

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cma import require
from cma.files import printable
from data_prep.benchmarks import BENCHMARKS
from data_prep.benchmarks.downloads import Downloads
from data_prep.containers import NOT_LOOKED_AT, PARQUET
from data_prep.dataset import SPLITS, Annotations
from data_prep.media import MediaFiles
from data_prep.prepare import unlike_published
from data_prep.readers import BadInput, NotThere


def report(folder: Path) -> list[str]:
    """Return lines about the benchmarks in a folder, those with the published counts first.

    Without pyarrow, a last line says that parquet files were not looked at. Raises `BadInput` if
    there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; expected one with what you downloaded")
    if not any(path.is_file() for path in folder.rglob("*")):
        return [printable(f"{folder}: nothing here, no file in it or below it")]
    whole: list[str] = []
    others: list[str] = []
    for name in BENCHMARKS:
        found, lines = _look(folder, name)
        (whole if found and not unlike_published(found) else others).extend(lines)
    lines = whole + others
    if not lines:
        lines.append(f"{folder}: no annotations of a benchmark in it or below it")
    if not whole:
        lines += ["your own media:", f"  {command('folder', folder)}"]
    if Downloads(folder).ending(PARQUET):
        try:
            require("hub", "pyarrow")
        except ImportError as error:
            lines.append(NOT_LOOKED_AT.format(error))
    return [printable(line) for line in lines]


def _look(folder: Path, name: str) -> tuple[Annotations | None, list[str]]:
    """Return the annotations of one benchmark, if they can be read, and a report on them."""
    benchmark = BENCHMARKS[name]
    broken = None
    splits = benchmark.options.get("--split", {}).get("choices", (None,))
    for split in splits:
        options = {"split": split} if split else {}
        try:
            found = benchmark.read(folder, **options)
        except (NotThere, ImportError):  # `report` says what is not installed
            continue
        except BadInput as error:
            broken = broken or error
            continue
        usual = split == next(iter(splits))
        return found, list(_lines(folder, found, "" if usual else f" --split {split}"))
    return None, [f"{name}: a part of it is there. {broken}"] if broken else []


def _lines(folder: Path, found: Annotations, choice: str) -> Iterator[str]:
    form = f", form {found.form}" if found.form else ""
    yield f"{found.name}{form}: {', '.join(found.files)}"
    items = Counter(entry.split for entry in found.entries)
    yield f"  there: {', '.join(f'{split} {items[split]:,}' for split in SPLITS if items[split])}"
    missing = [f"the {split} split" for split in found.expected if not items[split]]
    faults = unlike_published(found) + found.faults
    allow = bool(faults)
    if not found.packed:
        index = MediaFiles(folder, found.kind, found.listed)
        media = sum(
            any(index.locate(place.file) for place in entry.places) for entry in found.entries
        )
        if media == 0:
            choice += " --annotations-only"
        if media < len(found.entries):
            missing.append(f"media: {media:,} / {len(found.entries):,}")
            allow = allow or media > 0
    missing += faults
    yield f"  missing: {'; '.join(missing) or 'nothing'}"
    yield f"  {command(found.name, folder)}{choice}{' --allow-missing' if allow else ''}"


def command(name: str, folder: Path) -> str:
    """Return the line to type for a benchmark or for `folder`."""
    out = Path("datasets") / (folder.resolve().name if name == "folder" else name)
    return f"python -m data_prep {name} --source {shlex.quote(str(folder))} --out {out}"
