"""Ablations: which points there are, what is measured of the shared slice, and rows that go on."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest

from cma import AdapterConfig, RetrievalModel, data
from cma.files import read_json
from cma.training import loop
from experiments.__main__ import main
from experiments.ablations import GROUPS, OURS, Ablations, Point, points, start
from experiments.rows import Budget, MethodRow
from tests.conftest import build_clip
from tests.experiments.conftest import stopped_after

DEFAULT = Point("default", "adapter", {"bottleneck_dim": 8, "shared_dim": 16}, "mean_pooled")


@pytest.fixture
def ablations(folder, config, toy_processor, tmp_path) -> Ablations:
    config = config.merge({"epochs": 2, "batch_size": 16, "lr": 1e-2})
    return Ablations(build_clip(), toy_processor, folder, config, Budget(), tmp_path / "ablations")


def by_name(model, dataset) -> dict[str, Point]:
    return {f"{p.group}-{p.name}": p for p in points(model, dataset, "mean_pooled")}


def count(adapters) -> int:
    return sum(parameter.numel() for parameter in adapters.parameters())


def test_no_point_stands_twice_and_the_default_is_the_first(ablations, toy_clip):
    model = RetrievalModel(toy_clip)
    found = by_name(model, ablations.training)
    assert list(found.values())[0] == DEFAULT
    assert len(found) == len({str(point.definition) for point in found.values()})
    assert list(dict.fromkeys(p.group for p in found.values())) == ["default", *GROUPS[:-1]]
    assert {"sharing-d0", "sharing-d32", "where-mlp", "where-last-2"} <= set(found) and len(
        found
    ) <= 12
    assert found["where-last-2"].sites == [2, 3, 4, 5] and found["where-mlp"].sites == [1, 3, 5]
    model.clip.vision_model.encoder.layers.append(model.clip.vision_model.encoder.layers[0])
    # unequal depth
    assert not any(name.startswith("where") for name in by_name(model, ablations.training))
    del model.clip.vision_model.encoder.layers[-1]
    clips = data.RetrievalDataset(**{**vars(ablations.training), "kind": "video"})
    assert set(by_name(model, clips)) - set(found) == {"pooling-text-conditioned"}


@pytest.mark.parametrize("sites", [[1, 3, 5], [4, 5]])
def test_beside_its_sites_an_adapter_adds_nothing_and_never_trains(ablations, sites):
    ablations.config = ablations.config.merge({"epochs": 1})
    point = Point("where", "some", DEFAULT.options, "mean_pooled", sites=sites)
    row = ablations.run(point)
    model = RetrievalModel(ablations.clip, ablations.processor)
    trained = model.load_adapter(ablations.config.runs_dir / row.name, "trained")
    fresh = model.add_adapter("fresh", AdapterConfig(8, 16))
    start(fresh, point)
    for name, parameter in trained.named_parameters():
        if "down" not in name:
            assert (
                parameter[sites].any()
                and not parameter[[i for i in range(6) if i not in sites]].any()
            )
            acting = fresh.get_parameter(name)
            assert "bias" in name or acting[sites].any()
    assert (
        row.budget["sites"] == sites
        and row.records["42"]["trained_parameters"] == count(fresh) * len(sites) // 6
    )


def test_beside_its_sites_a_gradient_in_half_precision_is_zero_too(ablations):
    model = RetrievalModel(ablations.clip, ablations.processor)
    fresh = model.add_adapter("fresh", AdapterConfig(8, 16))
    start(fresh, Point("where", "some", DEFAULT.options, "mean_pooled", sites=[1]))
    fresh.half().shared_bias.sum().backward()
    assert fresh.shared_bias.grad.bool().any(1).nonzero().tolist() == [[1]]


def test_a_row_is_on_validation_and_read_back(ablations, seen):
    row = ablations.run(DEFAULT)
    assert set(seen) == {"val"} and row.records["42"]["select_on"] == "last"
    assert row == read_json(ablations.results / "toy-default-adapter.json", MethodRow)
    recall = row.records["42"]["metrics"]["text_to_visual"]["R@1"]
    assert 100 * row.hits("text_to_visual").mean() == pytest.approx(recall)
    seen.clear()
    assert ablations.run(DEFAULT) == row and not seen
    ablations.config = ablations.config.merge({"epochs": 3})
    with pytest.raises(
        ValueError, match=r"toy-default-adapter\.json: its budget is .*or delete the file"
    ):
        ablations.run(DEFAULT)


@pytest.mark.slow
def test_a_stopped_point_goes_on(ablations, tmp_path):
    whole = ablations.run(DEFAULT)
    ablations.results = tmp_path / "again"
    ablations.config = ablations.config.merge({"runs_dir": tmp_path / "other"})
    with stopped_after(4, loop, "train_step"), pytest.raises(KeyboardInterrupt):
        ablations.run(DEFAULT)
    assert not ablations.row(DEFAULT).records
    row = ablations.run(DEFAULT)
    assert row.ranks == whole.ranks


@pytest.fixture
def command(ablations, folder, tmp_path, monkeypatch, capsys):
    recipe = SimpleNamespace(train_config=lambda: ablations.config)
    monkeypatch.setattr("experiments.study.recipe", lambda _: recipe)
    toy = lambda *_, **__: (ablations.clip, ablations.processor)  # noqa: E731
    monkeypatch.setattr("experiments.study.load_backbone", toy)

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        places = [
            "--results",
            str(tmp_path / "results" / "ablations"),
            "--runs",
            str(tmp_path / "runs"),
        ]
        status = main(["ablations", str(folder), *places, *words])
        out, err = capsys.readouterr()
        return status, out.splitlines(), [line for line in err.splitlines() if "error" in line]

    return run


@pytest.mark.slow
def test_the_command_says_what_is_to_come_and_goes_on(command, tmp_path):
    studied, words = MethodRow("toy", OURS, {}, lr=0.01), ("--only", "init")
    studied.save(tmp_path / "results" / "methods")
    (tmp_path / "results" / "protocol.json").write_text('{"budgets": {"toy": {"epochs": 1}}}')
    status, out, _ = command(*words, "--hours", "0")
    assert status == 0 and out == ["3 points: 3 to train, 9 steps"]
    status, out, _ = command(*words)
    assert status == 0 and "3/3 init-up-10: R@1" in out[-1]
    assert len(list((tmp_path / "results" / "ablations").glob("toy-*.json"))) == 3
    assert command(*words)[1] == ["3 points: 0 to train, 0 steps"]
    replace(studied, lr=0.02).save(tmp_path / "results" / "methods")
    status, _, err = command(*words)
    assert status == 1 and len(err) == 1 and "toy-default-adapter.json: its budget is" in err[0]


def test_rate_and_epochs_are_those_of_the_study(command, tmp_path, capsys):
    status, _, err = command("--only", "init")
    assert status == 1
    assert "toy-cross-modal-adapter.json: no such file; run `python -m experiments study" in err[0]
    MethodRow("toy", OURS, {}).save(tmp_path / "results" / "methods")
    _, _, err = command("--only", "init")
    assert "adapter.json: no rate yet; run `python -m experiments study" in err[0]
    MethodRow("toy", OURS, {}, lr=0.01).save(tmp_path / "results" / "methods")
    assert command("--only", "init", "--hours", "0")[:2] == (0, ["3 points: 3 to train, 36 steps"])
    (tmp_path / "results" / "protocol.json").write_text('{"budgets": {"toy": {"epochs": 2}}}')
    assert command("--only", "init", "--hours", "0")[1] == ["3 points: 3 to train, 18 steps"]
    with pytest.raises(SystemExit, match="2"):
        command("--only", "share")
    said = capsys.readouterr().err
    assert "--only: invalid choice: 'share'" in said and all(group in said for group in GROUPS)
    with mock.patch("experiments.ablations.points", side_effect=KeyboardInterrupt):  # Ctrl-C
        assert command("--only", "init")[0] == 130
