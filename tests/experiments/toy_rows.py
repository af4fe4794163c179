"""Made-up run records and rows of a study, and what is read from them."""

import json

import numpy as np

from cma.training import RunRecord
from experiments import gains, published
from experiments.rows import MethodRow
from tests import ROOT


def record(name="r", method="cross-modal adapter", select_on="val", **changes) -> RunRecord:
    recalls = {"R@1": 23.71, "R@5": 45.0, "R@10": 66.6, "MdR": 6.0, "MnR": 20.5}
    between = {"R@1": (20.1, 27.3), "R@5": (41.0, 49.0), "R@10": (62.0, 71.0)}
    metrics = {"split": "test", "texts": 1320, "items": 350, "expected_items": 350, "mR": 48.0}
    metrics |= {"text_to_visual": recalls, "visual_to_text": recalls | {"R@1": 40.0}}
    metrics["intervals"] = {"text_to_visual": between, "visual_to_text": between}
    values = {"name": name, "dataset": "mini-flickr30k", "kind": "image", "method": method}
    values |= {"seed": 42, "backbone": {"name": "mini"}, "config": {"epochs": 10}, "adapter": None}
    values |= {"select_on": select_on, "selected_epoch": 7, "metrics": metrics, "seconds": 98.4}
    values |= {"trained_parameters": 1000, "total_parameters": 100_000}
    return RunRecord(**values | {"hardware": {"threads": 2}, "commit": "abc1234"} | changes)


OURS, FULL, ZERO = published.PAPER, published.FULL, published.ZERO_SHOT


ITEMS = 150


OWNER = [item for item in range(ITEMS) for _ in range(2)]


def row(method: str, chance: float, seeds: int = 3, dataset: str = "mini-flickr30k") -> MethodRow:
    """A method that finds an item, at rank 1 with all its captions, with probability `chance`; made
    up.
    """
    ranks, records = {}, {}
    for seed in range(seeds):
        luck = np.random.default_rng(7).random(ITEMS)
        luck += np.random.default_rng(seed).normal(0, 0.02, ITEMS)
        back = np.where(luck < chance, 1, np.where(luck < chance + 0.2, 7, 40)).tolist()
        ranks[str(seed)] = {"text_to_visual": np.repeat(back, 2).tolist(), "visual_to_text": back}
        one = record(f"{dataset}-{method}-{seed}", method, seed=seed, dataset=dataset)
        one.trained_parameters = {ZERO: 0, FULL: 5000}.get(method, 100)
        records[str(seed)] = json.loads(one.to_json())
    return MethodRow(dataset, method, {}, records=records, ranks=ranks, text_to_item=OWNER)


ROWS = [row(ZERO, 0.1, seeds=1), row(OURS, 0.3), row(FULL, 0.4), row("CoOp", 0.05)]


ROWS += [row("LoRA", 0.3)]


PLANNED = {
    "first": {"mini-flickr30k": [FULL, gains.WITHOUT, "LoRA"]},
    "second": {"mini-flickr30k": [ZERO, "CoOp"]},
}


def findings(rows, **own) -> gains.Findings:
    return gains.Findings(ROOT / "none", gains.by_dataset(rows), **{"planned": PLANNED} | own)
