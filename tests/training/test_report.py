"""The table says what each run's record says, and breaks with a name."""

import json

import pytest

from cma.training import report
from cma.training.record import ON_TEST, RunRecord


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


def test_a_record_survives_the_file(tmp_path):
    written = record()
    written.save(tmp_path / "run")
    read = RunRecord.load(tmp_path / "run")
    assert json.loads(read.to_json()) == json.loads(written.to_json())
    assert read.folder == tmp_path / "run"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_the_table_says_how_each_number_was_made(tmp_path):
    record("b").save(tmp_path / "b")
    record("a", "zero-shot", "none", trained_parameters=0, selected_epoch=None).save(tmp_path / "a")
    lines = report.table(report.read_records(tmp_path)).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| mini-flickr30k | zero-shot | 0 |")
    for part in (
        "1,000 (1.00 %)",
        "23.7 [20.1, 27.3] · 45.0 [41.0, 49.0] · 66.6",
        "40.0",
        "1,320 texts, 350 items",
        "7 of 10, chosen on validation",
        "| 42 | 98 | 2 CPU threads | abc1234 |",
    ):
        assert part in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_a_choice_on_test_is_labelled(tmp_path):
    record(select_on="test").save(tmp_path / "a")
    assert ON_TEST in report.table(report.read_records(tmp_path))


def test_another_split_and_a_short_count_are_said(tmp_path):
    metrics = record().metrics | {"split": "val", "items": 340}
    record(metrics=metrics).save(tmp_path / "a")
    text = report.table(report.read_records(tmp_path))
    assert "on val" in text
    assert "340 of 350 items" in text


def test_results_are_files_and_sweeps_are_left_out(tmp_path):
    (tmp_path / "a.json").write_text(record().to_json())
    (tmp_path / "sweep.json").write_text('{"rates": []}')
    record("on-val", config={"epochs": 1, "report_on": "val"}).save(tmp_path / "on-val")
    assert [one.name for one in report.read_records(tmp_path)] == ["r"]


@pytest.mark.parametrize("content", ["{", '{"metrics": {}}', '["metrics", "\\"metrics\\""]'])
def test_a_broken_record_is_named(tmp_path, content):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"bad.run\.json: no run record"):
        report.read_records(tmp_path)


def test_the_readme_changes_between_the_markers_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    for text in ("new", "newer"):
        report.update(readme, text)
        assert readme.read_text() == f"before\n{report.START}\n{text}\n{report.END}\nafter\n"
    readme.write_text(f"before\n{report.END}\n{report.START}\n")
    with pytest.raises(ValueError, match="README.md: expected the line"):
        report.update(readme, "x")


def test_the_command(tmp_path, capsys):
    record().save(tmp_path / "runs" / "a")
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.START}\n{report.END}\n")
    assert report.main(["--records", str(tmp_path / "runs"), "--readme", str(readme)]) == 0
    assert capsys.readouterr().out.strip() in readme.read_text()
    (tmp_path / "empty").mkdir()
    assert report.main(["--records", str(tmp_path / "empty")]) == 1
    assert "0 finished runs found" in capsys.readouterr().err
    assert report.main(["--records", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_kept_records_give_the_same_table(tmp_path, capsys):
    record("a").save(tmp_path / "runs" / "a")
    arguments = ["--records", str(tmp_path / "runs"), "--keep", str(tmp_path / "results")]
    assert report.main(arguments) == 0
    first = capsys.readouterr().out
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["a.json"]
    assert report.main(["--records", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == first


def test_a_run_of_other_settings_says_so_and_stays_out_of_readme(tmp_path, capsys):
    for name in ("a-run", "a-run,epochs=20,seed=7"):
        record(name).save(tmp_path / "runs" / name)
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.START}\n{report.END}\n")
    kept = ["--readme", str(readme), "--keep", str(tmp_path / "results")]
    assert report.main(["--records", str(tmp_path / "runs"), *kept]) == 0
    assert "| cross-modal adapter (epochs=20,seed=7) |" in capsys.readouterr().out
    assert readme.read_text().count("cross-modal adapter") == 1 and "seed=7" not in readme.read_text()
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["a-run.json"]
