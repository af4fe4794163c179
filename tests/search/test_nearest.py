"""The first search against a plain sort, with faiss and without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from cma.search import nearest
from cma.search.nearest import Nearest


def unit(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 99))
def test_all_items_are_ranked_and_equal_ones_in_their_order(n, seed):
    vectors = unit(n, 8, seed=seed)
    vectors = torch.cat([vectors, vectors[: n // 2]])
    query = unit(8, seed=seed + 100)
    items, cosines = Nearest(vectors, 5)(query)
    exact = (vectors @ query).tolist()
    assert items.tolist() == sorted(range(len(vectors)), key=lambda i: -exact[i])
    assert cosines.tolist() == [exact[i] for i in items.tolist()]


def test_faiss_finds_the_best_with_exact_cosines(monkeypatch):
    pytest.importorskip("faiss")
    vectors = unit(3000, 64, seed=0)
    plain = Nearest(vectors, 100)
    monkeypatch.setattr(nearest, "FAISS_FROM", 3000)
    by_faiss = Nearest(vectors, 100)
    found = 0
    for seed in range(20):
        query = unit(64, seed=seed + 1)
        items, cosines = by_faiss(query)
        assert len(items) == 100  # the plain search returns all
        assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
        torch.testing.assert_close(cosines, vectors[items] @ query)
        best, _ = plain(query)
        assert items[:20].tolist() == best[:20].tolist()
        found += len(set(items.tolist()) & set(best[:100].tolist()))
    assert found >= 20 * 99
    few = Nearest(vectors, 5000)(query)[0]
    assert sorted(few.tolist()) == list(range(3000))
