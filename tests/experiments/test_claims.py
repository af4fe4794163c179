"""README's table and findings say what the rows and the fronts say."""

import re
from dataclasses import replace

import pytest

from experiments import claims, gains, published
from experiments.claims import CLIPS, PICTURES
from experiments.gains import FORWARD, LORA, WITHOUT
from tests import ROOT
from tests.experiments.toy_rows import FULL, OURS, ZERO, findings, row

ROWS = [row(ZERO, 0.1, seeds=1), row(OURS, 0.3), row(FULL, 0.4), row(WITHOUT, 0.3), row(LORA, 0.35)]
OTHERS = {"CoOp": 0.1, "VPT": 0.15, "AdaptFormer": 0.3, "Adapter-ATTN": 0.31}
ROWS += [row(method, chance) for method, chance in OTHERS.items()]
PLANNED = {
    "first": {PICTURES: [FULL, WITHOUT, LORA]},
    "second": {PICTURES: [*OTHERS, "MaPLe"]},
}


def table(found) -> dict[str, list[str]]:
    """README's table, {claim: its cells}."""
    lines = [line for line in claims.summary(found).splitlines() if line.startswith("| ")]
    return {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[1:] for line in lines}


def test_each_claim_is_answered_from_the_verdicts():
    costs = {"image": {OURS: {"time": 0.73}, LORA: {"time": 0.74}}}
    said = table(findings(ROWS, planned=PLANNED, costs=costs))
    full = gains.points_of(gains.difference(ROWS[1], ROWS[2], FORWARD))
    share = gains.share_of_gain(ROWS[1], ROWS[2], ROWS[0], FORWARD)[0]
    here = f"**no**: {share:.0f} % of its gain"
    assert said["near full fine-tuning, or above it"] == [f"{full} ●", "not measured yet", here]
    assert said["sharing helps"][2] == "**not seen**" and "●" not in said["sharing helps"][0]
    prompts = said["better than prompts"]
    assert re.fullmatch(r"\+1\d.\d to \+\d\d.\d ●", prompts[0])
    assert prompts[2] == "**yes** (MaPLe on pictures: no verdict)"
    assert said["better than other adapters"][2] == "**not seen**"
    assert said["(LoRA, not in the paper)"][2] == "**behind on pictures**"
    cost = said["cheaper than full fine-tuning"]
    assert cost == [
        "2.0 % of the parameters, 73 % of the time",
        "not measured yet",
        "**yes**; LoRA costs the same",
    ]
    assert said["better with little data (a quarter, minus full fine-tuning)"][2] == (
        published.NOT_MEASURED
    )


def test_a_group_with_one_clear_method_names_it():
    found = findings(
        [*ROWS, row("ST-Adapter", 0.05)],
        planned={"second": {PICTURES: ["AdaptFormer", "Adapter-ATTN", "ST-Adapter"]}},
    )
    cells = table(found)["better than other adapters"]
    assert re.match(r"-\d.\d to [+-]\d.\d; ST-Adapter \+2", cells[0])
    assert cells[0].endswith("●") and cells[2] == "**only better than ST-Adapter**"


def test_a_rate_at_an_edge_is_said_beside_little_data():
    rates = [{"lr": lr, "seed": 1, "epochs": 4, "mR": 1} for lr in (1e-3, 3e-3)]
    edge = replace(ROWS[1], rates=rates, lr=3e-3, budget={"epochs": 4})
    of = {one.method: one for one in ROWS} | {OURS: edge}
    points = {f"{PICTURES}, data 1/4": of, f"{CLIPS}, data 1/4": of}
    said = table(findings(ROWS, planned=PLANNED, points=points))
    cells = said["better with little data (a quarter, minus full fine-tuning)"]
    assert (
        cells[2] == "**still behind**; a learning rate is at the edge of its search"
        and cells[0] == cells[1]
    )
    assert edge.at_edge and not replace(edge, lr=2e-3).at_edge and not ROWS[1].at_edge


@pytest.mark.parametrize("rows", [[], ROWS[1:]])
def test_nothing_is_said_where_no_dataset_has_the_rows_of_a_share(rows):
    assert claims.summary(findings(rows)) == published.NONE


def test_the_training_loss_and_the_recall_are_correlated_over_rows_with_a_rate():
    made = []
    for place, chance in enumerate((0.1, 0.2, 0.4)):
        one = replace(row(f"m{place}", chance), lr=1e-3)
        for run in one.records.values():
            run["history"] = [{"loss": 1 - chance}]
        made.append(one)
    correlation, count = claims.fit([{one.method: one for one in made}, {"zero": ROWS[0]}])
    assert count == 3 and correlation == pytest.approx(-1, abs=0.02)


def test_readme_shows_what_the_committed_records_say():
    found = gains.Findings.read(ROOT / "results")
    assert claims.summary(found) in (ROOT / "README.md").read_text("utf-8")
