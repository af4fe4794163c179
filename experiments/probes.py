"""Probe what a model has learnt: relations or a bag of words, and recall by caption style.

Contrast pairs are scored as in Thrush et al. 2022, "Winoground: Probing Vision and Language Models
for Visio-Linguistic Compositionality". Captions with their words shuffled are a control after
Yuksekgonul et al. 2023, "When and Why Vision-Language Models Behave like Bags-of-Words, and What to
Do About It?" (ARO).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from cma.config import ReadConfig
from cma.data import RetrievalDataset
from cma.files import read_jsonl
from cma.metrics import Array, bootstrap_means, interval
from cma.similarity import compare
from cma.training import Embeddings
from data_prep.mini.world import RECORDS

CHANCE = {"text": 25.0, "image": 25.0, "group": 100 / 6}  # in %, of `pair_hits`
Measured = tuple[float, float, float]  # value in %, low, high


def pair_hits(similarity: Tensor) -> dict[str, np.ndarray]:
    """Return which contrast pairs a model tells apart: {"text" | "image" | "group": bool [P]}.

    similarity [2P, 2P] of captions and items, in which 2p and 2p + 1 are a pair with their own
    captions. "text": both items score their own caption above the other's; "image": both captions
    score their own item above the other; "group": both hold. Equal scores count as wrong. Raises
    ValueError for another shape.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) % 2:
        raise ValueError(f"expected the similarity [2P, 2P] of pairs, not {list(similarity.shape)}")
    pairs = len(similarity) // 2
    # [P, text, item]
    pair = similarity.view(pairs, 2, pairs, 2).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    first, second = pair[:, 0], pair[:, 1]
    text = (first[:, 0] > second[:, 0]) & (second[:, 1] > first[:, 1])
    image = (first[:, 0] > first[:, 1]) & (second[:, 1] > second[:, 0])
    return {"text": text.numpy(), "image": image.numpy(), "group": (text & image).numpy()}


def contrast_hits(
    encoded: Embeddings, contrasts: RetrievalDataset, config: ReadConfig
) -> dict[str, dict[str, list[int]]]:
    """Return {kind: `pair_hits` of its pairs, as 0 and 1} for a dataset of contrast pairs.

    The kind is the start of a record's id, such as `places` in `places-017-a`. It is read from the
    dataset's `media/records.jsonl`, because MSR-VTT's format calls a clip `video<n>`. Raises
    FileNotFoundError without the records, ValueError if there are not as many as items.
    """
    records = [record["id"] for _, record in read_jsonl(contrasts.folder / "media" / RECORDS, dict)]
    if len(records) != len(contrasts):
        raise ValueError(
            f"{contrasts.folder}: {len(records)} records / {len(contrasts)} items; build it again"
        )
    hits = pair_hits(compare(*encoded[:3], config))
    kinds = np.array([id.partition("-")[0] for id in records[::2]])
    return {
        kind: {name: hit[kinds == kind].astype(int).tolist() for name, hit in hits.items()}
        for kind in dict.fromkeys(kinds.tolist())
    }


def share_of_pairs(hits: Array) -> Measured:
    """Return the share of hits [P] in % and its interval by Wilson's formula.

    A hit is 0 or 1, or with several seeds the mean over them. Unlike an interval from draws, this
    one has a width even if no pair is right, or all are.
    """
    count, share, z = len(hits), np.mean(hits), 1.96
    middle = share + z**2 / (2 * count)
    half = z * ((share * (1 - share) + z**2 / (4 * count)) / count) ** 0.5
    low, high = (end / (1 + z**2 / count) for end in (middle - half, middle + half))
    return 100 * share, 100 * max(0.0, min(share, low)), 100 * max(share, high)


def recall_by_style(
    ranks: Sequence[int], text_to_item: Array, styles: Sequence[str], k: int = 1
) -> dict[str, Measured]:
    """Return {style: (R@k in %, low, high)}; each item has one caption in each of `styles`, in this
    order.

    ranks [T], text to visual. Raises ValueError if an item does not have one caption in each style.
    """
    count = len(styles)
    hits, owner = np.asarray(ranks) <= k, np.asarray(text_to_item)
    first = owner[::count]  # of each item
    if not np.array_equal(np.repeat(first, count), owner):
        message = f"expected {count} of each item, one after the other"
        raise ValueError(f"{len(ranks)} captions: {message}")
    return {style: share(hits[at::count], first) for at, style in enumerate(styles)}


def shuffled(dataset: RetrievalDataset, seed: int = 0) -> RetrievalDataset:
    """Return the same items, with the words of each caption in a random order."""
    chance, items = random.Random(f"words {seed}"), []
    for item in dataset.items:
        orders = (chance.sample(words := caption.split(), len(words)) for caption in item.captions)
        items.append(replace(item, captions=tuple(map(" ".join, orders))))
    return replace(dataset, items=items)


def share(hits: Array, owner: Array) -> Measured:
    """Return the share of hits [T] in %, and its interval over draws of items with all their
    queries; owner [T]: the item of each query.
    """
    hits = np.asarray(hits)
    return (float(100 * hits.mean()), *interval(100 * bootstrap_means(hits, owner)))
