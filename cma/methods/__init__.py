"""Every method of the paper's tables, on a frozen CLIP. `cma.method` says what a method is.

`model.adapters` holds all methods of a model: `attach` adds one, `model.set_adapter(name)` makes
one act, `cma.train` trains it, `model.save_adapter` and `load_adapter` write and read it. A class
of your own works too: `attach(model, YourMethod, name)`.
"""

from __future__ import annotations

import torch

from ..data import RetrievalDataset
from ..method import WITHOUT_SHARING, CrossModalAdapter, Method, describe
from ..model import RetrievalModel
from ..patching import towers_and_layers
from ..recipes import recipe
from .bottlenecks import AdapterATTN, AdaptFormer, TiedBottlenecks
from .low_rank import LoRA
from .prompts import VPT, CoOp, MaPLe, VLPrompt
from .temporal import STAdapter
from .tuning import FullFineTuning, Partial, Projection, Replaced, ZeroShot

__all__ = [
    "METHODS",
    "NAMES",
    "Method",
    "Replaced",
    "attach",
    "class_of",
    "describe",
    "options_of",
    "towers_and_layers",
    "why_not",
]


class AdapterWithoutSharing(CrossModalAdapter):
    """The paper's ablation: the same adapter with `shared_dim` 0, so that the towers share nothing."""

    NAME, defaults = WITHOUT_SHARING, {"shared_dim": 0}


ROWS = (
    *(ZeroShot, FullFineTuning, Partial, Projection, CoOp, VPT, VLPrompt, MaPLe),
    *(
        AdapterATTN,
        AdaptFormer,
        STAdapter,
        LoRA,
        TiedBottlenecks,
        AdapterWithoutSharing,
        CrossModalAdapter,
    ),
)
METHODS: dict[str, type[Method]] = {method.NAME: method for method in ROWS}
NAMES = tuple(METHODS)


def attach(
    model: RetrievalModel, method: str | type[Method], name: str, seed: int = 42, **options: object
) -> Method:
    """Build a method, add it to the model as `name` and return it. It acts from now on.

    `method` is one of `NAMES`, or a subclass of `Method`; `seed` decides its initial values,
    `options` are fields of its `Options`. The CPU's random state is not changed. Raises ValueError
    for an unknown method (with the list) or option, and for a name in use.
    """
    kind = class_of(method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.keep(name, kind(model, kind.options_from(options)))


def options_of(method: str | type[Method], dataset: RetrievalDataset) -> dict:
    """Return the options for `attach` of a method on a dataset, as in the paper's table for such
    data.

    The cross-modal adapter gets r and d_s of the dataset's recipe.
    """
    kind = class_of(method)
    if issubclass(kind, CrossModalAdapter):
        own = recipe(dataset.recipe)
        sizes = {"bottleneck_dim": own.bottleneck_dim, "shared_dim": own.shared_dim}
        return {key: value for key, value in sizes.items() if key not in kind.defaults}
    return kind.pictures if dataset.kind == "image" else {}


def why_not(
    method: str | type[Method], dataset: RetrievalDataset, precision: str = "float32"
) -> str:
    """Return why a method does not work on such data or in this precision, or an empty string if it
    does.
    """
    kind = class_of(method)
    return (
        "" if dataset.kind in kind.kinds and (kind.halves or precision != "fp16") else kind.why_not
    )


def class_of(method: str | type[Method]) -> type[Method]:
    """Return the class with this `NAME`, of ours or of your own. A class is returned as it is.

    Raises ValueError that lists the names.
    """
    if hasattr(method, "NAME"):
        return method
    known, waiting = {}, [Method]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        known = ({kind.NAME: kind} if "NAME" in vars(kind) else {}) | known  # the newest of a name
    if method not in known:
        raise ValueError(
            f"unknown method {method!r}; there are: {', '.join(NAMES)}; or yours, by its NAME"
        )
    return known[method]
