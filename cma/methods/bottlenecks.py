"""Methods that add a narrow network to each layer of both towers: after attention or at the MLP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..adapter import ACTIVATIONS
from ..files import checked_dataclass
from ..method import Method
from ..patching import parts

if TYPE_CHECKING:
    from ..model import RetrievalModel


@checked_dataclass
class BottleneckOptions:
    """The size of a bottleneck.

    Args:
        bottleneck_dim: the width in the middle. The paper's tables have 64 for clips (2.0M
            parameters); for pictures we infer 16 from their 0.5M trained parameters.
    """

    bottleneck_dim: PositiveInt = 64


PICTURES = {"bottleneck_dim": 16}  # 0.5M trained


class Bottleneck(nn.Module):
    """up(act(down(x))) for x [.., D], in the precision of x."""

    def __init__(self, width: int, middle: int, activation: str) -> None:
        super().__init__()
        self.down = nn.Linear(width, middle)
        self.up = nn.Linear(middle, width)
        self.activation = activation
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, rows: Tensor | float = 1.0) -> Tensor:
        """Return the bottleneck's output [.., D]; `rows` [r, 1] are factors for the rows of
        `down.weight`.
        """
        middle = F.linear(x, (rows * self.down.weight).to(x.dtype), self.down.bias.to(x.dtype))
        return linear(self.up, ACTIVATIONS[self.activation](middle))


class Bottlenecks(Method):
    """The base class of methods with one `Bottleneck` for every layer of both towers.

    Its output, times `weight`, is added to that of the layer's part `place`
    (`cma.families.Tower`).
    """

    Options: ClassVar[type] = BottleneckOptions
    activation = "relu"
    place = "after_mlp"
    weight = 0.1

    def __init__(self, model: RetrievalModel, options: BottleneckOptions) -> None:
        super().__init__(model, options)
        for tower, depth in self.layers.items():
            sizes = self.widths[tower], options.bottleneck_dim, self.activation
            self.add_module(tower, nn.ModuleList(Bottleneck(*sizes) for _ in range(depth)))

    def install(self, clip: nn.Module, scale: float) -> Iterator[RemovableHandle]:
        """Add the bottleneck's output at each `place`."""
        for tower, depth, part in parts(clip, self.place):
            hook = partial(self.add, tower, depth, self.weight * scale)
            yield part.register_forward_hook(hook)

    def add(
        self, tower: str, depth: int, scale: float, part: nn.Module, inputs: tuple, z: Tensor
    ) -> Tensor:
        """Return the output z of a part plus the bottleneck's."""
        return z + scale * getattr(self, tower)[depth](z)


class AdapterATTN(Bottlenecks):
    """Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", after the attention
    alone: its output z becomes z + up(act(down(z))) before the residual, in both towers (2.0M).
    Small weights (std 0.01) start it near CLIP. It equals a wider cross-modal adapter without a
    shared part and without an MLP part.
    """

    NAME = "Adapter-ATTN"
    activation = "gelu"
    place = "after_attention"
    weight = 1.0
    pictures = PICTURES

    def __init__(self, model: RetrievalModel, options: BottleneckOptions) -> None:
        super().__init__(model, options)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.trunc_normal_(parameter, std=0.01, a=-0.02, b=0.02)


class AdaptFormer(Bottlenecks):
    """Chen et al. 2022, "AdaptFormer: Adapting Vision Transformers for Scalable Visual
    Recognition": each MLP with input x gets 0.1 · up(relu(down(x))) added to its output, here in
    both towers (2.0M). `up` starts at 0, so that training starts at CLIP.
    """

    NAME = "AdaptFormer"
    place = "mlp"
    pictures = PICTURES

    def __init__(self, model: RetrievalModel, options: BottleneckOptions) -> None:
        if not (model.family.vision.mlp and model.family.text.mlp):
            raise ValueError(f"{self.NAME}: {model.family.name} has no module that is a whole MLP")
        super().__init__(model, options)
        start_at_clip(self)

    def add(
        self, tower: str, depth: int, scale: float, part: nn.Module, inputs: tuple, z: Tensor
    ) -> Tensor:
        """Return the MLP's output z plus the bottleneck's, computed from the MLP's input."""
        return z + scale * getattr(self, tower)[depth](inputs[0])


@checked_dataclass
class TyingOptions(BottleneckOptions):
    """The size of a bottleneck, and how the two towers are tied.

    Args:
        bottleneck_dim: as in `BottleneckOptions`.
        tied_layers: how many of the last layers are tied.
        factor_dim: the length of the vector that ties a layer of one tower to that of the other.
    """

    tied_layers: PositiveInt = 2
    factor_dim: PositiveInt = 32


class TiedBottlenecks(Bottlenecks):
    """The cross-modality tying of Jin et al. 2024, "MV-Adapter: Multimodal Video Adapter for
    Parameter Efficient Video Text Retrieval", without its attention over frames. After each MLP,
    0.1 times a bottleneck is added (`up` starts at 0). In the last layers both towers share a
    vector; each tower projects it to factors for the rows of `down`. The paper's tables do not have
    it; 2.0M.
    """

    NAME = "MV-Adapter tying"
    Options = TyingOptions
    activation = "quick_gelu"

    def __init__(self, model: RetrievalModel, options: TyingOptions) -> None:
        super().__init__(model, options)
        if options.tied_layers > (max_layers := min(self.layers.values())):
            raise ValueError(
                f"{self.NAME}: tied_layers={options.tied_layers}: a tower has {max_layers} layers"
            )
        self.factors = nn.Parameter(torch.randn(options.tied_layers, options.factor_dim))
        sizes = options.factor_dim, options.bottleneck_dim
        self.projections = nn.ModuleDict(
            {
                t: nn.ModuleList(nn.Linear(*sizes) for _ in range(options.tied_layers))
                for t in self.layers
            }
        )
        start_at_clip(self)

    def add(
        self, tower: str, depth: int, scale: float, part: nn.Module, inputs: tuple, z: Tensor
    ) -> Tensor:
        """Return the MLP's output z plus the bottleneck's; `last` counts layers from the end."""
        last = self.layers[tower] - 1 - depth
        rows: Tensor | float = 1.0
        if last < len(self.factors):
            projections: Any = self.projections[tower]
            rows = linear(projections[last], self.factors[last])[:, None]
        return z + scale * getattr(self, tower)[depth](z, rows)


def start_at_clip(method: Method) -> None:
    """Set `up` to 0, so that no bottleneck adds anything yet; `down` keeps its initial values."""
    for module in method.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.up.weight)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a layer in the precision of x, because adapters stay float32 whatever the backbone."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
