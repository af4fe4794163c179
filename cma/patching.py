"""Freeze a CLIP and attach adapters to it by forward hooks: no forward is copied, no weight is changed."""

from collections.abc import Iterator

from torch import Tensor, nn

from .adapter import CrossModalAdapters


def encoder_layers(clip: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text") of a `CLIPModel`."""
    model = getattr(clip, f"{tower}_model")
    return getattr(model, f"{tower}_model", model).encoder.layers  # some releases nest the tower once more


def freeze(clip: nn.Module) -> None:
    """Let no parameter of `clip` be trained, and switch its dropout off."""
    clip.requires_grad_(False).eval()


class AdapterHook:
    """A forward hook that adds one site's adapter, times `scale`, to the output of one sublayer."""

    def __init__(self, adapters: CrossModalAdapters, tower: str, site: int, scale: float) -> None:
        self.adapters, self.tower, self.site, self.scale = adapters, tower, site, scale

    def __call__(self, sublayer: nn.Module, inputs: tuple, z: Tensor) -> Tensor:
        return z + self.scale * self.adapters(self.tower, self.site, z)


def attach(clip: nn.Module, adapters: CrossModalAdapters, scale: float = 1.0) -> None:
    """Let `adapters` act on every site of `clip` instead of others; `scale` 1 is the paper, 0 is CLIP."""
    detach(clip)
    for tower, site, sublayer in _sites(clip):
        hook = AdapterHook(adapters, tower, site, scale)
        hook.handle = sublayer.register_forward_hook(hook)


def detach(clip: nn.Module) -> None:
    """Remove every adapter hook: `clip` computes bitwise the same as before."""
    for *_, sublayer in _sites(clip):
        for hook in _hooks(sublayer):
            hook.handle.remove()


def attached(clip: nn.Module) -> tuple[CrossModalAdapters, float] | None:
    """The adapters that act on `clip` now and their scale, or None."""
    *_, first = next(_sites(clip))
    return next(((hook.adapters, hook.scale) for hook in _hooks(first)), None)


def _sites(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """(tower, site, the sublayer whose output is adapted): attention and MLP of each layer."""
    for tower in ("vision", "text"):
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, 2 * depth, layer.self_attn.out_proj
            yield tower, 2 * depth + 1, layer.mlp.fc2


def _hooks(sublayer: nn.Module) -> list[AdapterHook]:
    return [hook for hook in sublayer._forward_hooks.values() if isinstance(hook, AdapterHook)]
