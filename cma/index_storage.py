"""An index on disk: `index.safetensors` + `files-….jsonl`, written whole, refused for another model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .backbone import identity
from .embedding import IndexConfig
from .files import write_whole
from .media import MediaFile
from .model import RetrievalModel

TENSORS = "index.safetensors"
FORMAT_VERSION = 2  # 1: pictures were read without their EXIF rotation, and transparent ones on black
SAMPLES = 64  # elements of each of the backbone's tensors that identify it


def identify(model: RetrievalModel) -> dict:
    """What embeddings depend on: digests of the backbone's weights and of the active adapter (or None).

    Of the backbone, sampled elements are read in bfloat16: another precision of the same weights is the same
    backbone. Of the adapter, everything is, and its scale where that is not 1.
    """
    backbone = [
        weight.detach().flatten()[:: max(1, weight.numel() // SAMPLES)].to(torch.bfloat16)
        for _, weight in sorted(model.clip.named_parameters())
    ]
    adapter = model.get_adapter(model.active) if model.active else None
    weights = [weight for _, weight in sorted(adapter.state_dict().items())] if adapter else []
    settings = repr((adapter.config.activation, adapter.config.shared_dim)) if adapter else ""
    found = {"backbone": _digest(backbone), "adapter": _digest(weights, settings) if adapter else None}
    return found | ({"scale": model.scale} if adapter and model.scale != 1.0 else {})


def describe(model: RetrievalModel, config: IndexConfig, media_root: Path, skipped: Sequence = ()) -> dict:
    """What is written beside the embeddings that `model` makes, with the adapter that is active."""
    return {
        "backbone": identity(model.clip),
        "adapter": model.active,
        "built_with": identify(model),
        "config": asdict(config),
        "media_root": str(media_root),
        "skipped": skipped,
    }


def write(folder: Path, about: dict, files: Sequence[MediaFile], vectors: Tensor, lengths: Tensor) -> None:
    """Save into `folder`, made if needed. A kill at any moment leaves the old index or the new one.

    `vectors` [N, D] are the frames of all `files`, one after the other; `lengths` [V] says how many of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(file)) + "\n" for file in files)
    name = f"files-{hashlib.sha256(lines.encode()).hexdigest()[:12]}.jsonl"
    about = about | {"format_version": FORMAT_VERSION, "files": name}
    write_whole(folder / name, lines)
    temporary = folder / f".{TENSORS}.{os.getpid()}.tmp"
    tensors = {"vectors": vectors.contiguous(), "lengths": lengths}
    save_file(tensors, temporary, metadata={"index": json.dumps(about)})
    temporary.replace(folder / TENSORS)  # from here on the new index counts
    leftovers = {*folder.glob("files-*.jsonl*"), *folder.glob(f".{TENSORS}.*.tmp")}
    for old in leftovers - {folder / name}:
        old.unlink(missing_ok=True)


def read(folder: Path, model: RetrievalModel) -> dict:
    """The fields of the index in `folder` but for the model's.

    Raises FileNotFoundError, or ValueError naming the file if it is damaged, of another format, or built with
    another backbone or adapter than `model` and its active one.
    """
    path = folder / TENSORS
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; expected a folder written by `MediaIndex.save`")
    try:
        with safe_open(path, "pt") as stored:
            about = json.loads((stored.metadata() or {})["index"])
            if about["format_version"] == FORMAT_VERSION:
                vectors, lengths = stored.get_tensor("vectors"), stored.get_tensor("lengths")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no index or cut short ({error}); build it again") from error
    if about["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format {about['format_version']}, expected {FORMAT_VERSION}; build it again"
        )
    _check_model(path, about, model)
    return {
        "built_with": about["built_with"],
        "config": IndexConfig(**about["config"]),
        "media_root": Path(about["media_root"]),
        "files": _read_files(folder / about["files"]),
        "vectors": vectors,
        "lengths": lengths,
        "skipped": tuple(map(tuple, about["skipped"])),
    }


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


def _read_files(path: Path) -> tuple[MediaFile, ...]:
    if not path.is_file():
        raise ValueError(f"{path}: not there, but its index is; build the index again")
    text = path.read_text(encoding="utf-8")
    if path.stem.removeprefix("files-") != hashlib.sha256(text.encode()).hexdigest()[:12]:
        raise ValueError(f"{path}: changed since it was written; build the index again")
    files = [json.loads(line) for line in text.splitlines()]
    return tuple(MediaFile(**file | {"captions": tuple(file["captions"])}) for file in files)


def _digest(tensors: list[Tensor], settings: str = "") -> str:
    digest = hashlib.sha256(settings.encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
