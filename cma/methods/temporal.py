"""ST-Adapter, which looks across the frames of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..files import checked_dataclass
from ..method import Method
from ..patching import towers_and_layers
from .bottlenecks import linear

if TYPE_CHECKING:
    from ..model import RetrievalModel


@checked_dataclass
class TemporalOptions:
    """The size of an ST-Adapter.

    Args:
        bottleneck_dim: the width in the middle.
        kernel: the size of the convolution in frames, patch rows and patch columns; odd numbers.
    """

    bottleneck_dim: PositiveInt = 384
    kernel: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 1, 1)


class STAdapter(Method):
    """Pan et al. 2022, "ST-Adapter: Parameter-Efficient Image-to-Video Transfer Learning": before
    each attention of the vision tower, up(convolution(down(x))) is added to the patches. The
    convolution is depth-wise, over a clip's frames, and starts at 0. It has 7.1M parameters, within
    2 % of the paper's 7.2M; the text tower is CLIP's.
    """

    NAME = "ST-Adapter"
    Options = TemporalOptions
    kinds = ("video",)
    across_frames = True
    why_not = "its convolution runs over the frames of a clip, and a picture has one"

    def __init__(self, model: RetrievalModel, options: TemporalOptions) -> None:
        super().__init__(model, options)
        if even := [size for size in options.kernel if size % 2 == 0]:
            raise ValueError(
                f"{self.NAME}: kernel={options.kernel}: expected odd numbers, not {even[0]}"
            )
        self.first = model.family.class_tokens
        width = self.widths["vision"]
        middle = options.bottleneck_dim
        depth = self.layers["vision"]
        padding: Any = tuple(size // 2 for size in options.kernel)
        self.down = nn.ModuleList(nn.Linear(width, middle) for _ in range(depth))
        self.convolution = nn.ModuleList(
            nn.Conv3d(middle, middle, options.kernel, padding=padding, groups=middle)
            for _ in range(depth)
        )
        self.up = nn.ModuleList(nn.Linear(middle, width) for _ in range(depth))
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.startswith("convolution"):
                nn.init.zeros_(parameter)

    def install(self, clip: nn.Module, scale: float) -> Iterator[RemovableHandle]:
        """Change the input of each layer of the vision tower."""
        for tower, depth, layer in towers_and_layers(clip):
            if tower == "vision":
                yield layer.register_forward_pre_hook(partial(self.add, depth, scale))

    def add(self, depth: int, scale: float, layer: nn.Module, inputs: tuple) -> tuple:
        """Return the layer's inputs, with the convolution over neighbouring frames added to each
        patch.
        """
        # x [V * F, 1 + P, D] (class token first, if any); mask [V, F]
        x = inputs[0]
        mask = cast(Tensor, self.frame_mask)
        tokens = x[:, : self.first]
        patches = x[:, self.first :]
        down, up = (cast(nn.Linear, layers[depth]) for layers in (self.down, self.up))
        h = linear(down, patches).unflatten(0, mask.shape)  # [V, F, P, r]
        rows = round(h.shape[2] ** 0.5)
        h = h * mask.to(h)[:, :, None, None]  # padding becomes 0, like frames beyond the end
        h = h.unflatten(2, (rows, -1)).permute(0, 4, 1, 2, 3)  # [V, r, F, rows, columns]
        convolution = self.convolution[depth]
        h = (
            convolution(h.to(convolution.weight.dtype))
            .permute(0, 2, 3, 4, 1)
            .flatten(2, 3)
            .flatten(0, 1)
        )
        return torch.cat([tokens, patches + scale * linear(up, h.to(x.dtype))], 1), *inputs[1:]
