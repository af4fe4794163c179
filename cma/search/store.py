"""An index on disk: one file, `index.safetensors`, written whole and refused for another model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from ..backbone import identity
from ..files import replacing
from ..model import RetrievalModel
from .embedding import IndexConfig
from .listing import MediaFile

INDEX, PART, LOCK = "index.safetensors", "part-*.safetensors", ".index.lock"
TENSORS = ("vectors", "lengths", "files")
FORMAT_VERSION = 3  # 2: the files lay in a list of their own, and the backbone was compared by samples
_digests: WeakKeyDictionary[nn.Module, tuple[list, str]] = WeakKeyDictionary()


def identify(model: RetrievalModel) -> dict:
    """What embeddings depend on: digests of the backbone's weights and of the active adapter (or None).

    All weights count. The backbone's are rounded to bfloat16 first, so that the same weights in float32 and
    in bfloat16 are one backbone; float32 weights that were rounded to float16 are another one. The adapter's
    count exactly, and its scale where that is not 1.
    """
    adapter = model.get_adapter(model.active) if model.active else None
    found = {"backbone": _backbone_digest(model.clip), "adapter": None}
    if adapter:
        weights = [weight.detach().flatten() for _, weight in sorted(adapter.named_parameters())]
        settings = repr((adapter.config.activation, adapter.config.shared_dim))
        found["adapter"] = _digest([torch.cat(weights)], settings)
        found |= {"scale": model.scale} if model.scale != 1.0 else {}
    return found


def describe(model: RetrievalModel, config: IndexConfig, media_root: Path, skipped: Sequence = ()) -> dict:
    """What is stored beside the embeddings that `model` makes, with the adapter that is active."""
    return {
        "format_version": FORMAT_VERSION,
        "backbone": identity(model.clip),
        "adapter": model.active,
        "built_with": identify(model),
        "config": asdict(config),
        "media_root": str(media_root),
        "skipped": skipped,
    }


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds other things and no index. Raises ValueError; nothing is changed.

    A folder with an index, or with parts of one, may hold anything beside it. Hidden files do not count.
    """
    advice = "give the index a folder of its own"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, expected a folder; {advice}")
    index = folder / INDEX
    if index.exists():
        if not _is_ours(index):
            raise ValueError(f"{index}: no index, or a damaged one; delete it, or {advice}")
    elif folder.is_dir() and not parts(folder):
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            raise ValueError(f"{folder}: holds no index but other things ({others[0]!r}, …); {advice}")


@contextmanager
def writing(folder: Path) -> Iterator[bool]:
    """Be the only one that writes an index into `folder`, which is made if needed.

    Waits, and says so, while another process or thread writes there; the value is whether that was so.
    Raises ValueError as `check_folder`.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock, waited = FileLock(folder / LOCK), False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is writing this index; waiting until it ends")
        lock.acquire()
        waited = True
    try:
        yield waited
    finally:
        lock.release()


def write(path: Path, about: dict, files: Sequence[MediaFile], vectors: Tensor, lengths: Tensor) -> None:
    """Write an index to the file `path`. A kill at any moment leaves the old index or the new one.

    `vectors` [N, D] are the frames of all `files`, one after the other; `lengths` [V] says how many of each.
    To be called inside `writing`.
    """
    listed = json.dumps([asdict(file) for file in files]).encode()
    tensors = vectors.contiguous(), lengths, torch.frombuffer(bytearray(listed), dtype=torch.uint8)
    with replacing(path) as temporary:
        save_file(dict(zip(TENSORS, tensors, strict=True)), temporary, metadata={"index": json.dumps(about)})


def read(path: Path, model: RetrievalModel) -> dict:
    """The fields of the index in the file `path` but for the model's; the file is not kept open.

    Raises FileNotFoundError, or ValueError naming the file if it is damaged, of another format, or built with
    another backbone or adapter than `model` and its active one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; expected a folder written by `MediaIndex.save`")
    try:
        with safe_open(path, "pt") as stored:
            about = json.loads(stored.metadata()["index"])
            if about["format_version"] == FORMAT_VERSION:  # cloned: else the tensors would lie in the file
                vectors, lengths, listed = (stored.get_tensor(name).clone() for name in TENSORS)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no index or cut short ({error}); build it again") from error
    if about["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format {about['format_version']}, expected {FORMAT_VERSION}; build it again"
        )
    _check_model(path, about, model)
    files = json.loads(listed.numpy().tobytes())
    return {
        "built_with": about["built_with"],
        "config": IndexConfig(**about["config"]),
        "media_root": Path(about["media_root"]),
        "files": tuple(MediaFile(**file | {"captions": tuple(file["captions"])}) for file in files),
        "vectors": vectors,
        "lengths": lengths,
        "skipped": tuple(map(tuple, about["skipped"])),
    }


def parts(folder: Path) -> list[Path]:
    """The parts that stopped builds have left in `folder`, in order; a file of that name may be another's."""
    return [path for path in sorted(folder.glob(PART)) if _is_ours(path)]


def remove_leftovers(folder: Path) -> None:
    """Remove parts, and what a killed process was writing. To be called inside `writing`."""
    temporary = filter(_is_ours, folder.glob(".*.safetensors.*.tmp"))
    for path in [*parts(folder), *temporary]:
        path.unlink()


def _is_ours(path: Path) -> bool:
    """Whether an index was written to this file, by what its header says; the rest may be cut off."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(length, path.stat().st_size))
        return "format_version" in json.loads(json.loads(header)["__metadata__"]["index"])
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _check_model(path: Path, about: dict, model: RetrievalModel) -> None:
    there, here = about["built_with"], identify(model)
    if there["backbone"] != here["backbone"]:
        raise ValueError(
            f"{path}: built with the backbone {about['backbone']}, but this one is {identity(model.clip)} "
            "or has other weights; load that backbone, or build the index again"
        )
    if there != here:
        used, active = (
            f"the adapter {name!r}{_at(digests)}" if name else "no adapter"
            for name, digests in ((about["adapter"], there), (model.active, here))
        )
        raise ValueError(
            f"{path}: built with {used}, but now {active} is active or its weights differ; "
            "call set_adapter with the right one, or build the index again"
        )


def _at(digests: dict) -> str:
    return f" at scale {digests['scale']:g}" if "scale" in digests else ""


def _backbone_digest(clip: CLIPModel) -> str:
    """Taken once, and again only where torch has counted a change of a weight since."""
    weights = [weight.detach() for _, weight in sorted(clip.named_parameters())]
    state = [
        (weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version)
        for weight in weights
    ]
    if clip not in _digests or _digests[clip][0] != state:
        _digests[clip] = state, _digest(weight.to(torch.bfloat16) for weight in weights)
    return _digests[clip][1]


def _digest(tensors: Iterable[Tensor], settings: str = "") -> str:
    digest = hashlib.sha256(settings.encode())
    for tensor in tensors:
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
