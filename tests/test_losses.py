import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cma.losses import symmetric_cross_entropy


def naive(logits, ids):
    """Both directions pair by pair, with the negatives of one's own item left out."""
    n, total = len(logits), 0.0
    for i in range(n):
        others = [j for j in range(n) if j == i or ids[j] != ids[i]]
        total -= logits[i][i] - math.log(sum(math.exp(logits[i][j]) for j in others))
        total -= logits[i][i] - math.log(sum(math.exp(logits[j][i]) for j in others))
    return total / (2 * n)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.integers(0, 2**31))
def test_equals_the_naive_sum(ids, seed):
    logits = 3 * torch.randn(len(ids), len(ids), generator=torch.Generator().manual_seed(seed))
    expected = pytest.approx(naive(logits.tolist(), ids), abs=1e-5)
    assert symmetric_cross_entropy(logits, ids).item() == expected
    assert symmetric_cross_entropy(logits, torch.tensor(ids)).item() == expected
    assert symmetric_cross_entropy(logits, [f"video{i}" for i in ids]).item() == expected
    every = pytest.approx(naive(logits.tolist(), range(len(ids))), abs=1e-5)
    assert symmetric_cross_entropy(logits).item() == every
    assert symmetric_cross_entropy(logits, list(range(len(ids)))).item() == every


def test_gradient_is_finite_and_zero_on_pairs_of_one_item():
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    symmetric_cross_entropy(logits, ["a", "b", "a"]).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad == 0).nonzero().tolist() == [[0, 2], [2, 0]]


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert symmetric_cross_entropy(logits).dtype == torch.float32


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"\[N, N\], not \[2, 3\]"):
        symmetric_cross_entropy(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3 item_ids for 2 pairs"):
        symmetric_cross_entropy(torch.zeros(2, 2), [1, 2, 3])
