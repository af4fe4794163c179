"""The curves: what each point changes, and that the command goes through all of them."""

from dataclasses import replace

import pytest

from experiments import curves
from experiments.__main__ import main
from experiments.rows import Budget, MethodRow
from experiments.study import Study, world_of
from tests.conftest import build_clip

RATES = dict.fromkeys(curves.METHODS[1:], 1e-2)


@pytest.fixture
def usual(folder, config, toy_processor, tmp_path) -> Study:
    config = config.merge({"batch_size": 4})
    budget = Budget(epochs=4, seeds_of={curves.OURS: [42, 43, 44, 45, 46]})
    return Study(build_clip(), toy_processor, folder, config, budget, tmp_path / "curves")


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
