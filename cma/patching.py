"""Activate one method at a time on a frozen CLIP; no forward is copied, no weight changed."""

import reprlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from .families import TOWERS, Backbone, family_of, tower_of

if TYPE_CHECKING:
    from .method import Method


@dataclass
class Patch:
    """The method active on a CLIP, if any, and its scale; kept as the CLIP's attribute `cma`.

    `handles` remove the method again, and `undo` has functions that undo `cma.training.prepare`.
    Models may share a CLIP, and threads a model: any thread that switches or encodes holds `lock`.
    """

    method: "Method | None" = None
    scale: float = 1.0
    handles: list = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    lock: AbstractContextManager = field(default_factory=threading.RLock)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict) -> None:
        Patch.__init__(self, **state)  # the copy of a CLIP gets its own lock


def patch_of(clip: nn.Module) -> Patch:
    """Return the `Patch` of `clip`, which the first call creates."""
    if "cma" not in vars(clip):
        vars(clip).setdefault("cma", Patch())  # if two threads come here, both get one object
    return vars(clip)["cma"]


def encoder_layers(clip: Backbone, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text")."""
    module: Any = tower_of(clip, tower)
    return module.get_submodule(getattr(family_of(clip.config), tower).layers)


def towers_and_layers(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, layer) for all layers of both towers."""
    for tower in TOWERS:
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, depth, layer


def parts(clip: nn.Module, name: str) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, module) of each layer's part `name` (`cma.families.Tower`)."""
    family = family_of(clip.config)
    for tower, depth, layer in towers_and_layers(clip):
        yield tower, depth, layer.get_submodule(getattr(getattr(family, tower), name))


def activate(clip: Backbone, method: "Method | None", scale: float = 1.0) -> None:
    """Make `method` (a `cma.method.Method`, or None) the only active one on `clip`; hold its lock.

    Does nothing if that method is already active at this scale.

    Raises ValueError if the method cannot act at `scale`, TypeError if its `install` yields
    something other than a handle, or nothing though it has parameters. After an error no method is
    active.
    """
    patch = patch_of(clip)
    if patch.method is method and (method is None or patch.scale == scale):
        return
    deactivate(clip)
    if method is None:
        return
    if scale not in (0, 1) and not method.scales:
        raise ValueError(f"{method.NAME}: acts or does not; scale must be 1 or 0, not {scale}")
    try:
        for handle in method.install(clip, scale) if scale else ():
            if not hasattr(handle, "remove"):
                found = f"install yielded {reprlib.repr(handle)}"
                raise TypeError(f"{method.NAME}: {found}; expected handles, each with remove()")
            patch.handles.append(handle)
        if scale and not patch.handles and any(True for _ in method.parameters()):
            raise TypeError(
                f"{method.NAME}: install yielded nothing, so its parameters do not act; expected "
                "the handle of each hook it adds"
            )
    except BaseException:
        deactivate(clip)
        raise
    patch.method = method
    patch.scale = scale


def deactivate(clip: nn.Module) -> None:
    """Remove the active method from `clip`, which then computes bitwise the same as before."""
    patch = patch_of(clip)
    with ExitStack() as removing:  # in reverse order, and all of them even if one fails
        for handle in patch.handles:
            removing.callback(handle.remove)
        patch.method = None
        patch.handles = []
