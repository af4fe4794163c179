"""The methods of the paper's tables, on a frozen CLIP; `cma.method` defines what a method is.

`model.adapters` holds all methods of a model: `model.add_adapter(name, "LoRA")` adds one (`attach`
does it with a seed), `model.set_adapter(name)` activates one, `cma.train` trains it,
`model.save_adapter` and `load_adapter` write and read it. Your own class works, too:
`model.add_adapter(name, YourMethod)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..data import RetrievalDataset
from ..method import METHODS, WITHOUT_SHARING, CrossModalAdapter, Method, class_of, describe
from ..patching import towers_and_layers
from .bottlenecks import AdapterATTN, AdaptFormer, TiedBottlenecks
from .low_rank import LoRA
from .prompts import VPT, CoOp, MaPLe, VLPrompt
from .temporal import STAdapter
from .tuning import FullFineTuning, Partial, Projection, Replaced, ZeroShot

if TYPE_CHECKING:
    from ..model import RetrievalModel

__all__ = [
    "METHODS",
    "NAMES",
    "LoRA",
    "Method",
    "Replaced",
    "attach",
    "class_of",
    "describe",
    "options_of",
    "towers_and_layers",
]


class AdapterWithoutSharing(CrossModalAdapter):
    """The paper's ablation: the adapter with `shared_dim` 0, so that the towers share nothing."""

    NAME = WITHOUT_SHARING
    defaults = {"shared_dim": 0}


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
NAMES = tuple(method.NAME for method in ROWS)


def attach(
    model: RetrievalModel, method: str | type[Method], name: str, seed: int = 42, **options: Any
) -> Method:
    """Build a method, add it to a model and activate it: `add_adapter` with a seed.

    Args:
        model: a `RetrievalModel`.
        method: one of `NAMES`, or a subclass of `Method`.
        name: what you will call it.
        seed: decides its initial values; the CPU's random state is not changed.
        **options: fields of the method's `Options`.

    Returns:
        The method, which is also `model.adapters[name]`.

    Raises:
        ValueError: as in `add_adapter`.

    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> cma.methods.attach(model, "VPT", "prompts", tokens=2).NAME
    'VPT'
    >>> sum(parameter.numel() for parameter in model.trainable_parameters())
    3072
    """
    return model.add_adapter(name, method, seed=seed, **options)


def options_of(method: str | type[Method], dataset: RetrievalDataset) -> dict:
    """Return a method's options for `attach`, as in the paper's table for data like `dataset`."""
    return class_of(method).options_for(dataset)
