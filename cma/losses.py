"""The contrastive loss that trains the adapters."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_cross_entropy(logits: Tensor, item_ids: Sequence | Tensor | None = None) -> Tensor:
    """Mean of the cross-entropies of logits [N, N] (text i belongs to item i) along both axes, as in CLIP.

    With `item_ids` [N], pairs off the diagonal that show the same item are no negatives: their logits become
    -inf. Returns a float32 scalar. Raises ValueError if `logits` is not square or has another number of ids.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits must be [N, N], not {list(logits.shape)}")
    logits = logits.float()
    if item_ids is not None:
        ids = item_ids.tolist() if isinstance(item_ids, Tensor) else list(item_ids)
        if len(ids) != len(logits):
            raise ValueError(f"{len(ids)} item_ids for {len(logits)} pairs")
        first = {item: index for index, item in reversed(list(enumerate(ids)))}
        group = torch.tensor([first[item] for item in ids], device=logits.device)
        same = (group[:, None] == group).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
