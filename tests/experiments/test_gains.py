"""Verdicts and shares from the rows, and the tables that are made of them."""

import copy
import re
import runpy
from dataclasses import replace

import pytest

from experiments import gains, published, tables
from experiments.rows import DIRECTIONS, NDCG, difference, holm
from tests import ROOT
from tests.experiments.toy_rows import FULL, OURS, ROWS, ZERO, findings, row


def test_share_and_points_are_always_both_told():
    of = {one.method: one for one in ROWS}
    assert re.fullmatch(r"\d+ % \[\d+, \d+\] of the gain, -\S+ \[.*\] points", gains.reached(of))
    small = row(FULL, 0.12)
    recalls = [gains.recall(one, DIRECTIONS[0])[0] for one in (small, of[ZERO])]
    little = "no share (full fine-tuning gains too little): R@1 {:.1f} after {:.1f}, +"
    assert gains.reached(of | {FULL: small}).startswith(little.format(*recalls))


def test_a_row_without_verdict_has_no_number_beside_others():
    of = {one.method: one for one in ROWS}
    one_seed = replace(of["LoRA"], lr=1e-2, budget={"seeds": [0, 1, 2, 3]})
    said = "no verdict (LoRA: seeds not trained yet: 3)"
    assert gains.reached(of | {"LoRA": one_seed}, method="LoRA") == said
    assert gains.reached(of | {"LoRA": one_seed}).endswith(" points")
    points = {"mini-flickr30k, data 1/4": of}
    assert said in tables.curves(findings([*ROWS[:4], one_seed], points=points))


@pytest.mark.parametrize("changes", [{"world": "ab"}, {"backbone": "mini-700"}])
def test_rows_of_another_world_or_backbone_are_never_compared(changes):
    other = replace(ROWS[3], **changes)
    with pytest.raises(ValueError, match=r"r and mini-flickr30k-coop were tested on different it"):
        findings([*ROWS[:3], other]).verdicts  # noqa: B018


def test_the_points_of_the_curves_are_read_with_the_rows_that_they_leave_as_they_are(tmp_path):
    better = row(OURS, 0.37)
    for one in ROWS:
        one.save(tmp_path / "methods")
    tried = [{"lr": rate, "seed": 1, "epochs": 4, "mR": 9.0} for rate in (1e-3, 3e-3, 1e-2)]
    lowest = replace(ROWS[2], rates=tried, lr=1e-3, budget={"epochs": 4, "scan": False})
    parts = {"data-1-4": [ROWS[1], lowest, ROWS[4]], "size-r2": [better, ROWS[4]]}
    parts |= {"pooling-mean": ROWS[:3], "my-notes": ROWS}
    parts |= {
        "size-r32": [replace(better, lost={"3": "loss NaN"})],
        "state-700": ROWS[1:3],  # zero-shot of another backbone is another
    }
    for part, rows in parts.items():
        for one in rows:
            one.save(tmp_path / "curves" / part)
    found = gains.Findings.read(tmp_path)
    names = ["data 1/4", "pooling mean", "size r2", "size r32"]
    assert list(found.points) == [f"mini-flickr30k, {name}" for name in names]
    assert found.points["mini-flickr30k, size r2"][FULL] == ROWS[2]
    table = tables.curves(found).splitlines()
    assert len(table) == 2 + 2 * 5 and "| mini-flickr30k, size r2 | LoRA | " in table[9]
    assert table[2].endswith(" | – | – |")  # not tested on new things and other
    edges = [line.split(" | ")[3] for line in table]
    assert edges[0] == "rate at an edge" and edges[4:6] == [FULL, FULL] and edges[6] == "–"
    assert table[10].startswith(f"| mini-flickr30k, size r32 | {OURS} | 34.0 [")
    assert f"] | – | no verdict ({OURS}: seed 3 could not be trained) | " in table[10]
    assert "LoRA | not measured yet | – | not measured yet |" in table[11]
    assert gains.Findings.read(tmp_path / "curves").points == {}


def test_a_verdict_needs_a_small_p_of_all_comparisons_that_its_family_plans():
    found = findings(ROWS)
    assert len(found.verdicts) == 10  # three and two methods, both ways
    blank, full, lora = (
        found.verdict("mini-flickr30k", method, DIRECTIONS[0])
        for method in (gains.WITHOUT, FULL, "LoRA")
    )
    assert blank.word == blank.text == published.NOT_MEASURED
    raw = gains.difference(ROWS[1], ROWS[2], DIRECTIONS[0])
    assert full.p == pytest.approx(6 * raw[3]) and full.word == "clearly worse"
    assert lora.text == f"{gains.points_of(lora)}, not clearly different"
    alone = findings(ROWS, planned={}).verdicts  # a dataset that nobody planned
    others = [ROWS[0], *ROWS[2:]]
    raw = [gains.difference(ROWS[1], one, way)[3] for one in others for way in DIRECTIONS]
    assert [one.p for one in alone.values()] == holm(raw)


def test_verdicts_by_ndcg_are_of_a_sentence_alone_and_count_what_was_planned_both_ways():
    found = findings(ROWS)
    by_ndcg = found.compared(NDCG)
    assert by_ndcg.keys() == {key for key in found.verdicts if key[2] == DIRECTIONS[0]}
    raw = difference(ROWS[1], ROWS[2], DIRECTIONS[0], NDCG)
    assert by_ndcg["mini-flickr30k", FULL, DIRECTIONS[0]].p == pytest.approx(6 * raw[3])
    header, _, *lines = tables.ndcg(found).splitlines()
    assert header.count("nDCG@10") == 2 and len(lines) == len(ROWS)
    places = sorted(int(line.split(" | ")[3].split("(")[1].rstrip(")")) for line in lines)
    assert places == [*range(1, len(ROWS) + 1)]


def test_the_table_of_differences_has_each_planned_method_or_says_why_it_has_no_verdict():
    marked = replace(ROWS[4], lost={"43": "loss NaN"})
    found = findings([*ROWS[:4], marked])
    header, _, *lines = tables.differences(found).splitlines()
    assert header == "| dataset | the adapter minus | T2I / T2V | I2T / V2T |" and len(lines) == 5
    why = "no verdict (LoRA: seed 43 could not be trained)"
    assert f"| mini-flickr30k | LoRA | {why} | {why} |" in lines
    full = [found.verdict("mini-flickr30k", FULL, way) for way in DIRECTIONS]
    cells = " | ".join(f"{gains.points_of(one)}, p {one.p:.3f}" for one in full)
    assert lines[0] == f"| mini-flickr30k | {FULL} | {cells} |"


def test_rows_are_read_on_further_test_sets():
    one = copy.deepcopy(ROWS[1])
    way, back = DIRECTIONS
    one.further = {"0": {"mini-flickr30k-words": {way: [1, 2, 1, 1], back: [1, 3]}}}
    there = one.on("words")
    assert (there.dataset, there.text_to_item) == ("mini-flickr30k-words", [0, 0, 1, 1])
    assert there.hits(way).tolist() == [[True, False, True, True]] and one.on("new") is None
    one.further["0"]["mini-flickr30k-words"][way].append(1)
    with pytest.raises(ValueError, match="mini-flickr30k-words has 5 texts of 2 items"):
        one.on("words")
    one.further["0"]["mini-flickr30k-words"][way].pop()
    table = tables.further(findings([one])).splitlines()
    assert table[2].startswith(f"| mini-flickr30k-words | {OURS} | 75.0 [")


@pytest.mark.parametrize(("full", "said"), [(0.41, " yes"), (0.3, "| no")])
def test_a_second_world_says_which_clear_differences_repeat(tmp_path, full, said):
    for one in (ROWS[1], row(FULL, full), row("LoRA", 0.1)):  # LoRA was not clear before
        one.save(tmp_path / tables.SECOND / "methods")
    found = replace(findings(ROWS), results=tmp_path)
    header, _, *lines = tables.repeated(found).splitlines()
    assert header == "| ours minus | way | first world | second world | repeats |"
    ends = {line.split(" | ")[0].strip("| "): line[-6:] for line in lines}
    assert ends == {FULL: f"{said} |", gains.WITHOUT: " | – |", "LoRA": " | – |"}
    assert tables.repeated(findings(ROWS)) == published.NONE


def test_the_figure_is_small_and_is_left_out_where_nothing_is_measured(tmp_path):
    gains_figure = runpy.run_path(str(ROOT / "notebooks" / "figures" / "gains.py"))["gains"]
    assert gains_figure(tmp_path) is None
    for one in ROWS:
        one.save(tmp_path / "methods")
    left, right = gains_figure(tmp_path).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == [OURS, "LoRA"]
    assert right.get_title() == "strengths: not measured yet"
    gains_figure(ROOT / "results").savefig(tmp_path / "gains.png", dpi=110)
    assert (tmp_path / "gains.png").stat().st_size <= 150_000
