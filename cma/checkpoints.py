"""Adapters in the format of the paper's authors, both ways.

Their `checkpoint.pth` is {"model": …} with "clip." before every key. Sites are stacked as here (2i is layer
i's attention, 2i + 1 its MLP), so only names differ. They leave out a part that has no rows: the shared one
without sharing, the text tower's own one where all its width is shared.
"""

import argparse
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .adapter import AdapterConfig, CrossModalAdapters
from .model import RetrievalModel

OFFICIAL = {  # ours: theirs
    f"{ours}_{kind}": f"{theirs}_{kind}"
    for ours, theirs in {
        "vision.down": "visual_adapter_down",
        "vision.up": "visual_adapter_up_unique",
        "text.down": "text_adapter_down",
        "text.up": "text_adapter_up_unique",
        "shared": "vt_adapter_up_share",
    }.items()
    for kind in ("weight", "bias")
}


def from_official(checkpoint: dict[str, Tensor] | str | Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Config and state dict, for `add_adapter`, of a state dict or a file (.pth, .safetensors) of theirs.

    Keys may start with "clip.", and may stand under "model"; keys that are no adapter's are ignored. Dropout
    and activation are not stored: the config has the released runs' (0, quick_gelu). Raises ValueError naming
    the key for an adapter tensor that is missing or of a shape that does not fit the others, and for a file
    that holds more than tensors and plain data (nothing in it is run).
    """
    where = "the state dict" if isinstance(checkpoint, dict) else str(checkpoint)
    state = checkpoint if isinstance(checkpoint, dict) else _read(Path(checkpoint))
    state = state.get("model", state)
    found = {key.removeprefix("clip."): value for key, value in state.items()}
    sites, rank, vision = _shape(found, "visual_adapter_down_weight", where)
    _, own, _ = _shape(found, "visual_adapter_up_unique_weight", where)
    _, _, text = _shape(found, "text_adapter_down_weight", where)
    if own > vision:
        raise ValueError(f"{where}: visual_adapter_up_unique_weight has {own} rows for a width of {vision}")
    config, widths = AdapterConfig(rank, vision - own), {"vision": vision, "text": text}
    with torch.device("meta"):  # only shapes are wanted
        expected = CrossModalAdapters(config, widths, dict.fromkeys(widths, sites // 2)).state_dict()
    return config, {key: _take(found, OFFICIAL[key], value.shape, where) for key, value in expected.items()}


def to_official(model: RetrievalModel, name: str) -> dict[str, Tensor]:
    """The tensors of an adapter under the authors' keys, with "clip."; a part without rows is left out.

    Raises ValueError for an unknown adapter, and for towers of unequal depth, which theirs lacks.
    """
    adapters = model.get_adapter(name)
    if len(set(adapters.layers.values())) > 1:
        raise ValueError(
            f"adapter {name!r} is for towers of unequal depth {adapters.layers}; the authors' format has one "
            "depth. Keep the adapter with save_adapter"
        )
    state = {key: value.detach().clone() for key, value in adapters.state_dict().items()}
    return {
        f"clip.{OFFICIAL[key]}": value for key, value in state.items() if value.numel() or "vision" in key
    }


def _shape(found: dict[str, Tensor], key: str, where: str) -> torch.Size:
    """The shape of one of the three tensors that give every size."""
    if key not in found:
        raise ValueError(f"{where}: {key} is missing; expected an adapter of the authors' code")
    if found[key].ndim != 3:
        raise ValueError(
            f"{where}: {key} is {list(found[key].shape)}, expected one matrix for each of 2L sites"
        )
    return found[key].shape


def _take(found: dict[str, Tensor], key: str, shape: torch.Size, where: str) -> Tensor:
    if key not in found and not shape.numel():
        return torch.zeros(shape)
    if key not in found:
        raise ValueError(f"{where}: {key} is missing; expected {list(shape)}")
    if found[key].shape != shape:
        shapes = ", ".join(f"{name} {list(found[name].shape)}" for name in OFFICIAL.values() if name in found)
        raise ValueError(
            f"{where}: {key} is {list(found[key].shape)}, expected {list(shape)}; these do not fit: {shapes}"
        )
    return found[key]


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such checkpoint")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # the run's arguments: plain data
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{file} cannot be read: it is no checkpoint, or holds more than tensors and plain data (nothing "
            "in it was run). Expected the authors' checkpoint.pth or a state dict of theirs"
        ) from error
