"""A study: rates by two seeds on validation, others on test, and a row that goes on from where it
was.
"""

import dataclasses
import json
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from cma import RetrievalModel, data, methods
from cma.config import TrainConfig
from cma.methods import options_of, why_not
from cma.training import NotFinite, RunRecord, encode, query_ranks
from experiments import study as studies
from experiments.__main__ import main
from experiments.kept import HALF, load_half
from experiments.rows import Budget, MethodRow, read_rows
from experiments.study import FAILED, Study, TimeIsOver, neighbour
from tests.conftest import build_clip
from tests.experiments.conftest import stopped_after
from tests.toy_data import write_images

METHOD = "projection"
BUDGET = Budget(epochs=3, rates=[1e-3, 3e-3], rate_seeds=[8, 9], seeds=[1, 2], scan=False)
OURS = "cross-modal adapter"


@pytest.fixture
def study(folder, config: TrainConfig, toy_processor, tmp_path) -> Study:
    return Study(build_clip(), toy_processor, folder, config, BUDGET, tmp_path / "rows")


@pytest.mark.slow
def test_a_row_is_made_and_read_back(study, seen):
    row = study.run(METHOD)
    means = {}
    for entry in row.rates:
        means.setdefault(entry["lr"], []).append(entry["mR"])
    assert {entry["seed"] for entry in row.rates} == {8, 9} and {
        len(two) for two in means.values()
    } == {2}
    assert row.lr == min(means, key=lambda rate: (-sum(means[rate]), rate))
    assert list(row.records) == list(row.ranks) == ["1", "2"]
    for seed, record in row.records.items():
        assert (record["seed"], record["config"]["lr"], record["method"]) == (
            int(seed),
            row.lr,
            METHOD,
        )
        means = [entry["validation"]["mR"] for entry in record["history"]]
        assert record["selected_epoch"] == 1 + means.index(max(means))
        hits = [rank <= 1 for rank in row.ranks[seed]["text_to_visual"]]
        recall = record["metrics"]["text_to_visual"]["R@1"]
        assert (
            100 * sum(hits) / len(hits) == pytest.approx(recall)
            and record["metrics"]["split"] == "test"
        )
    assert seen.count("test") == 2 and seen.index("test") >= 2 * len(row.rates)
    trained = {path.parent.name for path in study.config.runs_dir.glob("*/checkpoint.pt")}
    assert len(trained) == 2 + len(row.rates)
    assert [entry["epoch"] for entry in row.records["1"]["history"]] == [1, 2, 3]
    short = RunRecord.load(study.config.runs_dir / f"{row.name}-lr{row.lr:g}-seed8" / "run.json")
    assert len(short.history) == 3 and short.metrics["split"] == "val"
    assert read_rows(study.results) == [row]
    seen.clear()
    assert study.run(METHOD) == row and not seen


def test_an_unknown_method_is_found_before_the_first_run(study, seen):
    with pytest.raises(ValueError, match="unknown method 'Adaptformer'; there are: zero-shot, "):
        study.run_all([METHOD, "Adaptformer"])
    assert not seen and not study.results.exists()


def test_no_run_begins_after_the_time_is_over(study, seen):
    study.until = time.time() - 1
    row = study.run(METHOD)
    assert (row.rates, row.lr, row.records) == ([], None, {}) and not seen
    with pytest.raises(TimeIsOver):
        study.choose_rate(row, METHOD)


@pytest.mark.slow
def test_a_stopped_study_gives_the_row_of_one_that_was_not(study, tmp_path):
    whole = study.run(METHOD)
    study.results, study.config = (
        tmp_path / "again",
        study.config.merge({"runs_dir": tmp_path / "other"}),
    )
    with stopped_after(3, studies, "train"), pytest.raises(KeyboardInterrupt):
        study.run(METHOD)
    row = study.run(METHOD)
    assert (row.rates, row.lr, row.ranks) == (whole.rates, whole.lr, whole.ranks)


@pytest.mark.parametrize(
    ("peak", "asked", "marked"),
    [
        (3e-3, [1e-3, 3e-3, 1e-2], False),
        (1e-2, [1e-3, 3e-3, 1e-2, 3e-2], False),  # at full length another is the best
        (3e-2, [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], False),
        (1e9, [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], True),
    ],
)
def test_a_scan_finds_the_rate_that_is_tried_with_its_neighbours(
    study, monkeypatch, peak, asked, marked
):
    """A scan sees its best at 3e-3; at full length the best is the nearest to the peak."""
    study.budget = Budget(epochs=3, rates=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2])

    def train(row, method, rate, seed, epochs, report_on):
        top = peak if epochs == 3 else 3e-3
        metrics = {"mR": -abs(rate - top), "text_to_visual": {"R@1": 0.0}}
        return SimpleNamespace(metrics=metrics)

    monkeypatch.setattr(study, "_train", train)
    row = study.row(METHOD)
    row.lr = study.choose_rate(row, METHOD)
    scanned = [(one["lr"], one["seed"]) for one in row.rates if one["epochs"] == 1]
    assert scanned == [(rate, 1) for rate in study.budget.rates]
    full = [(one["lr"], one["seed"]) for one in row.rates if one["epochs"] == 3]
    assert full == [(rate, seed) for rate in asked for seed in (1, 2)]
    assert row.lr == min(asked, key=lambda rate: abs(rate - peak))
    assert bool(row.marks()) == marked and "at the edge" in "".join(row.marks() or ["at the edge"])
    assert [neighbour(rate, up=False) for rate in (1e-5, 3e-5, 5e-3)] == [3e-6, 1e-5, 3e-3]
    assert neighbour(5e-3, up=True) == 1e-2


def test_a_rate_at_which_training_fails_is_worse_than_any_other(study, monkeypatch):
    row = MethodRow("toy", METHOD, {})
    with mock.patch.object(
        study, "_score", lambda row, method, rate, epochs: 0.0 if rate == 3e-3 else FAILED
    ):
        assert study.choose_rate(row, METHOD) == 3e-3
    monkeypatch.setattr(study, "_train", mock.Mock(side_effect=NotFinite("loss NaN")))
    with pytest.raises(
        ValueError, match=r"toy-projection: no rate of 0\.001, 0\.003 could be trained"
    ):
        study.choose_rate(row, METHOD)
    assert {entry["mR"] for entry in row.rates} == {None}


def test_a_row_of_another_backbone_is_refused(study, monkeypatch):
    monkeypatch.setattr(study.clip.config, "_commit_hash", "4567", raising=False)
    row = study.row(METHOD)
    row.rates = [{"lr": 1e-3, "seed": 1, "mR": 20.0, "R@1": 10.0}]  # no run is finished yet
    row.save(study.results)
    assert study.row(METHOD).rates == row.rates
    monkeypatch.setattr(study.clip.config, "_commit_hash", "0123abcd")
    with pytest.raises(
        ValueError, match=r"toy-projection\.json: its backbone is 4567, not 0123abcd; use other"
    ):
        study.row(METHOD)
    # older
    row.backbone, row.records = None, {"42": {"backbone": {"name": "mini", "revision": "4567"}}}
    row.save(study.results)
    with pytest.raises(ValueError, match="its backbone is 4567, not 0123abcd"):
        study.row(METHOD)
    # evaluated alone, or trained on a part
    for digest, held_out in (("", 0), ("of other data", 5)):
        row.records["42"] |= {"data_digest": digest, "held_out_items": held_out}
        row.records["42"]["backbone"]["revision"] = "0123abcd"
        row.save(study.results)
        assert study.row(METHOD).records == row.records
    row.records["42"]["held_out_items"] = 0
    row.save(study.results)
    with pytest.raises(
        ValueError, match=r"toy-projection\.json: it was trained on other data; use other"
    ):
        study.row(METHOD)


def test_a_row_of_another_world_is_refused(study):
    row = study.row(METHOD)
    row.world, row.rates = "a" * 64, [{"lr": 1e-3, "seed": 1, "mR": 20.0, "R@1": 10.0}]
    row.save(study.results)
    assert study.row(METHOD).world == "a" * 64  # a dataset that has no world of its own
    origin = study.folder / "media" / "origin.json"
    origin.write_text(json.dumps({"pixels": "b" * 64}))
    try:
        said = rf"toy-projection\.json: its world has the pixels {'a' * 12}, not {'b' * 12}; use"
        with pytest.raises(ValueError, match=said):
            study.row(METHOD)
    finally:
        origin.unlink()


def test_a_seed_that_fails_or_falls_is_lost_and_the_row_gets_no_verdict(study, monkeypatch):
    monkeypatch.setattr(study, "_train", mock.Mock(side_effect=NotFinite("loss NaN")))
    study.given = {METHOD: 1e-3}
    row = study.run(METHOD)
    assert row.lost == {"1": "loss NaN", "2": "loss NaN"} and not row.records and not row.rates
    assert row.marks() == [f"seed {seed} could not be trained" for seed in (1, 2)]
    assert study.run(METHOD) == row  # not tried again
    low, high = ({"history": [{"validation": {"mR": value}}]} for value in (6.9, 10.0))
    row = MethodRow("toy", METHOD, {"scan": False}, records={"1": low, "2": high})
    assert row.marks() == ["seed 1 fell below 70% of its best"]
    row.records["1"] = {"history": [{"validation": {"mR": 7.1}}]}
    assert row.marks() == []
    assert replace(row, budget={}, records={"1": low, "2": high}).marks() == []  # an older rule


def test_the_first_seed_of_ours_is_kept_in_half_precision_and_measured_from_there(study):
    study.given, study.keep = {OURS: 3e-2}, OURS
    study.budget = Budget(epochs=1, rates=[1e-3], rate_seeds=[9], seeds=[1, 2])
    row = study.run(OURS)
    place = study.results / row.name
    assert {file.name for file in place.iterdir()} == {HALF, "adapter_config.json"}
    model = RetrievalModel(study.clip, study.processor)
    load_half(model, "again", place)
    halves = model.get_adapter("again").state_dict()
    assert all(torch.equal(value, value.half().float()) for value in halves.values())
    assert any(value.abs().max() > 0 for value in halves.values())
    test = data.load(study.folder, "test")
    encoded = encode(model, test, study.config)
    assert query_ranks(encoded, test, study.config) == row.ranks["1"]
    hits = [rank <= 1 for rank in row.ranks["1"]["text_to_visual"]]
    recall = row.records["1"]["metrics"]["text_to_visual"]["R@1"]
    assert 100 * sum(hits) / len(hits) == pytest.approx(recall)
    trained = study.config.runs_dir / f"{row.name}-lr0.03-seed1"
    model.load_adapter(trained, "trained")
    whole = model.get_adapter("trained").state_dict()
    assert any(not torch.equal(whole[key], value) for key, value in halves.items())
    model.set_adapter(None)
    study.clip.config._commit_hash = "0123abcd"
    with pytest.raises(ValueError, match="was trained on the backbone .*, not 0123abcd"):
        load_half(model, "other", place)


def test_another_world_takes_the_rates_of_the_first(folder, tmp_path, monkeypatch):
    MethodRow("toy", METHOD, {}, lr=3e-2).save(tmp_path / "rows")
    MethodRow("toy", OURS, {}).save(tmp_path / "rows")  # has chosen none yet
    MethodRow("other", "CoOp", {}, lr=1.0).save(tmp_path / "rows")
    ran = []
    monkeypatch.setattr(Study, "run_all", lambda study, names: ran.append((study, names)))
    words = ["study", str(folder), "--results", str(tmp_path / "again" / "methods")]
    assert main([*words, "--rates-of", str(tmp_path / "rows"), "--methods", METHOD]) == 0
    ((study, names),) = ran
    assert names == [METHOD] and study.given == {METHOD: 3e-2} and study.keep == OURS
    budget = study.budget_of(METHOD)
    assert (budget.rates, budget.scan, budget.seeds) == ([3e-2], False, [42, 43, 44])
    assert study.budget_of(OURS).scan


def test_methods_may_report_other_seeds():
    budget = Budget(seeds_of={OURS: [42, 43, 44, 45, 46]})
    assert budget.of(OURS).seeds == [42, 43, 44, 45, 46] and budget.of("CoOp").seeds == [42, 43, 44]
    assert budget.of(OURS).seeds_of == {}
    assert (budget.rates[0], budget.rates[-1], len(budget.rates)) == (3e-5, 1, 10)
    with pytest.raises(ValueError, match="no seed in both lists"):
        Budget(seeds_of={OURS: [1]})


def test_git_commits_each_record_if_wanted(study, tmp_path):
    study.results.mkdir()
    git = ("git", "-C", str(study.results))
    for words in (("init", "-q"), ("config", "user.name", "a"), ("config", "user.email", "a@b")):
        subprocess.run([*git, *words], check=True)
    study.commits = True
    study.run("zero-shot")
    log = subprocess.run([*git, "log", "--format=%s"], capture_output=True, text=True, check=True)
    assert log.stdout == "results: toy-zero-shot\n"


def test_what_cannot_be_trained_in_half_precision_is_left_out(study, seen, capsys):
    study.config = study.config.merge({"precision": "fp16"})
    study.run_all(["full fine-tuning"])
    assert (
        "full fine-tuning: left out, because it cannot do toy in fp16: its"
        in capsys.readouterr().out
    )
    assert not seen


def test_zero_shot_trains_nothing(study, seen):
    row = study.run("zero-shot")
    assert list(row.records) == ["0"] and not seen
    assert len(row.ranks["0"]["visual_to_text"]) == len(data.load(study.folder, "test"))


def test_further_test_sets_beside_a_dataset_are_tested_too(study, folder, tmp_path):
    root = tmp_path / "data"
    study.folder = Path(shutil.copytree(folder, root / "toy"))
    write_images(root / "toy-new", {"test": 6})
    write_images(root / "toy-twins", {"test": 8}, captions=1)
    records = "".join(
        json.dumps({"id": f"{kind}-{n}-{one}"}) + "\n"
        for kind in "xy"
        for n in "12"
        for one in "ab"
    )
    (root / "toy-twins" / "media" / "records.jsonl").write_text(records)
    further = study.run("zero-shot").further["0"]
    assert (
        list(further) == ["toy-new", "toy-twins"] and len(further["toy-new"]["visual_to_text"]) == 6
    )
    assert {kind: set(scores) for kind, scores in further["toy-twins"].items()} == {
        kind: {"text", "image", "group"} for kind in "xy"
    }


def test_the_protocol_says_what_each_method_gets(tmp_path):
    file = tmp_path / studies.PROTOCOL
    assert studies.budget_of("toy", file) == Budget()
    file.write_text(json.dumps({"budgets": {"toy": {"epochs": 3}}}))
    assert (
        studies.budget_of("toy", file).epochs == 3 and studies.budget_of("other", file) == Budget()
    )
    file.write_text("{")
    with pytest.raises(ValueError, match=studies.PROTOCOL):
        studies.budget_of("toy", file)


def test_a_method_of_your_own(study):
    class Mine(methods.METHODS[METHOD]):
        NAME = "mine"

    study.budget = Budget(epochs=1, rates=[1e-3], rate_seeds=[9], seeds=[1])
    row = study.run(Mine)
    assert row.name == "toy-mine" and row.records["1"]["method"] == "mine"


def test_errors_are_one_line(study, folder, tmp_path, capsys):
    study.run("zero-shot")
    study.budget = Budget(epochs=4)
    with pytest.raises(ValueError, match=r"toy-zero-shot\.json: its budget is .*use other folders"):
        study.run("zero-shot")
    for wrong in ({"rates": []}, {"rate_seeds": [1, 42]}):
        with pytest.raises(ValueError, match="expected some of each, and no seed in both lists"):
            Budget(**wrong)
    with pytest.raises(ValueError, match="unknown method 'prompt'; there are: zero-shot, "):
        study.run("prompt")
    capsys.readouterr()
    assert main(["study", str(tmp_path / "absent")]) == 1
    (tmp_path / studies.PROTOCOL).write_text('{"budgets": {"toy": {"epoch": 3}}}')
    assert main(["study", str(folder), "--results", str(tmp_path / "methods")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)


def test_pictures_and_clips_have_the_options_of_their_tables(folder):
    pictures = data.load(folder, "train")
    clips = dataclasses.replace(pictures, kind="video", recipe="activitynet")
    assert options_of("AdaptFormer", pictures) == {"bottleneck_dim": 16}
    assert not options_of("AdaptFormer", clips)
    assert options_of("cross-modal adapter", clips) == {"bottleneck_dim": 16, "shared_dim": 512}
    assert options_of("adapter without sharing", clips) == {"bottleneck_dim": 16}
    assert why_not("ST-Adapter", pictures) and not why_not("ST-Adapter", clips)
