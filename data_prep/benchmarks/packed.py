"""The forms of image annotations in containers: parquet files and WebDataset shards."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data_prep.benchmarks.downloads import SPLIT_WORDS, Downloads, split_of
from data_prep.benchmarks.forms import SAME, Form, Reading, Row, read_rows
from data_prep.benchmarks.undivided import Undivided
from data_prep.containers import PARQUET, SHARD, Layout, Pictures, columns_of, has_texts, samples
from data_prep.dataset import CaptionCleaner, Counts, Entry
from data_prep.media import stem
from data_prep.readers import BadInput

Divisions = tuple[dict[str, Counts], ...]
Splits = Mapping[str, str | None]


@dataclass(frozen=True)
class Tables:
    """The parquet files of one benchmark, by their layouts on the hub."""

    name: str
    layouts: tuple[Layout, ...]

    def forms(
        self,
        divisions: Divisions,
        undivided: Undivided | None = None,
        splits: Splits = SAME,
        mark: Callable[[Row], Row] = lambda row: row,
    ) -> dict[str, Form]:
        """Return the form "parquet", and "parquet-all" if a layout names no splits.

        `undivided` gives the splits of the latter; `mark` may change the split of a row.
        """

        def of_all(paths: dict[str, Path]) -> Reading:
            # an image may have rows in several files
            several = (mark(row) for label, path in paths.items() for row in self.rows(path, label))
            first = next(iter(paths))
            reading = read_rows(lambda path, label: several, {first: paths[first]}, splits)
            return reading._replace(files=list(paths.values()))

        listed = "parquet files (" + "; ".join(layout.captions for layout in self.layouts) + ")"
        find = partial(self.find, divided=True)
        read = partial(self._read, of_all)
        forms = {"parquet": Form(f"{listed} of each split", divisions, find, read)}
        if undivided:
            whole = replace(undivided, rows=self.rows, choose=self._of_all)
            form = whole.form(f"{listed} with Karpathy's split", divisions, splits)
            forms["parquet-all"] = replace(form, read=partial(self._read, form.read))
        return forms

    def layout(self, path: Path) -> Layout:
        """Return the layout of a file. Raises `BadInput` with its columns for an unknown layout."""
        columns = columns_of(path)
        found = next((layout for layout in self.layouts if layout.fits(columns)), None)
        if found is None:
            expected = " or ".join(layout.captions for layout in self.layouts)
            raise BadInput(
                f"{path}: expected the columns of a known copy ({expected}, and a picture or its "
                f"name), found {', '.join(columns)}; `data_prep folder` reads any columns"
            )
        return found

    def find(self, downloads: Downloads, divided: bool) -> dict[str, Path]:
        """Return the files whose layout has splits, or has none, each by its path."""
        found = downloads.containers(self.name, PARQUET)
        return {it: path for it, path in found.items() if self.layout(path).divided == divided}

    def _of_all(self, downloads: Downloads) -> list[Path]:
        return list(self.find(downloads, divided=False).values())

    def rows(self, path: Path, label: str) -> Iterator[Row]:
        """Yield the rows of a file; a column or the path `label` gives the split."""
        layout = self.layout(path)
        split = None if layout.split or not layout.divided else _split_of(label, path)
        for number, (row, file) in enumerate(layout.names(path)):
            own_split = row[layout.split] if layout.split else split
            own_split = SPLIT_WORDS.get(str(own_split), own_split)
            yield Row(f"{path}: row {number}", own_split or label, file, row[layout.captions])

    def _read(self, read: Callable[[dict[str, Path]], Reading], paths: dict[str, Path]) -> Reading:
        tables = [path for path in paths.values() if path.suffix.lower() == PARQUET]
        reading = read(paths)
        layout = self.layout(tables[0])
        if layout.image is None:
            return reading
        wanted = frozenset(entry.file for entry in reading.entries)
        return reading._replace(packed=Pictures(tuple(tables), layout, wanted))


def shard_form(name: str, divisions: Divisions) -> Form:
    """Return the form of WebDataset shards, whose splits are in the names of folders or files."""

    def find(downloads: Downloads) -> dict[str, Path]:
        found = downloads.containers(name, SHARD)
        return {it: path for it, path in found.items() if has_texts(path)}

    return Form("shards (train/0.tar, test-000.tar, …)", divisions, find, read_shards)


def read_shards(paths: dict[str, Path]) -> Reading:
    """Read the pictures and captions of shards; ids are the pictures' paths below the folder."""
    clean = CaptionCleaner()
    entries = []
    for label, path in paths.items():
        split = _split_of(label, path)
        for where, file, captions in samples(path):
            name = f"{label}/{file}"
            entries.append(Entry(stem(name), name, clean(captions, where), split))
    return Reading(entries, list(paths.values()), clean.notes())


def _split_of(label: str, path: Path) -> str:
    split = split_of(Path(label))
    if split is None:
        raise BadInput(
            f"{path}: neither its name nor its folders say train, val or test; put it into a "
            "folder of that name"
        )
    return split
