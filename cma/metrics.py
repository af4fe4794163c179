"""How well the right items rank: recall at k, median and mean rank, and their bootstrap intervals.

`audit` detects a score that depends on more than its own text and item.

Letters in shapes: T texts, V items. Ties count against the model: rank = 1 + wrong candidates that
score better + wrong candidates that score the same, so a constant score finds nothing. Recall is in
%; MdR is the median rank, the mean of the middle two for an even number; MnR is the mean.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

DRAWN = 2**17  # items counted at once, over all draws
KEPT = 2**25  # draws of up to this many items in all stay in memory, in two bytes each
RECALLS = ("R@1", "R@5", "R@10")
Array = Tensor | np.ndarray | Sequence
LEVEL = 0.95  # of the bootstrap intervals
ROUNDING = 1e-3  # a smaller change, as a share of the range of all scores, may be rounding
QUESTIONS = {  # of `audit`
    "batch": "Does the score of a pair change with what else is in the batch?",
    "order": "Does it change with the order of texts or items?",
    "unequal": "Does it change when there are not as many texts as items?",
}


def retrieval_metrics(
    similarity: Tensor, text_to_item: Tensor, visual_to_text: str = "captions"
) -> dict:
    """Return R@1, R@5, R@10, MdR and MnR in both directions, and mR, the mean of the six recalls.

    Args:
        similarity: scores [T, V]; higher is better.
        text_to_item: [T], the index of each text's item; an item may have any number of texts.
        visual_to_text: "captions" ranks an item's best caption among all captions (images); "items"
            ranks the items by their best caption (MSVD, VATEX).

    Returns:
        {"text_to_visual": {"R@1", "R@5", "R@10", "MdR", "MnR"}, "visual_to_text": {…}, "mR"}.

    Raises:
        ValueError: a score is NaN (its position is named), an index is out of range, or an item has
            no caption (`ranks` accepts it as a distractor).

    >>> import torch
    >>> from cma.metrics import retrieval_metrics
    >>> similarity = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])  # the second text is wrong
    >>> found = retrieval_metrics(similarity, torch.tensor([0, 1, 1]))
    >>> round(found["text_to_visual"]["R@1"], 1), found["text_to_visual"]["MdR"]
    (66.7, 1.0)
    """
    return both_ways(
        {
            "text_to_visual": ranks(similarity, text_to_item),
            "visual_to_text": visual_ranks(similarity, text_to_item, visual_to_text),
        }
    )


def both_ways(ranks: Mapping[str, Array]) -> dict:
    """Return the dict of `retrieval_metrics`, given the ranks by direction, [T] and [V]."""
    result = {way: summary(found) for way, found in ranks.items()}
    recalls = [side[name] for side in result.values() for name in RECALLS]
    return result | {"mR": sum(recalls) / len(recalls)}


def summary(ranks: Array) -> dict[str, float]:
    """Return R@1, R@5 and R@10 in %, MdR and MnR of a set of ranks."""
    return {name: _metric(ranks, name) for name in (*RECALLS, "MdR", "MnR")}


def ranks(similarity: Tensor, text_to_item: Tensor) -> Tensor:
    """Return the rank [T] of each text's item among all V items, those without texts included."""
    similarity, owner = _checked(similarity, text_to_item)
    right = similarity.gather(1, owner[:, None])  # [T, 1]
    return (similarity >= right).sum(1).cpu()  # the right item counts itself: ranks start at 1


def visual_ranks(similarity: Tensor, text_to_item: Tensor, mode: str = "captions") -> Tensor:
    """Return the rank [V] of each item's own captions; `mode`: `visual_to_text` of
    `retrieval_metrics`.
    """
    similarity, owner = _checked(similarity, text_to_item)
    if mode not in ("captions", "items"):
        raise ValueError(f"visual_to_text must be 'captions' or 'items', not {mode!r}")
    count = torch.bincount(owner, minlength=similarity.shape[1])
    if len(bare := (count == 0).nonzero().flatten().tolist()):
        raise ValueError(
            f"items {bare[:5]} ({len(bare)} of {len(count)}) have no captions to be found by"
        )
    own = similarity.gather(1, owner[:, None]).squeeze(1)  # [T]: of each caption with its item
    right = similarity.new_full((len(count),), -torch.inf).scatter_reduce_(0, owner, own, "amax")
    if mode == "items":  # [V, V]: the best caption of each item, for each item
        best = similarity.new_full((len(count), len(count)), -torch.inf)
        best.scatter_reduce_(0, owner[:, None].expand_as(similarity), similarity, "amax")
        return (best >= right).sum(0).cpu()
    wrong = owner[:, None] != torch.arange(len(count), device=owner.device)
    return (1 + (wrong & (similarity >= right)).sum(0)).cpu()


def bootstrap_means(
    values: Array, query_to_item: Array, samples: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Return the mean of a value per query in each of `samples` draws of items.

    An item is drawn with all its queries.

    values [T] give [samples]; K sets of values [K, T] give [K, samples], all from the same draws.
    query_to_item [T]: the number of each query's item. Drawing single queries would give too narrow
    an interval, because queries of one item are not independent. The same seed draws the same
    items. Raises ValueError for shapes that do not fit.
    """
    values = np.asarray(values)
    owner = np.asarray(query_to_item)
    if owner.ndim != 1 or not len(owner) or values.shape[-1:] != owner.shape:
        shapes = f"{list(values.shape)} and {list(owner.shape)}"
        raise ValueError(
            f"expected values of the same queries, and as many item indices, not {shapes}"
        )
    owner = np.unique(owner, return_inverse=True)[1]
    # sums [items, K]
    by_item = np.stack([np.bincount(owner, row) for row in np.atleast_2d(values)], axis=1)
    queries = np.bincount(owner)
    sizes = len(queries), samples, seed
    draws = _kept_draws(*sizes) if samples * len(queries) <= KEPT else _draws(*sizes)
    means = []
    for drawn in draws:
        counts = drawn.astype(float)  # products of integer matrices are slow
        means.append((counts @ by_item) / (counts @ queries)[:, None])
    return np.concatenate(means).T.reshape(*values.shape[:-1], samples)


def _draws(items: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each of some draws has each item, [draws, items], until all are drawn."""
    rng = np.random.default_rng(seed)
    max_draws = max(1, DRAWN // items)
    for start in range(0, samples, max_draws):
        count = min(max_draws, samples - start)
        chosen = rng.integers(items, size=(count, items)) + items * np.arange(count)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=count * items)
        yield counts.reshape(count, items).astype(np.uint16 if items < 2**16 else np.uint32)


@lru_cache(2)  # whoever compares models asks for the same draws each time
def _kept_draws(items: int, samples: int, seed: int) -> list[np.ndarray]:
    return list(_draws(items, samples, seed))


def intervals(
    ranks: Array,
    query_to_item: Array,
    metrics: Sequence[str] = RECALLS,
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return {metric: (low, high)}: 95 % percentile intervals over draws of whole items.

    ranks [T]; query_to_item [T]: the item of each query; metrics: "R@k" or "MnR". Raises ValueError
    for another metric, and as `bootstrap_means`.
    """
    drawn = _drawn(ranks, query_to_item, metrics, samples, seed)
    return dict(zip(metrics, map(interval, drawn), strict=True))


def bootstrap_interval(
    ranks: Array, query_to_item: Array, metric: str = "R@1", samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return (low, high) of one metric. Arguments and errors are as in `intervals`."""
    return intervals(ranks, query_to_item, [metric], samples, seed)[metric]


def bootstrap_difference(
    one: Array,
    other: Array,
    query_to_item: Array,
    metric: str = "R@1",
    samples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return (one − other, low, high) of a metric, from two models' ranks [T] of the same queries.

    The same items are drawn for both models, so items that are hard for both cancel out. This is
    narrower and fairer than comparing two `intervals`. Raises ValueError as they do, and for ranks
    of different length.
    """
    drawn = [_drawn(ranks, query_to_item, [metric], samples, seed)[0] for ranks in (one, other)]
    gain = _metric(one, metric) - _metric(other, metric)
    return gain, *interval(drawn[0] - drawn[1])


def verdict(difference: tuple[float, float, float], metric: str = "R@1") -> str:
    """Describe a paired difference in words, such as `+3.5 points of R@1 [+1.0, +6.0]: better`.

    difference: (one − other, low, high) of `bootstrap_difference`, for a metric in % where more is
    better. The word is "better" or "worse" if the interval, as printed, excludes 0, else "no clear
    difference".
    """
    gain, low, high = (round(value, 1) + 0.0 for value in difference)  # −0.0 becomes 0.0
    word = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{gain:+.1f} points of {metric} [{low:+.1f}, {high:+.1f}]: {word}"


@dataclass(frozen=True, repr=False)
class Audit:
    """What `audit` found; printed, it answers each of its three questions in a line.

    batch, order, unequal: the largest change of a pair's score, as a share of the range of all
    scores. 0 if the change is only rounding; infinite if `score` failed, and then `failures` says
    how.
    """

    batch: float
    order: float
    unequal: float
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def honest(self) -> bool:
        """Whether the score of a pair depended on this pair alone."""
        return not any((self.batch, self.order, self.unequal))

    def __repr__(self) -> str:
        lines = []
        for name, question in QUESTIONS.items():
            change = getattr(self, name)
            message = f"yes, by up to {change:.2g} of the range of scores" if change else "no"
            lines.append(f"{question} {self.failures.get(name, message)}")
        return "\n".join(lines)


def audit(score: Callable[..., Array], texts: Array, items: Array) -> Audit:
    """Test whether a score depends on more than its own text and item.

    Such a score can raise recall with information that no user's query has: the other test queries,
    or the very caption that an item is searched by. So we score parts of the texts and items again,
    and compare with the scores of the same pairs among all.

    Args:
        score: `score(texts, items)` gives [T, V] for any of the texts and any of the items.
        texts: at least 4: a tensor, an array or a list of what `score` takes.
        items: at least 4; if there are as many as texts, each text's own item at the text's place.

    Returns:
        The `Audit`: print it, or read `honest`.

    Raises:
        ValueError: `score` fails for all pairs, or does not return finite [T, V], or returns other
            values the second time.

    >>> import torch
    >>> from cma.metrics import audit
    >>> from cma.similarity import mean_pooled
    >>> texts, frames = torch.randn(20, 8), torch.randn(20, 3, 8)
    >>> audit(mean_pooled, texts, frames)
    Does the score of a pair change with what else is in the batch? no
    Does it change with the order of texts or items? no
    Does it change when there are not as many texts as items? no
    >>> def dual_softmax(texts, frames):  # over all queries
    ...     cosine = mean_pooled(texts, frames)
    ...     return cosine * (20 * cosine).softmax(0)
    >>> audit(dual_softmax, texts, frames).honest
    False
    """
    count = len(texts), len(items)
    if min(count) < 4:
        raise ValueError(f"expected at least 4 texts and 4 items, not {count[0]} and {count[1]}")
    every = [range(number) for number in count]
    scores = _scored(score, texts, items, *every)
    span = float(scores.max() - scores.min())
    rounded = max(ROUNDING * span, 8 * torch.finfo(scores.dtype).eps * float(scores.abs().max()))

    def change(rows: Sequence[int], columns: Sequence[int]) -> float:
        """Return the largest change when these texts and items are scored alone, in this order."""
        part = _scored(score, texts, items, rows, columns)
        max_difference = float((part - scores[list(rows)][:, list(columns)]).abs().max())
        return 0.0 if max_difference <= rounded else max_difference / span if span else float("inf")

    if change(*every):
        hint = "call eval(), or fix the seed in it"
        raise ValueError(f"score gives other values for the same texts and items; {hint}")
    # parts with as many texts as items keep each text at its own item's place
    halves = [[range(at, number, 2) for number in count] for at in (0, 1)]
    moved = [[*range(1, number, 2), *range(0, number, 2)] for number in count]
    last = [range(number // 2, number) for number in count]
    as_many = [range(min(count))] * 2  # if the whole is not
    parts: dict[str, Sequence[Sequence[Sequence[int]]]] = {
        "batch": halves,
        "order": [(moved[0], every[1]), (every[0], moved[1])],
        "unequal": [(last[0], every[1]), (every[0], last[1]), as_many],
    }
    found, failures = {}, {}
    for name, pairs in parts.items():
        try:
            found[name] = max(change(*part) for part in pairs)
        except ValueError as error:
            found[name], failures[name] = float("inf"), str(error)
    return Audit(**found, failures=failures)


def _drawn(
    ranks: Array, owner: Array, metrics: Sequence[str], samples: int, seed: int
) -> list[np.ndarray]:
    """Return, for each metric of ranks [T], its values [samples] in all draws."""
    factors, values = zip(*(_as_mean(np.asarray(ranks), name) for name in metrics), strict=True)
    means = bootstrap_means(values, owner, samples, seed)
    return [factor * row for factor, row in zip(factors, means, strict=True)]


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Return (low, high), the 95 % percentile interval of draws."""
    return tuple(np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist())


def _metric(ranks: Array, name: str) -> float:
    ranks = np.asarray(ranks)
    if name == "MdR":
        return float(np.median(ranks))
    factor, values = _as_mean(ranks, name)
    return float(factor * values.mean())


def _as_mean(ranks: np.ndarray, name: str) -> tuple[int, np.ndarray]:
    """Return (factor, values [T]), one value a query: the metric is factor times their mean."""
    if name == "MnR":
        return 1, ranks
    if name.startswith("R@") and name[2:].isdigit():
        return 100, ranks <= int(name[2:])
    raise ValueError(f"unknown metric {name!r}; expected 'R@k' or 'MnR'")


def _checked(similarity: Tensor, text_to_item: Tensor) -> tuple[Tensor, Tensor]:
    similarity = torch.as_tensor(similarity).detach()
    similarity = similarity if similarity.is_floating_point() else similarity.double()
    owner = torch.as_tensor(text_to_item, device=similarity.device)
    if similarity.ndim != 2 or not similarity.numel() or owner.shape != similarity.shape[:1]:
        shapes = f"{list(similarity.shape)} and {list(owner.shape)}"
        raise ValueError(f"expected similarity [T, V] and text_to_item [T], not {shapes}")
    if owner.is_floating_point() or owner.min() < 0 or owner.max() >= similarity.shape[1]:
        raise ValueError(f"text_to_item must hold item indices from 0 to {similarity.shape[1] - 1}")
    if (bad := similarity.isnan()).any():
        row, column = bad.nonzero()[0].tolist()
        raise ValueError(f"similarity[{row}, {column}] is NaN; no rank is defined")
    return similarity, owner.long()


def _scored(
    score: Callable[..., Array],
    texts: Array,
    items: Array,
    rows: Sequence[int],
    columns: Sequence[int],
) -> Tensor:
    """Return the scores of some texts and items. Raises a one-line ValueError if `score` fails."""

    def picked(values: Array, at: Sequence[int]) -> Array:
        if isinstance(values, (Tensor, np.ndarray)):
            return values[list(at)]
        return [values[index] for index in at]

    what = f"score of {len(rows)} texts and {len(columns)} items"
    try:
        with torch.no_grad():
            found = torch.as_tensor(score(picked(texts, rows), picked(items, columns)))
    except Exception as error:  # `score` is the user's, so any error is possible
        message = " ".join(str(error).split())
        raise ValueError(f"{what} fails: {type(error).__name__}: {message}") from error
    if found.shape != (len(rows), len(columns)):
        expected = [len(rows), len(columns)]
        raise ValueError(f"{what}: expected the shape {expected}, not {list(found.shape)}")
    if not found.isfinite().all():
        row, column = (~found.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{what}: [{row}, {column}] is {found[row, column]}, which is no score")
    return found.cpu() if found.is_floating_point() else found.cpu().double()
