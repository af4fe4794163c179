"""Convert a file and the embeddings of its frames to a row of a table, and back.

A row holds the record of the file, a column for each field; columns made from these, for filters;
the mean embedding of the frames; and, if there are several, each of them, un-normalised, in
float32. It has three checksums: of the record, of the mean with the number of frames, and of the
frames.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import normalize

import lazy_loader
import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from cma.files import printable

from .listing import MediaFile, Where
from .weights import Header, digest_of

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy_loader.load("pyarrow")  # the extra `explorer`
FORMAT_VERSION = 7  # version 6 was our own files, or a table with the records as JSON
BYTES = "utf-8", "surrogateescape"  # Linux allows names that are not text
RECORD = (  # the fields of a MediaFile; its kind is "is_clip"
    *("file_name", "media", "is_clip", "id", "captions", "start", "end", "size", "modified"),
    *("digest", "copy_hash", "seconds", "date", "place"),
)
MEANS = "vector", "length", "vector_sum"
VECTORS = *MEANS, "frames", "frames_sum"

Item = tuple[MediaFile, Tensor]  # a file and the embeddings [F, D] of its frames


@dataclass(frozen=True)
class Manifest:
    """The metadata of a table, stored as JSON with its digest."""

    header: Header
    media_root: str
    format_version: Literal[FORMAT_VERSION]  # type: ignore[valid-type]  # its value is written once


def schema_of(made: Manifest, width: int) -> pa.Schema:
    """Return the columns of a table of embeddings of this width."""
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    columns = {
        **{"file_name": text, "media": pa.binary(), "is_clip": pa.bool_(), "id": text},
        **{"captions": pa.list_(text), "start": real, "end": real, "size": whole},
        **{"modified": whole, "digest": text, "copy_hash": whole, "seconds": real},
        **{"date": text, "place": whole, "record_sum": pa.uint32()},
        # made from these, for filters
        **{"key": text, "label": text, "folder": text, "words": text, "year": pa.int16()},
        **{"texts": pa.int32(), "clip": whole, "length": pa.int32()},
        **{"vector": pa.list_(pa.float32(), width), "frames": pa.binary()},
        **{"vector_sum": pa.uint32(), "frames_sum": pa.uint32()},
    }
    return pa.schema(columns, metadata(made))


def metadata(made: Manifest) -> dict[str, str]:
    text = TypeAdapter(Manifest).dump_json(made).decode()
    return {"index": json.dumps([digest_of([], text), text])}


def as_rows(items: Sequence[Item], made: Manifest) -> pa.Table:
    """Convert items to rows. Raises ValueError unless all embeddings are finite."""
    files, frames = zip(*items, strict=True)
    means = torch.stack([one.mean(0) for one in frames])
    if not means.isfinite().all():
        raise ValueError("some embeddings are not finite")
    several = [one.numpy().tobytes() if len(one) > 1 else None for one in frames]
    schema = schema_of(made, means.shape[1])
    columns: dict[str, Any] = {name: [] for name in schema.names}
    for file in files:
        for name, value in as_row(file).items():
            columns[name].append(value)
    columns |= {
        "length": [len(one) for one in frames],
        "vector": pa.FixedSizeListArray.from_arrays(means.flatten().numpy(), means.shape[1]),
        "vector_sum": [
            zlib.crc32(mean, len(one)) for mean, one in zip(means.numpy(), frames, strict=True)
        ],
        "frames": several,
        "frames_sum": [zlib.crc32(own or b"") for own in several],
    }
    return pa.table(columns, schema)


def as_row(file: MediaFile) -> dict:
    """Return the fields of a row that describe a file."""
    media = file.media.encode(*BYTES)
    own = int.from_bytes(blake2b(media, digest_size=8).digest(), signed=True)
    parent = PurePosixPath(file.file_name).parent.as_posix()
    return {
        **{name: getattr(file, name) for name in RECORD if name != "is_clip"},
        "media": media,
        "is_clip": file.kind == "video",
        "copy_hash": file.copy_hash - (file.copy_hash >> 63 << 64),  # the same bits
        "record_sum": record_sum(file),
        "key": file.key,
        "label": file.label,
        "folder": "" if parent == "." else f"{parent}/",
        "words": normalize("NFC", " ".join((file.file_name, *file.captions[:1])).lower()),
        "year": int(file.date[:4] or 0),
        "texts": len(file.captions),
        "clip": own if file.is_moment else 0,
    }


def as_file(row: dict) -> MediaFile:
    """Return the record of the file that a row describes."""
    values = {name: row[name] for name in RECORD if name != "is_clip"}
    values["kind"] = "video" if row["is_clip"] else "image"
    values["media"] = row["media"].decode(*BYTES)
    values["captions"] = tuple(row["captions"])
    values["copy_hash"] %= 2**64
    return MediaFile(**values)


def record_sum(file: MediaFile) -> int:
    return zlib.crc32(repr(astuple(file)).encode())


def short(file: MediaFile) -> str:
    return printable(file.file_name)[:100]


def ids_of(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Return LanceDB's numbers of some rows."""
    return rows["_rowid"].to_numpy(zero_copy_only=False).astype(np.int64)


def once(rows: pa.Table) -> pa.Table:
    """Return one row for each key, the last; two processes may have added the same item."""
    keys = rows["key"]
    if len(keys.unique()) == len(keys):
        return rows
    last = {key: number for number, key in enumerate(keys.to_pylist())}
    return rows.take(sorted(last.values()))


def unit(vectors: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1, out=out)


def means_of(rows: pa.Table | pa.RecordBatch) -> Tensor:
    """Return the column of the mean embeddings [n, D], in the memory that holds it."""
    column = rows["vector"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return torch.from_dlpack(column.flatten()).view(len(column), column.type.list_size)


def condition(where: Where) -> str:
    """Return the SQL condition for the rows that match `where`."""
    wanted = []
    if where.kind:
        wanted.append(f"is_clip = {str(where.kind == 'video').lower()}")
    if below := "".join(f"{part}/" for part in PurePosixPath(where.folder).parts):
        wanted.append(f"starts_with(folder, {sql(below)})")
    if where.year is not None:
        wanted.append(f"year = {where.year}")
    if where.media:
        paths = ", ".join(f"X'{path.encode(*BYTES).hex()}'" for path in where.media)
        wanted.append(f"media IN ({paths})")
    words = normalize("NFC", where.name.lower()).split()
    wanted += [f"contains(words, {sql(word)})" for word in words]
    return " AND ".join(wanted) or "true"


def sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
