"""The tables say what each run's record says, beside what was published, and break with a name."""

import json

import pytest

from experiments import report
from experiments.__main__ import main
from tests import ROOT
from tests.experiments.toy_rows import record

START, END = report.markers("results")


def table(records) -> str:
    return report.tables(records)["results"]


def command(*arguments) -> int:
    return main(["report", *map(str, arguments)])


@pytest.fixture
def readme(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{START}\n{END}\nafter\n")
    return file


def test_the_table_says_how_each_number_was_made(tmp_path):
    record("b").save(tmp_path / "b")
    record("a", "zero-shot", "none", trained_parameters=0, selected_epoch=None).save(tmp_path / "a")
    lines = table(report.read_records(tmp_path)).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "| T2I / T2V R@1 · R@5 · R@10 | I2T / V2T R@1 · R@5 · R@10 |" in lines[0]
    assert lines[2].startswith("| a | mini-flickr30k | zero-shot | 0 |")
    begin = "| b | mini-flickr30k | cross-modal adapter | 1,000 (1.00 %) | "
    begin += "23.7 [20.1, 27.3] · 45.0 [41.0, 49.0]"
    end = "| 1,320 texts, 350 items | 7 of 10, chosen on validation | float32 | 42 "
    end += "| 2 CPU threads | abc1234 |"
    assert lines[3].startswith(begin) and lines[3].endswith(end)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"select_on": "test"}, "cross-modal adapter (chosen on test, the authors' habit) |"),
        ({"metrics": record().metrics | {"split": "val"}}, "cross-modal adapter on val |"),
        ({"metrics": record().metrics | {"items": 340}}, "340 of 350 items"),
        (
            {"metrics": record().metrics | {"intervals": {}}},
            "23.7 · 45.0 · 66.6 (MdR 6, MnR 20.5) |",
        ),
    ],
)
def test_what_is_unusual_about_a_number_stands_beside_it(changes, said):
    assert said in table([record(**changes)])


@pytest.mark.parametrize(
    "changes", [None, {"seed": "x"}, {"metrics": {"split": "test"}}, {"config": {}}]
)
def test_a_broken_record_is_named(tmp_path, changes, capsys):
    text = record().to_json()
    text = json.dumps(json.loads(text) | changes) if changes else text[:-3]
    (tmp_path / "bad.json").write_text(text)
    assert command(tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}") and said.count("\n") == 1


def test_the_command_writes_between_the_markers_alone(tmp_path, readme, capsys):
    record().save(tmp_path / "runs" / "a")
    for _ in range(2):
        assert command(tmp_path / "runs", "--readme", readme) == 0
        table = capsys.readouterr().out.strip()
        assert readme.read_text() == f"before\n{START}\n{table}\n{END}\nafter\n"
    start = f"{START}\n"
    for text in (f"{END}\n{start}", start, start * 2, "nothing\n"):
        readme.write_text(text)
        assert command(tmp_path / "runs", "--readme", readme) == 1
        assert (
            "README.md: expected the line" in capsys.readouterr().err and readme.read_text() == text
        )
    assert command(tmp_path / "none") == 1
    assert "none: no such folder; expected one that" in capsys.readouterr().err


def test_a_run_of_other_settings_says_so_and_stays_out_of_readme(tmp_path, readme, capsys):
    for name, epochs in (("a-run", 10), ("a-run,epochs=20,seed=7", 20)):
        record(name, config={"epochs": epochs}).save(tmp_path / "runs" / name)
    kept = tmp_path / "results"
    assert command(tmp_path / "runs", "--readme", readme, "--keep", kept) == 0
    assert "| cross-modal adapter (epochs=20) |" in capsys.readouterr().out
    assert (
        readme.read_text().count("cross-modal adapter") == 1 and "seed=7" not in readme.read_text()
    )
    assert [file.name for file in kept.iterdir()] == ["a-run.json"]
    assert command(kept) == 0  # kept records give the same table
    assert capsys.readouterr().out.strip() in readme.read_text()


@pytest.mark.slow
def test_the_committed_pages_are_those_of_the_kept_records():
    for name, text in report.pages_of(ROOT / "results").items():
        page = "README.md" if name in ("first", "summary") else "results/README.md"
        start, end = report.markers(name)
        hint = f"{page}: python -m experiments report results --readme README.md results/README.md"
        assert f"{start}\n{text}\n{end}" in (ROOT / page).read_text("utf-8"), hint
