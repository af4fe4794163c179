"""The curves: what each point changes, and that the command goes through all of them."""

from dataclasses import replace

import pytest

from cma import RetrievalModel, methods
from cma.training import epoch_size
from experiments import curves
from experiments.__main__ import main
from experiments.rows import DIRECTIONS, Budget, MethodRow, difference, rows_of
from experiments.study import Study, world_of
from tests import ROOT
from tests.conftest import build_clip

RATES = dict.fromkeys(curves.METHODS[1:], 1e-2)


@pytest.fixture
def usual(folder, config, toy_processor, tmp_path) -> Study:
    config = config.merge({"batch_size": 4})
    budget = Budget(epochs=4, seeds_of={curves.OURS: [42, 43, 44, 45, 46]})
    return Study(build_clip(), toy_processor, folder, config, budget, tmp_path / "curves")


def test_a_point_changes_one_thing(usual):
    found = {study.results.name: study for study in curves.points(usual, RATES)}
    names = ["data-1-16", "data-1-4", "steps-0.5", "steps-2", "size-r2", "size-r32"]
    places = ["places-r2", "places-r8", "places-r32"]
    assert list(found) == [*names, *places]
    for name in places:
        budget = found[name].budget_of(curves.LORA)
        assert budget.scan and budget.rate_seeds == [1, 2] and found[name].able == (curves.LORA,)
        assert found[name].choice == usual.choice
        assert found[name].options[curves.LORA]["targets"] == ["out_proj", "fc2"]
        del found[name]
    whole = epoch_size(usual.training, usual.config)[1]
    for name, study in found.items():
        steps = study.budget.epochs * epoch_size(study.items(1), study.config)[1] / whole
        expected = {"steps-0.5": 2, "steps-2": 8}.get(name, 4)
        assert steps == pytest.approx(expected, abs=0.5 if name.startswith("data") else 0)
        tried = [1e-2] if name.startswith("steps") else [3e-3, 1e-2, 3e-2]
        for method in curves.METHODS[1:]:
            budget = study.budget_of(method)
            assert (budget.rates, budget.rate_seeds, budget.seeds) == (tried, [1], [42, 43, 44])
            assert not budget.scan
        assert study.results == usual.results / name
        assert study.config.runs_dir == usual.config.runs_dir / name
        assert study.choice == {"select_on": "last"}
    quarter = found["data-1-4"]
    draws = [{item.id for item in quarter.items(seed).items} for seed in (42, 43, 44)]
    assert {len(draw) for draw in draws} == {round(len(usual.training) / 4)}
    assert draws[0] != draws[1] != draws[2] != draws[0]
    assert quarter.items(42) == quarter.items(42)
    assert found["size-r2"].able == (curves.OURS, curves.LORA)
    with pytest.raises(ValueError, match="toy, LoRA: its row has no rate yet; run `python -m"):
        replace(quarter, given={}).row(curves.LORA)


def test_clips_are_pooled_by_their_mean_too(usual):
    usual.training = replace(usual.training, kind="video")
    found = {study.results.name: study for study in curves.points(usual, RATES)}
    assert list(found) == ["data-1-4", "pooling-mean"]
    assert found["pooling-mean"].config.similarity == "mean_pooled"
    assert curves.ZERO_SHOT in found["pooling-mean"].able


@pytest.mark.parametrize("targets", [(), curves.PLACES])
@pytest.mark.parametrize("r", curves.SIZES)
def test_lora_has_as_many_numbers_as_ours(usual, r, targets):
    model, counts = RetrievalModel(usual.clip, usual.processor), []
    one = {"rank": 1} | ({"targets": list(targets)} if targets else {})
    for method, options in [*curves.sizes(usual, r, targets).items(), (curves.LORA, one)]:
        methods.attach(model, method, str(len(counts)), **options)
        counts.append(sum(part.numel() for part in model.trainable_parameters()))
    model.set_adapter(None)
    ours, lora, step = counts
    assert abs(ours - lora) <= step


def test_each_seed_trains_on_its_own_draw_and_its_row_is_read_again(usual):
    study = next(one for one in curves.points(usual, RATES) if one.share == 1 / 4)
    study.budget = replace(study.budget, epochs=1, seeds=[42, 43], seeds_of={})
    study.given = {"projection": 1e-2}
    study.tries = False
    row = study.run("projection")
    digests = {run["data_digest"] for run in row.records.values()}
    assert len(digests) == 2 and study.row("projection") == row
    assert row.world == world_of(study.folder) == ""
    ends = [run["history"][-1]["validation"]["mR"] for run in row.records.values()]
    low, high = sorted(ends)
    row.rates = [{"lr": 1e-2, "seed": 1, "epochs": row.budget["epochs"], "mR": high / 0.69}]
    assert "seed" in row.marks()[0] and row.marks()[0].endswith("fell below 70% of its best")


def test_the_command_runs_all_or_what_is_named(usual, monkeypatch, capsys, tmp_path):
    ran, results = [], tmp_path / "curves"
    note = lambda study, names: ran.append((study.results.name, *names))  # noqa: E731
    monkeypatch.setattr(Study, "run_all", note)
    studied = MethodRow("toy", curves.LORA, {}, lr=1e-2)
    words = ["curves", str(usual.folder), "--results", str(results)]
    replace(studied, backbone="ab").save(tmp_path / "methods")
    assert main(words) == 1
    assert "error: toy-lora: its backbone is ab, not " in capsys.readouterr().err
    studied.save(tmp_path / "methods")
    assert main(words) == 0
    assert ran[0] == ("data-1-16", *curves.METHODS[1:])
    assert ran[5] == ("size-r32", curves.OURS, curves.LORA)
    assert ran[-1] == ("places-r32", curves.LORA) and len(ran) == 9
    assert capsys.readouterr().out.splitlines()[0] == f"{results / 'data-1-16'}:"
    ran.clear()
    assert main([*words, "--points", "steps-2", "data-1-4", "--methods", "LoRA"]) == 0
    assert ran == [("steps-2", "LoRA"), ("data-1-4", "LoRA")]
    for option, name, first in (("points", "half", "data-1-16"), ("methods", "VPT", "zero-shot")):
        assert main([*words, f"--{option}", name]) == 1
        said = f"error: no {name!r} here: expected some of {first},"
        assert capsys.readouterr().err.startswith(said)


def test_the_mean_of_frames_does_better_but_on_moments_as_the_pages_say():
    results = ROOT / "results"
    usual = rows_of(results / "methods", "mini-msrvtt")[curves.OURS]
    mean = rows_of(results / "curves" / "pooling-mean", "mini-msrvtt")[curves.OURS]
    mean = replace(mean, method="mean")  # its seeds are drawn apart
    gains = [difference(mean, usual, way) for way in DIRECTIONS]
    assert all(low > 0 for _, low, *_ in gains)
    gains = [difference(mean.on("moments"), usual.on("moments"), way) for way in DIRECTIONS]
    assert all(low < 0 < high for _, low, high, _ in gains)
