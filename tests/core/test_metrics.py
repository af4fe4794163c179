import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import metrics
from cma.metrics import (
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_means,
    intervals,
    ranks,
    retrieval_metrics,
    verdict,
    visual_ranks,
)


def rank_of(right: float, wrong: list[float]) -> int:
    """1 + wrong candidates that are better or as good."""
    return 1 + sum(w >= right for w in wrong)


def naive_ranks(s, owner):
    return [
        rank_of(row[i], [x for j, x in enumerate(row) if j != i])
        for row, i in zip(s, owner, strict=True)
    ]


def naive_visual_ranks(s, owner, mode):
    result = []
    for v in range(len(s[0])):
        of = {u: [s[t][v] for t, item in enumerate(owner) if item == u] for u in range(len(s[0]))}
        if mode == "captions":
            wrong = [x for u, values in of.items() if u != v for x in values]
        else:
            wrong = [max(values) for u, values in of.items() if u != v]
        result.append(rank_of(max(of[v]), wrong))
    return result


@st.composite
def cases(draw):
    """A similarity with many ties or none, each item with at least one text, in any order."""
    items, extra = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    owner = torch.cat([torch.arange(items), torch.randint(items, (extra,), generator=generator)])
    owner = owner[torch.randperm(items + extra, generator=generator)]
    similarity = torch.randn(items + extra, items, generator=generator)
    return similarity.round() if draw(st.booleans()) else similarity, owner


@given(cases(), st.sampled_from(["captions", "items"]))
def test_ranks_and_metrics_equal_naive_ones(case, mode):
    similarity, owner = case
    sides = {
        "text_to_visual": naive_ranks(similarity.tolist(), owner.tolist()),
        "visual_to_text": naive_visual_ranks(similarity.tolist(), owner.tolist(), mode),
    }
    assert ranks(similarity, owner).tolist() == sides["text_to_visual"]
    assert visual_ranks(similarity, owner, mode).tolist() == sides["visual_to_text"]
    got = retrieval_metrics(similarity, owner, mode)
    assert list(got) == [*sides, "mR"]
    recalls = []
    for side, of in sides.items():
        expected = {f"R@{k}": 100 * sum(r <= k for r in of) / len(of) for k in (1, 5, 10)}
        recalls += expected.values()
        expected |= {"MdR": statistics.median(of), "MnR": statistics.fmean(of)}
        assert got[side] == pytest.approx(expected) and list(got[side]) == list(expected)
    assert got["mR"] == pytest.approx(sum(recalls) / 6)


def test_types_of_input():
    similarity = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    owner = [0, 0, 1, 1, 2, 2]
    expected = retrieval_metrics(similarity, torch.tensor(owner))
    assert retrieval_metrics(similarity.numpy(), np.array(owner)) == expected
    assert retrieval_metrics(similarity.clone().requires_grad_(), owner) == expected
    assert all(type(value) is float for value in expected["text_to_visual"].values())
    order = similarity.flatten().argsort().argsort().view(6, 3)  # whole numbers
    assert all(
        retrieval_metrics(order, owner, mode) == retrieval_metrics(order.float(), owner, mode)
        for mode in ("captions", "items")
    )


def test_bad_input_is_named():
    similarity, owner = torch.zeros(4, 3), torch.tensor([0, 1, 2, 2])
    broken = similarity.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"similarity\[2, 1\] is NaN"):
        retrieval_metrics(broken, owner)
    with pytest.raises(ValueError, match=r"items \[1\] \(1 of 3\) have no captions"):
        retrieval_metrics(similarity, torch.tensor([0, 0, 2, 2]))
    # there, item 1 is a distractor
    assert ranks(torch.eye(3), torch.tensor([0, 2, 2])).tolist() == [1, 3, 1]
    for wrong in ([0, 1, 2, 3], [0, 1, 2, -1], [0.0, 1.0, 2.0, 2.0]):
        with pytest.raises(ValueError, match="from 0 to 2"):
            retrieval_metrics(similarity, torch.tensor(wrong))
    for shape in (similarity[0], similarity[:3]):
        with pytest.raises(ValueError, match=r"similarity \[T, V\] and text_to_item \[T\]"):
            retrieval_metrics(shape, owner)
    with pytest.raises(ValueError, match="'captions' or 'items'"):
        retrieval_metrics(similarity, owner, "both")


# ---- bootstrap


VALUES = {
    "R@1": lambda of: 100 * statistics.fmean(rank <= 1 for rank in of),
    "R@2": lambda of: 100 * statistics.fmean(rank <= 2 for rank in of),
    "MnR": statistics.fmean,
}


def naive_draws(of, owner, value, samples, seed):
    """Draw items; a drawn item brings all its queries, twice if drawn twice."""
    rng, items = np.random.default_rng(seed), sorted(set(owner))
    drawn = [rng.integers(len(items), size=len(items)) for _ in range(samples)]
    pairs = list(zip(of, owner, strict=True))
    return [value([r for i in chosen for r, o in pairs if o == items[i]]) for chosen in drawn]


@given(cases(), st.integers(0, 99), st.sampled_from([1, 60, 2**21]))
def test_bootstrap_equals_naive_one(case, seed, block):
    similarity, owner = case
    of, ids = ranks(similarity, owner), 3 * owner + 2  # items have any numbers
    other, one = of.flip(0).tolist(), of.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "DRAWN", block)
        together = intervals(of, ids, tuple(VALUES), samples=30, seed=seed)
        for name, value in VALUES.items():
            drawn = naive_draws(one, ids.tolist(), value, 30, seed)
            assert together[name] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
            assert bootstrap_interval(of, ids, name, 30, seed) == together[name]
            less = np.subtract(drawn, naive_draws(other, ids.tolist(), value, 30, seed))
            expected = value(one) - value(other), *np.quantile(less, [0.025, 0.975])
            assert bootstrap_difference(of, of.flip(0), ids, name, 30, seed) == pytest.approx(
                expected
            )
        means = bootstrap_means(np.array([one, other]), ids, 30, seed)
        assert means[0] == pytest.approx(naive_draws(one, ids.tolist(), statistics.fmean, 30, seed))
        assert (bootstrap_means(other, ids, 30, seed) == means[1]).all() and means.shape == (2, 30)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3).map(sorted))
def test_a_verdict_needs_an_interval_on_one_side_of_zero(values):
    low, gain, high = values
    said = verdict((gain, low, high), "R@5")
    numbers, word = said.split(": ")
    assert numbers == f"{gain:+z.1f} points of R@5 [{low:+z.1f}, {high:+z.1f}]"
    printed = [float(number) for number in numbers.split("[")[1].strip("]").split(", ")]
    assert word == (
        "better" if printed[0] > 0 else "worse" if printed[1] < 0 else "no clear difference"
    )


def test_bad_input_of_the_bootstrap_is_named():
    of, items = torch.tensor([1, 3, 5, 7]), torch.tensor([4, 4, 9, 2])
    for name in ("R@", "MdR"):  # no median: its draws are not means
        with pytest.raises(ValueError, match=f"unknown metric '{name}'; expected 'R@k' or 'MnR'"):
            bootstrap_interval(of, items, name)
    for call, *wrong in (
        *((bootstrap_interval, of, owner) for owner in (items[:2], items[:0], items[None])),
        (bootstrap_means, torch.zeros(2, 5), items),
        (bootstrap_difference, of, of[:2], items),
    ):
        with pytest.raises(
            ValueError, match="values of the same queries, and as many item indices"
        ):
            call(*wrong)
