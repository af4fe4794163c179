"""The rows of an index: one LanceDB table, in memory, in a folder or at `s3://…`.

`rows` says what a row is. Checksums are checked whenever the data they belong to are read. Storage
at `s3://…` is configured by the usual `AWS_…` variables.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote, unquote

import lazy_loader
import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from cma import require
from cma.files import parse_json, printable

from .listing import EVERYWHERE, MediaFile, Problem, Where
from .rows import (
    FORMAT_VERSION,
    MEANS,
    RECORD,
    VECTORS,
    Item,
    Manifest,
    as_file,
    as_rows,
    condition,
    ids_of,
    means_of,
    metadata,
    once,
    record_sum,
    schema_of,
    short,
    sql,
    unit,
)
from .weights import Header, digest_of

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa
else:  # the extra `explorer`
    lancedb, pa = lazy_loader.load("lancedb"), lazy_loader.load("pyarrow")
T = TypeVar("T")
MEMORY = "memory://"
TABLE, SKIPPED, LINE = "media", "skipped", "line"
OLDER = "index.safetensors", f"segment-{'[0-9a-f]' * 16}.safetensors"  # of earlier versions
# up to this many items, we compare each with a query; beyond, LanceDB finds the nearest
LARGE = 200_000
HELD = 2**28  # up to this many bytes, frames of clips stay in memory; else each query reads them
# a large table's index: rows in a partition, and partitions searched (of a million rows, all)
PARTITION, PROBES = 4096, 250
CACHED = {"index_cache_size_bytes": 2**28, "metadata_cache_size_bytes": 2**26}
# tidy a table with more parts, or more rows outside the index; older versions stay readable for at
# least this time
PARTS, OUTSIDE, KEPT = 32, 50_000, timedelta(days=1)
SHARE = 10_000  # rows per further part allowed, since joining rewrites all rows
DRIFT = 0.1  # a line holds until the table has grown by this share
LOOKS = 64  # rows to read again after writing
ATTEMPTS = 10  # at making a table that another process may be making, too
ROWS = 8192  # rows read, written or deleted at once
FEW = 1000  # items whose embeddings are read alone, before all are needed
RECORDS = 4096  # records held: more than a user looks at in a list of results
MESSAGE = 400  # the longest error of LanceDB that we quote
AGAIN = "build the index again"
CLOSED = f"cannot be opened; if it is damaged, delete it, then {AGAIN}"
LOST = f"a part of it is damaged or lost; {AGAIN}"
WROTE = "what was written before is kept; make room if the disk is full, and start again"
logger = logging.getLogger("explorer.index")


class RefusedError(ValueError):
    """A table's content cannot be used, for example because it is not what was written."""


class StorageError(OSError):
    """LanceDB cannot read or write a table; its own errors have several lines."""


@contextmanager
def storage_errors(uri: str, advice: str = LOST) -> Iterator[None]:
    """Turn an error of LanceDB into a StorageError of one line that names `uri`."""
    try:
        yield
    except (RefusedError, StorageError):
        raise
    except BaseException as error:
        panic = "Panic" in type(error).__name__  # a panic of Rust is not an Exception
        if not panic and not isinstance(error, Exception):
            raise
        message = printable(" ".join(str(error).split()))
        if len(message) > MESSAGE:  # S3 gives the reason at the end
            message = f"{message[: MESSAGE // 2]} … {message[-MESSAGE // 2 :]}"
        raise StorageError(f"{uri}: {advice} ({message})") from error


def parsed(text: str, as_type: type[T], uri: str, advice: str) -> T:
    """Do the same as `parse_json`, but raise RefusedError."""
    try:
        return parse_json(text, as_type, uri, advice)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def reading(method: Callable) -> Callable:
    """Decorate a method of a table: errors of LanceDB become a StorageError of one line."""

    @wraps(method)
    def read(self: Table, *given: object, **named: object) -> object:
        with storage_errors(self.uri):
            return method(self, *given, **named)

    return read


def held(method: Callable) -> Any:
    """Decorate a method of a table, without arguments: one thread reads, and the result stays."""

    @wraps(method)
    def read(self: Table) -> object:
        with self._lock:
            known = vars(self)
            if method.__name__ not in known:
                known[method.__name__] = reading(method)(self)
            return known[method.__name__]

    return cached_property(read)


@dataclass(frozen=True, eq=False)
class Near:
    """The items of a large table nearest to a query, ascending, `compared`, with row numbers."""

    items: Tensor
    units: Tensor
    lengths: Tensor
    rows: pa.Table


class Table:
    """The items of an index, numbered from 0, as they were when the table was opened.

    Items are in the order of their dataset or of their names; in a `large` table, in the order of
    its rows. `now()` shows what has been added or deleted since, here or by another process. Every
    method raises OSError, in one line, if the storage cannot be used or a part of it is lost, and
    ValueError for a row with a wrong checksum. Several threads may use a table.
    """

    def __init__(self, uri: str | Path | None, database: object = None) -> None:
        require("explorer", "lancedb")
        self.uri = address(uri)
        self._lock = Lock()
        self._columns: dict[str, np.ndarray] = {}
        self._records: dict[int, MediaFile] = {}  # of items used so far
        self._inside: tuple[Where, Tensor] | None = None  # of the last filter
        self._near: Near | None = None  # the last search
        self._moved: Path | None = None  # the media's new folder
        self._replaces = False  # whether the first added items replace the existing ones
        with storage_errors(self.uri, CLOSED):
            self._database: Any = database or lancedb.connect(
                self.uri, session=lancedb.Session(**CACHED)
            )
            self._rows: Any = self._newest()
            self._made = cast(Manifest, None if self._rows is None else self._manifest())

    @classmethod
    def open(cls, uri: str | Path, media_root: Path | None = None) -> Table:
        """Open the table at an address; `media_root` is the folder of the media, if they have
        moved. Raises FileNotFoundError if there is no table, ValueError if it is of another format.
        """
        uri = address(uri)
        refuse_older(uri)
        here = "://" not in uri  # else LanceDB would make the folder
        table = None if here and not Path(uri, f"{TABLE}.lance").is_dir() else cls(uri)
        if table is None or table._rows is None:
            message = "no index there; `MediaIndex.build` makes one"
            raise FileNotFoundError(f"{uri}: {message}")
        table._moved = media_root
        return table

    @classmethod
    def new(cls, uri: str | Path | None, header: Header, media_root: str | Path) -> Table:
        """Return a table without items; the first items that are added replace what is there."""
        table = cls(uri)
        table._replaces = table._rows is not None
        table._rows = None
        root = quote(str(media_root), errors="surrogateescape")
        table._made = Manifest(header, root, FORMAT_VERSION)
        return table

    def _manifest(self) -> Manifest:
        """Return the metadata. Raises ValueError unless it is a sound index of this version."""
        advice = f"; no index of this version, or a damaged one: delete it, then {AGAIN}"
        schema = self._rows.schema
        message = (schema.metadata or {}).get(b"index", b"").decode(errors="replace")
        digest, text = parsed(message, tuple[str, str], self.uri, advice)
        if digest != digest_of([], text):
            raise RefusedError(f"{self.uri}: its metadata do not have their digest{advice}")
        made = parsed(text, Manifest, self.uri, advice)
        width = schema.field("vector").type.list_size if "vector" in schema.names else 0
        if not schema.equals(schema_of(made, width)):
            raise RefusedError(f"{self.uri}: its columns have other names or types{advice}")
        return made

    @property
    def version(self) -> int | None:
        """LanceDB's number of the state that is open; None if nothing was written."""
        return None if self._rows is None else self._rows.version

    @property
    def header(self) -> Header:
        """The settings that made the embeddings."""
        return self._made.header

    @property
    def media_root(self) -> Path:
        """The folder of the media."""
        return self._moved or Path(unquote(self._made.media_root, errors="surrogateescape"))

    def now(self) -> Table:
        """Return the table as it is now; itself if nobody has changed it."""
        with storage_errors(self.uri, CLOSED):
            newest = self._newest()
            if newest is None or (self._rows is None and self._replaces):
                return self
            if newest.version == self.version:
                return self
        newer = Table(self.uri, self._database)
        newer._moved = self._moved
        return newer

    def _newest(self, name: str = TABLE) -> Any:
        """Return the table as it is now, for writing; None if there is none."""
        with suppress(ValueError):  # LanceDB raises it, even while another process makes the table
            return self._database.open_table(name)
        return None

    # ---- what it holds

    @cached_property
    @reading
    def rows(self) -> int:
        """The number of rows; two processes may have added the same item."""
        return 0 if self._rows is None else self._rows.count_rows()

    @property
    def large(self) -> bool:
        """Whether only the nearest items are compared."""
        return self.rows > LARGE

    def __len__(self) -> int:
        return self.rows if self.large or not self.rows else len(self._ids)

    @cached_property
    @reading
    def _ids(self) -> np.ndarray:
        """LanceDB's number of the row of each item [V]."""
        if self.large:
            return np.sort(ids_of(self._scan(["length"])))  # without a column it reads all
        order = "place", "file_name", "start", "key"
        rows = self._scan(order)
        # so that a folder stands before what follows its name, as in `listing.find`
        names = pa.compute.replace_substring(rows["file_name"], "/", "\0")
        rows = rows.set_column(rows.column_names.index("file_name"), "file_name", names)
        rows = once(rows).sort_by([(name, "ascending") for name in order])
        return ids_of(rows)

    @cached_property
    def _ascending(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row numbers, ascending, and the items that have them."""
        items = self._ids.argsort()
        return self._ids[items], items

    def _items(self, ids: np.ndarray) -> np.ndarray:
        """The items that have rows of these numbers; -1 for a row that is there twice."""
        ascending, items = self._ascending
        places = np.searchsorted(ascending, ids).clip(max=len(items) - 1)
        return np.where(ascending[places] == ids, items[places], -1)

    def _scan(self, names: Sequence[str], condition: str | None = None) -> pa.Table:
        """Return columns and numbers of all rows, or of those that fulfil a condition in SQL."""
        return self._search(names, condition).to_batches(LARGE).read_all()

    def _search(self, names: Sequence[str], condition: str | None = None) -> Any:
        found = self._rows.search().select([*names]).with_row_id(True).limit(None)
        return found.where(condition) if condition else found

    def _taken(self, ids: np.ndarray, names: Sequence[str]) -> pa.Table:
        """Columns of the rows of these numbers, in their order."""
        parts = []
        for first in range(0, len(ids), ROWS):
            wanted = ids[first : first + ROWS]
            taking = self._rows.take_row_ids(wanted.tolist()).select([*names])
            rows = taking.with_row_id().to_arrow()  # in any order
            found = ids_of(rows)
            order = found.argsort()
            parts.append(rows.take(order[np.searchsorted(found[order], wanted)]))
        return pa.concat_tables(parts) if parts else self._rows.schema.empty_table()

    @reading
    def column(self, name: str, items: Tensor | None = None) -> np.ndarray:
        """One column, for some items or all [V]; a column of all is kept."""
        if items is not None and self.large and name not in self._columns:
            return self._taken(self._ids[items.numpy()], [name])[name].to_numpy()
        if name not in self._columns:
            rows = self._scan([name])
            column, ids = rows[name], ids_of(rows)
            if not np.array_equal(ids, self._ids):
                column = column.take(self._items(ids).argsort()[-len(self) :])
            self._columns[name] = column.to_numpy()
        whole = self._columns[name]
        return whole if items is None else whole[items.numpy()]

    @reading
    def counts(self, name: str) -> dict:
        """How many rows have each value of a column."""
        values = self._scan([name])[name].value_counts() if self.rows else []
        return {one["values"].as_py(): one["counts"].as_py() for one in values}

    @reading
    def count(self, condition: str) -> int:
        """How many rows fulfil a condition in SQL."""
        return self._rows.count_rows(condition) if self.rows else 0

    @reading
    def files(self, items: Tensor) -> list[MediaFile]:
        """The records of some items. Those that are not held are read together, since LanceDB takes
        as long for one row as for many; then they are held.
        """
        wanted, known = items.tolist(), self._records
        if missing := [item for item in dict.fromkeys(wanted) if item not in known]:
            rows = self._taken(self._ids[missing], [*RECORD, "record_sum"]).to_pylist()
            new = dict(zip(missing, map(self._file, rows), strict=True))
            known = known | new
            if len(new) <= RECORDS:  # a pass over all rows keeps none of them
                self._records = known if len(known) <= RECORDS else new
        return [known[item] for item in wanted]

    def _file(self, row: dict) -> MediaFile:
        """The record in a row. Raises ValueError if it is damaged, or points outside."""
        file = as_file(row)
        if record_sum(file) != row["record_sum"]:
            raise RefusedError(f"{self.uri}: the record of {short(file)} is damaged; {AGAIN}")
        path = Path(file.media)
        if path.anchor or ".." in path.parts:
            message = f"{printable(file.media)!r:.100} points outside the folder of the media"
            raise RefusedError(f"{self.uri}: {message}; {AGAIN}")
        return file

    @reading
    def having(self, column: Literal["label", "file_name"], text: str) -> list[MediaFile]:
        """The records of the items with this text in a column."""
        if not self.rows:
            return []
        items = np.sort(self._items(ids_of(self._scan([column], f"{column} = {sql(text)}"))))
        return self.files(torch.from_numpy(items[items >= 0]))

    def lengths(self, items: Tensor | None = None) -> Tensor:
        """The numbers of frames."""
        return torch.from_numpy(self.column("length", items).astype(np.int64))

    @reading
    def frames(self, items: Tensor) -> list[Tensor]:
        """Return the embeddings [F, D] of each item's frames."""
        if len(items) > 1 and self._holds_frames:
            return [self._held_frames[item] for item in items.tolist()]
        if near := self._found(items):
            return self._frames(near[0].rows.take(near[1].numpy()))
        return self._frames(self._taken(self._ids[items.numpy()], VECTORS))

    @reading
    def frames_at(self, ids: np.ndarray) -> list[Tensor]:
        """Return the same for the rows with these numbers."""
        return self._frames(self._taken(ids, VECTORS))

    def _frames(self, rows: pa.Table) -> list[Tensor]:
        """Return the embeddings in some rows, after checking their checksums."""
        means, lengths = self._means(rows)
        wanted = rows["frames_sum"].to_pylist()
        found = []
        for row, own in enumerate(rows["frames"].to_pylist()):
            if zlib.crc32(own or b"") != wanted[row]:
                self._damaged(ids_of(rows)[row])
            several = (
                means[row] if own is None else torch.frombuffer(bytearray(own), dtype=means.dtype)
            )
            found.append(several.view(int(lengths[row]), -1))
        return found

    def _means(self, rows: pa.Table | pa.RecordBatch) -> tuple[Tensor, Tensor]:
        """Return the mean embeddings [n, D] in some rows and the numbers of frames, after checking
        their checksums.
        """
        means, lengths = means_of(rows), rows["length"].to_numpy(zero_copy_only=False)
        wanted = rows["vector_sum"].to_pylist()
        for row, (mean, length) in enumerate(zip(means.numpy(), lengths.tolist(), strict=True)):
            if zlib.crc32(mean, length) != wanted[row]:
                self._damaged(ids_of(rows)[row])
        return means, torch.from_numpy(lengths.astype(np.int64))

    def _damaged(self, number: int) -> None:
        (row,) = self._taken(np.array([number]), [*RECORD]).to_pylist()
        raise RefusedError(
            f"{self.uri}: the embedding of {short(as_file(row))} is damaged; {AGAIN}"
        )

    @held
    def _held(self) -> tuple[Tensor, Tensor]:
        """The normalised means of all rows of a table that is not large, and each item's place
        there. To sort the means would take longer than to read them.
        """
        units = torch.empty(self.rows, self._width())
        ids: list[np.ndarray] = []
        for batch in self._search(MEANS).to_batches(ROWS):
            first = sum(map(len, ids))
            unit(self._means(batch)[0], units[first : first + len(batch)])
            ids.append(ids_of(batch))
        order = self._items(np.concatenate(ids)).argsort()[-len(self) :]
        return units, torch.from_numpy(order)

    @cached_property
    def _holds_frames(self) -> bool:
        """Whether the frames of all clips are few enough to keep in memory."""
        if self.large:
            return False
        lengths = self.lengths()
        return 0 < 4 * self._width() * int(lengths[lengths > 1].sum()) <= HELD

    @held
    def _held_frames(self) -> list[Tensor]:
        """The frames of all items, kept because checking them takes longer than a query."""
        frames = [torch.empty(0)] * len(self)
        for batch in self._search(VECTORS).to_batches(LOOKS):
            for item, own in zip(self._items(ids_of(batch)), self._frames(batch), strict=True):
                if item >= 0:
                    frames[item] = own
        return frames

    def _width(self) -> int:
        return self._rows.schema.field("vector").type.list_size

    @reading
    def compared(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised mean embeddings [n, D] of items, and their numbers of frames."""
        if not self.large and ("_held" in vars(self) or len(items) > FEW):
            units, places = self._held
            return units[places[items]], self.lengths(items)
        if near := self._found(items):
            return near[0].units[near[1]], near[0].lengths[near[1]]
        means, lengths = self._means(self._taken(self._ids[items.numpy()], MEANS))
        return unit(means), lengths

    def _found(self, items: Tensor) -> tuple[Near, Tensor] | None:
        """Return the last search, and the places of some items in it; None if it lacks one."""
        near = self._near
        if near is None or not torch.isin(items, near.items).all():
            return None
        return near, torch.searchsorted(near.items, items)

    @reading
    def nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        """Return the items that match `where`, ascending, and the cosines of their means with a
        unit vector [D]; of a large table, only the `count` nearest.
        """
        if not self.rows:
            message = "no items in it yet; ask again once a process has added some"
            raise RefusedError(f"{self.uri}: {message}")
        if self.large:
            return self._nearest(vector, count, where)
        units, places = self._held
        cosines = (units @ vector)[places]
        items = torch.arange(len(self)) if where == EVERYWHERE else self.inside(where)
        return items, cosines[items]

    def _nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        search = self._rows.search(vector.numpy(), "vector").distance_type("cosine")
        search = search.nprobes(PROBES)
        if where != EVERYWHERE:  # in more partitions, until there are enough
            search = search.where(condition(where)).maximum_nprobes(0)
        search = search.select(["key", *VECTORS, "_distance"]).with_row_id(True)
        rows = once(search.limit(count).to_arrow().sort_by("_rowid"))
        items = torch.from_numpy(self._items(ids_of(rows)))
        means, lengths = self._means(rows)
        self._near = near = Near(items, unit(means), lengths, rows)
        return items, near.units @ vector

    @reading
    def inside(self, where: Where) -> Tensor:
        """Return the items that match `where`, ascending."""
        last = self._inside
        if last is None or last[0] != where:
            items = np.sort(self._items(ids_of(self._scan(["folder"], condition(where)))))
            last = self._inside = where, torch.from_numpy(items[items >= 0])
        return last[1]

    @cached_property
    @reading
    def skipped(self) -> tuple[Problem, ...]:
        """The (name, reason) of all files that no shard could read."""
        noted = self._newest(SKIPPED)
        rows = () if noted is None else noted.to_arrow().to_pylist()
        return tuple((row["name"], row["reason"]) for row in rows)

    def line(self) -> float | None:
        """The line that `keep_line` wrote for the same model and about as many rows; else None."""
        with suppress(OSError), storage_errors(self.uri):
            noted = self._newest(LINE)
            for row in [] if noted is None else noted.to_arrow().to_pylist():
                same = row["sum"] == self._line_sum(row["rows"], row["cosine"])
                if same and abs(row["rows"] - self.rows) <= DRIFT * self.rows:
                    return row["cosine"]
        return None

    def _line_sum(self, rows: int, cosine: float) -> int:
        """Return a checksum of the line, the model and the folder of the media."""
        return zlib.crc32(repr((rows, cosine, self._made)).encode())

    # ---- what is written

    def keep_line(self, cosine: float) -> None:
        """Store the cosine of `chance.line` with the table, if the table can be written to."""
        row = {"rows": self.rows, "cosine": cosine, "sum": self._line_sum(self.rows, cosine)}
        with suppress(OSError), storage_errors(self.uri, WROTE):
            self._database.create_table(LINE, pa.Table.from_pylist([row]), mode="overwrite")

    def add(self, items: Sequence[Item], new: bool = True) -> None:
        """Write items in one step; unless all are `new`, they replace items with the same keys."""
        rows = as_rows(items, self._made)
        with storage_errors(self.uri, WROTE):
            if self._rows is None and self._replaces:
                self._rows = self._database.create_table(TABLE, rows, mode="overwrite")
            else:
                if self._rows is None:
                    self._rows = self._created(TABLE, rows.schema)
                if new:
                    self._newest().add(rows)
                else:
                    merge = self._newest().merge_insert("key").when_matched_update_all()
                    merge.when_not_matched_insert_all().execute(rows)
            self._read_back()

    def _read_back(self, before: int | None = None) -> None:
        """Read a little of each large part, and go back to the version `before` if that fails.

        LanceDB can report success for a file whose end did not fit on the disk.
        """
        newest = self._newest()
        try:
            count = newest.count_rows()
            places = sorted({count * number // LOOKS for number in range(LOOKS)} | {count - 1})
            newest.take_offsets(places if count else []).select(["key"]).to_arrow()
            if newest.list_indices():
                newest.search(np.zeros(self._width(), np.float32)).limit(1).to_arrow()
        except Exception:
            if before is not None:
                newest.restore(before)
            raise

    def _created(self, name: str, schema: pa.Schema) -> Any:
        """Return a new table, made by this process, or by another one at the same time."""
        for attempt in range(ATTEMPTS):
            try:
                there = self._newest(name)  # one without rows is falsy
                return self._database.create_table(name, schema=schema) if there is None else there
            except (ValueError, RuntimeError):
                if attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(0.2)

    def delete(self, keys: Collection[str]) -> None:
        """Delete the items with these keys, including duplicates."""
        quoted = [sql(key) for key in keys]
        with storage_errors(self.uri, WROTE):
            for first in range(0, len(quoted), ROWS):
                self._newest().delete(f"key IN ({', '.join(quoted[first : first + ROWS])})")

    def skip(self, problems: Sequence[Problem], shard: tuple[int, int]) -> None:
        """Replace a shard's unreadable files; delete those noted for another number of shards."""
        own, count = f"{shard[0]}/{shard[1]}", shard[1]
        rows = [{"shard": own, "name": name, "reason": reason} for name, reason in problems]
        schema = pa.schema(dict.fromkeys(("shard", "name", "reason"), pa.string()))
        with storage_errors(self.uri, WROTE):
            if (noted := self._newest(SKIPPED)) is not None:
                noted.delete(f"shard = '{own}' OR NOT ends_with(shard, '/{count}')")
            if rows:
                self._created(SKIPPED, schema).add(pa.Table.from_pylist(rows, schema))

    def tidy(self) -> None:
        """Join small parts, delete old versions and update the index, each if worthwhile."""
        with storage_errors(self.uri, WROTE):
            newest = self._newest()
            if newest is None:
                return
            rows, before, indexed = newest.count_rows(), newest.version, newest.list_indices()
            is_new = rows > LARGE and not indexed
            stats = newest.index_stats(indexed[0].name) if indexed else None
            outside = stats.num_unindexed_rows if stats else 0
            parts = newest.stats()["fragment_stats"]["num_fragments"] - rows // SHARE
            age = datetime.now() - newest.list_versions()[0]["timestamp"]
            if is_new or parts > PARTS or outside > OUTSIDE or age > KEPT:
                newest.optimize(cleanup_older_than=KEPT)
                if is_new:
                    newest.create_index("vector", config=index_config())
                self._read_back(before)

    def copied(
        self,
        uri: str | Path | None,
        items: Tensor | None = None,
        media_root: str | Path | None = None,
    ) -> Table:
        """Write all rows, or some items, to an address, replacing any table there; return the copy.

        It notes the same folder of the media, or else `media_root`.
        """
        copy = Table.new(uri, self.header, media_root or self.media_root)
        names = self._rows.schema.names

        def batches() -> Iterator[pa.RecordBatch]:
            if items is None:
                for batch in self._search(names).to_batches(ROWS):
                    yield batch.select(names)
            else:
                for part in items.split(ROWS):
                    rows = self._taken(self._ids[part.numpy()], names).select(names)
                    yield from rows.to_batches()

        copied = copy._replaced(batches(), self._rows.schema)
        copied.skip(self.skipped, (0, 1))
        return copied

    def mended(self, media_root: Path | None = None) -> Table:
        """Rewrite the undamaged rows in place; a reader sees the old rows or all new ones."""
        copy = Table.new(self.uri, self.header, media_root or self.media_root)
        copy._database = self._database
        schema = schema_of(copy._made, self._width())

        def sound(first: int, last: int) -> Iterator[pa.RecordBatch]:
            try:
                with storage_errors(self.uri):
                    rows = self._rows.take_offsets([*range(first, last)]).to_arrow()
                    rows = rows.select(schema.names)
                    self._read(rows)
                yield from rows.to_batches()
            except (OSError, ValueError):
                middle = (first + last) // 2
                if middle > first:
                    yield from sound(first, middle)
                    yield from sound(middle, last)

        def batches() -> Iterator[pa.RecordBatch]:
            for first in range(0, self.rows, ROWS):
                yield from sound(first, min(first + ROWS, self.rows))

        return copy._replaced(batches(), schema)

    def _replaced(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Table:
        """Replace the table by these rows in one step.

        They go through a file, because LanceDB reads and writes in one thread.
        """
        schema = schema.with_metadata(metadata(self._made))
        with storage_errors(self.uri, WROTE), TemporaryDirectory() as folder:
            path = f"{folder}/rows"
            with pa.ipc.new_stream(path, schema) as stream:
                for batch in batches:
                    stream.write_batch(batch.cast(schema))
            mode = "overwrite" if self._replaces else "create"
            before = self._newest().version if self._replaces else None
            with pa.memory_map(path) as mapped, pa.ipc.open_stream(mapped) as rows:
                self._database.create_table(TABLE, rows, mode=mode)
            self._read_back(before)
        return Table(self.uri, self._database)

    def known(self) -> Iterator[tuple[MediaFile, int]]:
        """Yield each record with its row number. Raises like `files`.

        In a folder it also checks the checksums of all embeddings.
        """
        names = [*RECORD, "record_sum", *(VECTORS if "://" not in self.uri else ())]
        with storage_errors(self.uri):
            for batch in self._search(names).to_batches(ROWS):
                yield from zip(self._read(batch), ids_of(batch).tolist(), strict=True)

    def _read(self, rows: pa.Table | pa.RecordBatch) -> list[MediaFile]:
        """Return the records in some rows, after checking every checksum in them."""
        if "frames" in rows.column_names:
            self._frames(rows)
        return [self._file(row) for row in rows.select([*RECORD, "record_sum"]).to_pylist()]


# ---- where they are


def address(uri: str | Path | None) -> str:
    """Return a folder's absolute path, an address such as `s3://…` as it is; None means memory.

    `Path` leaves one slash of an address; it gets its two again.
    """
    if uri is None:
        return MEMORY
    place = re.sub(r"^([a-z0-9]{2,}):/(?!/)", r"\1://", str(uri))  # one letter is a drive
    return place if "://" in place else str(Path(uri).expanduser().absolute())


def refuse_older(uri: str) -> None:
    """Raise ValueError if a folder holds an index of an earlier version."""
    if any(path for name in OLDER for path in Path(uri).glob(name)):
        raise ValueError(f"{uri}: an index of an earlier version; delete it, then {AGAIN}")


@contextmanager
def writing(uri: str, shard: tuple[int, int]) -> Iterator[None]:
    """Lock a folder (created if needed) for one writer of each shard; others wait.

    Raises ValueError for a file, for an older index, or for a folder of other things; hidden files
    do not count.
    """
    if "://" in uri:
        yield
        return
    refuse_older(uri)
    folder, advice = Path(uri), "give the index its own folder"
    if folder.is_file():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    folder.mkdir(parents=True, exist_ok=True)
    if (others := sorted(folder.glob("[!.]*"))) and not (folder / f"{TABLE}.lance").is_dir():
        found = f"holds no index but other things ({others[0].name!r}, …)"
        raise ValueError(f"{folder}: {found}; {advice}")
    lock = FileLock(folder / ".{}-{}.lock".format(*shard))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        logger.info(f"{folder}: another process is writing this index; waiting until it ends")
        held = lock.acquire()
    with held:
        yield


def index_config() -> object:
    """Return the settings of LanceDB's index: one bit per number (RaBitQ, Gao and Long 2024), in
    the partitions whose centres are nearest.
    """
    return lancedb.index.IvfRq(distance_type="cosine", target_partition_size=PARTITION)
