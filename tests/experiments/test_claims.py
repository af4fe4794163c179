"""README's table and findings say what the rows and the fronts say."""

import re

from experiments import claims, gains, published
from experiments.claims import PICTURES
from experiments.gains import FORWARD, LORA, WITHOUT
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
