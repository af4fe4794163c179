import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cma.losses import symmetric_cross_entropy


def naive(logits, items, captions):
    """Both directions pair by pair, with the pairs of one's own item and caption left out."""
    n, total = len(logits), 0.0
    for i in range(n):
        others = [j for j in range(n) if j == i or (items[j] != items[i] and captions[j] != captions[i])]
        total -= logits[i][i] - math.log(sum(math.exp(logits[i][j]) for j in others))
        total -= logits[i][i] - math.log(sum(math.exp(logits[j][i]) for j in others))
    return total / (2 * n)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=7), st.integers(0, 99))
def test_equals_the_naive_sum(pairs, seed):
    ids, captions = [item for item, _ in pairs], [f"caption {caption}" for _, caption in pairs]
    logits = 3 * torch.randn(len(ids), len(ids), generator=torch.Generator().manual_seed(seed))
    own = range(len(ids))  # every one another
    expected = pytest.approx(naive(logits.tolist(), ids, own), abs=1e-5)
    assert symmetric_cross_entropy(logits, ids).item() == expected
    assert symmetric_cross_entropy(logits, torch.tensor(ids)).item() == expected
    assert symmetric_cross_entropy(logits, [f"video{i}" for i in ids]).item() == expected
    by_caption = pytest.approx(naive(logits.tolist(), own, captions), abs=1e-5)
    assert symmetric_cross_entropy(logits, caption_ids=captions).item() == by_caption
    both = pytest.approx(naive(logits.tolist(), ids, captions), abs=1e-5)
    assert symmetric_cross_entropy(logits, ids, captions).item() == both
    every = pytest.approx(naive(logits.tolist(), own, own), abs=1e-5)
    assert symmetric_cross_entropy(logits).item() == every
    assert symmetric_cross_entropy(logits, list(range(len(ids)))).item() == every


@pytest.mark.parametrize("ids", ["item_ids", "caption_ids"])
def test_gradient_is_finite_and_zero_on_pairs_that_are_no_negatives(ids):
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    symmetric_cross_entropy(logits, **{ids: ["a", "b", "a"]}).backward()
    assert (logits.grad == 0).nonzero().tolist() == [[0, 2], [2, 0]]
    symmetric_cross_entropy(logits, **{ids: ["a", "a", "a"]}).backward()
    assert logits.grad.isfinite().all()


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert symmetric_cross_entropy(logits).dtype == torch.float32


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"\[N, N\], not \[2, 3\]"):
        symmetric_cross_entropy(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3 item_ids for 2 pairs"):
        symmetric_cross_entropy(torch.zeros(2, 2), [1, 2, 3])
    with pytest.raises(ValueError, match="1 caption_ids for 2 pairs"):
        symmetric_cross_entropy(torch.zeros(2, 2), caption_ids=[1])
