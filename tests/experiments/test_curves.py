"""The curves: what each point changes, and that the command goes through all of them."""

import pytest

from cma.backbone import identity
from cma.training import epoch_size
from experiments import curves
from experiments.__main__ import main
from experiments.rows import Budget
from experiments.study import Study
from tests.conftest import build_clip


@pytest.fixture
def usual(folder, config, toy_processor, tmp_path) -> Study:
    config = config.merge({"batch_size": 4})
    return Study(build_clip(), toy_processor, folder, config, Budget(epochs=4), tmp_path / "curves")


def test_a_point_changes_one_thing(usual, monkeypatch, tmp_path):
    other = build_clip()
    monkeypatch.setattr(curves, "load_backbone", lambda folder, device: (other, folder))
    found = {study.results.name: study for study in curves.points(usual, [tmp_path / "model-10"])}
    assert list(found) == ["state-10", "data-1-16", "data-1-4", "steps-0.5", "steps-2"]
    whole = epoch_size(usual.training, usual.config)[1]
    steps = {
        name: s.budget.epochs * epoch_size(s.training, s.config)[1] / whole
        for name, s in found.items()
    }
    assert {name: steps[name] for name in ("state-10", "steps-0.5", "steps-2")} == {
        "state-10": 4,
        "steps-0.5": 2,
        "steps-2": 8,
    }
    assert steps["data-1-16"] == pytest.approx(4, abs=0.5) and steps["data-1-4"] == pytest.approx(
        4, abs=0.5
    )
    small, larger = ({item.id for item in found[f"data-1-{n}"].training.items} for n in (16, 4))
    assert small < larger and len(larger) == round(len(usual.training) / 4)
    assert identity(other)["name"] == str(tmp_path / "model-10")
    assert found["state-10"].clip is other and found["steps-2"].clip is usual.clip
    assert len({study.results for study in found.values()}) == len(found)
    assert len({study.config.runs_dir for study in found.values()}) == len(found)
    assert all(study.choice == {"select_on": "last"} for study in found.values())
    assert usual.choice["select_on"] == "val" and len(usual.training) > len(larger)


def test_the_command_runs_all_or_what_is_named(usual, monkeypatch, capsys, tmp_path):
    ran = []
    monkeypatch.setattr(
        Study, "run_all", lambda study, names: ran.append((study.results.name, *names))
    )
    assert main(["curves", str(usual.folder), "--results", str(tmp_path)]) == 0
    assert [point[1:] for point in ran] == 4 * [curves.METHODS]
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path / 'data-1-16'}:"
    ran.clear()
    few = ["--points", "steps-2", "data-1-4", "--methods", "LoRA"]
    assert main(["curves", str(usual.folder), "--results", str(tmp_path), *few]) == 0
    assert ran == [("steps-2", "LoRA"), ("data-1-4", "LoRA")]
    assert main(["curves", str(usual.folder), "--results", str(tmp_path), "--points", "half"]) == 1
    said = "error: no point 'half': expected some of data-1-16, data-1-4, steps-0.5, steps-2\n"
    assert capsys.readouterr().err == said
