"""Freeze a CLIP and let one method at a time act on it: no forward is copied, no weight is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

TOWERS = ("vision", "text")


@dataclass
class OnClip:
    """All that this library keeps on a CLIP, as its attribute `cma`.

    `method` acts at `scale`; `handles` remove it again. `undo` is for `cma.training.prepare`: calls that give
    the CLIP back its precision and its forward.
    """

    method: nn.Module | None = None
    scale: float = 1.0
    handles: list = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)


def on_clip(clip: nn.Module) -> OnClip:
    """What this library keeps on `clip`; it is made at the first call."""
    if not hasattr(clip, "cma"):
        clip.cma = OnClip()
    return clip.cma


def encoder_layers(clip: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text") of a `CLIPModel`."""
    model = getattr(clip, f"{tower}_model")
    return getattr(model, f"{tower}_model", model).encoder.layers  # some releases nest the tower once more


def activate(clip: nn.Module, method: nn.Module, scale: float = 1.0) -> None:
    """Let `method`, a `cma.method.Method`, act on `clip` alone; raises as `Method.act_on`."""
    deactivate(clip)
    handles = method.act_on(clip, scale)
    state = on_clip(clip)
    state.method, state.scale, state.handles = method, scale, handles


def deactivate(clip: nn.Module) -> None:
    """Remove the method that acts on `clip`, which then computes bitwise the same as before."""
    state = on_clip(clip)
    for handle in reversed(state.handles):  # a method may have replaced one thing twice: the last goes first
        handle.remove()
    state.method, state.scale, state.handles = None, 1.0, []


def active(clip: nn.Module) -> tuple[nn.Module, float] | None:
    """The method that acts on `clip` now and its scale, or None."""
    state = on_clip(clip)
    return None if state.method is None else (state.method, state.scale)
