"""What CI checks of each run record in results/, so that somebody's run can become a row."""

import copy

import pytest

from cma import recipes
from cma.metrics import RECALLS
from cma.training import RunRecord
from experiments import report, rows
from tests import ROOT
from tests.bench.budget import COUNTS
from tests.experiments.test_report import record


def faults(run: RunRecord) -> list[str]:
    """What is wrong with a record, in words."""
    found, metrics = benchmark_faults(run) if run.dataset in COUNTS else [], run.metrics
    if not run.finished or not run.commit or run.commit.endswith("+"):
        found.append("expected a finished run of a committed version (commit without +)")
    for way in rows.DIRECTIONS:
        recalls = [metrics[way][key] for key in RECALLS]
        between = metrics["intervals"].get(way, {})
        if recalls != sorted(recalls):
            found.append(f"{way}: recall must grow with K")
        ends = [between.get(key, (100, 0)) for key in RECALLS]
        if not all(low <= recall <= high for recall, (low, high) in zip(recalls, ends, strict=True)):
            found.append(f"{way}: each recall needs an interval that it lies in")
    seen = [entry["validation"] for entry in run.history if "validation" in entry]
    by_mean = run.config.get("select_by") == "mR"
    watched = [one["mR"] if by_mean else one["text_to_visual"]["R@1"] for one in seen]
    if run.select_on in ("val", "test") and watched.index(max(watched)) + 1 != run.selected_epoch:
        found.append(f"the kept epoch must be the best on {run.select_on}")
    return found


def benchmark_faults(run: RunRecord) -> list[str]:
    """Faults of a run on a real benchmark: its counts, whole hits, and the adapter of the paper's recipe."""
    found, metrics, published = [], run.metrics, COUNTS[run.dataset]["test"]
    if metrics["expected_items"] != published.items or metrics["items"] > published.items:
        found.append(f"expected {published.items:,} test items")
    if metrics["items"] == published.items and metrics["texts"] != published.captions:
        found.append(f"expected {published.captions:,} test captions")
    for way, queries in zip(rows.DIRECTIONS, (metrics["texts"], metrics["items"]), strict=True):
        hits = [metrics[way][key] * queries / 100 for key in RECALLS]
        if any(abs(hit - round(hit)) > 1e-6 for hit in hits):
            found.append(f"{way}: a recall is no whole number of hits of {queries:,} queries")
    recipe = recipes.recipe(run.dataset)
    ours = {"bottleneck_dim": recipe.bottleneck_dim, "shared_dim": recipe.shared_dim}
    paper = report.recipe_of(run) == "paper" and run.method == "cross-modal adapter"
    if paper and not (run.adapter and ours.items() <= run.adapter.items()):
        found.append(f"expected the adapter of the recipe: {ours}")
    return found


@pytest.mark.parametrize("run", report.read_records(ROOT / "results"), ids=lambda run: run.name)
def test_each_kept_record_is_sound(run):
    assert not faults(run), faults(run)


def test_a_record_is_kept_in_a_file_of_its_name():
    files = [path for path in ROOT.glob("results/*.json") if b'"metrics"' in path.read_bytes()]
    assert [path.stem for path in files] == [RunRecord.load(path).name for path in files] != []


def good() -> RunRecord:
    """A record of MSR-VTT that has nothing wrong; its numbers are made up."""
    run = record("msrvtt-paper", dataset="msrvtt", kind="video", select_on="test", selected_epoch=2)
    recipe = recipes.recipe("msrvtt")
    run.config = vars(recipe.train_config("paper"))
    run.adapter = vars(recipe.adapter_config())
    run.finished, run.metrics = "2026-01-01T00:00:00+00:00", copy.deepcopy(run.metrics)
    run.metrics |= {"texts": 1000, "items": 1000, "expected_items": 1000}
    for way in rows.DIRECTIONS:
        run.metrics[way] |= {"R@1": 23.7, "R@5": 45.0, "R@10": 66.6}
    run.history = [{"validation": {"text_to_visual": {"R@1": value}}} for value in (20.0, 23.7, 23.7)]
    return run


def test_a_sound_record_passes_and_its_row_says_how_it_was_made():
    assert faults(good()) == []
    cells = report.table([good()]).splitlines()[2].split(" | ")
    assert cells[5:8] == ["1,000 texts, 1,000 items", "2 of 5, (chosen on test, the authors' habit)", "paper"]


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda run: setattr(run, "commit", "abc+"), "a committed version"),
        (lambda run: setattr(run, "finished", ""), "a finished run"),
        (lambda run: setattr(run, "selected_epoch", 3), "must be the best on test"),
        (lambda run: run.metrics.update(texts=20_000), "expected 1,000 test captions"),
        (lambda run: run.metrics.update(expected_items=None), "expected 1,000 test items"),
        (lambda run: run.metrics["text_to_visual"].update({"R@1": 23.75}), "no whole number of hits"),
        (lambda run: run.metrics["visual_to_text"].update({"R@5": 20.0}), "recall must grow with K"),
        (lambda run: run.metrics["intervals"]["text_to_visual"].pop("R@5"), "needs an interval"),
        (lambda run: run.metrics["visual_to_text"].update({"R@1": 12.0}), "that it lies in"),
        (lambda run: run.adapter.update(shared_dim=64), "expected the adapter of the recipe"),
    ],
)
def test_a_record_that_is_not_sound_is_refused(spoil, said):
    run = good()
    spoil(run)
    assert any(said in fault for fault in faults(run)), faults(run)
