"""An index in a LanceDB table, in a folder or at `s3://…`: larger than memory, filled by several
processes.

Each row is an item: `key` identifies it, `file` is its MediaFile as JSON, `vector` [D] is the mean
embedding of its frames, and `frames` [F, D] holds all of them if there are several, un-normalised,
in float32. The table's metadata is a `store.Manifest`. Storage at `s3://…` is configured by the
usual `AWS_…` variables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import lazy_loader
import torch
from torch import Tensor

from .. import require
from ..files import parse_json
from ..model import RetrievalModel
from . import listing
from .build import Building, Item, Source
from .listing import MediaFile
from .segment import LARGE, as_row
from .store import FORMAT_VERSION, Embedded, Manifest, as_json
from .weights import Header

lancedb, pa = lazy_loader.load("lancedb"), lazy_loader.load("pyarrow")  # the extra `lance`
TABLE, COLUMNS = "media", ["key", "file", "vector", "frames"]
# of the approximate search: items in a list, and how many lists are searched
LIST, LISTS = 4096, 80
ROWS = 8192  # rows written or deleted at once


def place(uri: str | Path) -> str:
    """Return a folder as an absolute path, and an address such as `s3://bucket/photos` unchanged."""
    return str(uri) if "://" in str(uri) else str(Path(uri).expanduser().absolute())


def is_table(uri: str | Path) -> bool:
    """Whether `uri` is an address, or a folder that holds a table."""
    return "://" in str(uri) or Path(place(uri), f"{TABLE}.lance").is_dir()


class Table:
    """The table at `uri`. Every call sees its current rows, because other processes may write to
    it.

    Raises FileNotFoundError if there is none, unless a `manifest` is given: then the first `add`
    creates it. Every method raises OSError, in one line, if the storage cannot be used or a file is
    damaged.
    """

    def __init__(self, uri: str | Path, manifest: Manifest | None = None) -> None:
        require("lance", "lancedb")
        self.uri, self.manifest, self.keys, self._table = place(uri), manifest, set(), None
        with told(self.uri):
            self._database = lancedb.connect(self.uri, read_consistency_interval=timedelta(0))
            if TABLE in self._database.list_tables().tables:
                self._open()
        if self.manifest is None:
            raise FileNotFoundError(
                f"{uri}: no index there; `MediaIndex.build(…, store=…)` makes one"
            )

    def _open(self) -> None:
        self._table = self._database.open_table(TABLE)
        manifest = (self._table.schema.metadata or {}).get(b"manifest", b"").decode()
        self.manifest = parse_json(
            manifest, Manifest, self.uri, "; its table is no index, use another"
        )

    def __len__(self) -> int:
        with told(self.uri):
            return self._table.count_rows() if self._table else 0

    def rows(self) -> Rows:
        """The rows that are there now, for a build; from now on `add` replaces those of the same
        key.
        """
        with told(self.uri):
            rows = Rows(self.uri)
        self.keys = set(rows.keys)
        return rows

    def add(self, items: Sequence[Item]) -> range:
        """Write items; a reader sees all or none. Returns a range, which stands for a segment of
        them.
        """
        rows = self._as_rows(items)
        with told(self.uri):
            if self._table is None:
                with suppress(ValueError):  # another process has just made it
                    self._database.create_table(TABLE, schema=rows.schema)
                self._open()
            if self.keys.isdisjoint(rows["key"].to_pylist()):
                self._table.add(rows)
            else:
                merge = self._table.merge_insert("key").when_matched_update_all()
                merge.when_not_matched_insert_all().execute(rows)
        return range(len(items))

    def write(self, index: Embedded, manifest: Manifest) -> None:
        """Replace the table with an index; a reader sees the old table or all of the new one."""
        self.manifest = manifest

        def batches() -> Iterator[pa.RecordBatch]:
            for items in torch.arange(len(index)).split(ROWS):
                frames = index.gather(items).split(index.lengths[items].tolist())
                files = [index.files[item] for item in items.tolist()]
                yield from self._as_rows(list(zip(files, frames, strict=True))).to_batches()

        with told(self.uri):
            schema = self._as_rows([(index.files[0], index.frames(0))]).schema
            self._database.create_table(TABLE, batches(), schema=schema, mode="overwrite")
            self._open()

    def delete(self, keys: Collection[str]) -> None:
        quoted = ["'" + key.replace("'", "''") + "'" for key in keys]
        with told(self.uri):
            for start in range(0, len(quoted), ROWS):
                self._table.delete(f"key IN ({', '.join(quoted[start : start + ROWS])})")

    def compact(self, anew: bool = True) -> None:
        """Join the parts that were added; from `LARGE` rows on, make the lists of the approximate
        search.

        Without `anew`, existing lists are kept, and new rows are put into them.
        """
        with told(self.uri):
            self._table.optimize()
            if len(self) >= LARGE and (anew or not self._table.list_indices()):
                lists = lancedb.index.IvfSq(distance_type="cosine", target_partition_size=LIST)
                self._table.create_index("vector", config=lists)

    def nearest(self, vector: Tensor, count: int) -> list[Item]:
        """Return the `count` items whose means are nearest to a vector [D], in the order of their
        keys.

        A file that two processes embedded at the same time is stored twice, but returned once.
        """
        with told(self.uri):
            search = (
                self._table.search(vector.numpy(), "vector").distance_type("cosine").nprobes(LISTS)
            )
            rows = search.limit(count).select([*COLUMNS, "_distance"]).to_arrow()
        if not rows.num_rows:
            raise ValueError(
                f"{self.uri}: no items in it yet; ask again once a process has added some"
            )
        files = [parse_json(file, MediaFile, self.uri) for file in rows["file"].to_pylist()]
        found = dict(
            zip(rows["key"].to_pylist(), zip(files, frames_of(rows), strict=True), strict=True)
        )
        return [found[key] for key in sorted(found)]

    def _as_rows(self, items: Sequence[Item]) -> pa.Table:
        files, frames = zip(*items, strict=True)
        means = torch.stack([one.mean(0) for one in frames])
        several = [one.numpy().tobytes() if len(one) > 1 else None for one in frames]
        columns = {
            "key": [file.key for file in files],
            "file": [as_row(file).decode() for file in files],
            "vector": pa.FixedSizeListArray.from_arrays(means.flatten().numpy(), means.shape[1]),
            "frames": pa.array(several, pa.binary()),
        }
        return pa.table(columns, metadata={"manifest": as_json(self.manifest)})


class Rows:
    """The rows of a table at one moment, with the methods of a segment that a build uses."""

    def __init__(self, uri: str) -> None:
        # later writes are not seen
        self.uri, self._table = uri, lancedb.connect(uri).open_table(TABLE)
        rows = self._table.search().select(["key", "file"]).with_row_id(True).to_arrow()
        self.keys, self._files, self._numbers = (
            rows["key"].to_pylist(),
            rows["file"],
            rows["_rowid"],
        )

    def __len__(self) -> int:
        return len(self.keys)

    def file(self, row: int) -> MediaFile:
        return parse_json(self._files[row].as_py(), MediaFile, f"{self.uri}: {self.keys[row]}")

    def frames(self, rows: Tensor) -> Tensor:
        """The embeddings [N, D] of all frames of some rows."""
        with told(self.uri):
            numbers = [self._numbers[row].as_py() for row in rows.tolist()]
            return torch.cat(
                frames_of(self._table.take_row_ids(numbers).select(COLUMNS).to_arrow())
            )


def build(
    model: RetrievalModel, source: Source, header: Header, uri: str | Path, shard: tuple[int, int]
) -> Table:
    """Embed the files of a shard that are not in the table yet; see `MediaIndex.build`."""
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard={shard!r}: expected (number, how many), from (0, {count}) on")
    root, files, problems = listing.find(source)
    files = list({file.key: file for file in files}.values())  # a table has each file once
    table = Table(uri, Manifest(header, str(root), (), (), (), FORMAT_VERSION))
    table.manifest.header.check(table.uri, header)
    building = Building(model, header, root, table.add)
    if table:
        building.know(table.rows())
    if own := files[number::count]:
        building.run(own, () if number else problems)
    kept = {file.key for file in files} - {file.key for file in building.unread}
    table.delete(table.keys - kept)
    if count == 1:
        table.compact(anew=False)
    return table


def frames_of(rows: pa.Table) -> list[Tensor]:
    """The embeddings [F, D] of each row's frames."""
    means = torch.from_numpy(
        rows["vector"].combine_chunks().flatten().to_numpy(False, writable=True)
    )
    means, several = means.unflatten(0, (rows.num_rows, -1)), rows["frames"].to_pylist()
    return [
        mean[None]
        if own is None
        else torch.frombuffer(bytearray(own), dtype=mean.dtype).view(-1, len(mean))
        for mean, own in zip(means, several, strict=True)
    ]


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turn an error of LanceDB, which has several lines, into an OSError of one line that names
    `uri`.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise OSError(f"{uri}: {said}; what was added before is kept, start again") from error
