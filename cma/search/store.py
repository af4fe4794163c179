"""An index on disk: one file, `index.safetensors`, written whole and refused for another model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from weakref import WeakKeyDictionary

import torch
from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from ..backbone import identity
from ..files import checked_dataclass, parse_json
from ..methods import describe
from ..model import RetrievalModel
from .listing import MediaFile, Name, Problem

INDEX, PART, LOCK = "index.safetensors", "part-*.safetensors", ".index.lock"
PARTIAL = ".index.safetensors.partial"  # a folder, since safetensors writes to temporary files of its own
FORMAT_VERSION = 4  # 3: names that are no UTF-8 text stood in the JSON as they are
TENSORS = ("vectors", "lengths", "files")
_digests: WeakKeyDictionary[nn.Module, tuple[list, str]] = WeakKeyDictionary()


@checked_dataclass
class IndexConfig:
    """How an index reads and compares clips; the fields mean what they mean in `TrainConfig`.

    The default similarity serves pictures too: for an item of one frame it is the plain cosine. With `fps`
    None, `max_frames` are spread over the whole clip. Raises ValueError that names the field and its value.
    """

    similarity: Literal["mean_pooled", "text_conditioned"] = "text_conditioned"
    temperature: Annotated[float, Field(gt=0)] = 5.0
    max_frames: Annotated[int, Field(ge=1)] = 12
    fps: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedded:
    """What an index holds: un-normalised embeddings [N, D] of the frames of all `files`, one after the other.

    `lengths` [V] says how many frames each file has, `skipped` lists (name, reason) of what could not be
    read, `built_with` identifies the weights of backbone and adapter (see `identify`).
    """

    built_with: dict[str, str | float | None]
    config: IndexConfig
    media_root: Path
    files: tuple[MediaFile, ...]
    vectors: Tensor
    lengths: Tensor
    skipped: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Header:
    """What is stored beside the embeddings; `backbone` and `adapter` are names for messages."""

    backbone: dict[str, str | None]
    adapter: str | None
    built_with: dict[str, str | float | None]
    config: IndexConfig
    media_root: Name
    skipped: tuple[Problem, ...]
    format_version: Literal[FORMAT_VERSION]


def identify(model: RetrievalModel) -> dict[str, str | float | None]:
    """What embeddings depend on: digests of the backbone's weights and of the active adapter (or None).

    All weights count. The backbone's are rounded to bfloat16 first, so that the same weights in float32 and
    in bfloat16 are one backbone; float32 weights that were rounded to float16 are another one. The adapter's
    weights count exactly, and its scale if that is not 1.
    """
    adapter = model.get_adapter(model.active) if model.active else None
    with model.acting(None):  # a method may have put its own tensors in the backbone's place
        found = {"backbone": _backbone_digest(model.clip), "adapter": None}
    if adapter:
        weights = [weight.detach().flatten() for _, weight in sorted(adapter.named_parameters())]
        config = getattr(adapter, "config", None)  # else a method
        about = repr((config.activation, config.shared_dim) if config else describe(adapter))
        found["adapter"] = _digest([torch.cat(weights)] if weights else [], about)
        found |= {"scale": model.scale} if model.scale != 1.0 else {}
    return found


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only one that writes an index into `folder`, which is made if needed.

    Waits, and prints that it does, while another process or thread writes there. Raises ValueError for a
    folder that holds other things and no index, or parts of one; hidden files do not count.
    """
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is writing this index; waiting until it ends")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write(path: Path, model: RetrievalModel, index: Embedded) -> None:
    """Write an index to the file `path`. A kill at any moment leaves the old index or the new one.

    The active adapter of `model` is the one that made it. To be called inside `writing`.
    """
    about = index.built_with, index.config, str(index.media_root), index.skipped, FORMAT_VERSION
    header = Header(identity(model.clip), model.active, *about)
    listed = bytearray(TypeAdapter(tuple[MediaFile, ...]).dump_json(index.files))
    tensors = index.vectors.contiguous(), index.lengths, torch.frombuffer(listed, dtype=torch.uint8)
    metadata = {"index": TypeAdapter(Header).dump_json(header).decode()}
    partial = path.parent / PARTIAL
    partial.mkdir(exist_ok=True)
    try:
        save_file(dict(zip(TENSORS, tensors, strict=True)), partial / path.name, metadata=metadata)
        (partial / path.name).replace(path)
    finally:
        shutil.rmtree(partial)


def read(path: Path, model: RetrievalModel) -> Embedded:
    """The index in the file `path`, which is not kept open.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged, of another format, or built
    with another backbone or adapter than `model` and its active one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; expected a folder written by `MediaIndex.save`")
    try:
        with safe_open(path, "pt") as stored:
            header = parse_json(stored.metadata()["index"], Header, "header")
            # cloned, because the tensors would otherwise lie in the file
            vectors, lengths, listed = (stored.get_tensor(name).clone() for name in TENSORS)
        files = parse_json(listed.numpy().tobytes().decode(), tuple[MediaFile, ...], "files")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no index or cut short ({error}); build it again") from error
    _check_model(path, header, model)
    return Embedded(
        built_with=header.built_with,
        config=header.config,
        media_root=Path(header.media_root),
        files=files,
        vectors=vectors,
        lengths=lengths,
        skipped=header.skipped,
    )


def parts(folder: Path) -> list[Path]:
    """The parts that stopped builds have left in `folder`, in order; not files of that name by others."""
    return [path for path in sorted(folder.glob(PART)) if _is_ours(path)]


def _check_folder(folder: Path) -> None:
    advice = "give the index a folder of its own"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    index = folder / INDEX
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in there if not name.startswith(".")]
    if INDEX in others:
        if not _is_ours(index):
            raise ValueError(f"{index}: no index, or a damaged one; delete it, or {advice}")
    elif others and not parts(folder) and not index.exists():  # it may have been finished since
        raise ValueError(f"{folder}: holds no index but other things ({others[0]!r}, …); {advice}")


def _is_ours(path: Path) -> bool:
    """Whether an index was written to this file, by what its header says; the rest may be cut off."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(length, path.stat().st_size))
        return "format_version" in json.loads(json.loads(header)["__metadata__"]["index"])
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _check_model(path: Path, header: Header, model: RetrievalModel) -> None:
    there, here = header.built_with, identify(model)
    if there["backbone"] != here["backbone"]:
        raise ValueError(
            f"{path}: built with the backbone {header.backbone}, but this one is {identity(model.clip)} "
            "or has other weights; load that backbone, or build the index again"
        )
    if there != here:
        used, active = (
            f"the adapter {name!r}{_at(digests)}" if name else "no adapter"
            for name, digests in ((header.adapter, there), (model.active, here))
        )
        raise ValueError(
            f"{path}: built with {used}, but now {active} is active or its weights differ; "
            "call set_adapter with the right one, or build the index again"
        )


def _at(digests: dict) -> str:
    return f" at scale {digests['scale']:g}" if "scale" in digests else ""


def _backbone_digest(clip: CLIPModel) -> str:
    """Computed once, and again only after torch has counted a change of a weight."""
    weights = [weight.detach() for _, weight in sorted(clip.named_parameters())]
    state = [
        (weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version)
        for weight in weights
    ]
    if clip not in _digests or _digests[clip][0] != state:
        _digests[clip] = state, _digest(weight.to(torch.bfloat16) for weight in weights)
    return _digests[clip][1]


def _digest(tensors: Iterable[Tensor], about: str = "") -> str:
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
