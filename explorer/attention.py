"""Explain a match by gradient-weighted attention: which patches and words matter most (Fig. 6).

Letters: N texts or frames, H heads, L tokens, F frames, W words, h and w rows and columns of
patches.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, ProcessorMixin

from cma.families import family_of, tower_of
from cma.media import to_pixels
from cma.model import RetrievalModel
from cma.patching import encoder_layers, parts

HEAT = 0.85  # opacity of the colour on the hottest patch
DIM = 0.65  # opacity of the grey where CLIP saw nothing


@dataclass(frozen=True)
class Explanation:
    """How much each word of a sentence and each patch of F frames contributes to their match.

    `words` are as typed. `word_weights` [W] and `patches` [F, h, w] lie in [0, 1]; the largest is 1
    unless all are 0. Words beyond the text tower's limit have weight 0. `cosines` [F] are of the
    sentence with each frame.
    """

    words: tuple[str, ...]
    word_weights: Tensor
    patches: Tensor
    cosines: Tensor


def explain(
    model: RetrievalModel,
    text: str,
    frames: Sequence[Image.Image],
    weights: Tensor | None = None,
    max_words: int | None = None,
) -> Explanation:
    """Return how much each word and patch contributes to a sentence's cosine with frames.

    Source: Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability for Interpreting
    Bi-Modal and Encoder-Decoder Transformers", eqs. 5 and 6, with the active adapter. The weights
    of patches are their relevance to the class token (SigLIP: to its pooling head, mean of heads),
    for the cosine of their own frame. The weights of words are their relevance to the token that
    embeds the text (CLIP: its end token), for the mean cosine, or for the sum weighted by `weights`
    [F]. Only the first `max_words` tokens count. Raises ValueError for a blank sentence, no frames,
    weights of another shape, an adapter that adds tokens, or a slow tokenizer.
    """
    if not len(frames):
        raise ValueError("no frames were given; expected a picture, or the frames of a clip")
    weights = torch.full((len(frames),), 1 / len(frames)) if weights is None else weights
    if weights.shape != (len(frames),):
        raise ValueError(
            f"weights must be [{len(frames)}] like the frames, not {list(weights.shape)}"
        )
    ids, _ = model.tokenize([text], max_words)
    tokenizer, family = model.processor.tokenizer, model.family
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} cannot map tokens to words; use a fast tokenizer"
        )
    side = model.clip.config.vision_config.image_size // model.clip.config.vision_config.patch_size
    with model.using(model.active, model.scale), torch.enable_grad():
        with watched(model.clip, "text") as text_attention:
            sentence = model.encode_text(ids).float()
        with watched(model.clip, "vision") as vision_attention:
            pictures = model.encode_videos(
                to_pixels(frames, model.processor.image_processor)[None]
            )[0].float()
        lengths = vision_attention[0].shape[-1], text_attention[0].shape[-1]
        if lengths != (side**2 + family.class_tokens, ids.shape[1]):
            raise ValueError(
                f"{model.active!r} adds its own tokens, which are neither words nor patches"
            )
        cosines = F.cosine_similarity(sentence, pictures)
        pools = vision_attention[model.layers["vision"] :]  # SigLIP's
        patches = relevance(vision_attention[: model.layers["vision"]], cosines.sum())
        patches = (pools[0].float() @ patches)[:, 0] if pools else patches[:, 0, 1:]
        tokens = relevance(text_attention, weights.to(cosines) @ cosines)[0]
    first, end = family.starts, ids[0].tolist().index(family.end_of(tokenizer))
    seen = text.lower() if family.lower else text
    spans = tokenizer(seen, return_offsets_mapping=True, verbose=False)["offset_mapping"][first:end]
    row = {"end": end, "last": -1, "first": 0}[family.pooled]
    word_weights = by_word(seen, spans, tokens[row, first:end])
    patches = scaled(patches.unflatten(1, (side, side)).cpu())
    return Explanation(tuple(text.split()), scaled(word_weights), patches, cosines.detach().cpu())


@contextmanager
def watched(clip: PreTrainedModel, tower: str) -> Iterator[list[Tensor]]:
    """Yield a list that a forward of `tower` ("vision" | "text") fills with each layer's attention.

    Each is [N, H, L, L], and with gradients on it is part of a graph. If an attention pools the
    patches (SigLIP), its weights [N, 1, L] come last, and are not part of a graph.
    """
    attention, config = [], clip.config
    modules = [module for of, _, module in parts(clip, "attention") if of == tower]
    if tower == "vision" and not family_of(config).class_tokens:
        pooling: Any = tower_of(clip, tower)
        modules.append(pooling.head.attention)
    kernels = {
        name: getattr(config, name)._attn_implementation
        for name in ("text_config", "vision_config")
    }
    with ExitStack() as stack:
        stack.callback(clip.set_attn_implementation, kernels)
        clip.set_attn_implementation("eager")  # the only kernel that returns the attention
        # no gradient is needed before the first layer
        begin = encoder_layers(clip, tower)[0].register_forward_pre_hook
        stack.enter_context(begin(lambda _, inputs: (inputs[0].requires_grad_(), *inputs[1:])))
        for module in modules:
            keep = module.register_forward_hook(lambda _, __, output: attention.append(output[1]))
            stack.enter_context(keep)
        yield attention


def relevance(attention: Sequence[Tensor], y: Tensor) -> Tensor:
    """Return R [N, L, L]: how much input token j contributes to output token i, for score `y`.

    R starts as the identity; each layer adds A_bar R to it, with A_bar = mean over heads of (dy/dA
    * A)+.
    """
    gradients = torch.autograd.grad(y, attention, retain_graph=True)
    r = torch.eye(attention[0].shape[-1], device=y.device).expand(len(attention[0]), -1, -1)
    for weights, gradient in zip(attention, gradients, strict=True):
        a_bar = (gradient.float() * weights.detach().float()).clamp_min(0).mean(1)
        r = r + a_bar @ r
    return r


def by_word(text: str, spans: Sequence[tuple[int, int]], weights: Tensor) -> Tensor:
    """Return each word's weight [W], the sum of its tokens' weights.

    `spans`: the tokens' places.
    """
    sums = torch.zeros(len(text.split()))
    for (_, end), weight in zip(spans, weights.tolist(), strict=True):
        # a token may begin with the space before its word, or be a space
        if text[:end][-1:].strip():
            sums[len(text[:end].split()) - 1] += weight
    return sums


def overlay(picture: Image.Image, patches: Tensor, processor: ProcessorMixin) -> Image.Image:
    """Draw a heat map of `patches` [h, w] on the grey picture: violet to yellow, dim where CLIP saw
    nothing.
    """
    picture = picture.convert("RGB").convert("L").convert("RGB")  # so that only heat has colour
    left, top, right, bottom = box = crop_box(picture.size, processor)
    small = Image.fromarray(patches.numpy(force=True).astype(np.float32))
    large = small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    heat = np.asarray(large).clip(0, 1)
    colours = Image.fromarray(colormaps["plasma"](heat, bytes=True)).convert("RGB")
    cover = 255 * HEAT * heat**0.6  # so that even low heat is visible
    mask = Image.fromarray(cover.round().astype(np.uint8))
    hot = Image.composite(colours, picture.crop(box), mask)
    shown = Image.blend(picture, Image.new("RGB", picture.size, "grey"), DIM)
    shown.paste(hot, (left, top))
    return shown


def crop_box(size: tuple[int, int], processor: ProcessorMixin) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) that CLIP sees of a picture of `size` (w, h)."""
    images = processor.image_processor
    if not images.do_center_crop:
        return 0, 0, *size
    target, crop = dict(images.size), dict(images.crop_size)
    spans = []
    for name, side in zip(("width", "height"), size, strict=True):
        short = target.get("shortest_edge")
        zoom = short / min(size) if short else target[name] / side
        seen = max(1, round(crop[name] / zoom))
        first = round((side - seen) / 2)
        spans.append((first, first + seen))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def scaled(weights: Tensor) -> Tensor:
    """Divide the weights by the largest one, unless all are 0."""
    return weights / weights.max().clamp_min(torch.finfo(weights.dtype).tiny)
