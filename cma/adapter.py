"""The cross-modal adapter (the paper's Fig. 2): everything that is trained.

After the attention and after the MLP of every layer of both encoders, a bottleneck is added to the
sublayer's output, before the residual:

    z = sublayer(LN(x));   x <- x + z + up(act(down(z)))

`down` goes from width D to r. `up` goes back by two projections side by side: one owned by the
encoder, r -> D - d_s, and one **shared by both encoders**, r -> d_s. The shared one is a single
parameter that receives the gradients of text and vision: nothing else connects the two. Their
activations never mix, so texts and visuals are still embedded separately and can be indexed.
"""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F


def quick_gelu(x: Tensor) -> Tensor:
    """Return CLIP's own activation, x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "relu": F.relu,
}


@dataclass(frozen=True)
class AdapterConfig:
    """The size and initialisation of an adapter; the defaults are the paper's.

    On ViT-B/32 they give 519,168 parameters.

    Args:
        bottleneck_dim: the paper's r.
        shared_dim: its d_s; with 0 the towers share nothing.
        activation: between the two projections.
        dropout: its rate, after the activation.
        init_std: the standard deviation of the normal initial weights; biases start at 0.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    bottleneck_dim: Annotated[int, Field(ge=1)] = 8
    shared_dim: Annotated[int, Field(ge=0)] = 16
    activation: Literal["quick_gelu", "gelu", "relu"] = "quick_gelu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    init_std: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            allowed: Any = field.type
            try:
                TypeAdapter(allowed).validate_python(value, strict=True)
            except ValidationError as error:
                wanted = error.errors()[0]["msg"].replace("Input should be", "expected")
                raise ValueError(f"{field.name}={reprlib.repr(value)}: {wanted}") from None


def shared_slices(layers: int, deepest: int) -> list[int]:
    """Return the shared slice (of `deepest`) that each of a tower's `layers` layers uses.

    With equal depth, as in the paper, layer i uses slice i. A shallower tower is spread over the
    deeper one, so that both end with the last slice; the slices that it skips serve the deeper
    tower only.
    """
    return [(i + 1) * deepest // layers - 1 for i in range(layers)]


class TowerAdapters(nn.Module):
    """The parameters that one encoder owns, stacked over its 2 x layers sites."""

    def __init__(self, config: AdapterConfig, width: int, layers: int) -> None:
        super().__init__()
        sites = 2 * layers
        middle = config.bottleneck_dim
        own = width - config.shared_dim
        self.down_weight = nn.Parameter(torch.empty(sites, middle, width))
        self.down_bias = nn.Parameter(torch.zeros(sites, middle))
        self.up_weight = nn.Parameter(torch.empty(sites, own, middle))
        self.up_bias = nn.Parameter(torch.zeros(sites, own))


class CrossModalAdapters(nn.Module):
    """The adapters of both encoders (middle of Fig. 2; one site is on its right).

    `widths` and `layers` give D and the depth of each tower: {"vision": 768, "text": 512}.
    Parameters are float32 whatever the backbone's precision, because small updates would vanish in
    half precision; `forward` computes in the precision of its input. Raises ValueError if
    shared_dim exceeds a width.
    """

    def __init__(
        self, config: AdapterConfig, widths: dict[str, int], layers: dict[str, int]
    ) -> None:
        super().__init__()
        for tower, width in widths.items():
            if config.shared_dim > width:
                raise ValueError(
                    f"shared_dim {config.shared_dim} exceeds the {tower} width {width}"
                )
        self.config = config
        self.widths = dict(widths)
        self.layers = dict(layers)
        deepest = max(layers.values())
        self.vision = TowerAdapters(config, widths["vision"], layers["vision"])
        self.text = TowerAdapters(config, widths["text"], layers["text"])
        self.shared_weight = nn.Parameter(
            torch.empty(2 * deepest, config.shared_dim, config.bottleneck_dim)
        )
        self.shared_bias = nn.Parameter(torch.zeros(2 * deepest, config.shared_dim))
        self.slices = {tower: shared_slices(depth, deepest) for tower, depth in layers.items()}
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.trunc_normal_(parameter, std=config.init_std, a=-2.0, b=2.0)

    def forward(self, tower: str, site: int, z: Tensor) -> Tensor:
        """Return what to add to the sublayer output z [..., D] of one site, in z's precision.

        `tower` is "vision" or "text". Site 2i is the attention of layer i, site 2i + 1 its MLP.
        """
        own: TowerAdapters = getattr(self, tower)
        shared = 2 * self.slices[tower][site // 2] + site % 2
        # [D, r], rows [own, shared]
        up_weight = torch.cat([own.up_weight[site], self.shared_weight[shared]])
        up_bias = torch.cat([own.up_bias[site], self.shared_bias[shared]])
        # [..., r]
        h = F.linear(z, own.down_weight[site].to(z.dtype), own.down_bias[site].to(z.dtype))
        h = F.dropout(ACTIVATIONS[self.config.activation](h), self.config.dropout, self.training)
        return F.linear(h, up_weight.to(z.dtype), up_bias.to(z.dtype))
