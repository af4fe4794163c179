"""Adapters on disk: a folder of our own format, and the format of the paper's authors.

Ours is `adapter_config.json` beside `adapter_model.safetensors`; theirs is a `checkpoint.pth` of {"model": …}
with "clip." before every key. Both stack the sites alike, so only names differ, and the authors leave out a
part that has no rows: the shared one without sharing, the text tower's own one where all its width is shared.
"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, BeforeValidator, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .adapter import AdapterConfig, CrossModalAdapters
from .files import read_json, replacing

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PARTS = {  # ours: theirs
    "vision.down": "visual_adapter_down", "vision.up": "visual_adapter_up_unique",
    "text.down": "text_adapter_down", "text.up": "text_adapter_up_unique", "shared": "vt_adapter_up_share",
}  # fmt: skip
OFFICIAL = {f"{ours}_{k}": f"{theirs}_{k}" for ours, theirs in PARTS.items() for k in ("weight", "bias")}


def _all_known(saved: object) -> object:
    """Refuse unknown and missing keys; pydantic would fill in the defaults of a dataclass."""
    known = {field.name for field in fields(AdapterConfig)}
    if isinstance(saved, dict) and (wrong := known ^ set(saved)):
        raise ValueError(f"unknown or missing keys {sorted(wrong)}, expected {sorted(known)}")
    return saved


Tower, Key = Literal["vision", "text"], Literal["name", "revision"]


class AdapterFile(BaseModel):
    """What `adapter_config.json` holds; `backbone` is as `cma.backbone.identity` gives it."""

    adapter: Annotated[AdapterConfig, BeforeValidator(_all_known)]
    widths: dict[Tower, int]
    layers: dict[Tower, int]
    backbone: Annotated[dict[Key, str | None], Field(min_length=2)]


def write_adapter(adapters: CrossModalAdapters, folder: Path, backbone: dict[str, str | None]) -> None:
    """Write the two files of an adapter into `folder`, which is made if needed.

    backbone: its name and revision, as `cma.backbone.identity` gives them.
    """
    sizes = {"widths": adapters.widths, "layers": adapters.layers}
    text = json.dumps({"adapter": asdict(adapters.config), **sizes, "backbone": backbone}, indent=2) + "\n"
    tensors = {key: value.float().contiguous() for key, value in adapters.state_dict().items()}
    config, content = folder / CONFIG, text.encode()
    with replacing(config) as new_config, replacing(folder / WEIGHTS) as new_weights:
        new_config.write_bytes(content)
        new_weights.write_bytes(save(tensors))  # `save_file` would make it readable by its owner alone
        if config.is_file() and config.read_bytes() != content:
            config.unlink()  # if killed here, no old config is left beside new weights


def read_adapter(
    folder: Path, widths: dict[str, int], layers: dict[str, int]
) -> tuple[AdapterConfig, dict[str, Tensor], dict[str, str | None]]:
    """Config, state dict and backbone of the adapter in `folder`, for towers of these widths and depths.

    Raises FileNotFoundError, or ValueError naming the file, the key, what was expected and what to do.
    """
    saved, weights = read_config(folder), folder / WEIGHTS
    for key, expected in (("widths", widths), ("layers", layers)):
        if (found := getattr(saved, key)) != expected:
            raise ValueError(
                f"{folder / CONFIG}: {key} {found} do not fit this backbone's {expected}; "
                f"load the backbone it was trained on, {saved.backbone}"
            )
    try:
        expected = _shapes(saved.adapter, widths, layers)
    except (ValueError, TypeError, RuntimeError) as error:  # torch's too, for numbers that are too large
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    try:
        state = load_file(weights)
        expected.load_state_dict(state, assign=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{weights}: no such file; save the adapter again") from None
    except SafetensorError as error:
        raise ValueError(f"{weights} is no safetensors file ({error}); save the adapter again") from error
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit {CONFIG}; save the adapter again. {error}") from error
    return saved.adapter, state, saved.backbone


def read_config(folder: Path) -> AdapterFile:
    """The `adapter_config.json` in `folder`. Raises FileNotFoundError, or ValueError that names the key."""
    if (folder / "method_config.json").is_file() and not (folder / CONFIG).is_file():
        raise ValueError(f"{folder}: holds a method, no adapter; use cma.methods.load(model, folder, name)")
    return read_json(folder / CONFIG, AdapterFile, "; expected a file of `save_adapter`: save it again")


def trained_on(folder: Path) -> str:
    """The name by which `load_backbone` finds the backbone that the adapter in `folder` was trained on.

    Raises as `read_config`, and ValueError if that backbone has no name, being built in code.
    """
    name, revision = (read_config(folder).backbone[key] for key in ("name", "revision"))
    if name is None:
        raise ValueError(f"{folder / CONFIG}: its backbone has no name; name the one it was trained on")
    of_folder = name != "mini" and revision is not None and len(revision) < 40  # a commit of the hub has 40
    return str(Path(name).expanduser().absolute()) if of_folder else name  # relative, it looks like a hub id


def from_official(checkpoint: dict[str, Tensor] | str | Path) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Config and state dict, for `add_adapter`, from the authors' state dict or file (.pth, .safetensors).

    Keys may start with "clip." and may be below "model"; keys that belong to no adapter are ignored. Dropout
    and activation are not stored: the config has the released runs' (0, quick_gelu). Raises ValueError naming
    the key for an adapter tensor that is missing or of a shape that does not fit the others, and for a file
    that holds more than tensors and plain data (nothing in it is run).
    """
    where = "the state dict" if isinstance(checkpoint, dict) else str(checkpoint)
    state = checkpoint if isinstance(checkpoint, dict) else _read_official(Path(checkpoint))
    found = {key.removeprefix("clip."): value for key, value in state.get("model", state).items()}

    def take(key: str, shape: torch.Size | None = None) -> Tensor:
        """The tensor of a key; ValueError if it has not this shape, or, without a shape, 3 dimensions."""
        if key not in found and shape is not None and not shape.numel():
            return torch.zeros(shape)
        if key not in found:
            raise ValueError(f"{where}: {key} is missing; expected an adapter of the authors' code")
        if found[key].ndim != 3 if shape is None else found[key].shape != shape:
            expected = "one matrix for each of 2L sites" if shape is None else list(shape)
            all_found = ", ".join(f"{k} {list(found[k].shape)}" for k in OFFICIAL.values() if k in found)
            raise ValueError(f"{where}: {key} is not {expected}; these do not fit together: {all_found}")
        return found[key]

    sites, rank, vision = take("visual_adapter_down_weight").shape
    own, text = take("visual_adapter_up_unique_weight").shape[1], take("text_adapter_down_weight").shape[2]
    if own > vision:
        raise ValueError(f"{where}: visual_adapter_up_unique_weight has {own} rows for a width of {vision}")
    config, widths = AdapterConfig(rank, vision - own), {"vision": vision, "text": text}
    expected = _shapes(config, widths, dict.fromkeys(widths, sites // 2)).state_dict()
    return config, {key: take(OFFICIAL[key], value.shape) for key, value in expected.items()}


def to_official(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The adapter `name` of a `RetrievalModel` under the authors' keys, each with "clip." before it.

    A part without rows is left out. Raises ValueError for an unknown adapter, and for towers of unequal
    depth, which the authors' format does not have.
    """
    adapters = model.get_adapter(name)
    if len(set(adapters.layers.values())) > 1:
        depths = f"towers of unequal depth {adapters.layers}, which the authors' format does not have"
        raise ValueError(f"adapter {name!r} is for {depths}; keep it with save_adapter")
    state = adapters.state_dict().items()
    return {f"clip.{OFFICIAL[k]}": v.detach().clone() for k, v in state if v.numel() or "vision" in k}


def _shapes(config: AdapterConfig, widths: dict[str, int], layers: dict[str, int]) -> CrossModalAdapters:
    """Adapters without values, for their names and shapes."""
    with torch.device("meta"):
        return CrossModalAdapters(config, widths, layers)


def _read_official(file: Path) -> dict[str, Tensor]:
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
