"""Rows of the methods' comparison: recall over seeds, paired differences, Holm's correction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cma.metrics import bootstrap_interval, ranks
from experiments.graded import ndcg
from experiments.rows import (
    DIRECTIONS,
    NDCG,
    MethodRow,
    difference,
    holm,
    read_rows,
    recall,
    share_of_gain,
)

OWNER = [item for item in range(300) for _ in range(2)]


def row(method: str, chance: float, seeds: int = 3, shift: int = 0) -> MethodRow:
    """Queries of an item are found together, with probability `chance`."""
    ranks = {}
    for seed in range(seeds):
        found = np.random.default_rng(seed + shift).random(300) < chance
        back = np.where(found, 1, 9).tolist()
        ranks[str(seed)] = {"text_to_visual": np.repeat(back, 2).tolist(), "visual_to_text": back}
    return MethodRow("toy", method, {}, ranks=ranks, text_to_item=OWNER)


WAY, BACK = DIRECTIONS


def test_recall_has_the_interval_of_the_metrics_whatever_the_number_of_seeds():
    one = row("a", 0.4, seeds=1)
    ranks = np.array(one.ranks["0"]["text_to_visual"])
    value, low, high = recall(one, WAY)
    assert value == pytest.approx(100 * (ranks == 1).mean())
    expected = bootstrap_interval(ranks, np.array(OWNER), "R@1", samples=2000)
    assert (low, high) == pytest.approx(expected, abs=0.7)
    one.ranks |= {"1": one.ranks["0"], "2": one.ranks["0"]}  # seeds are not counted as more items
    assert recall(one, WAY) == pytest.approx((value, low, high))


def test_ndcg_from_ranks_is_that_of_the_scores():
    scores = torch.rand(60, 30, generator=torch.Generator().manual_seed(0))
    owner = torch.arange(60) // 2
    found = {WAY: ranks(scores, owner).tolist(), BACK: [1] * 30}
    one = MethodRow("toy", "a", {}, ranks={"0": found}, text_to_item=owner.tolist())
    relevance = torch.nn.functional.one_hot(owner, 30).double()
    assert recall(one, WAY, NDCG)[0] == pytest.approx(100 * ndcg(scores, relevance).mean())
    assert difference(one, replace(one, method="b"), WAY, NDCG)[0] == 0


def test_a_share_of_the_gain_and_none_of_a_small_one():
    start, full, ours = row("a", 0.2), row("b", 0.6), row("c", 0.5)
    share, low, high = share_of_gain(ours, full, start, WAY)
    assert low < share < high and share == pytest.approx(75, abs=5) and high - low < 40
    assert share_of_gain(full, full, start, WAY) == pytest.approx((100, 100, 100))
    assert share_of_gain(ours, row("d", 0.25), start, WAY) is None


def test_a_difference_is_paired():
    # the same draws: what b finds, a finds
    one, other = row("a", 0.5, seeds=1), row("b", 0.4, seeds=1)
    gain, low, high, p = difference(one, other, WAY)
    assert gain == pytest.approx(recall(one, WAY)[0] - recall(other, WAY)[0])
    assert 0 < low < gain < high and p < 0.01
    apart = difference(one, row("b", 0.4, seeds=1, shift=50), WAY)
    assert apart[2] - apart[1] > 1.3 * (high - low)


def test_no_difference_has_a_high_p():
    same = difference(row("a", 0.4, seeds=1), row("b", 0.4, seeds=1), WAY)
    assert same == (0, 0, 0, 1)
    assert difference(row("a", 0.4), row("b", 0.4, shift=9), BACK)[3] > 0.05


def test_rows_of_other_items_or_of_no_seed_are_refused():
    other = row("b", 0.4)
    other.text_to_item = OWNER[1:] + [299]
    with pytest.raises(ValueError, match="toy-a and toy-b were tested on different items"):
        difference(row("a", 0.4), other, WAY)
    with pytest.raises(ValueError, match="toy-a: no seed has been tested yet"):
        recall(MethodRow("toy", "a", {}), WAY)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.01], planned=6) == [0.06]


def test_a_row_is_read_as_it_was_written(tmp_path):
    one = row("full fine-tuning", 0.4)
    one.save(tmp_path)
    assert one.path(tmp_path).name == "toy-full-fine-tuning.json"
    assert read_rows(tmp_path) == [one]
    (tmp_path / "toy-x.json").write_text('{"dataset": 3}')
    with pytest.raises(ValueError, match=r"toy-x\.json"):
        read_rows(tmp_path)
