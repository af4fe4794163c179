"""What was fixed before any method was compared: the world, the backbone, the gates and the budgets."""

import hashlib
import json

import pytest

from cma.backbone import MINI
from data_prep.mini.build import BUILD
from data_prep.mini.things import LEXICON
from experiments.rows import Budget, read_rows
from experiments.study import PROTOCOL, budget_of
from tests import ROOT
from tests.bench.headroom import GAIN, MOST

PROTOCOL_FILE = ROOT / "results" / PROTOCOL
CONTENT = json.loads(PROTOCOL_FILE.read_text("utf-8"))
BENCHMARKS = ("mini-flickr30k", "mini-msrvtt")


def test_world_and_backbone_are_those_that_were_frozen():
    frozen = CONTENT["frozen"]
    assert frozen["build"] == BUILD
    assert frozen["lexicon"] == hashlib.sha256(LEXICON.read_bytes()).hexdigest()
    weights = (MINI / "model.safetensors").read_bytes()
    assert frozen["backbone"] == hashlib.sha256(weights).hexdigest() and len(weights) <= 20e6
    assert len({frozen["backbone"], *frozen["states"].values()}) == 3


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_gates_were_passed_on_validation(name):
    gate = json.loads((ROOT / "results" / "headroom.json").read_text("utf-8"))[name]
    assert gate["split"] == "val" and gate["gain"][0] >= GAIN and gate["half-width, scaled to test"] <= MOST
    if name == BENCHMARKS[0]:
        assert 5 <= gate["zero-shot R@1"] <= 45


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_has_the_budget_of_the_protocol(name):
    budget = vars(budget_of(name, PROTOCOL_FILE))
    assert budget == CONTENT["budgets"][name] and set(budget) == set(vars(Budget()))
    for row in read_rows(ROOT / "results" / "methods"):
        if row.dataset == name:
            assert budget.items() <= row.budget.items()
            reported, tried = {*row.records, *row.ranks}, {str(entry["seed"]) for entry in row.rates}
            assert not reported & tried
