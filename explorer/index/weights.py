"""Identify what embeddings depend on: the model's weights, and how media are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

from cma.backbone import identity
from cma.method import describe
from cma.model import RetrievalModel

from .moments import IndexConfig

SMALL = 2**23  # up to this many bytes, an adapter's digest is computed for each query


@dataclass(frozen=True)
class Digests:
    """The digests of the weights that embeddings depend on (`identify`)."""

    backbone: str
    adapter: str | None
    scale: float


@dataclass(frozen=True)
class Header:
    """The settings that made embeddings; `backbone` and `adapter` are names for messages."""

    backbone: dict[str, str | None]
    adapter: str | None
    built_with: Digests
    config: IndexConfig

    def check(self, path: str | Path, now: Header) -> None:
        """Raise ValueError unless `now` has the same backbone, adapter, scale and config."""
        if self.built_with.backbone != now.built_with.backbone:
            loaded = f"this one is {now.backbone!s:.200} or has other weights"
            made_with = f"the backbone {self.backbone!s:.200}, but {loaded}"
            advice = "load that backbone"
        elif self.built_with != now.built_with:
            active = f"{now.adapter_text()} is active or its weights differ"
            made_with = f"{self.adapter_text()}, but now {active}"
            advice = "call set_adapter with the right one"
        elif self.config != now.config:
            made_with = f"{self.config}, now {now.config} is wanted"
            advice = "give the same config"
        else:
            return
        raise ValueError(f"{path}: built with {made_with}; {advice}, or build the index again")

    def adapter_text(self) -> str:
        """Return the adapter's name for messages, with its scale if that is not 1."""
        scale = self.built_with.scale
        at = "" if scale == 1 else f" at scale {scale:g}"
        return f"adapter {self.adapter!r:.100}{at}" if self.adapter else "no adapter"


def identify(model: RetrievalModel) -> Digests:
    """Return the digests of the backbone's weights and of the active adapter (or None).

    The backbone's weights are rounded to bfloat16 first, so a backbone in float32 and in bfloat16
    is the same, but not in float16. The adapter's are not rounded; its method, options and scale
    count, too.
    """
    with model.using(None):  # a method may have put its own tensors in the backbone's place
        weights = [weight.detach() for _, weight in sorted(model.clip.named_parameters())]
        backbone = digest_of(weight.to(torch.bfloat16) for weight in weights)
    if model.active is None:
        return Digests(backbone, None, 1.0)
    return Digests(backbone, _adapter(model), model.scale)


class ActiveWeights:
    """The weights of a model's backbone and active adapter: `digests`, and whether they changed.

    An adapter of at most `SMALL` bytes is compared each time, so we notice every change. The
    backbone, and a larger adapter such as full fine-tuning, are read again only after a change that
    torch counts: an update in place, another tensor or device. We do not notice a change through
    `.data`, which torch does not count.
    """

    def __init__(self, model: RetrievalModel) -> None:
        with model.lock:
            self.adapter = model.active
            self.digests = identify(model)
            self._look(model)

    def _look(self, model: RetrievalModel) -> None:
        """Note the weights, their versions, and which of them are active.

        Keeping them ensures that no new tensor gets the address of an old one. A method may put its
        own tensors in the backbone's place.
        """
        with model.using(None):
            own = list(model.clip.parameters())
        self._weights = [*own, *_large(model)]
        self._seen = _versions(self._weights)
        self._acting = _acting(model) & {id(weight) for weight in self._weights}

    def header(self, model: RetrievalModel, config: IndexConfig) -> Header:
        """Return the header of an index that this model builds with this config."""
        return Header(identity(model.clip), self.adapter, self.digests, config)

    def changed(self, model: RetrievalModel) -> str:
        """Name the part that differs from `digests`, with the same adapter active, or return "".

        This removes or adds no hook, unless the weights must be read again.
        """
        with model.lock:
            adapter = f"adapter {model.active!r}"
            digested = model.active is not None and not _large(model)
            if digested and _adapter(model) != self.digests.adapter:
                return adapter
            if self._acting <= _acting(model) and _versions(self._weights) == self._seen:
                return ""
            found = identify(model)
            if found != self.digests:
                return adapter if found.backbone == self.digests.backbone else "the backbone"
            self._look(model)
        return ""


def digest_of(tensors: Iterable[Tensor], about: str = "") -> str:
    """Return a digest (16 hex digits) of a text, and of type, shape and content of tensors."""
    digest = hashlib.sha256(about.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _adapter(model: RetrievalModel) -> str:
    """Return the digest of the active adapter."""
    adapter = model.get_adapter(model.active)
    own = [weight.detach() for _, weight in sorted(adapter.named_parameters())]
    return digest_of(own, repr(describe(adapter)))


def _large(model: RetrievalModel) -> list[Parameter]:
    """Return the active adapter's parameters, if they are too large for a digest each time."""
    weights = model.trainable_parameters()
    return weights if sum(weight.nbytes for weight in weights) > SMALL else []


def _acting(model: RetrievalModel) -> set[int]:
    """Return the ids of the weights now active in CLIP, and of a large adapter's weights."""
    return {id(weight) for weight in [*model.clip.parameters(), *_large(model)]}


def _versions(weights: list[Parameter]) -> list[tuple]:
    """Return values that change when one of the weights is updated or moved."""
    return [
        (weight.data_ptr(), weight.dtype, None if weight.is_inference() else weight._version)
        for weight in weights
    ]
