"""Which patches and which words a match rests on (the paper's Fig. 6), from gradient-weighted attention.

SDPA returns no attention weights, so they are computed again from each layer's queries and keys, taken by
hooks. Letters: N texts or frames, H heads, L tokens, D width, d width of a head, F frames, W words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPProcessor

from ..model import RetrievalModel
from ..patching import encoder_layers

HEAT, DIM = 0.75, 0.65  # how far the hottest patch, and what CLIP never saw, are covered


@dataclass(frozen=True)
class Explanation:
    """The words of a sentence as typed and the patches of F frames, each with its share in the match.

    word_weights [W] and patches [F, h, w] lie in [0, 1]; the largest is 1 unless all are 0. `cosines` [F] of
    the sentence with each frame. `cut`: the sentence was longer than the text tower takes; words it never
    saw weigh 0.
    """

    words: tuple[str, ...]
    word_weights: Tensor
    patches: Tensor
    cosines: Tensor
    cut: bool


@dataclass
class Attention:
    """One layer's attention: queries, keys, values and their weighted sum, each [N, L, D], heads abreast."""

    heads: int
    causal: bool
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    output: Tensor | None = None

    def weights(self) -> Tensor:
        """A = softmax(q k^T / sqrt(d)), [N, H, L, L]; in the causal text tower no token sees a later one."""
        query, key = self._split(self.query), self._split(self.key)
        logits = query @ key.mT * query.shape[-1] ** -0.5
        if self.causal:
            later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
            logits = logits.masked_fill(later, -torch.inf)
        return logits.softmax(-1)

    def gradient(self, output_gradient: Tensor) -> Tensor:
        """dy/dA [N, H, L, L] from dy/dO [N, L, D]: the output is O = A V, so dy/dA = dy/dO V^T."""
        return self._split(output_gradient) @ self._split(self.value).mT

    def _split(self, tensor: Tensor) -> Tensor:
        """[N, L, D] to float32 [N, H, L, d]."""
        return tensor.detach().float().unflatten(-1, (self.heads, -1)).transpose(1, 2)


def explain(
    model: RetrievalModel,
    text: str,
    frames: Sequence[Image.Image],
    weights: Tensor | None = None,
) -> Explanation:
    """What the cosine of a sentence with a picture, or with each frame of a clip, rests on (Fig. 6).

    The relevance of Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability for Interpreting
    Bi-Modal and Encoder-Decoder Transformers", eqs. 5 and 6, from gradient-weighted attention. Patches are
    read off at the class token, for the frame's own cosine; words at the token that ends the sentence, for
    the mean of the cosines, or for their sum by `weights` [F]. The model's active adapter acts.

    Raises ValueError for a blank sentence, no frames, and weights of another shape.
    """
    if not len(frames):
        raise ValueError("no frames were given; expected a picture, or the frames of a clip")
    if weights is None:
        weights = torch.full((len(frames),), 1 / len(frames))
    if weights.shape != (len(frames),):
        raise ValueError(f"weights must be [{len(frames)}] like the frames, not {list(weights.shape)}")
    ids, cut = model.tokenize([text])
    with model.acting(model.active, model.scale), torch.enable_grad():
        with watched(model.clip, "text") as text_layers:
            sentence = model.encode_text(ids).float()
        with watched(model.clip, "vision") as vision_layers:
            pictures = model.encode_images(frames).float()
        cosines = F.cosine_similarity(sentence, pictures)
        patches = relevance(vision_layers, cosines.sum())[:, 0, 1:]
        words = relevance(text_layers, weights.to(cosines) @ cosines)[0]
    tokenizer = model.processor.tokenizer
    end = ids[0].tolist().index(tokenizer.eos_token_id)
    spans = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"][1:end]
    names, word_weights = _merge(text, spans, words[end, 1:end])
    side = model.clip.config.vision_config.image_size // model.clip.config.vision_config.patch_size
    return Explanation(
        words=names,
        word_weights=_scaled(word_weights),
        patches=_scaled(patches.unflatten(1, (side, side)).cpu()),
        cosines=cosines.detach().cpu(),
        cut=bool(cut),
    )


@contextmanager
def watched(clip: nn.Module, tower: str) -> Iterator[list[Attention]]:
    """Inside, a forward of `tower` ("vision" | "text") fills in one `Attention` a layer; no hook is left.

    With gradients on, the outputs are part of the graph even where all of `clip` is frozen.
    """
    heads = getattr(clip.config, f"{tower}_config").num_attention_heads
    layers, handles = [], []
    try:
        for layer in encoder_layers(clip, tower):
            seen, sublayer = Attention(heads, causal=tower == "text"), layer.self_attn
            layers.append(seen)
            for name in ("query", "key", "value"):
                projection = getattr(sublayer, f"{name[0]}_proj")
                handles.append(projection.register_forward_hook(partial(_keep, seen, name)))
            handles.append(sublayer.out_proj.register_forward_pre_hook(partial(_keep_output, seen)))
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def relevance(layers: Sequence[Attention], y: Tensor) -> Tensor:
    """R [N, L, L]: how much token i of the last layer rests on token j of the first, for the score `y`.

    R starts as 1 and becomes R + A_bar R at each layer, with A_bar = mean over heads of (dy/dA * A)+.
    """
    outputs = [layer.output for layer in layers]
    gradients = torch.autograd.grad(y, outputs, retain_graph=True)
    n, length, _ = outputs[0].shape
    r = torch.eye(length, device=y.device).expand(n, -1, -1)
    for layer, gradient in zip(layers, gradients, strict=True):
        a_bar = (layer.gradient(gradient) * layer.weights()).clamp_min(0).mean(1)
        r = r + a_bar @ r
    return r


def overlay(picture: Image.Image, patches: Tensor, processor: CLIPProcessor) -> Image.Image:
    """The picture in grey under its heat map: `patches` [h, w] in [0, 1], clear where cold, yellow where hot.

    The map lies where CLIP looked; what its centre crop left out is dimmed. A smaller copy of the picture
    that was explained will do.
    """
    picture = picture.convert("RGB").convert("L").convert("RGB")  # so that all colour is heat
    left, top, right, bottom = box = crop_box(picture.size, processor)
    small = Image.fromarray(patches.numpy(force=True).astype(np.float32))
    heat = np.asarray(small.resize((right - left, bottom - top), Image.Resampling.BILINEAR)).clip(0, 1)
    seen = np.asarray(picture.crop(box))
    colours = colormaps["inferno"](heat)[..., :3] * 255
    cover = HEAT * heat[..., None]
    hot = Image.fromarray((seen * (1 - cover) + colours * cover).round().astype(np.uint8))
    shown = Image.blend(picture, Image.new("RGB", picture.size, "grey"), DIM)
    shown.paste(hot, (left, top))
    return shown


def crop_box(size: tuple[int, int], processor: CLIPProcessor) -> tuple[int, int, int, int]:
    """The part of a picture of `size` (width, height) that CLIP sees: left, top, right, bottom in pixels."""
    images = processor.image_processor
    if not images.do_center_crop:
        return 0, 0, *size
    target, crop = dict(images.size), dict(images.crop_size)
    starts, ends = [], []
    for side, name in zip(size, ("width", "height"), strict=True):
        short = target.get("shortest_edge")
        zoom = short / min(size) if short else target[name] / side
        seen = max(1, round(crop[name] / zoom))
        starts.append(round((side - seen) / 2))
        ends.append(starts[-1] + seen)
    return *starts, *ends


def _keep(seen: Attention, name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
    setattr(seen, name, output)


def _keep_output(seen: Attention, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """The first layer's output depends on nothing that is trained: there the graph begins."""
    output = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
    seen.output = output
    return (output,)


def _merge(text: str, spans: Sequence[tuple[int, int]], weights: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Words, as blanks part them, and the sum [W] of their tokens' weights; `spans` are places in `text`."""
    found = list(re.finditer(r"\S+", text))
    owner = {place: word for word, match in enumerate(found) for place in range(*match.span())}
    merged = torch.zeros(len(found))
    for (_, stop), weight in zip(spans, weights.tolist(), strict=True):
        if stop - 1 in owner:  # a token may begin with the blank before its word, or be a blank
            merged[owner[stop - 1]] += weight
    return tuple(match.group() for match in found), merged


def _scaled(weights: Tensor) -> Tensor:
    """Divided by the largest, unless all are 0."""
    return weights / weights.max().clamp_min(torch.finfo(weights.dtype).tiny)
