"""Published numbers beside ours: read strictly, blank where nobody ran it, marked where sources
differ.
"""

import re

import pytest

from data_prep.benchmarks import BENCHMARKS
from experiments import published, report
from experiments.__main__ import main
from tests import ROOT
from tests.experiments.toy_rows import record

FILE = ROOT / "results" / published.FILE
ROWS = published.read_published(FILE)


def rows_of(dataset, method=published.PAPER):
    return [row for row in ROWS if (row.dataset, row.method) == (dataset, method)]


def test_each_row_has_a_source_and_in_each_cell_a_number_or_a_range_if_sources_differ():
    number = re.compile(r"(\d+(\.\d+)?(–\d+(\.\d+)?)?)?")
    for row in ROWS:
        assert row.dataset and row.method and row.source
        assert all(map(number.fullmatch, row.numbers.values())), row


def test_each_benchmark_has_the_papers_row_and_recalls_grow_with_k():
    assert list(dict.fromkeys(row.dataset for row in ROWS)) == list(BENCHMARKS)
    assert all(rows_of(name) for name in BENCHMARKS)
    for row in ROWS:
        for way in ("t2v", "v2t"):
            cells = [row.numbers[f"{way}_r{k}"].split("–")[0] for k in (1, 5, 10)]
            known = [float(cell) for cell in cells if cell]
            assert known == sorted(known) and all(0 < value < 100 for value in known), row


def test_rows_of_two_sources_that_differ_say_so():
    for row in ROWS:
        same = [one.numbers for one in ROWS if (one.key, one.backbone) == (row.key, row.backbone)]
        differ = any(
            len({numbers[name] for numbers in same} - {""}) > 1 for name in published.RECALLS
        )
        assert ("sources disagree" in row.note) == differ, row


def test_our_cells_are_blank_where_nobody_ran_it_and_beside_the_last_source_else():
    runs = [record("d", dataset="didemo", kind="video")]
    runs += [record(f"m{n}", dataset="msrvtt", config={"epochs": n}) for n in (5, 9)]
    lines = report.tables(runs, rows_of("didemo") + rows_of("msrvtt"))["paper"].splitlines()[2:]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "sources disagree" in lines[0] and lines[0].endswith("|  |  |  |")
    assert "| 23.7 [20.1, 27.3] · 45.0" in lines[1] and "7 of 10, chosen on validation" in lines[1]
    assert "7 of 5, chosen" in lines[2] and "45.4 · 73.3 · 82.3" in lines[2]
    # a second run of one method
    assert "7 of 9, chosen" in lines[3] and "45.4 · 73.3 · 82.3" in lines[3]


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("dataset,method", "dataset,mothed", ":2: expected a cell for each of the columns dataset"),
        ("43.1,70.4", "43.1,70.4,1", ":2: expected a cell for each of the columns"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path, capsys, before, after, said):
    header, *lines = FILE.read_text("utf-8").splitlines()
    row = next(line for line in lines if line.startswith("msrvtt,full"))
    (tmp_path / published.FILE).write_text(f"{header}\n{row}\n".replace(before, after), "utf-8")
    record().save(tmp_path / "run")
    assert main(["report", str(tmp_path)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path / published.FILE}") and said in error
