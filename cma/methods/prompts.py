"""Methods that add learnt tokens to the input of the towers' layers: CoOp, VPT, VL-Prompt, MaPLe.

In a caption they come after its start token (SigLIP has none), in a picture after its patches
(SigLIP pools them too). `prompt(i)` [n, D] gives the tokens at the input of layer i. Later layers
take the tokens as the layer before them returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..families import Backbone, Family, family_of
from ..files import checked_dataclass
from ..method import Method
from ..patching import encoder_layers

if TYPE_CHECKING:
    from ..model import RetrievalModel

Prompt = Callable[[int], Tensor]


@checked_dataclass
class ContextOptions:
    """The context of CoOp.

    Args:
        tokens: how many context vectors come before a caption.
        init_std: the standard deviation of their initial values.
    """

    tokens: PositiveInt = 4
    init_std: PositiveFloat = 0.02


@checked_dataclass
class PromptOptions:
    """The prompts of VPT, VL-Prompt and MaPLe.

    Args:
        tokens: how many prompts a layer has.
        depth: how many layers, counted from the first, have their own; None: all.
        init_std: the standard deviation of their initial values.
    """

    tokens: PositiveInt = 5
    depth: PositiveInt | None = None
    init_std: PositiveFloat = 0.02


class Prompted(Method):
    """Learnt tokens for one or both `towers`; parameters `vision` and `text` are [depth, n, D]."""

    Options: ClassVar[type] = PromptOptions
    scales = False  # a token is either there or not
    towers: tuple[str, ...] = ()
    text: nn.Parameter

    def __init__(self, model: RetrievalModel, options: PromptOptions | ContextOptions) -> None:
        super().__init__(model, options)
        text = model.clip.config.text_config
        reads = model.family.starts + 2  # at least a word and the end
        if "text" in self.towers and options.tokens + reads > text.max_position_embeddings:
            max_tokens = text.max_position_embeddings - reads
            raise ValueError(
                f"{self.NAME}: tokens={options.tokens} leave no word; expected at most {max_tokens}"
            )
        for tower in self.towers:
            values = (
                torch.randn(self.depth(tower), options.tokens, self.widths[tower])
                * options.init_std
            )
            self.register_parameter(tower, nn.Parameter(values))

    def depth(self, tower: str) -> int:
        """Return how many layers of a tower get prompts. Raises ValueError if it has fewer."""
        layers = self.layers[tower]
        asked = getattr(self.options, "depth", 1)
        if asked is not None and asked > layers:
            raise ValueError(
                f"{self.NAME}: depth={asked}, but the {tower} tower has {layers} layers"
            )
        return asked or layers

    def prompt(self, tower: str, layer: int) -> Tensor:
        """Return the prompts [n, D] of one layer."""
        return getattr(self, tower)[layer]

    def install(self, clip: nn.Module, scale: float) -> Iterator[RemovableHandle]:
        """Add the prompts of each tower that has any."""
        for tower in self.towers:
            add = prompt_text if tower == "text" else prompt_vision
            yield from add(
                clip, partial(self.prompt, tower), self.depth(tower), self.options.tokens
            )


class CoOp(Prompted):
    """Zhou et al. 2022, "Learning to Prompt for Vision-Language Models": learnt word vectors come
    before every caption (4 x 512, 0.002M), only at the input of the text tower. The position table
    stays as it is, so a caption that no longer fits loses its last words.
    """

    NAME = "CoOp"
    Options = ContextOptions
    towers = ("text",)


class VPT(Prompted):
    """Jia et al. 2022, "Visual Prompt Tuning", deep: at the input of every vision layer, new tokens
    join the patches and replace those of the layer before (12 x 5 x 768, 0.05M). The text tower is
    CLIP's.
    """

    NAME = "VPT"
    towers = ("vision",)


class VLPrompt(Prompted):
    """Deep prompts in both towers, not connected: VPT and its counterpart for text (0.08M), which
    Khattak et al. 2023, "MaPLe: Multi-modal Prompt Learning", call independent vision-language
    prompting.
    """

    NAME = "VL-Prompt"
    towers = ("vision", "text")


class MaPLe(Prompted):
    """Khattak et al. 2023, "MaPLe: Multi-modal Prompt Learning": deep text prompts, and the vision
    prompts of the same layer are a linear function of them (12 x (512 -> 768), 4.8M with 5 tokens):
    the towers are tied by their prompts. In towers of unequal depth, as many layers get prompts as
    the shallower one has.
    """

    NAME = "MaPLe"
    towers = ("text",)

    def __init__(self, model: RetrievalModel, options: PromptOptions) -> None:
        super().__init__(model, options)
        pair = self.widths["text"], self.widths["vision"]
        self.coupling = nn.ModuleList(nn.Linear(*pair) for _ in range(self.depth("text")))

    def depth(self, tower: str) -> int:
        """Return how many layers get prompts, the same number for both towers."""
        return min(super(MaPLe, self).depth(each) for each in self.layers)

    def install(self, clip: nn.Module, scale: float) -> Iterator[RemovableHandle]:
        """Add the text prompts, and the vision prompts that the coupling makes of them."""
        yield from super().install(clip, scale)
        yield from prompt_vision(clip, self.coupled, self.depth("vision"), self.options.tokens)

    def coupled(self, layer: int) -> Tensor:
        """Return the vision prompts [n, D] of one layer."""
        return self.coupling[layer](self.text[layer])


def prompt_vision(
    clip: Backbone, prompt: Prompt, depth: int, count: int
) -> Iterator[RemovableHandle]:
    """Put `count` prompts after the patches in each of the first `depth` layers."""
    for i, layer in enumerate(encoder_layers(clip, "vision")[:depth]):
        yield layer.register_forward_pre_hook(partial(_behind, prompt, i, count))


def prompt_text(
    clip: Backbone, prompt: Prompt, depth: int, count: int
) -> Iterator[RemovableHandle]:
    """Put `count` prompts after the start token of a caption in each of the first `depth` layers.

    Filler token ids keep their places, so that the tower itself handles mask, positions and
    pooling.
    """
    family = family_of(clip.config)
    at = slice(family.starts, family.starts + count)
    yield clip.text_model.register_forward_pre_hook(
        partial(_make_room, family, at), with_kwargs=True
    )
    tokens = clip.text_model.get_input_embeddings()
    yield tokens.register_forward_hook(partial(_embedded, partial(prompt, 0), at))
    for i, layer in enumerate(encoder_layers(clip, "text")[1:depth], start=1):
        yield layer.register_forward_pre_hook(partial(_within, prompt, i, at))


def _behind(prompt: Prompt, i: int, count: int, layer: nn.Module, inputs: tuple) -> tuple:
    x = inputs[0] if i == 0 else inputs[0][:, :-count]  # [V, L, D]
    return torch.cat([x, prompt(i).to(x.dtype).expand(len(x), -1, -1)], dim=1), *inputs[1:]


def _within(prompt: Prompt, i: int, at: slice, layer: nn.Module, inputs: tuple) -> tuple:
    return _embedded(partial(prompt, i), at, layer, (), inputs[0]), *inputs[1:]


def _embedded(prompt: Callable, at: slice, module: nn.Module, inputs: tuple, x: Tensor) -> Tensor:
    """Return tokens [T, L, D] with the prompts in the places that `_make_room` has made."""
    prompts = prompt().to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, : at.start], prompts, x[:, at.stop :]], dim=1)


def _make_room(
    family: Family, at: slice, tower: Backbone, inputs: tuple, named: dict
) -> tuple[tuple, dict]:
    """Insert filler ids into `input_ids` [T, L] at the places `at`; truncate to the context, but
    keep the end token.
    """
    ids = named["input_ids"]
    config = tower.config
    count = at.stop - at.start
    max_tokens = config.max_position_embeddings
    ends = family.ends(config, ids)[:, None]
    filler = torch.zeros_like(ids[:, :1]).expand(-1, count) + (config.eos_token_id == 0)
    longer = torch.cat([ids[:, : at.start], filler, ids[:, at.start :]], dim=1)[:, :max_tokens]
    room = {
        "input_ids": longer.scatter(
            1, (ends + count).clamp(max=len(longer[0]) - 1), ids.gather(1, ends)
        )
    }
    if (mask := named.get("attention_mask")) is not None:
        room["attention_mask"] = torch.cat([torch.ones_like(filler), mask], dim=1)[:, :max_tokens]
    return inputs, named | room
