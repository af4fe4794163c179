"""The contrastive loss that trains the adapters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Ids = Sequence | Tensor | None


def symmetric_cross_entropy(logits: Tensor, item_ids: Ids = None, caption_ids: Ids = None) -> Tensor:
    """Mean of the cross-entropies of logits [N, N] (text i belongs to item i) along both axes, as in CLIP.

    Two pairs with the same entry in `item_ids` [N] show the same item, with the same entry in `caption_ids`
    [N] they have the same caption. Such pairs are no negatives of each other: off the diagonal, their logits
    become -inf. Returns a float32 scalar. Raises ValueError if `logits` is not square, or for another number
    of ids.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits must be [N, N], not {list(logits.shape)}")
    logits = logits.float()
    for name, ids in (("item_ids", item_ids), ("caption_ids", caption_ids)):
        if ids is None:
            continue
        ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if len(ids) != len(logits):
            raise ValueError(f"{len(ids)} {name} for {len(logits)} pairs")
        numbers = {one: number for number, one in enumerate(dict.fromkeys(ids))}
        group = torch.tensor([numbers[one] for one in ids], device=logits.device)
        # The diagonal stays, so each row and column keeps a finite logit and the gradient is never NaN.
        same = (group[:, None] == group).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
