"""Pre-training on invented drawings: captions, batches, loss, rate, and a run that goes on after a
kill.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
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


def test_batches_hold_each_concept_once():
    rows = corpus()[1]
    emoji, mono = [[i] for i in range(10)], [[i] for i in range(10, 20)]
    groups = {"emoji": emoji, "mono": mono}
    chosen = contrastive.sample_rows(groups, 8, CONFIG, np.random.default_rng(1))
    assert len(chosen) == len(set(chosen)) == CONFIG.batch_size
    assert [rows[i].group for i in chosen].count("emoji") == 4


def test_captions_are_those_of_the_drawing():
    drawing, random = corpus()[1][0], np.random.default_rng(0)
    found = {contrastive.caption_of(drawing, random) for _ in range(200)}
    lists = found - {*drawing.captions}
    assert len(found) - len(lists) == 2 and lists
    assert all({*text.replace(",", "").split()} <= {*drawing.tags} for text in lists)


@pytest.mark.parametrize("step, rate", [(0, 0.25), (3, 1.0), (49, 1.0), (75, 0.5), (99, 0.02)])
def test_rate_warms_up_stays_and_decays(step, rate):
    config = contrastive.PretrainConfig(steps=100, warmup=4, decay=0.5, learning_rate=1.0)
    assert contrastive.learning_rate(step, config) == pytest.approx(rate)


def test_patches_are_dropped_and_the_class_token_kept():
    dropper, tokens = contrastive.PatchDropper(), torch.arange(10.0).repeat(3, 1)[..., None]
    assert dropper(None, (), tokens) is tokens
    dropper.drop = 1 / 3
    kept = dropper(None, (), tokens)
    assert kept.shape == (3, 7, 1) and (kept[:, 0] == 0).all()
    assert all(len(row.unique()) == 7 for row in kept)


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


def test_other_settings_do_not_resume_a_checkpoint(tmp_path):
    pixels, rows = corpus()
    contrastive.pretrain(pixels, rows, CONFIG, tmp_path)
    shape = replace(CONFIG.shape, projection=64)
    for other in (replace(CONFIG, shape=shape), replace(CONFIG, steps=5)):
        with pytest.raises(
            ValueError, match=r"checkpoint\.pt: of a run with other settings; use an"
        ):
            contrastive.pretrain(pixels, rows, other, tmp_path)
