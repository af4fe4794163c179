"""Freeze a CLIP and attach adapters to it by forward hooks: no forward is copied, no weight is changed."""

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

TOWERS = ("vision", "text")


def encoder_layers(clip: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text") of a `CLIPModel`."""
    model = getattr(clip, f"{tower}_model")
    return getattr(model, f"{tower}_model", model).encoder.layers  # some releases nest the tower once more


def freeze(clip: nn.Module) -> None:
    """Let no parameter of `clip` be trained, and switch its dropout off."""
    clip.requires_grad_(False).eval()


def attach(clip: nn.Module, adapters: nn.Module, scale: float = 1.0) -> None:
    """Let `adapters` act on every site of `clip` instead of others; `scale` 1 is the paper, 0 is CLIP.

    A method of `cma.methods` acts by its own `attach`; it returns what `detach` will `remove()`.
    """
    detach(clip)
    act = getattr(adapters, "attach", partial(_hook, adapters))
    clip.acting = adapters, scale, act(clip, scale)


def detach(clip: nn.Module) -> None:
    """Remove what `attach` added: `clip` computes bitwise the same as before."""
    for handle in reversed(clip.acting[2] if attached(clip) else ()):
        handle.remove()
    clip.acting = None


def attached(clip: nn.Module) -> tuple[nn.Module, float] | None:
    """The adapters that act on `clip` now and their scale, or None."""
    acting = getattr(clip, "acting", None)
    return acting and acting[:2]


def _hook(adapters: nn.Module, clip: nn.Module, scale: float) -> list:
    return [
        sublayer.register_forward_hook(partial(_add, adapters, scale, tower, site))
        for tower, site, sublayer in _sites(clip)
    ]


def _add(adapters: nn.Module, scale: float, tower: str, site: int, _: object, __: tuple, z: Tensor) -> Tensor:
    return z.add(adapters(tower, site, z), alpha=scale)


def _sites(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """(tower, site, the sublayer whose output is adapted): attention and MLP of each layer."""
    for tower in TOWERS:
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, 2 * depth, layer.self_attn.out_proj
            yield tower, 2 * depth + 1, layer.mlp.fc2
