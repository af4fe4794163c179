"""What the embeddings of an index depend on: digests of a model's weights, and how media are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..backbone import identity
from ..config import ReadConfig
from ..method import describe
from ..model import RetrievalModel
from .segment import digest_of

Digests = dict[str, str | float | None]  # as `identify` returns them


@dataclass(frozen=True)
class Header:
    """What embeddings were made with, for each segment; `backbone` and `adapter` are names for
    messages.
    """

    backbone: dict[str, str | None]
    adapter: str | None
    built_with: Digests
    config: ReadConfig

    def check(self, path: str | Path, now: Header) -> None:
        """Raise ValueError unless `now` has the same backbone, adapter, scale and config."""
        if self.built_with["backbone"] != now.built_with["backbone"]:
            said = (
                f"the backbone {self.backbone}, but this one is {now.backbone} or has other weights"
            )
            advice = "load that backbone"
        elif self.built_with != now.built_with:
            said = f"{self.acting()}, but now {now.acting()} is active or its weights differ"
            advice = "call set_adapter with the right one"
        elif self.config != now.config:
            said, advice = f"{self.config}, now {now.config} is wanted", "give the same config"
        else:
            return
        raise ValueError(f"{path}: built with {said}; {advice}, or build the index again")

    def acting(self) -> str:
        """The name of the adapter in messages, with its scale if that is not 1."""
        scale = self.built_with["scale"]
        at = "" if scale == 1 else f" at scale {scale:g}"
        return f"adapter {self.adapter!r}{at}" if self.adapter else "no adapter"


def identify(model: RetrievalModel) -> Digests:
    """Return what embeddings depend on: digests of the backbone's weights and the active adapter
    (or None).

    The backbone's weights are rounded to bfloat16 first, so it is the same backbone in float32 and
    in bfloat16, but not in float16. The adapter's are not rounded; its method, options and scale
    count too.
    """
    with model.acting(None):  # a method may have put its own tensors in the backbone's place
        weights = [weight.detach() for _, weight in sorted(model.clip.named_parameters())]
        backbone = digest_of(weight.to(torch.bfloat16) for weight in weights)
    if model.active is None:
        return {"backbone": backbone, "adapter": None, "scale": 1.0}
    adapter = model.get_adapter(model.active)
    own = [weight.detach() for _, weight in sorted(adapter.named_parameters())]
    return {
        "backbone": backbone,
        "adapter": digest_of(own, repr(describe(adapter))),
        "scale": model.scale,
    }


class ActingWeights:
    """The weights of a model's backbone and active adapter: their `digests`, and whether they have
    changed.

    They are read again only after a change that torch counts: an update in place, another tensor or
    device.
    """

    def __init__(self, model: RetrievalModel) -> None:
        self.digests, self._seen = identify(model), _versions(model)

    def header(self, model: RetrievalModel, config: ReadConfig) -> Header:
        """The header of an index that this model builds with this config."""
        return Header(identity(model.clip), model.active, self.digests, config)

    def changed(self, model: RetrievalModel) -> str:
        """Name the part that differs from `digests`, with the same adapter active; "" if nothing
        does.
        """
        seen = _versions(model)
        if seen[1] != self._seen[1]:
            now = identify(model)
            if now != self.digests:
                own = now["backbone"] == self.digests["backbone"]
                return f"adapter {model.active!r}" if own else "the backbone"
            self._seen = seen
        return ""


def _versions(model: RetrievalModel) -> tuple[list[Tensor], list[tuple]]:
    """Return the weights that `identify` reads, and values that change when one is updated or
    replaced. Keep the weights, so that no new tensor gets the address of an old one."""
    with model.acting(None):
        weights = list(model.clip.parameters())
    weights += model.get_adapter(model.active).parameters() if model.active else []
    return weights, [
        (
            id(weight),
            weight.data_ptr(),
            weight.dtype,
            None if weight.is_inference() else weight._version,
        )
        for weight in weights
    ]
