"""Every method of the paper's tables on a frozen CLIP, by one interface: `attach`, `load`, `describe`.

A method is held in `model.adapters`, switched by `model.set_adapter(name)`, trained by `cma.train` and saved
by `model.save_adapter`, as adapters are. A class of your own is one more: `attach(model, YourMethod, name)`.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..adapter import AdapterConfig, CrossModalAdapters
from ..backbone import warn_of_another
from ..data import RetrievalDataset
from ..files import printable, read_json
from ..model import RetrievalModel
from ..recipes import recipe
from .bottlenecks import AdapterATTN, AdaptFormer, TiedBottlenecks
from .interface import CONFIG, WEIGHTS, Method, Replaced, towers_and_layers
from .low_rank import LoRA
from .prompts import VPT, CoOp, MaPLe, VLPrompt
from .temporal import STAdapter
from .tuning import FullFineTuning, Partial, Projection, ZeroShot

__all__ = [
    "CONFIG",
    "NAMES",
    "WEIGHTS",
    "Method",
    "Replaced",
    "attach",
    "describe",
    "load",
    "options_of",
    "towers_and_layers",
    "why_not",
]
ROWS = (
    *(ZeroShot, FullFineTuning, Partial, Projection, CoOp, VPT, VLPrompt, MaPLe),
    *(AdapterATTN, AdaptFormer, STAdapter, LoRA, TiedBottlenecks),
)
METHODS: dict[str, type[Method]] = {method.NAME: method for method in ROWS}
ADAPTERS = {"adapter without sharing": {"shared_dim": 0}, "cross-modal adapter": {}}  # options of a config
NAMES = (*METHODS, *ADAPTERS)


class MethodFile(BaseModel):
    """What `method_config.json` holds."""

    method: str
    options: dict
    widths: dict[str, int]
    layers: dict[str, int]
    backbone: Annotated[dict[str, str | None], Field(min_length=2)]


def attach(
    model: RetrievalModel, method: str | type[Method], name: str, seed: int = 42, **options: object
) -> nn.Module:
    """Hold a method as `name`; it acts after `model.set_adapter(name)`. Returns the module.

    `method` is one of `NAMES`, or a class of `Method`; `seed` decides its initial values, `options` are those
    of its class (or fields of `AdapterConfig`). The CPU's random state is not changed. Raises ValueError
    for an unknown method (with the list) or option, and for a name in use.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if method in ADAPTERS:
            try:
                config = AdapterConfig(**{**ADAPTERS[method], **options})
            except TypeError:
                known = ", ".join(option.name for option in fields(AdapterConfig))
                raise ValueError(f"{method}: options are {known}, not {', '.join(options)}") from None
            return model.add_adapter(name, config)
        return model.keep(name, _build(model, method, options))


def load(
    model: RetrievalModel, folder: Path | str, name: str, method: str | type[Method] | None = None
) -> nn.Module:
    """Read what `model.save_adapter` wrote, a method or an adapter, and hold it as `name`.

    `method`: what it must be, if given; needed for a class of your own. Warns if it was trained on another
    backbone. Raises FileNotFoundError, or ValueError in one line that names the file and what was expected.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        if method not in (None, *ADAPTERS):
            raise FileNotFoundError(f"{folder / CONFIG}: no such file; expected one of {_name(method)}")
        return model.load_adapter(folder, name)
    saved = read_json(folder / CONFIG, MethodFile, "; expected a file of `save_adapter`: save it again")
    if method is not None and _name(method) != saved.method:
        raise ValueError(f"{folder / CONFIG}: holds {saved.method!r}; expected {_name(method)!r}")
    for key, expected in (("widths", model.widths), ("layers", model.layers)):
        if (found := getattr(saved, key)) != expected:
            raise ValueError(f"{folder / CONFIG}: {key} {found} do not fit this backbone's {expected}")
    try:
        with torch.random.fork_rng(devices=[]):
            built = _build(model, method or saved.method, saved.options)
        built.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder / WEIGHTS}: no such file; save the method again") from None
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            printable(f"{folder / WEIGHTS}: does not fit {CONFIG}; save the method again. {error}")
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    warn_of_another(model.clip, saved.backbone, folder)
    return model.keep(name, built)


def describe(module: nn.Module | None) -> tuple[str, dict | None]:
    """(the row of the tables, its options) of an adapter or method; zero-shot without one."""
    if isinstance(module, CrossModalAdapters):
        return list(ADAPTERS)[module.config.shared_dim > 0], asdict(module.config)
    if module is None:
        return ZeroShot.NAME, None
    options = {
        k: list(v) if isinstance(v, tuple) else v for k, v in asdict(module.options).items()
    }  # as JSON
    return module.NAME, options or None


def options_of(method: str | type[Method], dataset: RetrievalDataset) -> dict:
    """What `attach` is given for a method on a dataset, as in the paper's table for such data.

    The two adapters of ours take r and d_s of the dataset's recipe.
    """
    if method in ADAPTERS:
        own = recipe(dataset.recipe)
        return {"bottleneck_dim": own.rank} | ({} if ADAPTERS[method] else {"shared_dim": own.shared})
    kind = METHODS.get(method) if isinstance(method, str) else method
    return kind.pictures if kind and dataset.kind == "image" else {}


def why_not(method: str, dataset: RetrievalDataset) -> str:
    """Why a method cannot do the data; empty if it can."""
    kind = METHODS.get(method)
    return "" if kind is None or dataset.kind in kind.kinds else kind.why_not


def _name(method: str | type[Method]) -> str:
    return method if isinstance(method, str) else method.NAME


def _build(model: RetrievalModel, method: str | type[Method], options: dict) -> Method:
    """A method that is not held yet. Raises ValueError for an unknown one, and for a wrong option."""
    kind = METHODS.get(method) if isinstance(method, str) else method
    if kind is None:
        raise ValueError(f"unknown method {method!r}; there are: {', '.join(NAMES)}")
    try:
        chosen = kind.Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    except ValueError as error:
        raise ValueError(f"{kind.NAME}: {error}") from None
    return kind(model, chosen)
