"""Ablations: which points there are, what is trained and measured, and a command that goes on."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest

from cma import RetrievalModel
from experiments.__main__ import main
from experiments.ablations import OURS, points
from experiments.rows import Budget, MethodRow, read_rows
from experiments.study import Study
from tests.conftest import build_clip

NAME = "default-adapter"


@pytest.fixture
def usual(folder, config, toy_processor, tmp_path) -> Study:
    config = config.merge({"batch_size": 16})
    budget = Budget(epochs=1)
    return Study(build_clip(), toy_processor, folder, config, budget, tmp_path / "ablations")


@pytest.mark.parametrize("name, sites", [("where-mlp", [1, 3, 5]), ("where-last-2", [2, 3, 4, 5])])
def test_beside_its_sites_an_adapter_adds_nothing_and_never_trains(usual, name, sites):
    row = points(usual, 1e-2)[name].run(name)
    model = RetrievalModel(usual.clip, usual.processor)
    run = row.records["42"]
    trained = model.load_adapter(usual.config.runs_dir / run["name"], "trained")
    model.set_adapter(None)
    beside = [site for site in range(6) if site not in sites]
    for key, parameter in trained.named_parameters():
        if "down" not in key:
            assert parameter[sites].any() and not parameter[beside].any()
    every = sum(parameter.numel() for parameter in trained.parameters())
    assert run["trained_parameters"] == round(every * len(sites) / 6)


@pytest.fixture
def command(usual, folder, tmp_path, monkeypatch, capsys):
    recipe = SimpleNamespace(train_config=lambda: usual.config)
    monkeypatch.setattr("experiments.study.recipe", lambda _: recipe)
    toy = lambda *_, **__: (usual.clip, usual.processor)  # noqa: E731
    monkeypatch.setattr("experiments.study.load_backbone", toy)
    places = ["--results", tmp_path / "results" / "ablations", "--runs", tmp_path / "runs"]

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        status = main(list(map(str, ["ablations", folder, *places, *words])))
        out, err = capsys.readouterr()
        return status, out.splitlines(), [line for line in err.splitlines() if "error" in line]

    return run


def test_the_command_has_the_studys_rate_and_epochs_and_goes_on(command, tmp_path, seen):
    results = tmp_path / "results"
    for row in (None, MethodRow("toy", OURS, {})):
        if row:
            row.save(results / "methods")
        status, _, (error,) = command()
        assert status == 1 and "its row has no rate yet; run `python -m experiments st" in error
    studied = MethodRow("toy", OURS, {}, lr=0.01)
    studied.save(results / "methods")
    (results / "protocol.json").write_text('{"budgets": {"toy": {"epochs": 1}}}')
    some = ("--points", NAME, "init-up-10")
    said = [f"toy-{name}: 1 / 1 seeds, rate 0.01" for name in some[1:]]
    status, out, _ = command(*some)
    assert status == 0 and set(said) <= set(out)
    assert [row.method for row in read_rows(results / "ablations")] == [NAME, "init-up-10"]
    seen.clear()
    assert command(*some)[:2] == (0, said) and not seen
    replace(studied, lr=0.02).save(results / "methods")
    status, _, (error,) = command(*some)
    assert status == 1 and "toy-default-adapter.json: its budget is" in error
    with mock.patch("experiments.ablations.points", side_effect=KeyboardInterrupt):  # Ctrl-C
        assert command()[0] == 130
    assert "no 'share' here: expected some of default-" in command("--points", "share")[2][0]
