"""The table says what each run's record says, and breaks with a name."""

import json

import pytest

from cma.training import RunRecord, report
from tests import ROOT


def record(name="r", method="cross-modal adapter", select_on="val", **changes) -> RunRecord:
    recalls = {"R@1": 23.71, "R@5": 45.0, "R@10": 66.6, "MdR": 6.0, "MnR": 20.5}
    between = {"R@1": (20.1, 27.3), "R@5": (41.0, 49.0), "R@10": (62.0, 71.0)}
    metrics = {
        "split": "test",
        "texts": 1320,
        "items": 350,
        "expected_items": 350,
        "text_to_visual": recalls,
        "visual_to_text": recalls | {"R@1": 40.0},
        "intervals": {"text_to_visual": between, "visual_to_text": between},
    }
    values = {
        "name": name,
        "dataset": "mini-flickr30k",
        "kind": "image",
        "method": method,
        "backbone": {"name": "mini"},
        "config": {"epochs": 10},
        "adapter": None,
        "seed": 42,
        "select_on": select_on,
        "trained_parameters": 1000,
        "total_parameters": 100_000,
        "selected_epoch": 7,
        "metrics": metrics,
        "seconds": 98.4,
        "hardware": {"threads": 2},
        "commit": "abc1234",
    }
    return RunRecord(**values | changes)


def command(*arguments) -> int:
    return report.main([str(argument) for argument in arguments])


@pytest.fixture
def readme(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{report.START}\n{report.END}\nafter\n")
    return file


def test_the_table_says_how_each_number_was_made(tmp_path):
    record("b").save(tmp_path / "b")
    record("a", "zero-shot", "none", trained_parameters=0, selected_epoch=None).save(tmp_path / "a")
    lines = report.table(report.read_records(tmp_path)).splitlines()
    assert len(lines) == 4
    assert "| T2I / T2V R@1 · R@5 · R@10 | I2T / V2T R@1 · R@5 · R@10 |" in lines[0]
    assert lines[2].startswith("| mini-flickr30k | zero-shot | 0 |")
    assert lines[3].startswith(
        "| mini-flickr30k | cross-modal adapter | 1,000 (1.00 %) | 23.7 [20.1, 27.3] · 45.0 [41.0, 49.0] · "
        "66.6 [62.0, 71.0] | 40.0 ["
    )
    assert lines[3].endswith(
        "| 1,320 texts, 350 items | 7 of 10, chosen on validation | 42 | 98 | 2 CPU threads | abc1234 |"
    )
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"select_on": "test"}, "cross-modal adapter (chosen on test, the authors' habit) |"),
        ({"metrics": record().metrics | {"split": "val"}}, "cross-modal adapter on val |"),
        ({"metrics": record().metrics | {"items": 340}}, "340 of 350 items"),
        ({"metrics": record().metrics | {"intervals": {}}}, "23.7 · 45.0 · 66.6"),
    ],
)
def test_what_is_unusual_about_a_number_stands_beside_it(changes, said):
    assert said in report.table([record(**changes)])


def test_sweeps_and_runs_that_report_on_validation_are_left_out(tmp_path):
    (tmp_path / "a.json").write_text(record().to_json())
    (tmp_path / "sweep.json").write_text('{"rates": []}')
    record("on-val", config={"epochs": 1, "report_on": "val"}).save(tmp_path / "on-val")
    assert [one.name for one in report.read_records(tmp_path)] == ["r"]


@pytest.mark.parametrize("changes", [None, {"seed": "x"}, {"metrics": {"split": "test"}}, {"config": {}}])
def test_a_broken_record_is_named(tmp_path, changes, capsys):
    text = record().to_json()
    text = json.dumps(json.loads(text) | changes) if changes else text[:-3]
    (tmp_path / "bad.json").write_text(text)
    assert command("--records", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}") and said.count("\n") == 1


def test_the_command_writes_between_the_markers_alone(tmp_path, readme, capsys):
    record().save(tmp_path / "runs" / "a")
    for _ in range(2):
        assert command("--records", tmp_path / "runs", "--readme", readme) == 0
        table = capsys.readouterr().out.strip()
        assert readme.read_text() == f"before\n{report.START}\n{table}\n{report.END}\nafter\n"
    readme.write_text(f"before\n{report.END}\n{report.START}\n")
    assert command("--records", tmp_path / "runs", "--readme", readme) == 1
    assert "README.md: expected the line" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "0 finished runs found"), ("none", "no such folder")):
        assert command("--records", tmp_path / folder) == 1
        assert said in capsys.readouterr().err


def test_a_run_of_other_settings_says_so_and_stays_out_of_readme(tmp_path, readme, capsys):
    for name in ("a-run", "a-run,epochs=20,seed=7"):
        record(name).save(tmp_path / "runs" / name)
    kept = tmp_path / "results"
    assert command("--records", tmp_path / "runs", "--readme", readme, "--keep", kept) == 0
    assert "| cross-modal adapter (epochs=20,seed=7) |" in capsys.readouterr().out
    assert readme.read_text().count("cross-modal adapter") == 1 and "seed=7" not in readme.read_text()
    assert [file.name for file in kept.iterdir()] == ["a-run.json"]
    assert command("--records", kept) == 0  # kept records give the same table
    assert capsys.readouterr().out.strip() in readme.read_text()


def test_readme_has_the_table_of_the_kept_results():
    table = report.table(report.read_records(ROOT / "results"))
    assert f"{report.START}\n{table}\n{report.END}" in (ROOT / "README.md").read_text("utf-8")
