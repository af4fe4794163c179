"""The one interface of the methods: what is added to a CLIP, what trains, how it is kept and removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Protocol

from safetensors.torch import save
from torch import Tensor, nn

from ..files import replacing, settings
from ..model import RetrievalModel
from ..patching import encoder_layers

CONFIG, WEIGHTS = "method_config.json", "method_model.safetensors"


class Removable(Protocol):
    """What stands on a CLIP, such as torch's handle of a hook, and can be taken away."""

    def remove(self) -> None:
        """Leave the CLIP bitwise as it was."""


@settings
class NoOptions:
    """Of a method that has nothing to choose."""


class Method(nn.Module):
    """One way to adapt a CLIP that stays frozen: its parameters, and all of them, are what trains.

    A subclass has the `NAME` of a table's row and `Options` (`cma.files.settings`), makes its parameters in
    `__init__`, and in `hang` puts itself on the CLIP by hooks or in the place of tensors and modules, never
    by a copied forward. `scales`: any `scale` has a meaning, 1 as trained; 0 always is CLIP. `kinds`: the
    data it can do; `halves`: whether it trains in the half precision of the authors (`precision="fp16"`);
    `why_not`: the reason where it cannot do one of them; `pictures`: options that the paper's tables of
    pictures have instead of the defaults.
    """

    NAME: ClassVar[str]
    Options: ClassVar[type] = NoOptions
    scales: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("image", "video")
    halves: ClassVar[bool] = True
    why_not: ClassVar[str] = ""
    pictures: ClassVar[dict] = {}

    def __init__(self, model: RetrievalModel, options: object) -> None:
        super().__init__()
        self.options, self.widths, self.layers = options, model.widths, model.layers

    def hang(self, clip: nn.Module, scale: float) -> Iterable[Removable]:
        """Act on `clip`; returns what is to be removed again."""
        raise NotImplementedError

    def attach(self, clip: nn.Module, scale: float) -> list[Removable]:
        """Act on `clip` at a strength. Raises ValueError if the method has no such strength."""
        if scale not in (0, 1) and not self.scales:
            raise ValueError(f"{self.NAME}: acts or does not; scale must be 1 or 0, not {scale}")
        return list(self.hang(clip, scale)) if scale else []

    def check_data(self, kind: str) -> None:
        """Raise ValueError if the method cannot do data of this kind, "image" or "video"."""
        if kind not in self.kinds:
            raise ValueError(f"{self.NAME}: cannot do {kind} data: {self.why_not}")

    def check_training(self, precision: str, scale: float) -> None:
        """Raise ValueError if the method cannot be trained so."""
        if not any(True for _ in self.parameters()):
            raise ValueError(f"{self.NAME}: has nothing to train; use cma.training.evaluate")
        if precision == "fp16" and not self.halves:
            raise ValueError(f"{self.NAME}: cannot train in fp16: {self.why_not}; use bf16 or float32")
        if scale != 1:
            raise ValueError(f"{self.NAME}: trains at scale 1, not {scale}; use model.set_adapter(name)")

    def save(self, folder: Path, backbone: dict[str, str | None]) -> None:
        """Write `method_config.json` and `method_model.safetensors` into `folder`, made if needed."""
        about = {"method": self.NAME, "options": asdict(self.options)}
        about |= {"widths": self.widths, "layers": self.layers, "backbone": backbone}
        content = (json.dumps(about, indent=2) + "\n").encode()
        tensors = {key: value.detach().float().contiguous() for key, value in self.state_dict().items()}
        config = folder / CONFIG
        with replacing(config) as new_config, replacing(folder / WEIGHTS) as new_weights:
            new_config.write_bytes(content)
            new_weights.write_bytes(save(tensors))
            if config.is_file() and config.read_bytes() != content:
                config.unlink()  # if killed here, no old config is left beside new weights


class Replaced:
    """A parameter or child of a module, replaced until `remove`."""

    def __init__(self, module: nn.Module, name: str, value: nn.Parameter | nn.Module) -> None:
        self.module, self.name, self.value, self.own = module, name, value, getattr(module, name)
        setattr(module, name, value)

    def remove(self) -> None:
        """Put the module's own back, on the device where the module now is."""
        if isinstance(self.own, Tensor) and self.own.device != self.value.device:
            self.own.data = self.own.data.to(self.value.device)
        setattr(self.module, self.name, self.own)


def towers_and_layers(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """(tower, depth from 0, layer) of all layers of both towers."""
    for tower in ("vision", "text"):
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, depth, layer
