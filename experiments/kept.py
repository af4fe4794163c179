"""Keep adapters in the repository beside their records, in half precision."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save

from cma import RetrievalModel
from cma.backbone import identity
from cma.checkpoints import WEIGHTS, write_adapter
from cma.files import write_whole


def save_half(model: RetrievalModel, name: str, folder: Path) -> None:
    """Write an adapter of a model to `folder` with half the bytes; `load_adapter` reads it.

    The numbers of the model's adapter are rounded, too; the digest is of the rounded numbers in
    float32.
    """
    adapter = model.get_adapter(name)
    for tensor in adapter.state_dict().values():
        tensor.copy_(tensor.half())
    write_adapter(adapter, folder, identity(model.clip))
    weights = folder / WEIGHTS
    with safe_open(weights, "pt") as content:
        about = content.metadata()
    tensors = {key: value.half() for key, value in load_file(weights).items()}
    write_whole(weights, save(tensors, about))
