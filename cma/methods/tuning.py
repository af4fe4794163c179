"""Methods that train CLIP's own tensors (all, the last layers or the projections), and zero-shot.

They train copies. While the method is active, these replace CLIP's own tensors, which are never
written to. Once the method is removed, the backbone is bitwise as it was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..method import Method

if TYPE_CHECKING:
    from ..model import RetrievalModel


class Replaced:
    """A parameter or child of a module that is replaced until `remove` is called."""

    def __init__(self, module: nn.Module, name: str, value: nn.Parameter | nn.Module) -> None:
        self.module = module
        self.name = name
        self.value = value
        self.own = getattr(module, name)
        setattr(module, name, value)

    def remove(self) -> None:
        """Put the module's own parameter or child back, on the device where the module now is."""
        own, value = self.own, self.value
        if isinstance(own, Tensor) and isinstance(value, Tensor) and own.device != value.device:
            own.data = own.data.to(value.device)
        setattr(self.module, self.name, self.own)


class ZeroShot(Method):
    """CLIP as it was pre-trained (Radford et al. 2021, "Learning Transferable Visual Models From
    Natural Language Supervision"). Nothing is added and nothing trains; the other methods are
    compared with it.
    """

    NAME = "zero-shot"

    def install(self, clip: nn.Module, scale: float) -> Iterator:
        """Add nothing."""
        yield from ()


class Tuning(Method):
    """The base class of methods that train copies of CLIP's tensors, chosen by `trains`.

    `scale` interpolates from CLIP's tensors to the tuned ones (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models"); such a blend is only for evaluation. Raises ValueError for a
    backbone in half precision, in which small updates would vanish.
    """

    why_not = "its LayerNorms would be rounded too, which the authors' code keeps in float32"

    def __init__(self, model: RetrievalModel, options: object) -> None:
        super().__init__(model, options)
        self.family = model.family
        if model.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"{self.NAME}: needs a float32 backbone, not {model.dtype}: updates vanish"
            )
        with model.using(None):
            for name, own in model.clip.named_parameters():
                if self.trains(name):
                    copy = nn.Parameter(own.detach().clone())
                    # torch allows no dot in a name
                    self.register_parameter(name.replace(".", "/"), copy)
        if not self._parameters:
            raise ValueError(
                f"{self.NAME}: {self.family.name} has none of the tensors it trains; use partial"
            )

    def trains(self, name: str) -> bool:
        """Return whether CLIP's parameter of this name is trained."""
        raise NotImplementedError

    def install(self, clip: nn.Module, scale: float) -> Iterator[Replaced]:
        """Replace CLIP's tensors by the tuned ones."""
        for key, tuned in self.named_parameters():
            owner, _, name = key.replace("/", ".").rpartition(".")
            module = clip.get_submodule(owner)
            if scale != 1:
                blend = torch.lerp(getattr(module, name).detach(), tuned.detach(), scale)
                tuned = nn.Parameter(blend, requires_grad=False)
            yield Replaced(module, name, tuned)


class FullFineTuning(Tuning):
    """Full fine-tuning as in CLIP4Clip (Luo et al. 2022, "CLIP4Clip: An Empirical Study of CLIP for
    End to End Video Clip Retrieval"). The token, position, class and patch embeddings do not train,
    to match the paper's 123.5M, nor does the logit scale, as with the adapters.
    """

    NAME = "full fine-tuning"
    halves = False

    def trains(self, name: str) -> bool:
        """Return True for all but embeddings, logit scale and logit bias."""
        return ".embeddings." not in name and not name.startswith("logit_")


class Partial(Tuning):
    """The last transformer layer of both towers trains (10.2M), as in the partial tuning of Jia et
    al. 2022, "Visual Prompt Tuning" (section 4.1); all below it stays CLIP's.
    """

    NAME = "partial"
    halves = False

    def trains(self, name: str) -> bool:
        """Return True for the tensors of a tower's last layer."""
        tower = name.partition("_")[0]
        at = getattr(self.family, tower, None)
        return at is not None and f".{at.layers}.{self.layers[tower] - 1}." in name


class Projection(Tuning):
    """The two projections into the joint space train (0.66M, the paper's 0.7M), a linear probe for
    retrieval (Jia et al. 2022, "Visual Prompt Tuning", section 4.1: "Linear"); both towers stay
    CLIP's.
    """

    NAME = "projection"

    def trains(self, name: str) -> bool:
        """Return True for the weights of the projections."""
        return name in ("visual_projection.weight", "text_projection.weight")
