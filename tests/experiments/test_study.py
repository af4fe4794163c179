"""A study: rates by two seeds on validation, others on test, and a row that goes on from where it
was.
"""

import json
import re
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cma import RetrievalModel, data
from cma.checkpoints import WEIGHTS
from cma.config import TrainConfig
from cma.methods import class_of
from cma.training import NotFinite, RunRecord, encode, evaluate, query_ranks
from experiments import study as studies
from experiments.__main__ import main
from experiments.rows import Budget, MethodRow, read_rows
from experiments.study import Study, defined
from experiments.world import PROTOCOL
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
    means = {rate: [] for rate in BUDGET.rates}
    for entry in row.rates:
        means[entry["lr"]].append(entry["mR"])
    assert [entry["seed"] for entry in row.rates] == [8, 9, 8, 9]
    assert row.lr == max(means, key=lambda rate: (sum(means[rate]), -rate))
    assert list(row.records) == list(row.ranks) == ["1", "2"]
    for seed, run in row.records.items():
        assert (run["seed"], run["config"]["lr"], run["method"]) == (int(seed), row.lr, METHOD)
        watched = [entry["validation"]["mR"] for entry in run["history"]]
        assert len(watched) == 3 and run["selected_epoch"] == 1 + watched.index(max(watched))
        hits = [rank <= 1 for rank in row.ranks[seed]["text_to_visual"]]
        metrics = run["metrics"]
        assert 100 * sum(hits) / len(hits) == pytest.approx(metrics["text_to_visual"]["R@1"])
        assert metrics["split"] == "test"
    assert seen.count("test") == 2 and seen.index("test") >= 2 * len(row.rates)
    assert len(list(study.config.runs_dir.glob("*/checkpoint.pt"))) == 2 + len(row.rates)
    short = RunRecord.load(study.config.runs_dir / f"{row.name}-lr{row.lr:g}-seed8" / "run.json")
    assert len(short.history) == 3 and short.metrics["split"] == "val"
    assert read_rows(study.results) == [row]
    seen.clear()
    assert study.run(METHOD) == row and not seen


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
def test_a_scan_finds_the_rate_that_is_tried_with_its_neighbours(study, peak, asked, marked):
    """A scan sees its best at 3e-3; at full length the best is the nearest to the peak."""
    study.budget = Budget(epochs=3, rates=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2])

    @contextmanager
    def trained(row, method, rate, seed, epochs, split):
        top = peak if epochs == 3 else 3e-3
        metrics = {"mR": -abs(rate - top), "text_to_visual": {"R@1": 0.0}}
        yield None, SimpleNamespace(metrics=metrics)

    study.trained = trained
    row = study.row(METHOD)
    row.lr = study.choose_rate(row, METHOD)
    tried = {epochs: [] for epochs in (1, 3)}
    for one in row.rates:
        tried[one["epochs"]].append((one["lr"], one["seed"]))
    assert tried[1] == [(rate, 1) for rate in study.budget.rates]
    assert tried[3] == [(rate, seed) for rate in asked for seed in (1, 2)]
    assert row.lr == min(asked, key=lambda rate: abs(rate - peak))
    edge = f"its best rate, {row.lr:g}, is at the edge of the tried rates"
    assert (edge in row.marks()) == marked


@contextmanager
def failing(*values):
    raise NotFinite("loss NaN")
    yield


RUN = {"backbone": {"name": "mini", "revision": "0123abcd"}, "data_digest": "of other data"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "0123abcd"}, ""),
        ({"backbone": "4567"}, "its backbone is 4567, not 0123abcd"),
        # an older row names it in its records alone
        ({"records": {"42": RUN | {"backbone": {"revision": "4567"}}}}, "its backbone is 4567"),
        ({"records": {"42": RUN | {"data_digest": ""}}}, ""),  # evaluated alone
        ({"records": {"42": RUN | {"held_out_items": 5}}}, ""),  # trained on a part
        ({"records": {"42": RUN}}, "it was trained on other data"),
        ({"world": "b" * 64}, ""),
        ({"world": "a" * 64}, f"its world has the pixels {'a' * 12}, not {'b' * 12}"),
        ({"budget": {}}, "its budget is {}, not {'epochs': 3"),
    ],
)
def test_a_row_of_something_else_is_refused(study, tmp_path, changes, said):
    study.folder = Path(shutil.copytree(study.folder, tmp_path / "toy"))
    study.clip.config._commit_hash = "0123abcd"
    there = replace(study.row(METHOD), rates=[{"lr": 1e-3, "seed": 1}], **changes)
    there.save(study.results)
    (study.folder / "media" / "origin.json").write_text(json.dumps({"pixels": "b" * 64}))
    if not said:
        found = study.row(METHOD)
        assert (found.rates, found.world) == (there.rates, "b" * 64)
        return
    with pytest.raises(ValueError, match=rf"toy-projection\.json: {re.escape(said)}.*; use other"):
        study.row(METHOD)


def test_a_seed_that_fails_or_falls_is_lost_and_the_row_gets_no_verdict(study):
    study.trained = failing
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
    unfinished = replace(row, lr=0.1, budget={"seeds": [1, 3]})
    assert unfinished.marks() == ["seeds not trained yet: 3"]


def test_the_first_seed_of_ours_is_kept_in_half_precision_and_tested_from_there(study):
    study.given, study.keep = {OURS: 3e-2}, OURS
    study.budget = Budget(epochs=1, rates=[1e-3], rate_seeds=[9], seeds=[1, 2])
    row = study.run(OURS)
    place = study.results / row.name
    assert {file.name for file in study.results.iterdir()} == {row.name, f"{row.name}.json"}
    model = RetrievalModel(study.clip, study.processor)
    trained = model.load_adapter(study.config.runs_dir / f"{row.name}-lr0.03-seed1", "trained")
    model.load_adapter(place, "kept")
    kept, whole = model.get_adapter("kept").state_dict(), trained.state_dict()
    numbers = sum(value.numel() for value in kept.values())
    assert 2 * numbers < (place / WEIGHTS).stat().st_size < 2 * numbers + 2000
    for key, value in kept.items():
        assert torch.equal(value, whole[key].half().float())
    assert any(not torch.equal(value, whole[key]) for key, value in kept.items())
    test = data.load(study.folder, "test")
    encoded = encode(model, test, study.config)
    assert query_ranks(encoded, test, study.config) == row.ranks["1"] != row.ranks["2"]
    metrics = evaluate(model, test, study.config, encoded=encoded)
    assert json.loads(json.dumps(metrics)) == row.records["1"]["metrics"]
    model.set_adapter(None)
    study.clip.config._commit_hash = "0123abcd"
    with pytest.raises(ValueError, match=f"{row.name}: trained on .*: load the backbone it was tr"):
        model.load_adapter(place, "other", strict=True)


def test_zero_shot_trains_nothing_and_is_tested_on_further_sets_too(study, seen, tmp_path):
    study.folder = Path(shutil.copytree(study.folder, tmp_path / "data" / "toy"))
    write_images(tmp_path / "data" / "toy-new", {"test": 6})
    contrasts = write_images(tmp_path / "data" / "toy-twins", {"test": 8}, captions=1)
    ids = [f"{kind}-{n}-{one}" for kind in "xy" for n in "12" for one in "ab"]
    records = "".join(json.dumps({"id": id}) + "\n" for id in ids)
    (contrasts / "media" / "records.jsonl").write_text(records)
    row = study.run("zero-shot")
    assert list(row.records) == ["0"] and not seen
    assert len(row.ranks["0"]["visual_to_text"]) == len(data.load(study.folder, "test"))
    further = row.further["0"]
    assert list(further) == ["toy-new", "toy-twins"]
    assert len(further["toy-new"]["visual_to_text"]) == 6
    scores = {"text", "image", "group"}
    assert {kind: set(of) for kind, of in further["toy-twins"].items()} == {
        "x": scores,
        "y": scores,
    }


def test_what_cannot_be_run_is_said_before_the_first_run(study, seen, tmp_path, capsys):
    study.config = study.config.merge({"precision": "fp16"})
    study.run_all(["full fine-tuning"])
    said = "full fine-tuning: left out, because it cannot do toy in fp16: its"
    assert said in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown method 'Adaptformer'; there are: .*zero-shot, "):
        study.run_all([METHOD, "Adaptformer"])
    for wrong in ({"rates": []}, {"rate_seeds": [1, 42]}, {"seeds_of": {OURS: [1]}}):
        with pytest.raises(ValueError, match="expected some of each, and no seed in both lists"):
            Budget(**wrong)
    (tmp_path / PROTOCOL).write_text('{"budgets": {"toy": {"epoch": 3}}}')
    for words in ([tmp_path / "absent"], [study.folder, "--results", tmp_path / "methods"]):
        assert main(["study", *map(str, words)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not seen and not study.results.exists()


def test_a_method_of_ones_own_is_named_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("cma.method.METHODS", {})
    text = "from cma.methods import Method\n\nclass Mine(Method):\n    NAME = 'mine'\n"
    (tmp_path / "of_mine.py").write_text(text)
    assert defined(f"{tmp_path / 'of_mine.py'}:mine") == "mine"
    assert class_of("mine").__module__ == "of_mine"
    assert defined("VPT") == "VPT"
