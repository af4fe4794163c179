"""Similarity of texts and visuals: cosine to the mean frame, or to frames weighted by the text.

Letters in shapes: T texts, V items, F frames, D width. Embeddings are un-normalised. Arithmetic is
float32, and float64 where frames cancel each other. An image is an item of one frame, for which
both similarities are the plain cosine.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import ReadConfig

# elements of a [V, F, T] block held at once; larger blocks do not fit the cache and are slower
BLOCK = 2**19
TINY = torch.finfo(torch.float32).tiny
# If |pooled|^2 is below this share of the largest frame's, frames cancel each other, and float32
# keeps too few digits of the rest.
CANCELLED = 1e-4


def compare(text: Tensor, frames: Tensor, mask: Tensor | None, config: ReadConfig) -> Tensor:
    """Cosine [T, V] of text [T, D] and frames [V, F, D], pooled by `config.similarity`."""
    one_frame = frames.shape[1:2] == (1,)
    if config.similarity == "mean_pooled" or one_frame:
        return mean_pooled(text, frames, mask)
    return text_conditioned(text, frames, mask, config.temperature)


def mean_pooled(text: Tensor, frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the cosine [T, V] of each text with the mean of each item's frames.

    Args:
        text: embeddings [T, D], un-normalised.
        frames: embeddings [V, F, D], un-normalised.
        mask: [V, F], 0 for padding.

    Raises:
        ValueError: shapes do not match, or all frames of an item are masked (its index is named).

    >>> import torch
    >>> from cma.similarity import mean_pooled
    >>> frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    >>> mean_pooled(torch.tensor([[3.0, 0.0]]), frames, torch.tensor([[1, 1], [1, 0]]))
    tensor([[0.7071, 1.0000]])
    """
    with torch.autocast(text.device.type, enabled=False):
        text, frames, mask = _prepare(text, frames, mask)
        pooled = frames.sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(text, dim=-1) @ F.normalize(pooled, dim=-1).T


def text_conditioned(
    text: Tensor, frames: Tensor, mask: Tensor | None = None, temperature: float = 5.0
) -> Tensor:
    """Return the cosine [T, V] of each text with the frames of each item, pooled by that text.

    For a text t, frames v_f have the weights w = softmax_f(t . v_f / temperature). The pooled
    frames [T, V, D] are never built: with S = t . v_f and the Gram matrix G = v v^T of an item, the
    cosine is `sum_f(w S) / (|t| sqrt(w G w))`. Only where frames nearly cancel each other do we
    build them, in float64.

    Args:
        text: embeddings [T, D], un-normalised.
        frames: embeddings [V, F, D], un-normalised.
        mask: [V, F], 0 for padding.
        temperature: the paper's τ; a lower one prefers the best frames more.

    Raises:
        ValueError: shapes do not match, or all frames of an item are masked (its index is named).

    >>> import torch
    >>> from cma.similarity import text_conditioned
    >>> frames = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> text_conditioned(torch.tensor([[3.0, 0.0]]), frames, temperature=0.5)  # w nearly (1, 0)
    tensor([[1.0000]])
    """
    with torch.autocast(text.device.type, enabled=False):
        text, frames, mask = _prepare(text, frames, mask)
        size = max(1, BLOCK // max(1, len(text) * frames.shape[1]))
        # Apple's GPUs have no float64
        exact = torch.float32 if frames.device.type == "mps" else torch.float64
        cosines = []
        for part, own in zip(frames.split(size), mask.split(size), strict=True):
            # [V, F, T]: as [V, T, F], the softmax would take longer than the product
            scores = part @ text.T
            weights = (scores / temperature).masked_fill(~own[..., None], -torch.inf).softmax(1)
            dots = (weights * scores).sum(1)  # t . pooled, [V, T]
            if len(text) == 1 and not scores.requires_grad:
                # in a search, pooled frames are smaller than Gram matrices
                squared = (weights.mT @ part).square().sum(2)  # |pooled|^2, [V, T]
                largest = part.norm(dim=2).square()  # |v_f|^2, [V, F]
            else:  # converted twice, so that gradients keep their last bit
                gram = part.to(exact) @ part.to(exact).mT  # [V, F, F]
                squared = ((gram @ weights.to(exact)) * weights).sum(1)
                largest = gram.diagonal(dim1=1, dim2=2)
            lengths = squared.clamp_min(TINY).sqrt() * text.to(exact).norm(dim=-1)
            found = (dots / lengths.clamp_min(TINY)).float()
            cancelled = squared < CANCELLED * largest.amax(1, keepdim=True)
            for item in cancelled.any(1).nonzero().flatten().tolist():
                built = _built(text, part[item, own[item]], temperature).to(found)
                found[item] = torch.where(cancelled[item], built, found[item])
            cosines.append(found.T)
        return torch.cat(cosines, dim=1)


def _built(text: Tensor, frames: Tensor, temperature: float) -> Tensor:
    """Cosine [T] of text [T, D] with one item's frames [F, D], pooled as defined, in float64."""
    text = text.cpu().double()  # on the CPU, because Apple's GPUs have no float64
    frames = frames.cpu().double()
    pooled = (text @ frames.T / temperature).softmax(1) @ frames  # [T, D]
    lengths = pooled.norm(dim=-1).clamp_min(TINY) * text.norm(dim=-1)
    return (text * pooled).sum(1) / lengths.clamp_min(TINY)


def _prepare(text: Tensor, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check all; return float32 text, float32 frames with zeros for padding, and a boolean mask."""
    if text.ndim != 2 or frames.ndim != 3 or text.shape[1] != frames.shape[2]:
        raise ValueError(
            f"expected text [T, D], frames [V, F, D], not {[*text.shape]}, {[*frames.shape]}"
        )
    mask = torch.ones(frames.shape[:2], device=frames.device) if mask is None else mask
    if mask.shape != frames.shape[:2]:
        raise ValueError(
            f"mask must be {list(frames.shape[:2])} like the frames, not {list(mask.shape)}"
        )
    mask = mask.to(frames.device).bool()
    if not (seen := mask.any(1)).all():
        empty = (~seen).nonzero().flatten().tolist()
        raise ValueError(f"items {empty[:5]} ({len(empty)} of {len(mask)}): every frame is masked")
    frames = frames.float()
    if not mask.all():  # a copy of all frames takes as long as comparing them with a text
        frames = frames.masked_fill(~mask[..., None], 0.0)
    return text.float(), frames, mask
