"""Pre-training on invented drawings: captions, batches, loss, rate, and a run that goes on after a
kill.
"""

from types import SimpleNamespace

import pytest
import torch

from experiments.pretraining import contrastive
from tests.experiments.conftest import stopped_after
from tests.experiments.pretraining.conftest import CONFIG, corpus


def test_drawings_of_one_concept_or_caption_share_the_target():
    logits = torch.randn(4, 4)
    concepts, texts = ["a", "a", "b", "c"], ["x", "y", "z", "z"]
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).double()
    rows = -(logits.double().log_softmax(1) * same / 2).sum(1).mean()
    columns = -(logits.double().log_softmax(0) * same / 2).sum(0).mean()
    right = contrastive.same_drawings(concepts, texts)
    found = contrastive.contrastive_loss(logits, right)
    torch.testing.assert_close(found.double(), (rows + columns) / 2)


def test_a_killed_run_goes_on_as_if_unbroken(tmp_path, monkeypatch):
    pixels, rows = corpus()
    whole, _, log = contrastive.pretrain(pixels, rows, CONFIG, tmp_path / "whole", evaluate_every=2)
    assert [entry["step"] for entry in log] == [2, 4]
    clock = SimpleNamespace(monotonic=iter(range(0, 10**6, 1000)).__next__)
    # every step is slow, so every step is checkpointed
    monkeypatch.setattr(contrastive, "time", clock)
    with stopped_after(2, contrastive, "learning_rate"), pytest.raises(KeyboardInterrupt):
        contrastive.pretrain(pixels, rows, CONFIG, tmp_path / "broken", evaluate_every=2)
    again, _, log = contrastive.pretrain(
        pixels, rows, CONFIG, tmp_path / "broken", evaluate_every=2
    )
    assert [entry["step"] for entry in log] == [2, 4]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
