"""Adapters that stay in the repository beside their records, in half precision."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from cma import RetrievalModel
from cma.backbone import identity, known_by
from cma.checkpoints import CONFIG, WEIGHTS, read_config, write_adapter
from cma.files import write_whole


def save_half(model: RetrievalModel, name: str, folder: Path) -> None:
    """Write an adapter of a model to `folder`, which `load_half` reads, with half the bytes.

    The numbers of the model's adapter are rounded, too.
    """
    adapter = model.get_adapter(name)
    for tensor in adapter.state_dict().values():
        tensor.copy_(tensor.half())
    write_adapter(adapter, folder, identity(model.clip))
    _write_as(torch.float16, folder / WEIGHTS, folder / WEIGHTS)


def load_half(model: RetrievalModel, folder: Path, name: str) -> None:
    """Add the adapter that `save_half` wrote to a model, under a name; it acts from now on.

    Raises FileNotFoundError if there is none, ValueError in one line if it was trained on another
    backbone, and as `RetrievalModel.load_adapter`.
    """
    there = known_by(read_config(folder).backbone)
    here = known_by(identity(model.clip))
    if there != here:
        raise ValueError(f"{folder}: this adapter was trained on the backbone {there}, not {here}")
    with TemporaryDirectory() as whole:
        shutil.copy(folder / CONFIG, whole)
        _write_as(torch.float32, folder / WEIGHTS, Path(whole, WEIGHTS))
        model.load_adapter(whole, name)


def _write_as(kind: torch.dtype, source: Path, target: Path) -> None:
    """Write the tensors of a file with numbers of this kind; its digest is of float32 numbers."""
    with safe_open(source, "pt") as content:
        about = content.metadata()
    tensors = {key: value.to(kind) for key, value in load_file(source).items()}
    write_whole(target, save(tensors, about))
