"""What CI checks of each run record in results/, so that somebody's run can become a row."""

import hashlib

import pytest

from cma import recipes
from cma.metrics import RECALLS
from cma.training import RunRecord
from experiments import report, rows
from tests import ROOT
from tests.bench.budget import COUNTS

WAY, BACK = rows.DIRECTIONS


def check(run: RunRecord) -> None:
    """Fail, in words, where something is wrong with a record."""
    metrics = run.metrics
    assert run.finished, "expected a finished run"
    assert run.commit and not run.commit.endswith("+"), (
        "expected a committed version (commit without +)"
    )
    for way in rows.DIRECTIONS:
        recalls = [metrics[way][key] for key in RECALLS]
        assert recalls == sorted(recalls), f"{way}: recall must grow with K"
        for key, recall in zip(RECALLS, recalls, strict=True):
            low, high = metrics["intervals"].get(way, {}).get(key, (100, 0))
            assert low <= recall <= high, f"{way}: {key} needs an interval that it lies in"
    if run.select_on in ("val", "test"):
        seen = [entry["validation"] for entry in run.history if "validation" in entry]
        by_mean = run.config.get("select_by") == "mR"
        watched = [one["mR"] if by_mean else one["text_to_visual"]["R@1"] for one in seen]
        best = watched.index(max(watched)) + 1
        assert best == run.selected_epoch, f"the kept epoch must be the best on {run.select_on}"
    if run.dataset in COUNTS:
        check_benchmark(run)


def check_benchmark(run: RunRecord) -> None:
    """A run on a real benchmark: its counts, whole hits, and the adapter of the paper's recipe."""
    metrics, published = run.metrics, COUNTS[run.dataset]["test"]
    items = f"expected {published.items:,} test items"
    assert metrics["expected_items"] == published.items >= metrics["items"], items
    whole = metrics["items"] < published.items or metrics["texts"] == published.captions
    assert whole, f"expected {published.captions:,} test captions"
    for way, queries in zip(rows.DIRECTIONS, (metrics["texts"], metrics["items"]), strict=True):
        for hits in (metrics[way][key] * queries / 100 for key in RECALLS):
            assert abs(hits - round(hits)) < 1e-6, (
                f"{way}: no whole number of hits of {queries:,} queries"
            )
    if report.recipe_of(run) == "paper" and run.method == "cross-modal adapter":
        recipe = recipes.recipe(run.dataset)
        ours = {"bottleneck_dim": recipe.bottleneck_dim, "shared_dim": recipe.shared_dim}
        assert (run.adapter or {}) | ours == run.adapter, (
            f"expected the adapter of the recipe: {ours}"
        )


@pytest.mark.parametrize("run", report.read_records(ROOT / "results"), ids=lambda run: run.name)
def test_each_kept_record_is_sound(run):
    check(run)


RECORDED = "f3661d16c5d6539fc3e4b0e1ad1710307df2959f1ee001ed1a3f66950db599b4"


def test_the_rows_that_were_recorded_first_are_unchanged():
    """They are those of commit dca4599, without the ranks on `-other`, which no longer exists."""
    total, count = hashlib.sha256(), 0
    for place in ("methods", "ablations", "curves/[!p]*", "curves/pooling-mean", "second-world/*"):
        for file in sorted((ROOT / "results").glob(f"{place}/mini-*.json")):
            if file.stem == "mini-msrvtt-tempme":
                continue  # recorded later
            total.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
            count += 1
    assert count == 78 and total.hexdigest() == RECORDED
