"""An adapter on disk: `adapter_config.json` + `adapter_model.safetensors`, written whole, read strictly."""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .adapter import AdapterConfig, CrossModalAdapters

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_adapter(folder: Path, adapters: CrossModalAdapters, backbone: dict[str, str | None]) -> None:
    """Save weights, config, tower sizes and the backbone's identity into `folder`, made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"widths": adapters.widths, "layers": adapters.layers}
    text = json.dumps({"adapter": asdict(adapters.config), **sizes, "backbone": backbone}, indent=2) + "\n"
    config, weights = folder / CONFIG, folder / WEIGHTS
    tensors = {key: value.contiguous() for key, value in adapters.state_dict().items()}
    _temporary(weights).write_bytes(save(tensors))  # `save_file` would make it readable by its owner alone
    _temporary(config).write_text(text)
    if config.is_file() and config.read_text() != text:
        config.unlink()  # if killed right here, new weights must not stand beside an old config
    _temporary(weights).replace(weights)
    _temporary(config).replace(config)


def read_adapter(
    folder: Path, widths: dict[str, int], layers: dict[str, int]
) -> tuple[AdapterConfig, dict[str, Tensor], dict[str, str | None]]:
    """Config, weights and backbone of the adapter in `folder`, for towers of these widths and depths.

    Raises FileNotFoundError, or ValueError naming the file, the key, what was expected and what to do.
    """
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; expected a folder written by `save_adapter`")
    config, backbone = _read_config(folder / CONFIG, {"widths": widths, "layers": layers})
    with torch.device("meta"):  # only names and shapes are wanted
        expected = CrossModalAdapters(config, widths, layers)
    return config, _read_weights(folder / WEIGHTS, expected), backbone


def trained_on(folder: Path) -> str:
    """The name of the backbone that the adapter in `folder` was trained on; raises as `read_adapter`."""
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder / CONFIG} is missing; expected a folder written by `save_adapter`")
    return _read_json(folder / CONFIG, ["backbone"])["backbone"]["name"]


def _read_config(file: Path, sizes: dict[str, dict[str, int]]) -> tuple[AdapterConfig, dict]:
    saved = _read_json(file, ["adapter", "backbone", *sizes])
    for key, expected in sizes.items():
        if saved[key] != expected:
            raise ValueError(
                f"{file}: {key} {saved[key]} do not fit this backbone's {expected}; "
                f"load the backbone it was trained on, {saved['backbone']}"
            )
    known = {field.name for field in fields(AdapterConfig)}
    if wrong := known ^ set(saved["adapter"]):
        raise ValueError(f"{file}: unknown or missing adapter keys {sorted(wrong)}; expected {sorted(known)}")
    try:
        return AdapterConfig(**saved["adapter"]), saved["backbone"]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _read_json(file: Path, keys: list[str]) -> dict:
    """A JSON object with these keys at least. Raises ValueError naming the file."""
    try:
        saved = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); save the adapter again") from error
    for key in keys:
        if not isinstance(saved, dict) or key not in saved:
            raise ValueError(f"{file}: key {key!r} is missing; expected a file written by `save_adapter`")
    return saved


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


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.tmp")
