"""A study: rates by halving on validation, seeds on test, and a row that goes on from where it was."""

import dataclasses
import time
from unittest import mock

import pytest

from cma import data, methods
from cma.config import TrainConfig
from cma.methods import options_of, why_not
from cma.training import NotFinite
from experiments import study as studies
from experiments.__main__ import main
from experiments.rows import Budget, MethodRow, read_rows
from experiments.study import FAILED, Study, TimeIsOver, neighbour
from tests.conftest import build_clip
from tests.experiments.conftest import stopped_after

METHOD = "projection"
BUDGET = Budget(epochs=3, rungs=[1, 2], keep=[2, 1], rates=[1e-3, 3e-3], seeds=[1, 2])


@pytest.fixture
def study(folder, config: TrainConfig, toy_processor, tmp_path) -> Study:
    return Study(build_clip(), toy_processor, folder, config, BUDGET, tmp_path / "rows")


@pytest.mark.slow
def test_a_row_is_made_and_read_back(study, seen):
    row = study.run(METHOD)
    assert {entry["epochs"] for entry in row.rates} == {1, 2}
    second = {entry["lr"]: entry["mR"] for entry in row.rates if entry["epochs"] == 2}
    assert len(second) == 2 and row.lr == min(second, key=lambda rate: (-second[rate], rate))
    assert list(row.records) == list(row.ranks) == ["1", "2"]
    for seed, record in row.records.items():
        assert (record["seed"], record["config"]["lr"], record["method"]) == (int(seed), row.lr, METHOD)
        means = [entry["validation"]["mR"] for entry in record["history"]]
        assert record["selected_epoch"] == 1 + means.index(max(means))
        hits = [rank <= 1 for rank in row.ranks[seed]["text_to_visual"]]
        recall = record["metrics"]["text_to_visual"]["R@1"]
        assert 100 * sum(hits) / len(hits) == pytest.approx(recall) and record["metrics"]["split"] == "test"
    assert seen.count("test") == 2 and seen.index("test") >= len(row.rates)
    trained = {path.parent.name for path in study.config.runs_dir.glob("*/checkpoint.pt")}
    assert f"{row.name}-lr{row.lr:g}-seed1" in trained  # the rate that was chosen went on from its rung
    assert len(trained) == 1 + len({entry["lr"] for entry in row.rates})
    assert [entry["epoch"] for entry in row.records["1"]["history"]] == [1, 2, 3]
    assert read_rows(study.results) == [row]
    seen.clear()
    assert study.run(METHOD) == row and not seen


def test_no_run_begins_after_the_time_is_over(study, seen):
    study.until = time.time() - 1
    row = study.run(METHOD)
    assert (row.rates, row.lr, row.records) == ([], None, {}) and not seen
    with pytest.raises(TimeIsOver):
        study.choose_rate(row, METHOD)


@pytest.mark.slow
def test_a_stopped_study_gives_the_row_of_one_that_was_not(study, tmp_path):
    whole = study.run(METHOD)
    study.results, study.config = tmp_path / "again", study.config.merge({"runs_dir": tmp_path / "other"})
    with stopped_after(3, studies, "train"), pytest.raises(KeyboardInterrupt):
        study.run(METHOD)
    row = study.run(METHOD)
    assert (row.rates, row.lr, row.ranks) == (whole.rates, whole.lr, whole.ranks)


def test_the_grid_is_extended_at_its_edge(study, monkeypatch):
    score = mock.Mock(side_effect=lambda row, method, rate, rung: rate)  # the higher the better
    monkeypatch.setattr(study, "_score", score)
    assert study.choose_rate(MethodRow("toy", METHOD, {}), METHOD) == 3e-1
    asked = [call.args[2:] for call in score.call_args_list]
    first = [(rate, 1) for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)]
    assert asked == [*first, (3e-1, 2), (1e-1, 2)]
    assert [neighbour(rate, up=False) for rate in (1e-5, 3e-5, 5e-3)] == [3e-6, 1e-5, 3e-3]
    assert neighbour(5e-3, up=True) == 1e-2


def test_a_rate_at_which_training_fails_is_worse_than_any_other(study, monkeypatch):
    row = MethodRow("toy", METHOD, {})
    with mock.patch.object(study, "_score", lambda row, method, rate, rung: 0.0 if rate == 3e-3 else FAILED):
        assert study.choose_rate(row, METHOD) == 3e-3
    monkeypatch.setattr(study, "_train", mock.Mock(side_effect=NotFinite("loss NaN")))
    with pytest.raises(ValueError, match=r"toy-projection: no rate of \[0\.001, 0\.003\] could be trained"):
        study.choose_rate(row, METHOD)
    assert {entry["mR"] for entry in row.rates} == {None}


def test_zero_shot_trains_nothing(study, seen):
    row = study.run("zero-shot")
    assert list(row.records) == ["0"] and not seen
    assert len(row.ranks["0"]["visual_to_text"]) == len(data.load(study.folder, "test"))


def test_a_method_of_your_own(study):
    class Mine(methods.METHODS[METHOD]):
        NAME = "mine"

    study.budget = Budget(epochs=1, rungs=[1], keep=[1], rates=[1e-3], seeds=[1])
    row = study.run(Mine)
    assert row.name == "toy-mine" and row.records["1"]["method"] == "mine"


def test_errors_are_one_line(study, folder, tmp_path, capsys):
    study.run("zero-shot")
    study.budget = Budget(epochs=4, rungs=[1, 2], keep=[2, 1])
    with pytest.raises(ValueError, match=r"toy-zero-shot\.json: its budget is .*use other folders"):
        study.run("zero-shot")
    with pytest.raises(ValueError, match="rungs .*expected rates, and rising rungs up to the end"):
        Budget(epochs=3, rungs=[4, 8])
    with pytest.raises(ValueError, match="unknown method 'prompt'; there are: zero-shot, "):
        study.run("prompt")
    capsys.readouterr()
    assert main(["study", str(tmp_path / "absent")]) == 1
    assert main(["study", str(folder), "--budget", '{"epoch": 3}']) == 1
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
