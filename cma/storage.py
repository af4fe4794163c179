"""An adapter on disk: `adapter_config.json` + `adapter_model.safetensors`, written whole, read strictly."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, BeforeValidator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .adapter import AdapterConfig, CrossModalAdapters
from .backbone import loadable
from .files import read_json, replacing

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def _all_known(saved: object) -> object:
    """Refuse keys that are unknown or missing, which a dataclass alone would pass over."""
    known = {field.name for field in fields(AdapterConfig)}
    if isinstance(saved, dict) and (wrong := known ^ set(saved)):
        raise ValueError(f"unknown or missing keys {sorted(wrong)}, expected {sorted(known)}")
    return saved


class Backbone(BaseModel):
    """Name and revision of a backbone, as `cma.backbone.identity` gives them."""

    name: str | None
    revision: str | None


class AdapterFile(BaseModel):
    """What `adapter_config.json` holds."""

    adapter: Annotated[AdapterConfig, BeforeValidator(_all_known)]
    widths: dict[str, int]
    layers: dict[str, int]
    backbone: Backbone


def write_adapter(folder: Path, adapters: CrossModalAdapters, backbone: dict[str, str | None]) -> None:
    """Save weights, config, tower sizes and the backbone's identity into `folder`, made if needed."""
    sizes = {"widths": adapters.widths, "layers": adapters.layers}
    text = json.dumps({"adapter": asdict(adapters.config), **sizes, "backbone": backbone}, indent=2) + "\n"
    tensors = {key: value.contiguous() for key, value in adapters.state_dict().items()}
    config, content = folder / CONFIG, text.encode()
    with replacing(config) as new_config, replacing(folder / WEIGHTS) as new_weights:
        new_config.write_bytes(content)
        new_weights.write_bytes(save(tensors))  # `save_file` would make it readable by its owner alone
        if config.is_file() and config.read_bytes() != content:
            config.unlink()  # if killed right here, new weights must not stand beside an old config


def read_adapter(
    folder: Path, widths: dict[str, int], layers: dict[str, int]
) -> tuple[AdapterConfig, dict[str, Tensor], dict[str, str | None]]:
    """Config, weights and backbone of the adapter in `folder`, for towers of these widths and depths.

    Raises FileNotFoundError, or ValueError naming the file, the key, what was expected and what to do.
    """
    saved = _read_config(folder)
    weights = _existing(folder / WEIGHTS)
    for key, expected in (("widths", widths), ("layers", layers)):
        if (found := getattr(saved, key)) != expected:
            raise ValueError(
                f"{folder / CONFIG}: {key} {found} do not fit this backbone's {expected}; "
                f"load the backbone it was trained on, {saved.backbone.model_dump()}"
            )
    try:
        with torch.device("meta"):  # only names and shapes are wanted
            expected = CrossModalAdapters(saved.adapter, widths, layers)
    except (ValueError, TypeError, RuntimeError) as error:  # torch's, for numbers beyond any tensor
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    return saved.adapter, _read_weights(weights, expected), saved.backbone.model_dump()


def trained_on(folder: Path) -> str:
    """The backbone that the adapter in `folder` was trained on, as `load_backbone` takes it.

    Raises as `read_adapter`, and ValueError if it was a CLIP without a name, built in code.
    """
    backbone = _read_config(folder).backbone
    if backbone.name is None:
        raise ValueError(f"{folder / CONFIG}: its backbone has no name; name the one it was trained on")
    return loadable(backbone.model_dump())


def _read_config(folder: Path) -> AdapterFile:
    try:
        return read_json(_existing(folder / CONFIG), AdapterFile)
    except ValueError as error:
        raise ValueError(f"{error}; expected a file written by `save_adapter`: save it again") from None


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a folder written by `save_adapter`")
    return file


def _read_weights(file: Path, adapters: CrossModalAdapters) -> dict[str, Tensor]:
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file ({error}); save the adapter again") from error
    try:
        adapters.load_state_dict(found, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{file} does not fit the config beside it; save the adapter again. {error}"
        ) from error
    return found
