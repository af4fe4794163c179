"""The contrastive losses that train the adapters: CLIP's, and SigLIP's as an option."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Ids = Sequence | Tensor | None


def symmetric_cross_entropy(
    logits: Tensor, item_ids: Ids = None, caption_ids: Ids = None
) -> Tensor:
    """Return the mean cross-entropy of logits [N, N] along both axes, as in CLIP.

    Pairs of the same item, or with the same caption, do not count as negatives for each other: off
    the diagonal, their logits become -inf.

    Args:
        logits: [N, N]; text i belongs to item i.
        item_ids: [N], equal for pairs that show the same item.
        caption_ids: [N], equal for pairs that have the same caption.

    Returns:
        The loss, a float32 scalar.

    Raises:
        ValueError: `logits` is not square, or there are not N ids.

    >>> import torch
    >>> from cma.losses import symmetric_cross_entropy
    >>> symmetric_cross_entropy(torch.zeros(2, 2))  # log 2: it guesses
    tensor(0.6931)
    >>> symmetric_cross_entropy(torch.zeros(2, 2), item_ids=["a", "a"])  # no negatives
    tensor(0.)
    """
    logits, same = _prepare(logits, item_ids, caption_ids)
    # The diagonal stays, so each row and column keeps a finite logit and the gradient is never NaN.
    logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def sigmoid(logits: Tensor, item_ids: Ids = None, caption_ids: Ids = None) -> Tensor:
    """Return the mean over texts of -sum_j log sigmoid(z_ij logits_ij); z is 1 for i = j, else -1.

    Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"; logits = scale ·
    cosine + bias. Off the diagonal, pairs of one item or caption are left out: they are neither
    negatives nor positives. The rest is as in `symmetric_cross_entropy`.
    """
    logits, same = _prepare(logits, item_ids, caption_ids)
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(signs * logits).masked_fill(same, 0.0).sum() / len(logits)


def _prepare(logits: Tensor, item_ids: Ids, caption_ids: Ids) -> tuple[Tensor, Tensor]:
    """Check all; return float32 logits and a mask [N, N] of other pairs of one item or caption."""
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or not len(logits):
        raise ValueError(f"logits must be [N, N], not {list(logits.shape)}")
    same = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    for name, ids in (("item_ids", item_ids), ("caption_ids", caption_ids)):
        if ids is None:
            continue
        ids = [one.item() if isinstance(one, Tensor) else one for one in ids]
        if len(ids) != len(logits):
            raise ValueError(f"{len(ids)} {name} for {len(logits)} pairs")
        last = {one: place for place, one in enumerate(ids)}
        group = torch.tensor([last[one] for one in ids], device=logits.device)
        same |= group[:, None] == group
    return logits.float(), same.fill_diagonal_(False)
