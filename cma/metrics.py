"""How well the right items rank: recall at k, median and mean rank, and their bootstrap intervals.

Letters: T texts, V items. Ties count against the model: rank = 1 + wrong candidates that score better + wrong
candidates that score the same, so a constant score finds nothing. Recall is in %; MdR is the median rank, the
mean of the middle two for an even number; MnR is the mean.
"""

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**24  # elements of the similarity compared at once
LEVEL = 0.95  # of the bootstrap intervals


def retrieval_metrics(similarity: Tensor, text_to_item: Tensor, visual_to_text: str = "captions") -> dict:
    """R@1, R@5, R@10, MdR and MnR in both directions, and mR, the mean of the six recalls.

    similarity [T, V]; text_to_item [T]: the item each text belongs to, any number of texts to an item.
    visual_to_text: "captions" ranks an item's best caption among all captions (images), "items" ranks the
    items by their best caption (MSVD, VATEX). Raises ValueError for a NaN (its position is named),
    an index out of range, and an item without captions (`ranks` accepts it as a distractor).
    """
    result = {
        "text_to_visual": summary(ranks(similarity, text_to_item)),
        "visual_to_text": summary(visual_ranks(similarity, text_to_item, visual_to_text)),
    }
    recalls = [value for side in result.values() for name, value in side.items() if name.startswith("R@")]
    return result | {"mR": sum(recalls) / len(recalls)}


def summary(ranks: Tensor | np.ndarray) -> dict[str, float]:
    """R@1, R@5 and R@10 in %, MdR and MnR of a set of ranks."""
    return {name: _metric(_array(ranks), name) for name in ("R@1", "R@5", "R@10", "MdR", "MnR")}


def ranks(similarity: Tensor, text_to_item: Tensor) -> Tensor:
    """Rank [T] of each text's item among all V items; an item without texts is one more wrong candidate."""
    similarity, owner = _checked(similarity, text_to_item)
    right = similarity.gather(1, owner[:, None])  # [T, 1]
    size = max(1, BLOCK // similarity.shape[1])
    pairs = zip(similarity.split(size), right.split(size), strict=True)
    return torch.cat([(block >= own).sum(1) for block, own in pairs])  # the right item itself is the 1


def visual_ranks(similarity: Tensor, text_to_item: Tensor, mode: str = "captions") -> Tensor:
    """Rank [V] of each item's own captions; `mode` is the `visual_to_text` of `retrieval_metrics`."""
    similarity, owner = _checked(similarity, text_to_item)
    if mode not in ("captions", "items"):
        raise ValueError(f"visual_to_text must be 'captions' or 'items', not {mode!r}")
    count = torch.bincount(owner, minlength=similarity.shape[1])
    if len(bare := (count == 0).nonzero().flatten().tolist()):
        raise ValueError(f"items {bare[:5]} ({len(bare)} of {len(count)}) have no captions to be found by")
    found, owner = [], owner[:, None]
    for items in torch.arange(len(count), device=owner.device).split(max(1, BLOCK // len(similarity))):
        scores = similarity[:, items]  # [T, block]
        if mode == "captions":
            best = scores.masked_fill(owner != items, -torch.inf).amax(0)
            found.append(1 + ((scores >= best) & (owner != items)).sum(0))
        else:
            best = scores.new_full((len(count), len(items)), -torch.inf)  # [V, block]
            best.scatter_reduce_(0, owner.expand_as(scores), scores, "amax")
            found.append((best >= best.gather(0, items[None])).sum(0))
    return torch.cat(found)


def bootstrap_interval(
    ranks: Tensor, query_to_item: Tensor, metric: str = "R@1", samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of "R@k", "MdR" or "MnR" when items are drawn anew, each with all its queries.

    ranks [T]; query_to_item [T]: the item of each query. Drawing single queries would give too narrow an
    interval, because queries of one item are not independent. Raises ValueError for an unknown metric.
    """
    return _bootstrap([ranks], query_to_item, metric, samples, seed)[1:]


def bootstrap_difference(
    one: Tensor, other: Tensor, query_to_item: Tensor, metric: str = "R@1", samples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """(one − other, low, high) of a metric, from two models' ranks [T] of the same queries.

    Items are drawn for both models at once, so what is hard for both cancels out: this is narrower and fairer
    than comparing two intervals of `bootstrap_interval`. Raises ValueError for ranks of different length.
    """
    return _bootstrap([one, other], query_to_item, metric, samples, seed)


def verdict(difference: tuple[float, float, float], metric: str = "R@1") -> str:
    """A paired difference in words, such as `+3.5 points of R@1 [+1.0, +6.0]: better`.

    difference: (one − other, low, high) of `bootstrap_difference`, for a metric in % where more is better.
    It is "better" or "worse" if the interval, as printed, is on one side of 0, or "no clear difference".
    """
    gain, low, high = (round(value, 1) + 0.0 for value in difference)  # −0.0 becomes 0.0
    word = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{gain:+.1f} points of {metric} [{low:+.1f}, {high:+.1f}]: {word}"


def _bootstrap(
    ranks: list[Tensor], query_to_item: Tensor, metric: str, samples: int, seed: int
) -> tuple[float, float, float]:
    """(value, low, high) of the metric of the first ranks, less that of the second if there are any."""
    ranks, owner = [_array(one) for one in ranks], _array(query_to_item)
    if {one.shape for one in ranks} != {owner.shape} or owner.ndim != 1 or not len(owner):
        shapes = [list(one.shape) for one in (*ranks, owner)]
        raise ValueError(f"expected ranks of the same queries and as many item indices, not {shapes}")
    _, owner = np.unique(owner, return_inverse=True)
    items, rng = owner.max() + 1, np.random.default_rng(seed)

    def value(counts: np.ndarray | int = 1) -> float:
        first, *second = (_metric(np.repeat(one, counts), metric) for one in ranks)
        return first - sum(second)

    draws = (np.bincount(rng.integers(items, size=items), minlength=items)[owner] for _ in range(samples))
    low, high = np.quantile([value(drawn) for drawn in draws], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value(), float(low), float(high)


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(values).cpu().numpy()


def _metric(ranks: np.ndarray, name: str) -> float:
    if average := {"MdR": np.median, "MnR": np.mean}.get(name):
        return float(average(ranks))
    if name.startswith("R@") and name[2:].isdigit():
        return float(100 * np.mean(ranks <= int(name[2:])))
    raise ValueError(f"unknown metric {name!r}; expected 'R@k', 'MdR' or 'MnR'")


def _checked(similarity: Tensor, text_to_item: Tensor) -> tuple[Tensor, Tensor]:
    similarity = torch.as_tensor(similarity).detach()
    owner = torch.as_tensor(text_to_item, device=similarity.device)
    if similarity.ndim != 2 or not similarity.numel() or owner.shape != similarity.shape[:1]:
        found = f"{list(similarity.shape)} and {list(owner.shape)}"
        raise ValueError(f"expected similarity [T, V] and text_to_item [T], not {found}")
    if owner.is_floating_point() or owner.min() < 0 or owner.max() >= similarity.shape[1]:
        raise ValueError(f"text_to_item must hold item indices from 0 to {similarity.shape[1] - 1}")
    for start, block in enumerate(similarity.split(size := max(1, BLOCK // similarity.shape[1]))):
        if (bad := block.isnan()).any():
            row, column = bad.nonzero()[0].tolist()
            raise ValueError(f"similarity[{start * size + row}, {column}] is NaN; no rank is defined")
    return similarity, owner.long()
