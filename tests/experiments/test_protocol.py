"""What was fixed before any method was compared: the world, the backbone, the gates and the
budgets.
"""

import json
from dataclasses import asdict

import pytest

from cma import methods
from cma.backbone import MINI
from data_prep.mini.build import BUILD, ORIGIN, READERS, TESTS
from data_prep.mini.things import LEXICON
from experiments.drawings import NAME as DRAWINGS
from experiments.rows import read_rows
from experiments.study import budget_of
from experiments.world import PROTOCOL, digest_of
from tests import ROOT
from tests.experiments.conftest import revision

PROTOCOL_FILE = ROOT / "results" / PROTOCOL
CONTENT = json.loads(PROTOCOL_FILE.read_text("utf-8"))
BENCHMARKS = ("mini-flickr30k", "mini-msrvtt")


def test_world_and_backbone_are_those_that_were_frozen():
    frozen = CONTENT["frozen"]
    assert frozen["build"] == BUILD
    assert frozen["lexicon"] == digest_of(LEXICON)
    weights = MINI / "model.safetensors"
    assert frozen["backbone"] == digest_of(weights) and weights.stat().st_size <= 20e6
    assert len({frozen["backbone"], *frozen["states"].values()}) == 1 + len(frozen["states"])
    worlds = {name for name in READERS if name not in TESTS}
    assert frozen["pixels"].keys() == {*worlds, DRAWINGS}


@pytest.mark.minis
def test_the_pixels_of_the_built_world_are_those_that_were_frozen():
    for name, digest in CONTENT["frozen"]["pixels"].items():
        if name == DRAWINGS:
            continue  # built by the commands that need it
        built = json.loads((ROOT / "data" / "sources" / name / ORIGIN).read_text("utf-8"))
        assert built["pixels"] == digest, name


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_has_the_budget_of_its_protocol_and_its_backbone(name):
    budget = budget_of(name, PROTOCOL_FILE)
    assert asdict(budget) == CONTENT["budgets"][name]
    for row in read_rows(ROOT / "results" / "methods"):
        if row.dataset == name:
            revisions = {run["backbone"]["revision"] for run in row.records.values()}
            assert revisions <= {revision(CONTENT["frozen"]["backbone"])}
            planned = asdict(budget.of(row.method))
            assert planned.items() <= row.budget.items()
            reported = {*row.records, *row.ranks}
            assert not reported & {str(entry["seed"]) for entry in row.rates}


def test_every_method_with_a_row_has_a_planned_comparison_once():
    families = CONTENT["verdicts"]["families"]
    assert sum(2 * len(methods) for methods in families["first"].values()) == 12
    kinds = {"mini-flickr30k": "image", "mini-msrvtt": "video"}
    for name, kind in kinds.items():
        planned = [method for of in families.values() for method in of[name]]
        assert all(kind in methods.class_of(method).kinds for method in planned)
        rows = {
            row.method for row in read_rows(ROOT / "results" / "methods") if row.dataset == name
        }
        assert sorted(planned) == sorted(rows & {*methods.NAMES} - {"cross-modal adapter"})
