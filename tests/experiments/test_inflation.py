"""What raises a recall without a better model: each practice by its definition, and the command."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cma.similarity import text_conditioned
from cma.training import Embeddings
from experiments import inflation, rows
from experiments.__main__ import main
from experiments.inflation import USUAL
from experiments.published import PAPER as OURS
from experiments.study import Study
from tests.conftest import build_clip

WAY, BACK = rows.DIRECTIONS


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_dual_softmax_weighs_a_score_by_its_share_among_the_queries():
    similarity = random(6, 4)
    found = inflation.dual_softmax(similarity, 3.0).numpy()
    for candidate in range(4):
        column = similarity[:, candidate].double().numpy()
        shares = np.exp(3 * column) / np.exp(3 * column).sum()
        assert found[:, candidate] == pytest.approx(column * shares)


def test_only_a_query_whose_first_candidate_others_find_too_is_normalised():
    similarity, bank = random(40, 9), random(12, 9, seed=1)
    found = inflation.normalised_by(bank, similarity)
    hubs = {int(one.argmax()) for one in bank}
    assert len({int(one.argmax()) for one in similarity} - hubs) > 0
    for query, scores in zip(similarity, found, strict=True):
        expected = query.double()
        if int(query.argmax()) in hubs:
            expected = (20 * expected).exp() / (20 * bank.double()).exp().sum(0)
        assert torch.allclose(scores, expected)


def clips() -> Embeddings:
    """Seven captions of five clips of three frames, of which some are padding."""
    mask = torch.ones(5, 3)
    mask[1, 2] = mask[3, 1:] = 0
    owner = torch.tensor([0, 0, 1, 2, 3, 3, 4])
    return Embeddings(random(7, 8), 3 * random(5, 3, 8, seed=1), mask, owner, 0)


def test_a_clip_pooled_by_its_own_caption_is_one_vector_for_all_captions():
    text, frames, mask, owner, _ = encoded = clips()
    found = inflation.by_own_caption(encoded, temperature=2.0)
    for clip, caption in enumerate((0, 2, 3, 4, 6)):
        shown = frames[clip][mask[clip].bool()]
        pooled = (text[caption] @ shown.T / 2).softmax(0) @ shown
        assert torch.allclose(found[:, clip], F.cosine_similarity(text, pooled[None]), atol=1e-6)
    own = text_conditioned(text, frames, mask, 2.0)[[0, 2, 3, 4, 6], range(5)]
    assert torch.allclose(found[[0, 2, 3, 4, 6], range(5)], own, atol=1e-6)


@pytest.fixture
def studied(folder, config, toy_processor, tmp_path, monkeypatch):
    """Makes the row and the adapter of ours on a folder; returns the command for it."""

    def made(folder=folder, **changes) -> list[str]:
        settings = replace(config, **changes)
        budget = rows.Budget(epochs=1, rates=[1e-2], rate_seeds=[9], seeds=[7, 8], scan=False)
        study = Study(build_clip(), toy_processor, folder, settings, budget, tmp_path / "methods")
        study.keep = OURS
        study.run(OURS)
        monkeypatch.setattr(inflation, "EPOCHS", (2, 3))
        monkeypatch.setattr(inflation, "backbone_of", lambda name: (study.clip, study.processor))
        how = SimpleNamespace(train_config=lambda: settings)
        monkeypatch.setattr(inflation, "recipe", lambda name: how)
        places = ["--results", tmp_path, "--runs", tmp_path / "runs/inflation"]
        return ["inflation", str(folder), *map(str, places)]

    return made


def test_pictures_are_scored_and_two_trainings_choose_on_test(studied, tmp_path, capsys):
    words = studied()
    assert main(words) == 0
    found = json.loads((tmp_path / inflation.FILE).read_text())["toy"]
    assert (found["texts"], found["items"], found["seed"], found["lr"]) == (20, 10, 7, 1e-2)
    shown = [(row["model"], row["practice"].partition(" of ")[0]) for row in found["rows"]]
    scored = [USUAL, "dual softmax over the test queries", "QB-Norm, a bank"]
    assert [practice for model, practice in shown if model == "zero-shot"] == scored
    assert shown[:3] == [(OURS, practice) for practice in scored]

    row = rows.rows_of(tmp_path / "methods", "toy")[OURS]
    for way in rows.DIRECTIONS:  # the kept adapter is that of the first seed
        usual, *others = found["rows"][:3]
        assert usual["R@1"][way][0] == pytest.approx(100 * row.hits(way)[0].mean())
        assert usual["difference"][way] == [0, 0, 0]
        for other in others:
            gain = other["R@1"][way][0] - usual["R@1"][way][0]
            assert other["difference"][way][0] == pytest.approx(gain)
    check_epochs(found)

    runs = tmp_path / "runs/inflation"
    assert {path.name for path in runs.glob("*/epoch-*")} == {"epoch-1", "epoch-2", "epoch-3"}
    before = {path: path.read_bytes() for path in runs.rglob("run.json")}
    capsys.readouterr()
    assert main(words) == 0  # nothing is trained again
    assert before == {path: path.read_bytes() for path in runs.rglob("run.json")}
    again = json.loads((tmp_path / inflation.FILE).read_text())["toy"]
    assert again | {"finished": found["finished"]} == found


def check_epochs(found: dict) -> None:
    """The chosen epochs are the first best ones, and what choosing on test adds is their gap."""
    chosen = iter(found["rows"][-2 * len(found["epochs"]) :])
    for epochs, scores in found["epochs"].items():
        best = {split: of.index(max(of)) for split, of in scores.items()}
        assert list(best) == ["validation", "test"]
        assert {len(of) for of in scores.values()} == {int(epochs)}
        for split, epoch in best.items():
            row = next(chosen)
            assert row["practice"] == f"epoch {epoch + 1} of {epochs}, chosen on {split}"
            assert row["R@1"][WAY][0] == pytest.approx(scores["test"][epoch])
            gap = scores["test"][epoch] - scores["test"][best["validation"]]
            assert row["difference"][WAY][0] == pytest.approx(gap)
