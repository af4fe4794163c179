"""Verdicts and shares from the rows, and the tables that are made of them."""

from dataclasses import replace

import pytest

from experiments import gains, published, tables
from experiments.rows import DIRECTIONS, holm
from tests.experiments.toy_rows import FULL, ROWS, findings


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
