"""Ablations: which points there are, what is trained and measured, and a command that goes on."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest

from cma import AdapterConfig, RetrievalModel
from experiments.__main__ import main
from experiments.ablations import GROUPS, OURS, Ablations, points, start
from experiments.rows import Budget, MethodRow, read_rows
from tests.conftest import build_clip

NAME = "default-adapter"
OPTIONS = {"bottleneck_dim": 8, "shared_dim": 16}
DEFAULT = {"options": OPTIONS, "similarity": "mean_pooled", "up_scale": 1.0, "sites": None}


@pytest.fixture
def ablations(folder, config, toy_processor, tmp_path) -> Ablations:
    config = config.merge({"epochs": 1, "batch_size": 16, "lr": 1e-2})
    return Ablations(build_clip(), toy_processor, folder, config, Budget(), tmp_path / "ablations")


def test_no_point_stands_twice_and_the_default_is_the_first(ablations):
    model, pictures = RetrievalModel(ablations.clip), ablations.training
    found = points(model, pictures, "mean_pooled")
    assert next(iter(found.items())) == (NAME, DEFAULT)
    assert len(found) == len({str(point) for point in found.values()}) <= 12
    assert list(dict.fromkeys(name.split("-")[0] for name in found)) == ["default", *GROUPS[:-1]]
    assert {"sharing-d0", "sharing-d32", "where-attention"} <= set(found)
    assert found["where-last-2"]["sites"] == [2, 3, 4, 5]
    assert found["where-mlp"]["sites"] == [1, 3, 5]
    clips = points(model, replace(pictures, kind="video"), "mean_pooled")
    assert set(clips) - set(found) == {"pooling-text-conditioned"}
    model.clip.vision_model.encoder.layers.append(model.clip.vision_model.encoder.layers[0])
    unequal = points(model, pictures, "mean_pooled")
    assert not any(name.startswith("where") for name in unequal)


@pytest.mark.parametrize("sites", [[1, 3, 5], [4, 5]])
def test_beside_its_sites_an_adapter_adds_nothing_and_never_trains(ablations, sites):
    row = ablations.run("where-some", DEFAULT | {"sites": sites})
    model = RetrievalModel(ablations.clip, ablations.processor)
    trained = model.load_adapter(ablations.config.runs_dir / row.name, "trained")
    beside = [site for site in range(6) if site not in sites]
    for name, parameter in trained.named_parameters():
        if "down" not in name:
            assert parameter[sites].any() and not parameter[beside].any()
    every = sum(parameter.numel() for parameter in trained.parameters())
    assert row.records["42"]["trained_parameters"] == every * len(sites) // 6
    assert row.budget["sites"] == sites


def test_beside_its_sites_a_gradient_in_half_precision_is_zero_too(ablations):
    model = RetrievalModel(ablations.clip, ablations.processor)
    fresh = model.add_adapter("fresh", AdapterConfig(8, 16))
    start(fresh, 1.0, [1])
    fresh.half().shared_bias.sum().backward()
    assert fresh.shared_bias.grad.bool().any(1).nonzero().tolist() == [[1]]


def test_a_row_is_on_validation_and_read_back(ablations, seen):
    row = ablations.run(NAME, DEFAULT)
    assert set(seen) == {"val"} and row.records["42"]["select_on"] == "last"
    assert read_rows(ablations.results) == [row]
    recall = row.records["42"]["metrics"]["text_to_visual"]["R@1"]
    assert 100 * row.hits("text_to_visual").mean() == pytest.approx(recall)
    seen.clear()
    assert ablations.run(NAME, DEFAULT) == row and not seen
    with pytest.raises(ValueError, match=r"default-adapter\.json: its budget is .*or delete the"):
        ablations.run(NAME, DEFAULT | {"up_scale": 2.0})


@pytest.fixture
def command(ablations, folder, tmp_path, monkeypatch, capsys):
    recipe = SimpleNamespace(train_config=lambda: ablations.config)
    monkeypatch.setattr("experiments.study.recipe", lambda _: recipe)
    toy = lambda *_, **__: (ablations.clip, ablations.processor)  # noqa: E731
    monkeypatch.setattr("experiments.study.load_backbone", toy)
    places = ["--results", tmp_path / "results" / "ablations", "--runs", tmp_path / "runs"]

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        status = main(list(map(str, ["ablations", folder, *places, "--only", "init", *words])))
        out, err = capsys.readouterr()
        return status, out.splitlines(), [line for line in err.splitlines() if "error" in line]

    return run


def test_the_command_has_the_studys_rate_and_epochs_and_goes_on(command, tmp_path, capsys):
    results = tmp_path / "results"
    for row in (None, MethodRow("toy", OURS, {})):
        if row:
            row.save(results / "methods")
        status, _, (error,) = command()
        assert status == 1 and "its row has no rate yet; run `python -m experiments st" in error
    studied = MethodRow("toy", OURS, {}, lr=0.01)
    studied.save(results / "methods")
    assert command("--hours", "0")[:2] == (0, ["3 points: 3 to train, 36 steps"])
    (results / "protocol.json").write_text('{"budgets": {"toy": {"epochs": 1}}}')
    status, out, _ = command()
    assert status == 0 and out[0] == "3 points: 3 to train, 9 steps"
    assert "3/3 init-up-10: R@1" in out[-1] and len(read_rows(results / "ablations")) == 3
    assert command()[1] == ["3 points: 0 to train, 0 steps"]
    replace(studied, lr=0.02).save(results / "methods")
    status, _, (error,) = command()
    assert status == 1 and "toy-default-adapter.json: its budget is" in error
    with mock.patch("experiments.ablations.points", side_effect=KeyboardInterrupt):  # Ctrl-C
        assert command()[0] == 130
    with pytest.raises(SystemExit, match="2"):
        command("--only", "share")
    said = capsys.readouterr().err
    assert "--only: invalid choice: 'share'" in said and all(group in said for group in GROUPS)
