"""An index in a LanceDB table, in a folder or at `s3://…`: larger than memory, filled by several
processes.

Each row is an item: `key` identifies it, `file` is its MediaFile as JSON, `vector` [D] is the mean
embedding of its frames, and `frames` [F, D] holds all of them if there are several, un-normalised,
in float32. The table's metadata is a `store.Manifest`. What could not be read is in a table of its
own for each shard. Storage at `s3://…` is configured by the usual `AWS_…` variables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

import lazy_loader
import torch
from torch import Tensor

from cma import require
from cma.files import parse_json
from cma.model import RetrievalModel

from . import listing
from .build import Building, Source
from .listing import AFTER, EVERYWHERE, NAME, MediaFile, Problem, Where
from .segment import COLUMNS, LARGE, as_row
from .store import FORMAT_VERSION, Item, Manifest, Store, as_json, integers
from .weights import Header

lancedb, pa = lazy_loader.load("lancedb"), lazy_loader.load("pyarrow")  # the extra `lance`
TABLE, SKIPPED = "media", "skipped-"
# of the approximate search: items in a list, and how many lists are searched
LIST, LISTS = 4096, 80
ROWS = 8192  # rows read, written or deleted at once


def place(uri: str | Path) -> str:
    """Return a folder as an absolute path; an address such as `s3://bucket/photos` stays."""
    return str(uri) if "://" in str(uri) else str(Path(uri).expanduser().absolute())


def is_table(uri: str | Path) -> bool:
    """Whether `uri` is an address, or a folder that holds a table."""
    return "://" in str(uri) or Path(place(uri), f"{TABLE}.lance").is_dir()


class Table:
    """The items of the table at `uri` as they are now: the rows of the version that was opened.

    What is added or deleted, here or by another process, is seen in `now()`. Items are ranked as
    far as the nearest ones that are asked for, which LanceDB finds among all, or, in a table of
    `LARGE` or more that was compacted, among the most promising. Raises FileNotFoundError if there
    is no table, unless a `header` and a `media_root` are given: then the first `add` creates it.
    Every method raises OSError, in one line, if the storage cannot be used or a file is damaged.
    """

    whole = False

    def __init__(
        self, uri: str | Path, header: Header | None = None, media_root: Path = Path()
    ) -> None:
        require("lance", "lancedb")
        self.uri = place(uri)
        self.header = header
        self.media_root = media_root
        self._rows = None  # stays at the version that was opened
        self._near = None  # (items, their rows) of what was found last
        with told(self.uri):
            self._database = lancedb.connect(self.uri)
            if TABLE in self._tables():
                self._rows = self._newest()
        if self._rows is not None:
            text = (self._rows.schema.metadata or {}).get(b"manifest", b"").decode()
            manifest = parse_json(text, Manifest, self.uri, "; its table is no index, use another")
            self.header = manifest.header
            self.media_root = Path(manifest.media_root)
        if self.header is None:
            raise FileNotFoundError(
                f"{uri}: no index there; `MediaIndex.build(…, store=…)` makes one"
            )

    def _newest(self) -> lancedb.table.Table:
        """The table as it is now, which may be written to."""
        return self._database.open_table(TABLE)

    def _tables(self) -> list[str]:
        return self._database.list_tables().tables

    @cached_property
    def skipped(self) -> tuple[Problem, ...]:
        """(name, reason) of what no shard could read."""
        with told(self.uri):
            lists = [name for name in self._tables() if name.startswith(SKIPPED)]
            tables = [self._database.open_table(name).to_arrow() for name in lists]
        return tuple((row["name"], row["reason"]) for one in tables for row in one.to_pylist())

    def now(self) -> Table:
        """The table as it is now; itself if nobody has changed it."""
        with told(self.uri):
            if self._rows is not None and self._newest().version == self._rows.version:
                return self
        return Table(self.uri, self.header, self.media_root)

    # ---- what it holds

    def __len__(self) -> int:
        with told(self.uri):
            return 0 if self._rows is None else self._rows.count_rows()

    @cached_property
    def _numbers(self) -> Tensor:
        """LanceDB's number of the row of each item, ascending [V]."""
        with told(self.uri):
            rows = self._rows.search().select(["_rowid"]).to_arrow()
        return whole_numbers(rows["_rowid"]).sort().values

    def _taken(self, items: Tensor, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of the rows of some items, part by part; what was found last is at hand."""
        near = self._near
        if near is not None and torch.isin(items, near[0]).all():
            yield near[1].take(torch.searchsorted(near[0], items).numpy())
            return
        for part in items.split(ROWS):
            numbers = self._numbers[part]
            with told(self.uri):
                taking = self._rows.take_row_ids(numbers.tolist()).select(list(columns))
                rows = taking.with_row_id().to_arrow().sort_by("_rowid")  # they come in any order
            found = whole_numbers(rows["_rowid"])
            yield rows.take(torch.searchsorted(found, numbers).numpy())

    def files(self, items: Tensor) -> list[MediaFile]:
        parts = self._taken(items, ["file"])
        texts = [text for rows in parts for text in rows["file"].to_pylist()]
        return [parse_json(text, MediaFile, self.uri) for text in texts]

    def _frames(self, items: Tensor) -> list[Tensor]:
        """The embeddings [F, D] of each item's frames."""
        parts = self._taken(items, ["vector", "frames"])
        return [frames for rows in parts for frames in frames_of(rows)]

    def frames(self, items: Tensor) -> Tensor:
        return torch.cat(self._frames(items)) if len(items) else torch.empty(0, 0)

    def lengths(self, items: Tensor) -> Tensor:
        return integers([len(frames) for frames in self._frames(items)])

    def column(self, name: str, items: Tensor | None = None) -> Tensor:
        dtype, value = COLUMNS[name]
        files = self.files(torch.arange(len(self)) if items is None else items)
        return torch.tensor([value(file) for file in files], dtype=dtype)

    def nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        """As `Store.nearest`; a file that two processes embedded at the same time is found once."""
        if not len(self):
            raise ValueError(
                f"{self.uri}: no items in it yet; ask again once a process has added some"
            )
        with told(self.uri):
            search = self._rows.search(vector.numpy(), "vector").distance_type("cosine")
            search = search.nprobes(LISTS)
            if where != EVERYWHERE:  # in more lists, until there are enough
                search = search.where(condition(where)).maximum_nprobes(0)
            rows = search.limit(count).with_row_id(True).to_arrow().sort_by("_rowid")
        once = {key: place for place, key in enumerate(rows["key"].to_pylist())}
        rows = rows.take(integers(sorted(once.values())).numpy())
        items = torch.searchsorted(self._numbers, whole_numbers(rows["_rowid"]))
        self._near = (items, rows)
        return items, 1 - torch.tensor(rows["_distance"].to_pylist(), dtype=torch.float32)

    # ---- what is written

    def add(self, items: Sequence[Item]) -> range:
        """Write items, in the place of those of the same key; a reader sees all or none.

        Returns a range, which stands for a part of them.
        """
        with told(self.uri):
            rows = self._as_rows(items)
            if TABLE not in self._tables():
                with suppress(ValueError):  # another process has just made it
                    self._database.create_table(TABLE, schema=rows.schema)
            newest = self._newest()
            if self.known.isdisjoint(rows["key"].to_pylist()):
                newest.add(rows)
            else:
                merge = newest.merge_insert("key").when_matched_update_all()
                merge.when_not_matched_insert_all().execute(rows)
        return range(len(items))

    known: Collection[str] = frozenset()  # keys of rows that are there already

    def write(self, index: Store) -> None:
        """Replace the table with an index; a reader sees the old table or all of the new one."""
        self.header = index.header
        self.media_root = index.media_root

        def rows(items: Tensor) -> pa.Table:
            frames = index.frames(items).split(index.lengths(items).tolist())
            return self._as_rows(list(zip(index.files(items), frames, strict=True)))

        def batches() -> Iterator[pa.RecordBatch]:
            for items in torch.arange(len(index)).split(ROWS):
                yield from rows(items).to_batches()

        with told(self.uri):
            schema = rows(integers([0])).schema
            self._database.create_table(TABLE, batches(), schema=schema, mode="overwrite")
        self.skip(index.skipped, (0, 1))

    def skip(self, problems: Sequence[Problem], shard: tuple[int, int]) -> None:
        """Replace what a shard could not read; lists of another division are deleted."""
        number, count = shard
        own = f"{SKIPPED}{number}-{count}"
        rows = [{"name": name, "reason": reason} for name, reason in problems]
        with told(self.uri):
            for name in self._tables():
                ours = name.endswith(f"-{count}") and name != own
                if name.startswith(SKIPPED) and not ours:
                    self._database.drop_table(name)
            if rows:
                self._database.create_table(own, rows)

    def delete(self, keys: Collection[str]) -> None:
        quoted = [sql(key) for key in keys]
        with told(self.uri):
            for start in range(0, len(quoted), ROWS):
                self._newest().delete(f"key IN ({', '.join(quoted[start : start + ROWS])})")

    def compact(self, anew: bool = True) -> None:
        """Join the parts that were added; from `LARGE` rows on, make the lists of the approximate
        search.

        Without `anew`, existing lists are kept, and new rows are put into them.
        """
        with told(self.uri):
            newest = self._newest()
            newest.optimize()
            if newest.count_rows() >= LARGE and (anew or not newest.list_indices()):
                lists = lancedb.index.IvfSq(distance_type="cosine", target_partition_size=LIST)
                newest.create_index("vector", config=lists)

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
        manifest = Manifest(self.header, str(self.media_root), (), (), (), FORMAT_VERSION)
        return pa.table(columns, metadata={"manifest": as_json(manifest)})


def build(
    model: RetrievalModel, source: Source, header: Header, uri: str | Path, shard: tuple[int, int]
) -> Table:
    """Embed the files of a shard that are not in the table yet; see `MediaIndex.build`."""
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard={shard!r}: expected (number, how many), from (0, {count}) on")
    root, files, problems = listing.find(source)
    files = list({file.key: file for file in files}.values())  # a table has each file once
    table = Table(uri, header, root)
    table.header.check(table.uri, header)
    if count == 1 and table.media_root != root:  # on several machines it may differ
        advice = "`save` it to a folder, build the index in that, then write it with `to_lance`"
        raise ValueError(f"{table.uri}: built from {table.media_root}, not {root}; {advice}")
    building = Building(model, table)
    if table:
        building.know(table)
        table.known = set(building.known)
    own = files[number::count]
    skipped = building.run(own, () if number else problems) if own else ()
    # moments of a clip belong to its shard
    elsewhere = {file.key for file in files} - {file.key for file in own}
    gone = [
        key
        for key, (file, *_) in building.known.items()
        if key not in building.kept and of_clip(file) not in elsewhere
    ]
    table.delete(gone)
    table.skip(skipped, shard)
    if count == 1:
        table.compact(anew=False)
    return table.now()


def of_clip(file: MediaFile) -> str:
    """The key of what was listed: of the clip, for a moment."""
    return replace(file, start=None, end=None).key if file.is_moment else file.key


def condition(where: Where) -> str:
    """The SQL for the rows that are `where`, from the JSON in their column `file`."""
    wanted = [f"starts_with(file, {sql(where.start)})"]
    wanted += [f"contains(file, {sql(part)})" for part in where.parts]
    name = f"lower(split_part(substr(file, {NAME + 1}), {sql(AFTER)}, 1))"
    wanted += [
        f"(contains({name}, {sql(word)}) OR contains({name}, {sql(normalize('NFD', word))}))"
        for word in where.words
    ]
    return " AND ".join(wanted)


def sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def whole_numbers(column: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(column.to_numpy().astype("int64"))


def frames_of(rows: pa.Table) -> list[Tensor]:
    """The embeddings [F, D] of each row's frames."""
    if not rows.num_rows:
        return []
    vectors = rows["vector"].combine_chunks().flatten().to_numpy(False, writable=True)
    means = torch.from_numpy(vectors).unflatten(0, (rows.num_rows, -1))
    found = []
    for mean, own in zip(means, rows["frames"].to_pylist(), strict=True):
        frames = mean if own is None else torch.frombuffer(bytearray(own), dtype=mean.dtype)
        found.append(frames.view(-1, len(mean)))
    return found


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
