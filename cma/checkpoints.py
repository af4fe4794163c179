"""Adapters on disk: our own format, for every method, and the format of the paper's authors.

Ours is a folder of `adapter_config.json` and `adapter_model.safetensors`. Theirs is a
`checkpoint.pth` of {"model": …} with "clip." before every key. Both stack the sites in the same
way; only the names differ. The authors leave out a part without rows: the shared part, or the text
tower's own part if its whole width is shared.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor

from .adapter import AdapterConfig, CrossModalAdapters
from .config import ReadConfig
from .files import printable, read_json, replacing, short
from .method import Method, class_of, describe

if TYPE_CHECKING:
    from .model import RetrievalModel

FILES = CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADER = 2**20  # the most bytes of a config, and of a file of weights before its numbers
LINE = 1000  # the most characters of a message, which may quote a file
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

Tower = Literal["vision", "text"]
Key = Literal["name", "revision"]
USE = {"reading", "strength"}  # keys that say how to use the adapter, not what it is
Text = Annotated[str, Field(max_length=4096)]  # a folder's path may be long


class AdapterFile(BaseModel):
    """The content of `adapter_config.json`; `backbone` is from `cma.backbone.identity`.

    `reading` and `strength` say how to use the adapter. Files may lack them, and the digest of the
    weights does not include them.
    """

    method: Text
    options: dict
    widths: dict[Tower, int]
    layers: dict[Tower, int]
    backbone: Annotated[dict[Key, Text | None], Field(min_length=2)]
    reading: ReadConfig | None = None
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def write_adapter(method: Method, folder: Path, backbone: dict[str, str | None]) -> None:
    """Write the two files of a method; `backbone` is what `cma.backbone.identity` returns."""
    tensors = {
        key: value.detach().float().contiguous() for key, value in method.state_dict().items()
    }
    name, options = describe(method)
    about = AdapterFile.model_validate(
        {
            "method": name,
            "options": options or {},
            "widths": method.widths,
            "layers": method.layers,
            "backbone": backbone,
            "reading": method.reading,
            "strength": method.strength,
        }
    )
    config = folder / CONFIG
    unknown = {key for key in USE if getattr(about, key) is None}
    content = f"{about.model_dump_json(indent=2, exclude=unknown)}\n".encode()
    with replacing(config) as new_config, replacing(folder / WEIGHTS) as new_weights:
        new_config.write_bytes(content)
        # `save_file` would make the file readable only by its owner
        new_weights.write_bytes(save(tensors, {"digest": _digest(tensors, about)}))
        if config.is_file() and config.read_bytes() != content:
            config.unlink()  # if killed here, no old config is left beside new weights


def read_adapter(folder: Path, model: "RetrievalModel") -> Method:
    """Return the method in `folder`, built for a model.

    Nothing in the files is executed. Weights of another precision become float32. Names, shapes and
    sizes are checked before memory is allocated. Raises FileNotFoundError, or ValueError in one
    line that names the file, the key, what was expected and what to do. Weights that were not saved
    together with this config, or are not finite, are refused.
    """
    saved = read_config(folder)
    try:
        if (saved.widths, saved.layers) != (model.widths, model.layers):
            raise ValueError(
                f"widths {saved.widths} and layers {saved.layers} do not fit this backbone's "
                f"{model.widths} and {model.layers}; load the backbone it was trained on, "
                f"{saved.backbone}"
            )
        method_class = class_of(saved.method)
        options = method_class.options_from(saved.options)
        missing = vars(options).keys() - saved.options.keys()
        if missing:  # else it would silently get its default
            raise ValueError(f"options: {sorted(missing)} expected, but missing")
        shapes = method_class.shapes(model, options)
    except (ValueError, TypeError) as error:
        raise ValueError(printable(f"{folder / CONFIG}: {error}"[:LINE])) from error

    state = _read_weights(folder / WEIGHTS, shapes, saved)
    check_tensors(state, shapes, str(folder / WEIGHTS))
    with torch.random.fork_rng(devices=[]):
        method = method_class(model, options)  # built with real values, for its constants
    method.load_state_dict(state)
    method.reading, method.strength = saved.reading, saved.strength
    method.backbone = dict(saved.backbone.items())
    return method


def _read_weights(file: Path, shapes: dict[str, Tensor], about: AdapterFile) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Raises FileNotFoundError, or ValueError if they do not fit the config.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; expected a file of `save_adapter`: save it again"
        )
    numbers = sum(value.numel() for value in shapes.values())
    try:
        size = file.stat().st_size
        if size > 4 * numbers + HEADER:
            raise ValueError(f"{size:,} bytes for {numbers:,} numbers")
        with safe_open(file, "pt") as content:
            digest = (content.metadata() or {}).get("digest")
        # `load_file` would keep the tensors mapped to the file; the digest is of float32 numbers
        state = {key: value.float() for key, value in load(file.read_bytes()).items()}
        if digest != _digest(state, about):
            raise ValueError("its digest differs")
    except (SafetensorError, ValueError) as error:
        message = f"{file}: damaged, or does not fit {CONFIG}; save the adapter again. {error}"
        raise ValueError(printable(message[:LINE])) from error
    return state


def check_tensors(state: dict[str, Tensor], shapes: dict[str, Tensor], where: str) -> None:
    """Raise ValueError if a tensor differs from `shapes` or is not finite; the message names it."""
    wrong = state.keys() ^ shapes.keys()
    if wrong:
        raise ValueError(f"{where}: missing or unknown: {short(sorted(wrong))}")
    for key, value in state.items():
        found = list(value.shape)
        expected = list(shapes[key].shape)
        if found != expected:
            raise ValueError(f"{where}: {key} is {found}, expected {expected}")
        if not value.isfinite().all():
            raise ValueError(f"{where}: {key} holds numbers that are not finite; train it again")


def _digest(tensors: dict[str, Tensor], about: AdapterFile) -> str:
    """Return the SHA-256 of float32 tensors and of what the config says the method is."""
    config = json.dumps(about.model_dump(exclude={"backbone", *USE}), sort_keys=True)
    digest = hashlib.sha256(config.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {list(value.shape)} ".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def read_config(folder: Path) -> AdapterFile:
    """Read `adapter_config.json`. Raises FileNotFoundError, or ValueError that names the key."""
    file = folder / CONFIG
    size = file.stat().st_size if file.is_file() else 0
    if size > HEADER:
        raise ValueError(f"{file}: {size:,} bytes; expected a file of `save_adapter`, far smaller")
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: no {CONFIG} there; expected a folder of `save_adapter`, or of a run"
        )
    return read_json(file, AdapterFile, "; expected a file of `save_adapter`: save it again")


def from_official(
    checkpoint: dict[str, Tensor] | str | Path,
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Convert the authors' state dict or file (.pth, .safetensors) for `add_adapter`.

    Returns a config and a state dict. Keys may start with "clip." and be below "model"; keys that
    are not an adapter's are ignored. Dropout and activation are not stored, so the config has those
    of the released runs (0, quick_gelu). Raises ValueError that names the key if an adapter tensor
    is missing, its shape does not fit the others or a number is not finite, and for a file that
    holds more than tensors and plain data (nothing in it is executed).
    """
    if isinstance(checkpoint, dict):
        where = "the state dict"
        state: dict[str, Any] = checkpoint
    else:
        where = str(checkpoint)
        state = _read_official(Path(checkpoint).expanduser())
    tensors = {key.removeprefix("clip."): value for key, value in state.get("model", state).items()}

    sizes = [f"{PARTS[part]}_weight" for part in ("vision.down", "vision.up", "text.down")]
    for key in sizes:
        if key not in tensors or tensors[key].ndim != 3:
            raise ValueError(
                f"{where}: {key} is missing or misshaped; expected an adapter of the authors' "
                "code, with one matrix for each of 2L sites"
            )
    down, up, text = (tensors[key].shape for key in sizes)
    sites, bottleneck_dim, vision = down
    config = AdapterConfig(bottleneck_dim, max(0, vision - up[1]))  # too many rows do not fit below
    widths = {"vision": vision, "text": text[2]}
    with torch.device("meta"):  # names and shapes only
        adapters = CrossModalAdapters(config, widths, dict.fromkeys(widths, sites // 2))
    shapes = {OFFICIAL[key]: value for key, value in adapters.state_dict().items()}
    empty = {key: torch.zeros(value.shape) for key, value in shapes.items() if not value.numel()}
    found = empty | {key: tensors[key] for key in shapes.keys() & tensors.keys()}
    check_tensors(found, shapes, f"{where}, by the sizes of {', '.join(sizes)}")
    return config, {ours: found[theirs] for ours, theirs in OFFICIAL.items()}


def to_official(model: "RetrievalModel", name: str) -> dict[str, Tensor]:
    """Return the adapter `name` of a model under the authors' keys, each after "clip.".

    A shared or text part without rows is left out. Raises ValueError for an unknown adapter, and
    for another method, another activation or towers of unequal depth, which the authors' format
    cannot hold.
    """
    adapters = model.get_adapter(name)
    theirs = isinstance(adapters, CrossModalAdapters) and adapters.config.activation == "quick_gelu"
    if not theirs or len(set(adapters.layers.values())) > 1:
        raise ValueError(
            f"adapter {name!r}: the authors' format has no {adapters.NAME} with {adapters.options} "
            f"for towers of depth {adapters.layers}; keep it with save_adapter"
        )
    state = adapters.state_dict().items()
    return {
        f"clip.{OFFICIAL[k]}": v.detach().clone() for k, v in state if v.numel() or "vision" in k
    }


def _read_official(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # it holds the run's arguments
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise
    except Exception as error:  # which one depends on the bytes
        raise ValueError(
            f"{file} cannot be read: holds more than tensors and plain data (nothing in it was "
            "run), or no checkpoint"
        ) from error
