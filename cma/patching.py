"""Let one method at a time act on a frozen CLIP: no forward is copied, no weight is changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import nn

from .families import TOWERS, family_of, tower_of


@dataclass
class OnClip:
    """All that this library keeps on a CLIP, as its attribute `cma`.

    `acting`: the method that acts and its scale, or None; `handles` remove it again. `undo`:
    functions that give the CLIP its own precision and forward back after `cma.training.prepare`.
    """

    acting: tuple[nn.Module, float] | None = None
    handles: list = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)


def on_clip(clip: nn.Module) -> OnClip:
    """Return the `OnClip` of `clip`, which is created at the first call."""
    if not hasattr(clip, "cma"):
        clip.cma = OnClip()
    return clip.cma


def encoder_layers(clip: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text")."""
    return tower_of(clip, tower).get_submodule(getattr(family_of(clip.config), tower).layers)


def towers_and_layers(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, layer) for all layers of both towers."""
    for tower in TOWERS:
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, depth, layer


def parts(clip: nn.Module, name: str) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, module) of the part `name` (in `cma.families.Tower`) of each
    layer.
    """
    family = family_of(clip.config)
    for tower, depth, layer in towers_and_layers(clip):
        yield tower, depth, layer.get_submodule(getattr(getattr(family, tower), name))


def activate(clip: nn.Module, method: nn.Module, scale: float = 1.0) -> None:
    """Let only `method` (a `cma.method.Method`) act on `clip`. Raises ValueError if it cannot at
    `scale`.
    """
    if scale not in (0, 1) and not method.scales:
        raise ValueError(f"{method.NAME}: acts or does not; scale must be 1 or 0, not {scale}")
    deactivate(clip)
    try:  # if it fails half-way, its hooks are removed again
        made = method.hang(clip, scale) if scale else ()
        clip.cma.handles.extend(made if hasattr(made, "__iter__") else [made])
    except BaseException:
        deactivate(clip)
        raise
    clip.cma.acting = method, scale


def deactivate(clip: nn.Module) -> None:
    """Remove the method that acts on `clip`, which then computes bitwise the same as before."""
    state = on_clip(clip)
    for handle in reversed(state.handles):  # last first: a method may have replaced one thing twice
        handle.remove()
    state.acting, state.handles = None, []
