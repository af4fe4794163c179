"""What was fixed before any method was compared: the world, the backbone, the gates and the
budgets.
"""

import hashlib
import json
import re

import pytest

from cma.backbone import MINI
from data_prep.mini.build import BUILD, ORIGIN
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


@pytest.mark.minis
def test_the_pixels_of_the_built_world_are_those_that_were_frozen():
    for name, digest in CONTENT["frozen"]["pixels"].items():
        built = json.loads((ROOT / "data" / "sources" / name / ORIGIN).read_text("utf-8"))
        assert built["pixels"] == digest, name


def test_the_card_names_the_states_that_the_curves_were_trained_on():
    card = (MINI / "README.md").read_text("utf-8")
    files = re.search(
        r"of 700 steps has the SHA-256 `(\w{64})`, that of 2,000 steps `(\w{64})`", card
    )
    for state, digest in zip(("state-700", "state-2000"), files.groups(), strict=True):
        # as `cma.backbone` makes it
        revision = hashlib.sha256(bytes.fromhex(digest)).hexdigest()[:12]
        runs = [
            run
            for row in read_rows(ROOT / "results" / "curves" / state)
            for run in row.records.values()
        ]
        assert {run["backbone"]["revision"] for run in runs} == {revision}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_gates_were_passed_on_validation(name):
    gate = json.loads((ROOT / "results" / "headroom.json").read_text("utf-8"))[name]
    assert (
        gate["split"] == "val"
        and gate["gain"][0] >= GAIN
        and gate["half-width, scaled to test"] <= MOST
    )
    if name == BENCHMARKS[0]:
        assert 5 <= gate["zero-shot R@1"] <= 45


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_has_the_budget_of_the_protocol(name):
    budget = vars(budget_of(name, PROTOCOL_FILE))
    assert budget == CONTENT["budgets"][name] and set(budget) == set(vars(Budget()))
    for row in read_rows(ROOT / "results" / "methods"):
        if row.dataset == name:
            assert budget.items() <= row.budget.items()
            reported, tried = (
                {*row.records, *row.ranks},
                {str(entry["seed"]) for entry in row.rates},
            )
            assert not reported & tried
