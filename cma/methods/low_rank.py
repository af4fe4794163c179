"""LoRA, by the library `peft`, which adds a low-rank product to the projections of attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import PositiveFloat, PositiveInt
from torch import nn

from .. import require
from ..files import checked_dataclass
from ..method import Method
from .tuning import Replaced

if TYPE_CHECKING:
    from ..model import RetrievalModel


@checked_dataclass
class LoraOptions:
    """The size and places of LoRA, which adds alpha / rank · B A x to the layers that it adapts.

    Args:
        rank: the width r between A and B.
        alpha: the strength of what is added.
        targets: which linear layers of both towers are adapted, by CLIP's names: q_proj, k_proj,
            v_proj and out_proj of the attention, fc1 and fc2 of the MLP.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")


class LoRA(Method):
    """Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models": the queries and values
    of every attention of both towers get alpha / r · B A x (0.5M at r 8; the paper has no such
    row). B starts at 0, so training starts at CLIP. `peft` makes the layers; while the method acts
    they replace CLIP's own.
    """

    NAME = "LoRA"
    Options = LoraOptions

    def __init__(self, model: RetrievalModel, options: LoraOptions) -> None:
        require("methods", "peft")
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__(model, options)
        clip = model.clip
        towers = (model.family.vision, model.family.text)
        with model.using(None):
            own = dict(clip.named_modules())
            targets = {at.other_names.get(t, t) for t in options.targets for at in towers}
            if wrong := [
                t for t in options.targets if not any(name.endswith(f".{t}") for name in own)
            ]:
                raise ValueError(
                    f"{self.NAME}: targets: no projection of CLIP is called {wrong[0]!r}"
                )
            config = LoraConfig(
                r=options.rank,
                lora_alpha=options.alpha,  # type: ignore[arg-type]  # it says int and divides
                target_modules=sorted(targets),
            )
            try:
                inject_adapter_in_model(config, clip)
            finally:  # even if peft refuses one target after replacing others
                self.wrappers = {n: m for n, m in clip.named_modules() if hasattr(m, "lora_A")}
                for name in self.wrappers:
                    owner, _, child = name.rpartition(".")
                    setattr(clip.get_submodule(owner), child, own[name])
                vars(clip).pop("peft_config", None)
        parts = ("lora_A", "lora_B")
        trained = {
            n: nn.ModuleDict({p: getattr(m, p) for p in parts}) for n, m in self.wrappers.items()
        }
        self.parts = nn.ModuleDict({name.replace(".", "/"): own for name, own in trained.items()})
        self.parts.float()  # peft makes them in CLIP's precision, in which small updates may vanish

    def install(self, clip: nn.Module, scale: float) -> Iterator[Replaced]:
        """Replace CLIP's projections by peft's layers."""
        for name, wrapper in self.wrappers.items():
            owner, _, child = name.rpartition(".")
            module = clip.get_submodule(owner)
            wrapper.base_layer = getattr(module, child)
            wrapper.set_scale("default", scale)
            yield Replaced(module, child, wrapper)
