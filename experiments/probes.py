"""What a model has learnt of scenes: relations or a bag of words, and from which describers.

Twins are scored as in Thrush et al. 2022, "Winoground: Probing Vision and Language Models for
Visio-Linguistic Compositionality". Captions with their words shuffled are a control after Yuksekgonul et al.
2023, "When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?" (ARO).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from cma import RetrievalModel
from cma.config import ReadConfig
from cma.data import RetrievalDataset
from cma.files import read_jsonl
from cma.metrics import Array, bootstrap_means, interval
from cma.similarity import compare
from cma.training import Embeddings, encode
from data_prep.mini.world import RECORDS

CHANCE = {"text": 25.0, "image": 25.0, "group": 100 / 6}  # in %, of `twin_scores`
Measured = tuple[float, float, float]  # value in %, low, high


def pair_hits(similarity: Tensor) -> dict[str, np.ndarray]:
    """For each pair of twins, whether it is told apart: {"text" | "image" | "group": bool [P]}.

    similarity [2P, 2P] of captions and items, in which 2p and 2p + 1 are a pair with their own captions.
    "text": of the two captions, each item scores its own higher; "image": of the two items, each caption its
    own; "group": both. Equal scores count as wrong. Raises ValueError for another shape.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) % 2:
        raise ValueError(f"expected the similarity [2P, 2P] of pairs, not {list(similarity.shape)}")
    pairs = len(similarity) // 2
    pair = similarity.view(pairs, 2, pairs, 2).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # [P, text, item]
    first, second = pair[:, 0], pair[:, 1]
    text = (first[:, 0] > second[:, 0]) & (second[:, 1] > first[:, 1])
    image = (first[:, 0] > first[:, 1]) & (second[:, 1] > second[:, 0])
    return {name: hit.numpy() for name, hit in (("text", text), ("image", image), ("group", text & image))}


def twin_hits(
    encoded: Embeddings, twins: RetrievalDataset, config: ReadConfig
) -> dict[str, dict[str, list[int]]]:
    """{kind: `pair_hits` of its pairs, as 0 and 1} on a dataset of twins.

    The kind is the start of a record's id, such as `places` of `places-017-a`, in `media/records.jsonl` of
    the dataset: MSR-VTT's format calls a clip `video<n>`. Raises FileNotFoundError without the records,
    ValueError if they are not those of the items.
    """
    records = [record["id"] for _, record in read_jsonl(twins.folder / "media" / RECORDS, dict)]
    if len(records) != len(twins):
        raise ValueError(f"{twins.folder}: {len(records)} records / {len(twins)} items; build it again")
    hits = pair_hits(compare(*encoded[:3], config))
    kinds = np.array([id.partition("-")[0] for id in records[::2]])
    return {
        kind: {name: hit[kinds == kind].astype(int).tolist() for name, hit in hits.items()}
        for kind in dict.fromkeys(kinds.tolist())
    }


def twin_scores(
    model: RetrievalModel, twins: RetrievalDataset, config: ReadConfig
) -> dict[str, dict[str, Measured]]:
    """{kind: {"text" | "image" | "group": (%, low, high)}}: `twin_hits` with intervals that draw pairs."""
    return {
        kind: {name: _share(np.array(hit), np.arange(len(hit))) for name, hit in of_kind.items()}
        for kind, of_kind in twin_hits(encode(model, twins, config), twins, config).items()
    }


def recall_by_describer(
    ranks: Sequence[int], text_to_item: Array, habits: Sequence[str], k: int = 1
) -> dict[str, Measured]:
    """{habit: (R@k in %, low, high)} of captions that come in the order of `habits` for each item.

    ranks [T], text to visual. Raises ValueError if an item has not one caption of each habit.
    """
    if len(ranks) % len(habits):
        raise ValueError(f"{len(ranks)} captions: expected {len(habits)} of each item")
    hits, owner = (np.asarray(of).reshape(-1, len(habits)) for of in (ranks, text_to_item))
    if (owner != owner[:, :1]).any():
        raise ValueError(f"expected {len(habits)} captions of each item, one after the other")
    return {habit: _share(hits[:, number] <= k, owner[:, 0]) for number, habit in enumerate(habits)}


def shuffled(dataset: RetrievalDataset, seed: int = 0) -> RetrievalDataset:
    """The same items, the words of each caption in a random order."""
    chance, items = random.Random(f"words {seed}"), []
    for item in dataset.items:
        words = [caption.split() for caption in item.captions]
        captions = tuple(" ".join(chance.sample(own, len(own))) for own in words)
        items.append(replace(item, captions=captions))
    return replace(dataset, items=items)


def _share(hits: np.ndarray, owner: np.ndarray) -> Measured:
    return (float(100 * hits.mean()), *interval(100 * bootstrap_means(hits, owner)))
