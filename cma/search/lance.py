"""An index in a LanceDB table, in a folder or at `s3://…`: larger than memory, filled by several
processes.

Each row is an item: `key` identifies it, `file` is its MediaFile as JSON, `vector` [D] is the mean
embedding of its frames, and `frames` [F, D] holds all of them if there are several, un-normalised,
in float32. Each of `segment.COLUMNS` is a column, too, but in tables of older versions. The table's
metadata is a `store.Manifest`. What could not be read is in a table of its own for each shard.
Storage at `s3://…` is configured by the usual `AWS_…` variables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import lazy_loader
import torch
from torch import Tensor

from .. import require
from ..files import parse_json
from ..model import RetrievalModel
from . import listing
from .build import Building, Source
from .listing import EVERYWHERE, MediaFile, Problem, Where
from .segment import COLUMNS, LARGE, NAMED, as_row
from .store import FORMAT_VERSION, Item, Manifest, Store, as_json
from .weights import Header

lancedb, pa = lazy_loader.load("lancedb"), lazy_loader.load("pyarrow")  # the extra `lance`
TABLE, SKIPPED = "media", "skipped-"
# of the approximate search: items in a list, and how many lists are searched
LIST, LISTS = 4096, 80
ROWS = 8192  # rows read, written or deleted at once
KEPT = 8192  # items that were found last, whose files and frames are kept


def place(uri: str | Path) -> str:
    """Return a folder as an absolute path, and an address such as `s3://bucket/photos` unchanged."""
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
        self.skipped: tuple[Problem, ...] = ()
        self._live = None  # sees each new version
        self._rows = None  # stays at this one
        self._met: dict[int, tuple[MediaFile, Tensor]] = {}
        with told(self.uri):
            self._database = lancedb.connect(self.uri, read_consistency_interval=timedelta(0))
            names = self._database.list_tables().tables
            if TABLE in names:
                self._open()
                skipped = [self._database.open_table(n) for n in names if n.startswith(SKIPPED)]
                pairs = [row for one in skipped for row in one.to_arrow().to_pylist()]
                self.skipped = tuple((row["name"], row["reason"]) for row in pairs)
        if self.header is None:
            raise FileNotFoundError(
                f"{uri}: no index there; `MediaIndex.build(…, store=…)` makes one"
            )

    def _open(self) -> None:
        self._live = self._database.open_table(TABLE)
        self._rows = lancedb.connect(self.uri).open_table(TABLE)
        text = (self._live.schema.metadata or {}).get(b"manifest", b"").decode()
        manifest = parse_json(text, Manifest, self.uri, "; its table is no index, use another")
        self.header = manifest.header
        self.media_root = Path(manifest.media_root)

    def now(self) -> Table:
        """The table as it is now; itself if nobody has changed it."""
        with told(self.uri):
            if self._rows is not None and self._live.version == self._rows.version:
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
        return torch.from_numpy(rows["_rowid"].to_numpy().astype("int64")).sort().values

    def _taken(self, items: Tensor, columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows of some items."""
        rows = self._rows.take_row_ids(self._numbers[items].tolist())
        return rows.select(list(columns)).to_arrow()

    def _parsed(self, rows: pa.Table) -> list[MediaFile]:
        return [parse_json(file, MediaFile, f"{self.uri}: a row") for file in rows["file"].to_pylist()]

    def files(self, items: Tensor) -> list[MediaFile]:
        met = self._met
        if met.keys() >= {*items.tolist()}:
            return [met[item][0] for item in items.tolist()]
        with told(self.uri):
            parts = [self._taken(part, ["file"]) for part in items.split(ROWS)]
        return [file for part in parts for file in self._parsed(part)]

    def _frames(self, items: Tensor) -> list[Tensor]:
        """The embeddings [F, D] of each item's frames."""
        met = self._met
        if met.keys() >= {*items.tolist()}:
            return [met[item][1] for item in items.tolist()]
        with told(self.uri):
            parts = [self._taken(part, ["vector", "frames"]) for part in items.split(ROWS)]
            return [frames for part in parts for frames in frames_of(part)]

    def frames(self, items: Tensor) -> Tensor:
        found = self._frames(items)
        return torch.cat(found) if found else torch.empty(0, 1)

    def lengths(self, items: Tensor) -> Tensor:
        return torch.tensor([len(frames) for frames in self._frames(items)], dtype=torch.long)

    def column(self, name: str, items: Tensor | None = None) -> Tensor:
        dtype, value = COLUMNS[name]
        if items is None and len(self) and name in self._rows.schema.names:
            with told(self.uri):
                rows = self._rows.search().select([name, "_rowid"]).to_arrow()
            values = torch.from_numpy(rows[name].to_numpy().copy())
            return values[torch.from_numpy(rows["_rowid"].to_numpy().astype("int64")).argsort()]
        chosen = torch.arange(len(self)) if items is None else items
        return torch.tensor([value(file) for file in self.files(chosen)], dtype=dtype)

    def nearest(self, vector: Tensor, count: int, where: Where) -> tuple[Tensor, Tensor]:
        """As `Store.nearest`; a file that two processes embedded at the same time is found once."""
        if not len(self):
            raise ValueError(
                f"{self.uri}: no items in it yet; ask again once a process has added some"
            )
        with told(self.uri):
            search = self._rows.search(vector.numpy(), "vector").distance_type("cosine")
            if where == EVERYWHERE:
                search = search.nprobes(LISTS)
            else:  # in more lists, until there are enough
                search = search.where(condition(where)).minimum_nprobes(LISTS).maximum_nprobes(0)
            columns = ["key", "file", "vector", "frames", "_distance"]
            rows = search.limit(count).select(columns).with_row_id(True).to_arrow()
            numbers = torch.tensor(rows["_rowid"].to_pylist(), dtype=torch.long)
            items = torch.searchsorted(self._numbers, numbers)
            found = list(zip(self._parsed(rows), frames_of(rows), strict=True))
        cosines = 1 - torch.tensor(rows["_distance"].to_pylist(), dtype=torch.float32)
        met = dict(zip(items.tolist(), found, strict=True))
        self._met = dict([*self._met.items(), *met.items()][-KEPT:])
        once = dict(zip(rows["key"].to_pylist(), range(len(items)), strict=True))
        chosen = torch.tensor([*once.values()], dtype=torch.long)
        chosen = chosen[items[chosen].argsort()]
        return items[chosen], cosines[chosen]

    # ---- what is written

    def add(self, items: Sequence[Item]) -> range:
        """Write items, in the place of those of the same key; a reader sees all or none.

        Returns a range, which stands for a part of them.
        """
        with told(self.uri):
            if self._live is None:
                with suppress(ValueError):  # another process has just made it
                    self._database.create_table(TABLE, schema=self._as_rows(items).schema)
                self._open()
            rows = self._as_rows(items).select(self._live.schema.names)
            if self.known.isdisjoint(rows["key"].to_pylist()):
                self._live.add(rows)
            else:
                merge = self._live.merge_insert("key").when_matched_update_all()
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
            schema = rows(torch.tensor([0])).schema
            self._database.create_table(TABLE, batches(), schema=schema, mode="overwrite")
            self._open()
        self.skip(index.skipped, (0, 1))

    def skip(self, problems: Sequence[Problem], shard: tuple[int, int]) -> None:
        """Replace what a shard could not read; lists of another division are deleted."""
        number, count = shard
        with told(self.uri):
            for name in self._database.list_tables().tables:
                if name.startswith(SKIPPED) and not name.endswith(f"-{count}"):
                    self._database.drop_table(name)
            names, reasons = zip(*problems, strict=True) if problems else ((), ())
            rows = {"name": pa.array(names, pa.string()), "reason": pa.array(reasons, pa.string())}
            name = f"{SKIPPED}{number}-{count}"
            self._database.create_table(name, pa.table(rows), mode="overwrite")

    def delete(self, keys: Collection[str]) -> None:
        quoted = [sql(key) for key in keys]
        with told(self.uri):
            for start in range(0, len(quoted), ROWS):
                self._live.delete(f"key IN ({', '.join(quoted[start : start + ROWS])})")

    def compact(self, anew: bool = True) -> None:
        """Join the parts that were added; from `LARGE` rows on, make the lists of the approximate
        search.

        Without `anew`, existing lists are kept, and new rows are put into them.
        """
        with told(self.uri):
            self._live.optimize()
            if self._live.count_rows() >= LARGE and (anew or not self._live.list_indices()):
                lists = lancedb.index.IvfSq(distance_type="cosine", target_partition_size=LIST)
                self._live.create_index("vector", config=lists)

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
        for name, (dtype, value) in COLUMNS.items():
            columns[name] = torch.tensor([value(file) for file in files], dtype=dtype).numpy()
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
    table.media_root = root
    building = Building(model, table)
    if table:
        building.know(table)
        table.known = set(building.known)
    own = files[number::count]
    skipped = building.run(own, () if number else problems) if own else ()
    # moments of a clip belong to its shard
    elsewhere = {whole(file) for file in files} - {whole(file) for file in own}
    gone = [
        key
        for key, (file, *_) in building.known.items()
        if key not in building.kept and whole(file) not in elsewhere
    ]
    table.delete(gone)
    table.skip(skipped, shard)
    if count == 1:
        table.compact(anew=False)
    return Table(uri, header, root)


def whole(file: MediaFile) -> str:
    """The key of what was listed: of the clip, for a moment."""
    return replace(file, start=None, end=None).key if file.is_moment else file.key


def condition(where: Where) -> str:
    """The SQL for the rows that are `where`, from the JSON in their column `file`."""
    wanted = []
    if where.kind:  # in a text of the JSON, the quotes would be escaped
        kind = f'"kind":"{where.kind}"'
        wanted.append(f"contains(file, {sql(kind)})")
    if where.folder:
        wanted.append(f"starts_with(file, {sql((NAMED + where.start).decode())})")
    return " AND ".join(wanted)


def sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def frames_of(rows: pa.Table) -> list[Tensor]:
    """The embeddings [F, D] of each row's frames."""
    if not rows.num_rows:
        return []
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
