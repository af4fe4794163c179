"""README's sentences and figure say what the rows and records say."""

import copy
import json
import re
import runpy

import numpy as np
import pytest
from PIL import Image

from cma.plots import save
from experiments import gains, published
from experiments.rows import DIRECTIONS, MethodRow
from tests import ROOT
from tests.experiments.test_report import record

OURS, FULL, ZERO = published.PAPER, published.FULL, published.ZERO_SHOT
ITEMS = 150
OWNER = [item for item in range(ITEMS) for _ in range(2)]


def row(method: str, chance: float, seeds: int = 3, dataset: str = "mini-flickr30k") -> MethodRow:
    """A method that finds an item, at rank 1 with all its captions, with probability `chance`; made
    up.
    """
    ranks, records = {}, {}
    for seed in range(seeds):
        luck = np.random.default_rng(7).random(ITEMS) + np.random.default_rng(seed).normal(
            0, 0.02, ITEMS
        )
        back = np.where(luck < chance, 1, np.where(luck < chance + 0.2, 7, 40)).tolist()
        ranks[str(seed)] = {"text_to_visual": np.repeat(back, 2).tolist(), "visual_to_text": back}
        one = record(f"{dataset}-{method}-{seed}", method, seed=seed, dataset=dataset)
        one.trained_parameters = {ZERO: 0, FULL: 5000}.get(method, 100)
        records[str(seed)] = json.loads(one.to_json())
    return MethodRow(dataset, method, {}, records=records, ranks=ranks, text_to_item=OWNER)


ROWS = [
    row(ZERO, 0.1, seeds=1),
    row(OURS, 0.3),
    row(FULL, 0.4),
    row("CoOp", 0.05),
    row("LoRA", 0.3),
]


def test_the_sentences_are_computed_from_the_rows():
    lines = gains.summary([*ROWS, row(OURS, 0.2, dataset="half")]).splitlines()
    assert lines[0] == gains.PICTURE and lines[1] == "" and len(lines) == 5
    assert lines[2] == "1. The adapter trains 100 numbers, 2.0 % of those of full fine-tuning."
    start = (
        "2. On mini-flickr30k the adapter gains over zero-shot, in points of R@1: text-to-image +"
    )
    assert lines[3].startswith(start)
    assert "full fine-tuning's gain." in lines[3] and lines[3].count("[") == 6
    both = "(both ways)"
    assert lines[4] == (
        "3. Clearly better than the adapter (Holm's rule over 8 comparisons): full fine-tuning "
        f"{both} on mini-flickr30k. Clearly worse: zero-shot {both}, CoOp {both} on mini-flickr30k."
    )
    other = [row(m, chance, dataset="b") for m, chance in ((ZERO, 0.1), (OURS, 0.3), (FULL, 0.3))]
    end = gains.summary([*ROWS, *other]).splitlines()[-1]
    assert (
        "over 8 and 4 comparisons" in end
        and f"{both} on mini-flickr30k; none on b. Clearly worse: " in end
    )
    little = gains.summary([ROWS[0], ROWS[1], row(FULL, 0.12)])
    none = "no share (full fine-tuning gains too little)"
    assert (
        f"; that is {none} text-to-image and {none} image-to-text of full fine-tuning's gain."
        in little
    )


def test_the_points_of_the_curves_are_one_sentence(tmp_path):
    better = row(OURS, 0.37)
    for part in ("data-1-16", "data-1-4", "state-700", "steps-0.5"):
        of = {
            "data-1-4": [ROWS[0], better, ROWS[2]],
            "state-700": [ROWS[0], ROWS[1], row(FULL, 0.12)],
        }
        for one in of.get(part, ROWS[:3]):
            one.save(tmp_path / "curves" / part)
    ROWS[4].save(tmp_path / "curves" / "steps-0.5")
    (tmp_path / "curves" / "my-notes").mkdir()
    *before, last = gains.summary(ROWS, gains.read_points(tmp_path)).splitlines()
    assert before == gains.summary(ROWS).splitlines()
    start = "4. With another backbone, fewer items, or fewer or more steps (4 trainings), the adapter's share "
    start += "of full fine-tuning's gain in text-to-image R@1 goes from "
    lowest, highest = last.removeprefix(start).removesuffix(".").split(" to ")
    assert lowest == f"{gains.NO_SHARE} (mini-flickr30k with a backbone of 700 steps)"
    share = r"(\d+) % \[\d+, \d+\] \(mini-flickr30k with 1/4 of its training items\)"
    found = gains.share_of_gain(better, ROWS[2], ROWS[0], DIRECTIONS[0])
    assert re.fullmatch(share, highest)[1] == f"{found[0]:.0f}"
    assert gains.read_points(tmp_path / "curves") == {}


def test_nothing_is_said_of_a_dataset_that_lacks_a_row():
    assert gains.summary([]) == gains.summary(ROWS[1:]) == gains.NONE == published.markdown([])


def test_a_verdict_needs_a_small_p_of_all_comparisons_together():
    told = gains.compared({one.method: one for one in ROWS})
    assert len(told) == 8 and told["text_to_visual", "LoRA"][3] == 1
    assert all(told[way, FULL][3] < gains.CLEAR and told[way, FULL][2] < 0 for way in DIRECTIONS)


def test_the_table_of_differences_has_each_other_method_with_its_corrected_p():
    header, _, *lines = gains.differences([*ROWS, row(FULL, 0.4, dataset="alone")]).splitlines()
    assert header == "| dataset | the adapter minus | T2I / T2V | I2T / V2T |" and len(lines) == 4
    told = gains.compared({one.method: one for one in ROWS})
    for method, line in zip((ZERO, FULL, "CoOp", "LoRA"), lines, strict=True):
        assert line.startswith(f"| mini-flickr30k | {method} | ")
        for way in DIRECTIONS:
            gain, low, high, p = told[way, method]
            expected = f"{gain:+.1f} [{low:+.1f}, {high:+.1f}], p {p:.3f} |"
            assert expected.replace("-0.0", "+0.0") in line
    assert gains.differences([]) == "No record yet."


def test_the_figure_is_small_and_shows_the_notebooks_runs_where_there_are_no_rows(tmp_path):
    defined = runpy.run_path(str(ROOT / "notebooks" / "figures" / "gains.py"))
    runs = [copy.deepcopy(record(name, m, dataset="b")) for name, m in (("z", ZERO), ("a", OURS))]
    for run in runs:
        run.metrics["visual_to_text"] = run.metrics["text_to_visual"]
    assert defined["panels"]([], []) == {} == defined["panels"]([], runs[1:])
    shown = defined["panels"](ROWS, runs)
    rows_panel, (title, of) = shown["mini-flickr30k"], [*shown.items()][1]
    assert rows_panel[ZERO] == [(0, 0, 0)] * 2 and rows_panel[OURS][0][1] > 0
    assert title.startswith("b: one run each") and of[ZERO][0] == pytest.approx((0, -3.61, 3.59))
    save(defined["gains"](shown), tmp_path / "gains.png")
    with Image.open(tmp_path / "gains.png") as picture:
        assert picture.size[0] < 1000 and (tmp_path / "gains.png").stat().st_size <= 150_000
