"""The first search: the items nearest to one vector, by a plain matrix product or, above a size, by faiss.

Measured on two cores with random unit vectors of 512 dimensions, the best 1,000 for one query:

| items     | product, all sorted | faiss, half precision | recall of the best 1,000, mean · least |
|-----------|---------------------|-----------------------|----------------------------------------|
| 10,000    | 1.5 ms              | 0.5 ms                | 1.000 · 0.999                          |
| 100,000   | 20 – 50 ms          | 4 – 5 ms              | 1.000 · 0.999                          |
| 300,000   | 67 ms               | 11 ms                 | 1.000 · 0.999                          |
| 1,000,000 | 215 – 250 ms        | 32 – 46 ms            | 1.000 · 0.998                          |

So faiss too looks at every item, and is built in a second. Its inverted lists (IVF) are faster, but what they
find depends on the data: after a look into a quarter of the lists, 0.44 of the best 1,000 among a million
random vectors (27 s to build, 18 ms), 0.998 among as many clustered ones. Graphs (HNSW) over 100,000 random
vectors take 31 s to build, for a recall of 0.97 in 19 ms.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import torch
from torch import Tensor

FAISS_FROM = 200_000  # items; below, the product takes less than 50 ms and ranks every item


class Nearest:
    """Pooled, normalised vectors [V, D], to be searched."""

    def __init__(self, vectors: Tensor, depth: int) -> None:
        self._vectors, self._depth, self._index = vectors, min(depth, len(vectors)), None
        if len(vectors) < FAISS_FROM or find_spec("faiss") is None:  # it is no dependency on macOS
            return
        faiss = importlib.import_module("faiss")
        kind = faiss.ScalarQuantizer.QT_fp16
        self._index = faiss.IndexScalarQuantizer(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        self._index.add(vectors.numpy())

    def __call__(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """(items, their cosines with a normalised `vector` [D]), best first; of equal ones the first item.

        All items; by faiss the best `depth`, but for those that its half precision takes for another.
        """
        if self._index is None:
            return best_first(self._vectors @ vector)
        items = torch.from_numpy(self._index.search(vector[None].numpy(), self._depth)[1][0]).sort().values
        order, cosines = best_first(self._vectors[items] @ vector)
        return items[order], cosines


def best_first(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(items [V], scores [V]) of the scores [V]; of equal scores the first item comes first."""
    ordered = scores.sort(descending=True, stable=True)
    return ordered.indices, ordered.values
