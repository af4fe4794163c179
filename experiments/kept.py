"""Adapters that stand in the repository beside their records, in half precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from cma import RetrievalModel, methods
from cma.backbone import identity, known_by
from cma.checkpoints import CONFIG, read_config
from cma.files import write_whole

HALF = "adapter_half.safetensors"


def keep_half(model: RetrievalModel, name: str, folder: Path) -> None:
    """Write an adapter of a model to `folder`: its config, and its numbers in half precision."""
    tensors = model.get_adapter(name).state_dict()
    halves = {key: value.detach().half().cpu().contiguous() for key, value in tensors.items()}
    with tempfile.TemporaryDirectory() as place:
        model.save_adapter(place, name)
        config = (Path(place) / CONFIG).read_bytes()
    write_whole(folder / HALF, save(halves))
    write_whole(folder / CONFIG, config)


def load_half(model: RetrievalModel, name: str, folder: Path) -> None:
    """Add the adapter that `keep_half` wrote to a model, under a name; it acts.

    Raises FileNotFoundError if there is none, ValueError in one line if it was trained on another
    backbone.
    """
    about = read_config(folder)
    there, here = known_by(about.backbone), known_by(identity(model.clip))
    if there != here:
        raise ValueError(f"{folder}: this adapter was trained on the backbone {there}, not {here}")
    state = load_file(folder / HALF)
    methods.attach(model, about.method, name, **about.options)
    floats = {key: value.to(torch.float32) for key, value in state.items()}
    model.get_adapter(name).load_state_dict(floats)
