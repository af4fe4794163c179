"""A segment: items of an index with their embeddings, in one file that never changes once it is
written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

import lazy_loader
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cma import require
from cma.files import parse_json, write_whole

from .listing import AFTER, NAME, MediaFile, Where

faiss = lazy_loader.load("faiss")  # the extra `faiss`
SEGMENT = "segment-{}.safetensors"
# from so many items on, an index is in half precision: cosines differ by 0.0005 at most
LARGE = 100_000
# Values that are needed for all items at once, without parsing their JSON. Each line makes one
# column.
COLUMNS: dict[str, tuple[torch.dtype, Callable[[MediaFile], int]]] = {
    "is_clip": (torch.uint8, lambda file: file.kind == "video"),
    "captions": (torch.int32, lambda file: len(file.captions)),
    # the same bits
    "copy_hash": (torch.int64, lambda file: file.copy_hash - (file.copy_hash >> 63 << 64)),
}
as_row = partial(TypeAdapter(MediaFile).dump_json, exclude_defaults=True)  # a file as JSON


@dataclass(frozen=True)
class SegmentHeader:
    """What the file of a segment says in its header: a `weights.Header` as JSON, and the digest of
    each tensor.
    """

    made_with: str
    digests: dict[str, str]


as_json = TypeAdapter(SegmentHeader).dump_json


class Segment:
    """Items with their embeddings: tensors by name, in memory or mapped from the file at `path`.

    "vectors" [N, D] are un-normalised embeddings of all frames, item by item; "lengths" [n] are the
    numbers of frames, "means" [n, D] their means (left out if each item has one frame), "scales"
    [n] 1 / norm of each mean. "files" is the JSON of all `MediaFile`s; that of an item ends at
    "ends" [n]. "codes" is optional: a faiss index of the means with one bit per number (RaBitQ, Gao
    and Long 2024), from which cosines are estimated. A mapped tensor is compared with its digest
    when it is first used.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        path: Path | None = None,
        about: SegmentHeader | None = None,
    ) -> None:
        self._tensors = tensors
        self.path = path
        self.about = about or SegmentHeader("", {})
        self._unchecked = dict(self.about.digests)

    @classmethod
    def of(
        cls, files: Sequence[MediaFile], vectors: Tensor, lengths: Tensor, half: bool = False
    ) -> Segment:
        """Make a segment in memory, in half precision if `half`. Raises ValueError unless all is
        finite.
        """
        vectors = vectors.to(torch.float16 if half else torch.float32).contiguous()
        lengths = lengths.int()
        if not vectors.isfinite().all():
            raise ValueError("some embeddings are not finite, or too large for half precision")
        tensors = {"vectors": vectors, "lengths": lengths}
        means = vectors.float()
        if (lengths != 1).any():
            means = torch.segment_reduce(means, "mean", lengths=lengths.long()).to(vectors.dtype)
            tensors["means"] = means
        tensors["scales"] = 1 / means.float().norm(dim=1).clamp(min=1e-12)
        rows = list(map(as_row, files))
        tensors["files"] = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8)
        tensors["ends"] = torch.tensor([len(row) for row in rows]).cumsum(0)
        for name, (dtype, value) in COLUMNS.items():
            tensors[name] = torch.tensor([value(file) for file in files], dtype=dtype)
        return cls(tensors)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map the segment in a file. Raises ValueError if damaged, FileNotFoundError if there is
        none.
        """
        try:
            with safe_open(path, "pt") as stored:
                text = stored.metadata()["index"]
                if path.name != SEGMENT.format(digest_of([], text)):
                    raise ValueError("its header does not have its digest")
                about = parse_json(text, SegmentHeader, "its header")
                tensors = {name: stored.get_tensor(name) for name in about.digests}
            check_sizes(tensors)
            return cls(tensors, path, about)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: no index, or a damaged one ({error!s:.200}); build it again"
            ) from error

    def with_codes(self) -> Segment:
        """Return this segment with "codes". Raises ImportError without the extra `faiss`."""
        require("faiss", "faiss")
        units = (self._means.float() * self["scales"][:, None]).numpy()
        codes = faiss.index_factory(units.shape[1], "RR,RaBitQfs", faiss.METRIC_INNER_PRODUCT)
        codes.train(units)
        codes.add(units)
        return Segment(self._tensors | {"codes": torch.from_numpy(faiss.serialize_index(codes))})

    def write(self, folder: Path, made_with: str) -> Segment:
        """Write it to `folder`, whole or not at all (OSError, as on a full disk), and return it
        mapped.
        """
        digests = {name: digest_of([tensor]) for name, tensor in self._tensors.items()}
        about = as_json(SegmentHeader(made_with, digests)).decode()
        path = folder / SEGMENT.format(digest_of([], about))
        try:
            write_whole(path, save(self._tensors, {"index": about}))
        except OSError as error:
            advice = "what was written before is kept: make room on the disk and start again"
            raise OSError(f"{path}: cannot be written ({error.strerror}); {advice}") from error
        return Segment.open(path)

    def __len__(self) -> int:
        return len(self._tensors["lengths"])

    def __getitem__(self, name: str) -> Tensor:
        if expected := self._unchecked.get(name):
            if digest_of([self._tensors[name]]) != expected:
                raise ValueError(
                    f"{self.path}: its {name} do not have their digest; build the index again"
                )
            self._check_bounds(name)
            self._unchecked.pop(name, None)
        return self._tensors[name]

    def _check_bounds(self, name: str) -> None:
        """Raise ValueError unless the lengths, or the ends, divide what they are of."""
        whole = {"lengths": "vectors", "ends": "files"}.get(name)
        if whole is None:
            return
        ends = self._tensors[name].long()
        if name == "lengths":
            ends = ends.cumsum(0)
        rising = ends[0] > 0 and (ends[1:] > ends[:-1]).all()
        if not rising or ends[-1] != len(self._tensors[whole]):
            said = f"its {name} do not fit its {whole}"
            raise ValueError(f"{self.path}: {said}; build the index again")

    def check(self) -> None:
        """Compare every tensor with its digest. Raises ValueError that names the file if one
        differs.
        """
        for name in self._tensors:
            self[name]

    def cosines(self, vector: Tensor, count: int) -> Tensor:
        """Return the cosine [n] of each item's mean with a normalised vector [D].

        With "codes", only those of about the `count` nearest are estimated, and the others are
        -inf.
        """
        if "codes" not in self._tensors or count >= len(self):
            return (self._means @ vector.to(self._means.dtype)).float() * self["scales"]
        cosines, rows = map(torch.from_numpy, self._codes.search(vector[None].numpy(), count))
        return torch.full((len(self),), -torch.inf).scatter(0, rows[0], cosines[0])

    def frames(self, rows: Tensor) -> Tensor:
        """The embeddings [N, D] of all frames of some rows, row by row, in float32."""
        return self["vectors"][spread(self._begins[rows], self["lengths"][rows].long())].float()

    def inside(self, where: Where) -> Tensor:
        """Whether each item is one of `where` [n]; no JSON is parsed."""
        if where == Where(where.kind):
            return self["is_clip"] == (where.kind == "video")
        start, parts, words = where.start, where.parts, where.words
        texts = self["files"].numpy().tobytes()
        found = []
        for begin, end in pairwise([0, *self["ends"].tolist()]):
            text = texts[begin:end].decode()
            fits = text.startswith(start) and all(part in text for part in parts)
            if fits and words:
                name = normalize("NFC", text[NAME : text.index(AFTER)].lower())
                fits = all(word in name for word in words)
            found.append(fits)
        return torch.tensor(found)

    def files(self, rows: Tensor) -> list[MediaFile]:
        """The files of some rows."""
        return [self.file(row) for row in rows.tolist()]

    def file(self, row: int) -> MediaFile:
        """The file of one row."""
        begin = int(self["ends"][row - 1]) if row else 0
        end = int(self["ends"][row])
        text = self["files"][begin:end].numpy().tobytes().decode()
        return parse_json(text, MediaFile, f"{self.path}: row {row}")

    @property
    def _means(self) -> Tensor:
        return self["means" if "means" in self._tensors else "vectors"]

    @cached_property
    def _codes(self) -> faiss.Index:
        require("faiss", "faiss")
        return faiss.deserialize_index(self["codes"].numpy())

    @cached_property
    def _begins(self) -> Tensor:
        """The place in "vectors" where the frames of each row begin [n]."""
        return self["lengths"].cumsum(0) - self["lengths"]


def check_sizes(tensors: dict[str, Tensor]) -> None:
    """Raise ValueError or KeyError unless the tensors of a segment have the right shapes."""
    vectors = tensors["vectors"]
    means = tensors.get("means", vectors)
    wanted = {"lengths": torch.int32, "scales": torch.float32, "ends": torch.int64}
    wanted |= {name: dtype for name, (dtype, _) in COLUMNS.items()}
    found = {name: tensors[name].dtype for name in wanted if tensors[name].shape == means.shape[:1]}
    alike = means.shape[1:] == vectors.shape[1:] and means.dtype == vectors.dtype
    known = (
        vectors.dtype in (torch.float32, torch.float16) and tensors["files"].dtype == torch.uint8
    )
    if not (found == wanted and alike and known and means.ndim == 2 and len(means)):
        raise ValueError("its tensors do not fit each other, or are of another type")


def spread(begins: Tensor, lengths: Tensor) -> Tensor:
    """Return the places `begins[i]`, …, `begins[i] + lengths[i] - 1` for each i, one after the
    other.
    """
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (begins - before).repeat_interleave(lengths)


def digest_of(tensors: Iterable[Tensor], about: str = "") -> str:
    """Return a digest (16 hex digits) of a text, and of type, shape and content of tensors."""
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
