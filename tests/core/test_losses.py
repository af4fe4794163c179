import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma.losses import sigmoid, symmetric_cross_entropy


def naive(logits, items, captions):
    """Both directions pair by pair, with the pairs of one's own item and caption left out."""
    n, total = len(logits), 0.0
    for i in range(n):
        others = [
            j for j in range(n) if j == i or (items[j] != items[i] and captions[j] != captions[i])
        ]
        total -= logits[i][i] - math.log(sum(math.exp(logits[i][j]) for j in others))
        total -= logits[i][i] - math.log(sum(math.exp(logits[j][i]) for j in others))
    return total / (2 * n)


def naive_sigmoid(logits, items, captions):
    """The equation of Zhai et al., pair by pair; off-diagonal pairs of one's item or caption are
    left out.
    """
    n, total = len(logits), 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                total += math.log(1 + math.exp(-logits[i][j]))
            elif items[j] != items[i] and captions[j] != captions[i]:
                total += math.log(1 + math.exp(logits[i][j]))
    return total / n


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=7),
    st.integers(0, 99),
)
def test_equals_the_naive_sum(pairs, seed):
    ids, captions = [item for item, _ in pairs], [f"caption {caption}" for _, caption in pairs]
    logits = 3 * torch.randn(len(ids), len(ids), generator=torch.Generator().manual_seed(seed))
    own = range(len(ids))  # every one another
    for given_ids, items, texts in (
        ((), own, own),
        ((list(own),), own, own),
        ((ids,), ids, own),
        ((torch.tensor(ids),), ids, own),
        (([f"video{i}" for i in ids],), ids, own),
        ((None, captions), own, captions),
        ((ids, captions), ids, captions),
    ):
        expected = pytest.approx(naive(logits.tolist(), items, texts), abs=1e-5)
        assert symmetric_cross_entropy(logits, *given_ids).item() == expected
        expected = pytest.approx(naive_sigmoid(logits.tolist(), items, texts), abs=1e-5)
        assert sigmoid(logits, *given_ids).item() == expected


LOSSES = pytest.mark.parametrize("loss", [symmetric_cross_entropy, sigmoid])


@LOSSES
@pytest.mark.parametrize("ids", ["item_ids", "caption_ids"])
def test_gradient_is_finite_and_zero_on_pairs_that_are_no_negatives(ids, loss):
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss(logits, **{ids: ["a", "b", "a"]}).backward()
    assert (logits.grad == 0).nonzero().tolist() == [[0, 2], [2, 0]]
    loss(logits, **{ids: ["a", "a", "a"]}).backward()
    assert logits.grad.isfinite().all()


@LOSSES
def test_half_precision_logits_give_a_float32_loss(loss):
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert loss(logits).dtype == torch.float32


@LOSSES
def test_ids_may_be_a_column_or_a_list_of_tensors(loss):
    logits, ids = (
        torch.randn(3, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1]),
    )
    expected = loss(logits, [0, 0, 1])
    assert loss(logits, list(ids)) == loss(logits, ids[:, None]) == expected != loss(logits)


@LOSSES
def test_bad_shapes_are_named(loss):
    for arguments, said in (
        ((torch.zeros(2, 3),), r"\[N, N\], not \[2, 3\]"),
        ((torch.zeros(0, 0),), r"\[N, N\], not \[0, 0\]"),
        ((torch.zeros(2, 2), [1, 2, 3]), "3 item_ids for 2 pairs"),
        ((torch.zeros(2, 2), None, [1]), "1 caption_ids for 2 pairs"),
    ):
        with pytest.raises(ValueError, match=said):
            loss(*arguments)
