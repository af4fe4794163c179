"""Adapters on disk: our own format, for every method, and the format of the paper's authors.

Ours is a folder of `adapter_config.json` and `adapter_model.safetensors`. Theirs is a
`checkpoint.pth` of {"model": …} with "clip." before every key. Both stack the sites in the same
way; only the names differ. The authors leave out a part without rows: the shared part, or the text
tower's own if all its width is shared.
"""

import argparse
import hashlib
import importlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from .adapter import AdapterConfig, CrossModalAdapters
from .files import printable, read_json, replacing
from .method import Method, describe

FILES = CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADER = 2**20  # the most bytes of a config, and of a file of weights before its numbers
PARTS = {  # our name: the authors' name
    "vision.down": "visual_adapter_down",
    "vision.up": "visual_adapter_up_unique",
    "text.down": "text_adapter_down",
    "text.up": "text_adapter_up_unique",
    "shared": "vt_adapter_up_share",
}
OFFICIAL = {
    f"{ours}_{k}": f"{theirs}_{k}" for ours, theirs in PARTS.items() for k in ("weight", "bias")
}

Tower, Key = Literal["vision", "text"], Literal["name", "revision"]


class AdapterFile(BaseModel):
    """The content of `adapter_config.json`, for any method; `backbone` is from
    `cma.backbone.identity`.
    """

    method: str
    options: dict
    widths: dict[Tower, int]
    layers: dict[Tower, int]
    backbone: Annotated[dict[Key, str | None], Field(min_length=2)]


def write_adapter(method: Method, folder: Path, backbone: dict[str, str | None]) -> None:
    """Write the two files of a method into `folder`; `backbone` is what `cma.backbone.identity`
    returns.
    """
    tensors = {
        key: value.detach().float().contiguous() for key, value in method.state_dict().items()
    }
    (name, options), sizes = describe(method), {"widths": method.widths, "layers": method.layers}
    about = AdapterFile(method=name, options=options or {}, backbone=backbone, **sizes)
    config, content = folder / CONFIG, f"{about.model_dump_json(indent=2)}\n".encode()
    with replacing(config) as new_config, replacing(folder / WEIGHTS) as new_weights:
        new_config.write_bytes(content)
        # `save_file` would make the file readable only by its owner
        new_weights.write_bytes(save(tensors, {"digest": _digest(tensors, about)}))
        if config.is_file() and config.read_bytes() != content:
            config.unlink()  # if killed here, no old config is left beside new weights


def read_adapter(folder: Path, model: nn.Module) -> tuple[Method, dict[str, str | None]]:
    """Return the method in `folder`, built for a `RetrievalModel`, and the backbone that it was
    trained on.

    Nothing in the files is executed. Names, shapes and sizes are checked before memory is
    allocated. Raises FileNotFoundError, or ValueError in one line that names the file, the key,
    what was expected and what to do. Weights that were not saved together with this config, or are
    not finite, are refused.
    """
    saved, config, weights = read_config(folder), folder / CONFIG, folder / WEIGHTS
    try:
        for key in ("widths", "layers"):
            if (there := getattr(saved, key)) != (here := getattr(model, key)):
                wanted = f"load the backbone it was trained on, {saved.backbone}"
                raise ValueError(f"{key} {there} do not fit this backbone's {here}; {wanted}")
        # The core does not know the methods. Importing them here defines their classes, so they are
        # found.
        kind = importlib.import_module("cma.methods").class_of(saved.method)
        known = {option.name for option in fields(kind.Options)}
        # an option that is missing would silently get its default
        if wrong := known ^ set(saved.options):
            raise ValueError(
                f"options: unknown or missing {sorted(wrong)}, expected {sorted(known)}"
            )
        with torch.device("meta"):  # names and shapes only: the values come from the file
            method = kind(model, kind.options_from(saved.options))
        expected = {key: ("F32", list(value.shape)) for key, value in method.state_dict().items()}
        numbers = sum(value.numel() for value in method.state_dict().values())
        if numbers > (
            most := sum(64 * depth * saved.widths[t] ** 2 for t, depth in saved.layers.items())
        ):
            raise ValueError(
                f"options: {saved.options} mean {numbers:,} numbers, expected {most:,} at most"
            )
    except (ValueError, TypeError, RuntimeError) as error:  # some are torch's, for too large sizes
        raise ValueError(printable(f"{config}: {error}")) from error
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no such file; save the adapter again")
    try:
        if (size := weights.stat().st_size) > 4 * numbers + HEADER:
            raise ValueError(f"{size:,} bytes for {numbers:,} numbers")
        with safe_open(weights, "pt") as file:
            digest, keys = (file.metadata() or {}).get("digest"), file.keys()
            found = {
                key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape())
                for key in keys
            }
        if wrong := [key for key in expected | found if expected.get(key) != found.get(key)]:
            raise ValueError(
                f"{wrong[0]}: found {found.get(wrong[0])}, expected {expected.get(wrong[0])}"
            )
        state = load(weights.read_bytes())  # `load_file` would keep the tensors mapped to the file
        method.load_state_dict(state, assign=True)
    except (SafetensorError, ValueError) as error:
        said = f"{weights}: damaged, or does not fit {CONFIG}; save the adapter again. {error}"
        raise ValueError(printable(said)) from error
    if digest != _digest(state, saved):
        raise ValueError(f"{weights}: damaged, its digest is another one; save the adapter again")
    if wrong := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(
            f"{weights}: {wrong[0]} holds numbers that are not finite; train the adapter again"
        )
    return method, saved.backbone


def _digest(tensors: dict[str, Tensor], about: AdapterFile) -> str:
    """Return the SHA-256 of float32 tensors (name, shape, values) and of the config without
    `backbone`.
    """
    config = json.dumps(about.model_dump(exclude={"backbone"}), sort_keys=True)
    digest = hashlib.sha256(config.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {list(value.shape)} ".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def read_config(folder: Path) -> AdapterFile:
    """Read `adapter_config.json` in `folder`. Raises FileNotFoundError, or ValueError that names
    the key.
    """
    if (folder / CONFIG).is_file() and (size := (folder / CONFIG).stat().st_size) > HEADER:
        raise ValueError(
            f"{folder / CONFIG}: {size:,} bytes; expected a file of `save_adapter`, far smaller"
        )
    return read_json(
        folder / CONFIG, AdapterFile, "; expected a file of `save_adapter`: save it again"
    )


def from_official(
    checkpoint: dict[str, Tensor] | str | Path,
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Convert the authors' state dict or file (.pth, .safetensors) to a config and a state dict of
    ours.

    They are for `add_adapter`. Keys may start with "clip." and be below "model"; keys of no adapter
    are ignored. Dropout and activation are not stored, so the config has those of the released runs
    (0, quick_gelu). Raises ValueError that names the key if an adapter tensor is missing or its
    shape does not fit the others, and for a file with more than tensors and plain data (nothing in
    it is run).
    """
    where = "the state dict" if isinstance(checkpoint, dict) else str(checkpoint)
    state = (
        checkpoint
        if isinstance(checkpoint, dict)
        else _read_official(Path(checkpoint).expanduser())
    )
    tensors = {key.removeprefix("clip."): value for key, value in state.get("model", state).items()}

    def take(key: str, shape: torch.Size | None = None) -> Tensor:
        """Return a key's tensor. Raises ValueError unless it has this shape (without one: 3
        dimensions).
        """
        if key not in tensors and shape is not None and not shape.numel():
            return torch.zeros(shape)
        if key not in tensors:
            raise ValueError(f"{where}: {key} is missing; expected an adapter of the authors' code")
        if tensors[key].ndim != 3 if shape is None else tensors[key].shape != shape:
            expected = "one matrix for each of 2L sites" if shape is None else list(shape)
            all_shapes = ", ".join(
                f"{k} {list(tensors[k].shape)}" for k in OFFICIAL.values() if k in tensors
            )
            raise ValueError(
                f"{where}: {key} is not {expected}; these do not fit together: {all_shapes}"
            )
        return tensors[key]

    sites, bottleneck_dim, vision = take("visual_adapter_down_weight").shape
    own, text = (
        take("visual_adapter_up_unique_weight").shape[1],
        take("text_adapter_down_weight").shape[2],
    )
    if own > vision:
        raise ValueError(
            f"{where}: visual_adapter_up_unique_weight has {own} rows for a width of {vision}"
        )
    config, widths = AdapterConfig(bottleneck_dim, vision - own), {"vision": vision, "text": text}
    with torch.device("meta"):  # names and shapes only
        expected = CrossModalAdapters(
            config, widths, dict.fromkeys(widths, sites // 2)
        ).state_dict()
    return config, {key: take(OFFICIAL[key], value.shape) for key, value in expected.items()}


def to_official(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the adapter `name` of a `RetrievalModel` under the authors' keys, each with "clip."
    before it.

    A shared or text part without rows is left out. Raises ValueError for an unknown adapter, and
    for another method, another activation or towers of unequal depth, which the authors' format
    cannot hold.
    """
    adapters = model.get_adapter(name)
    theirs = isinstance(adapters, CrossModalAdapters) and adapters.config.activation == "quick_gelu"
    if not theirs or len(set(adapters.layers.values())) > 1:
        what = f"{adapters.NAME} with {adapters.options} for towers of depth {adapters.layers}"
        raise ValueError(
            f"adapter {name!r}: the authors' format has no {what}; keep it with save_adapter"
        )
    state = adapters.state_dict().items()
    return {
        f"clip.{OFFICIAL[k]}": v.detach().clone() for k, v in state if v.numel() or "vision" in k
    }


def _read_official(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such checkpoint")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # it holds the run's arguments
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # which one depends on the bytes
        what = (
            "it is no checkpoint, or holds more than tensors and plain data (nothing in it was run)"
        )
        raise ValueError(
            f"{file} cannot be read: {what}; expected one of the authors' code"
        ) from error
