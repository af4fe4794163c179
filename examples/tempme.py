"""TempMe, a method of one's own: once this module is imported, `cma` finds it by its `NAME`.

    python -m experiments study data/mini-msrvtt --methods examples/tempme.py:TempMe

It came after the paper and is in no planned comparison; docs/reproduce.md has its recall.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, cast

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from cma import RetrievalModel
from cma.data import RetrievalDataset
from cma.files import checked_dataclass
from cma.methods import LoRA
from cma.patching import encoder_layers, parts
from cma.recipes import recipe

Share = Annotated[float, Field(gt=0, le=1)]


@checked_dataclass
class TempMeOptions(LoRA.Options):
    """The options of LoRA, and how TempMe merges tokens.

    Args:
        frames: how many neighbouring frames become one at the end, at most.
        spatial: how many tokens of a frame are merged before each layer.
        across: the share of tokens that is kept when clips are joined.
        within: the share that is then kept of the joined clip.
    """

    frames: Annotated[int, Field(ge=2)] = 12
    spatial: NonNegativeInt = 2
    across: Share = 0.7
    within: Share = 0.9


class TempMe(LoRA):
    """Shen et al. 2025, "TempMe: Video Temporal Token Merging for Efficient Text-Video Retrieval":
    LoRA, and tokens of the vision tower that are alike are merged, first inside each frame, then
    across neighbouring clips, which are joined step by step until one is left (12 frames become 6
    clips, 3, 1; 0.5M at r 8). A token counts in attention as often as tokens were merged into it.

    The numbers are the defaults of the authors' command line. The rest is our own choice: we merge
    before a layer, not inside it, compare tokens by their cosine, and take the mean of class
    tokens. A clip of fewer frames shows some of them twice. Each frame gets the embedding of the
    clip that it is part of.
    """

    NAME = "TempMe"
    Options = TempMeOptions
    kinds = ("video",)
    scales = False
    across_frames = True
    why_not = "it merges tokens across the frames of a clip, and a picture has one"

    def __init__(self, model: RetrievalModel, options: TempMeOptions) -> None:
        super().__init__(model, options)
        self.first = model.family.class_tokens
        if not self.first:
            raise ValueError(f"{self.NAME}: {model.family.name} has no class token to be joined")
        steps = factors(options.frames)
        depth = self.layers["vision"]
        self.joins: dict[int, list[int]] = {}  # how many clips are joined before a layer
        for i, clips in enumerate(steps):
            at = max(0, depth - 1 - len(steps) + i)
            self.joins.setdefault(at, []).append(clips)
        # embeddings of a frame's place in its clip
        self.places = nn.Parameter(torch.zeros(options.frames, self.widths["vision"]))
        self.sizes: dict[int, Tensor] = {}  # [B, N] by layer: how many tokens each one was

    @classmethod
    def options_for(cls, dataset: RetrievalDataset) -> dict:
        """Return the number of frames that the dataset's recipe reads of a clip."""
        return {"frames": recipe(dataset.recipe).config.max_frames}

    def install(self, clip: nn.Module, scale: float) -> Iterator:
        """Add LoRA; merge before each layer of the vision tower, and count sizes in attention."""
        yield from super().install(clip, scale)
        layers = list(encoder_layers(clip, "vision"))
        for depth, layer in enumerate(layers):
            yield layer.register_forward_pre_hook(partial(self.merge, depth))
        for tower, depth, attention in parts(clip, "attention"):
            if tower == "vision":
                weigh = partial(self.weigh, depth)
                yield attention.register_forward_pre_hook(weigh, with_kwargs=True)
        yield layers[-1].register_forward_hook(self.spread)

    def merge(self, depth: int, layer: nn.Module, inputs: tuple) -> tuple:
        """Return the layer's inputs with fewer tokens."""
        x = inputs[0]
        sizes = self.sizes[depth] if depth else x.new_ones(x.shape[:2], dtype=torch.float32)
        start = min(self.joins)
        if 0 < depth < start:
            x, sizes = self.patches(x, sizes, self.options.spatial, 2)
        for at, clips in enumerate(self.joins.get(depth, [])):
            if depth == start and at == 0:
                x, sizes = self.stretched(x, sizes)
            x, sizes = self.joined(x, sizes, clips)
        self.sizes[depth + 1] = sizes
        return x, *inputs[1:]

    def slots(self) -> tuple[Tensor, Tensor]:
        """Return the frame of each slot [V, S], and the slot of each frame [V, F].

        S is a multiple of `frames`. The frames of a clip are spread evenly over as few multiples as
        hold them, whatever else is in the batch.
        """
        mask, size = cast(Tensor, self.frame_mask).bool(), self.options.frames
        there = mask.sum(1, keepdim=True).clamp(min=1)
        used = -(-there // size) * size
        slot = torch.arange(int(used.max()), device=mask.device)
        frame = torch.minimum(slot * there // used, there - 1)
        order = (~mask).int().argsort(dim=1, stable=True)  # padding comes last
        number = (mask.cumsum(1) - 1).clamp(min=0)
        return order.gather(1, frame), -(-number * used // there)

    def stretched(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [V * S, N, D] and sizes of frames in their slots, with their places."""
        frame, _ = self.slots()
        shape = cast(Tensor, self.frame_mask).shape
        clip = torch.arange(len(frame), device=x.device)[:, None]
        x, sizes = (of.unflatten(0, shape)[clip, frame] for of in (x, sizes))  # [V, S, N, D]
        places = self.places.to(x.dtype).repeat(frame.shape[1] // len(self.places), 1)
        return (x + places[:, None]).flatten(0, 1), sizes.flatten(0, 1)

    def joined(self, x: Tensor, sizes: Tensor, clips: int) -> tuple[Tensor, Tensor]:
        """Return tokens and sizes of each `clips` neighbours as one, with fewer tokens."""
        x, sizes = x.unflatten(0, (-1, clips)), sizes.unflatten(0, (-1, clips))
        first = self.first
        token, size = x[:, :, :first].mean(1), sizes[:, :, :first].sum(1)
        # order patches by place, so that those of even clips are compared with those of odd clips
        x, sizes = (of[:, :, first:].transpose(1, 2).flatten(1, 2) for of in (x, sizes))
        x, sizes = torch.cat([token, x], 1), torch.cat([size, sizes], 1)
        for kept, period in ((self.options.across, clips), (self.options.within, 2)):
            patches = x.shape[1] - first
            x, sizes = self.patches(x, sizes, patches - math.ceil(kept * patches), period)
        return x, sizes

    def patches(self, x: Tensor, sizes: Tensor, count: int, period: int) -> tuple[Tensor, Tensor]:
        """Merge `count` patches, and no class token; see `merged`."""
        first = self.first
        sources = torch.arange(x.shape[1] - first, device=x.device) % period % 2 == 0
        patches, sums = merged(x[:, first:], sizes[:, first:], sources, count)
        return torch.cat([x[:, :first], patches], 1), torch.cat([sizes[:, :first], sums], 1)

    def weigh(self, depth: int, attention: nn.Module, inputs: tuple, named: dict) -> tuple:
        """Return the arguments of attention, with the logarithm of sizes added to its scores."""
        x = inputs[0] if inputs else named["hidden_states"]
        mask = self.sizes[depth + 1].log()[:, None, None].to(x.dtype)  # [B, 1, 1, N]
        return inputs, named | {"attention_mask": mask}

    def spread(self, layer: nn.Module, inputs: tuple, output: Any) -> Any:
        """Return the tokens of clips for each of their frames, [V * F, N, D]."""
        x = output[0] if isinstance(output, tuple) else output
        _, slot = self.slots()
        x = x.unflatten(0, (len(slot), -1))
        clip = torch.arange(len(slot), device=x.device)[:, None]
        x = x[clip, slot // self.options.frames].flatten(0, 1)
        return (x, *output[1:]) if isinstance(output, tuple) else x


def factors(number: int) -> list[int]:
    """Return the prime factors of a number in ascending order: [2, 2, 3] for 12."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found


def merged(x: Tensor, sizes: Tensor, sources: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Merge the `count` sources most similar to another token into that token (Bolya et al. 2023,
    "Token Merging: Your ViT But Faster").

    A merged token is the mean of its parts, weighted by their sizes.

    Args:
        x: Tokens [B, N, D].
        sizes: [B, N], how many original tokens each one stands for.
        sources: [N], which tokens may be merged into one of the others.
        count: How many to merge; fewer if there are fewer sources, none if all tokens are sources.

    Returns:
        The tokens [B, N − count, D], sources first, and their sizes.
    """
    count = min(count, int(sources.sum())) if not sources.all() else 0
    if count <= 0:
        return x, sizes
    a, b = x[:, sources], x[:, ~sources]
    size_a, size_b = sizes[:, sources], sizes[:, ~sources]
    with torch.no_grad():
        units = (nn.functional.normalize(of.float(), dim=-1) for of in (a, b))
        alike, target = torch.einsum("bnd,bmd->bnm", *units).max(-1)
        order = alike.argsort(dim=1, descending=True, stable=True)
        gone, kept = order[:, :count], order[:, count:].sort(dim=1).values
        target = target.gather(1, gone)
    wide = (..., None)
    weighted = (a * size_a[wide].to(a.dtype)).gather(1, gone[wide].expand(-1, -1, x.shape[2]))
    total = size_b.scatter_add(1, target, size_a.gather(1, gone))
    sums = (b * size_b[wide].to(b.dtype)).scatter_add(
        1, target[wide].expand(-1, -1, x.shape[2]), weighted
    )
    means = sums / total[wide].to(x.dtype)
    rest = a.gather(1, kept[wide].expand(-1, -1, x.shape[2]))
    return torch.cat([rest, means], 1), torch.cat([size_a.gather(1, kept), total], 1)
