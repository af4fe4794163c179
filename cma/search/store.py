"""An index on disk: one file, written whole, and refused if it is damaged or of another model."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..backbone import identity
from ..config import ReadConfig
from ..files import parse_json
from ..method import describe
from ..model import RetrievalModel
from .listing import MediaFile, Name, Problem

INDEX, PART, LOCK = "index.safetensors", "part-*.safetensors", ".index.lock"
PARTIAL = ".index.safetensors.partial"  # a folder, since safetensors writes to temporary files of its own
FORMAT_VERSION = 5  # 4: no digest and no `max_words`
TENSORS = ("vectors", "lengths", "files")

Digests = dict[str, str | float | None]  # as `identify` gives them


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedded:
    """What an index holds: un-normalised embeddings [N, D] of the frames of all `files`, one after the other.

    `lengths` [V] says how many frames each file has, `skipped` lists (name, reason) of what could not be
    read, `built_with` identifies the weights of backbone and adapter (see `identify`).
    """

    built_with: Digests
    config: ReadConfig
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
    built_with: Digests
    config: ReadConfig
    media_root: Name
    skipped: tuple[Problem, ...]
    format_version: Literal[FORMAT_VERSION]


def identify(model: RetrievalModel) -> Digests:
    """What embeddings depend on: digests of the backbone's weights and of the active adapter (or None).

    All weights count. The backbone's are rounded to bfloat16 first, so that the same weights in float32 and
    in bfloat16 are one backbone; float32 weights that were rounded to float16 are another one. The adapter's
    weights count exactly, with its method, options and scale. Takes about a second for a gigabyte.
    """
    with model.acting(None):  # a method may have put its own tensors in the backbone's place
        weights = [weight.detach() for _, weight in sorted(model.clip.named_parameters())]
        backbone = _digest(weight.to(torch.bfloat16) for weight in weights)
    if model.active is None:
        return {"backbone": backbone, "adapter": None, "scale": 1.0}
    adapter = model.get_adapter(model.active)
    weights = [weight.detach() for _, weight in sorted(adapter.named_parameters())]
    digest = _digest(weights, repr(describe(adapter)))
    return {"backbone": backbone, "adapter": digest, "scale": model.scale}


def adapter_text(adapter: str | None, digests: Digests) -> str:
    """What a message calls an adapter, with its scale where that is not 1."""
    scale = "" if digests["scale"] == 1 else f" at scale {digests['scale']:g}"
    return f"adapter {adapter!r}{scale}" if adapter else "no adapter"


class ActingWeights:
    """The weights of a model's backbone and active adapter: their `digests`, and whether they have changed.

    Only a change that torch counts (an update in place, another tensor or device) has them read again.
    """

    def __init__(self, model: RetrievalModel) -> None:
        self.digests, self._seen = identify(model), _versions(model)

    def changed(self, model: RetrievalModel) -> str:
        """What of the model, with the same adapter active, differs from `digests`; "" if nothing does."""
        seen = _versions(model)
        if seen[1] != self._seen[1]:
            now = identify(model)
            if now["backbone"] != self.digests["backbone"]:
                return "the backbone"
            if now != self.digests:
                return f"adapter {model.active!r}"
            self._seen = seen
        return ""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only one that writes an index into `folder`, which is made if needed.

    Waits, and prints that it does, while another process or thread writes there. Raises ValueError for a
    folder that holds other things and no index, or parts of one; hidden files do not count.
    """
    advice = "give the index a folder of its own"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    folder.mkdir(parents=True, exist_ok=True)
    index, others = folder / INDEX, sorted(folder.glob("[!.]*"))
    if index in others:
        if not _is_ours(index):
            raise ValueError(f"{index}: no index, or a damaged one; delete it, or {advice}")
    elif others and not parts(folder) and not index.exists():  # it may have been finished since
        raise ValueError(f"{folder}: holds no index but other things ({others[0].name!r}, …); {advice}")
    lock = FileLock(folder / LOCK)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is writing this index; waiting until it ends")
        held = lock.acquire()
    with held:
        yield


def write(path: Path, model: RetrievalModel, index: Embedded) -> None:
    """Write an index to the file `path`. A kill at any moment leaves the old index or the new one.

    The active adapter of `model` is the one that made it. To be called inside `writing`.
    """
    about = index.built_with, index.config, str(index.media_root), index.skipped, FORMAT_VERSION
    header = Header(identity(model.clip), model.active, *about)
    listed = bytearray(TypeAdapter(tuple[MediaFile, ...]).dump_json(index.files))
    tensors = index.vectors.contiguous(), index.lengths, torch.frombuffer(listed, dtype=torch.uint8)
    metadata = {"index": TypeAdapter(Header).dump_json(header).decode()}
    metadata["digest"] = _digest(tensors, metadata["index"])
    partial = path.parent / PARTIAL
    partial.mkdir(exist_ok=True)
    try:
        save_file(dict(zip(TENSORS, tensors, strict=True)), partial / path.name, metadata=metadata)
        (partial / path.name).replace(path)
    finally:
        shutil.rmtree(partial)


def read(path: Path, model: RetrievalModel, digests: Digests) -> Embedded:
    """The index in the file `path`, which is not kept open; `digests` are those of `model` now.

    Raises FileNotFoundError, or ValueError that names the file if it is damaged, of another format, or built
    with another backbone or adapter than `model` and its active one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; expected a folder written by `MediaIndex.save`")
    try:
        with safe_open(path, "pt") as stored:
            metadata = stored.metadata()
            header = parse_json(metadata["index"], Header, "header")
            # cloned, because the tensors would otherwise lie in the file
            vectors, lengths, listed = tensors = [stored.get_tensor(name).clone() for name in TENSORS]
        if _digest(tensors, metadata["index"]) != metadata["digest"]:
            raise ValueError("its content does not have its digest")
        files = parse_json(listed.numpy().tobytes().decode(), tuple[MediaFile, ...], "files")
        if len(files) != len(lengths) or (lengths < 1).any() or lengths.sum() != len(vectors):
            counts = f"{len(files)} files, {len(lengths)} lengths and {len(vectors)} vectors"
            raise ValueError(f"{counts} do not fit")
        if not vectors.isfinite().all():
            raise ValueError("some numbers are not finite")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no index, or a damaged one ({error}); build it again") from error
    if (there := header.built_with) != digests:
        said = f"the backbone {header.backbone}, but this one is {identity(model.clip)} or has other weights"
        advice = "load that backbone"
        if there["backbone"] == digests["backbone"]:
            here = adapter_text(model.active, digests)
            said = f"{adapter_text(header.adapter, there)}, but now {here} is active or its weights differ"
            advice = "call set_adapter with the right one"
        raise ValueError(f"{path}: built with {said}; {advice}, or build the index again")
    about = {name: getattr(header, name) for name in ("built_with", "config", "skipped")}
    root = Path(header.media_root)
    return Embedded(media_root=root, files=files, vectors=vectors, lengths=lengths, **about)


def parts(folder: Path) -> list[Path]:
    """The parts that stopped builds have left in `folder`, in order; not files of that name by others."""
    return [path for path in sorted(folder.glob(PART)) if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    """Whether an index was written to this file, by what its header says; the rest may be cut off."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(length, path.stat().st_size))
        return "format_version" in json.loads(json.loads(header)["__metadata__"]["index"])
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _versions(model: RetrievalModel) -> tuple[list[Tensor], list[tuple]]:
    """The weights that `identify` reads, and what differs once one was changed or is another tensor.

    The tensors are to be kept beside it, so that no new one can have the address of one that is gone.
    """
    with model.acting(None):
        weights = list(model.clip.parameters())
    weights += model.get_adapter(model.active).parameters() if model.active else []
    return weights, [
        (id(weight), weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version)
        for weight in weights
    ]


def _digest(tensors: Iterable[Tensor], about: str = "") -> str:
    """A digest of a text and of the type, shape and content of some tensors."""
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
