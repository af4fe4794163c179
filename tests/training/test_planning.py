"""A plan measures two small steps and leaves everything as it was; "auto" takes what fits."""

import math

import pytest
import torch

import cma
from cma.methods import attach
from cma.training import planning
from cma.training.planning import GIB, plan
from tests.training.conftest import equal, weights


@pytest.fixture
def free(monkeypatch):
    """A function that sets how much memory is free, in bytes."""
    return lambda size: monkeypatch.setattr(planning, "free_memory", lambda *_: size)


def test_a_plan_changes_nothing(train_set, config, make_model):
    model = make_model(dropout=0.2)
    before, state = weights(model), torch.get_rng_state()
    for settings in ({}, {"precision": "fp16"}, {"checkpoint_activations": True}):
        planned = plan(model, train_set, config.merge(settings))
        assert planned.steps == 3 * (48 // 8) and planned.batch == planned.pairs == 8
        assert planned.step_seconds > 0
    assert equal(weights(model), before) and torch.equal(torch.get_rng_state(), state)
    assert not model.training and not [p for p in model.parameters() if p.grad is not None]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_memory_grows_with_the_pairs_as_planned(train_set, config, make_model):
    model = make_model()
    peaks = {
        size: plan(model, train_set, config.merge({"batch_size": size})).peak for size in (2, 8, 16)
    }
    (batch,) = cma.training.read_batches(
        train_set,
        model.tokenize(train_set.captions)[0],
        cma.training.Pixels(model.processor, config),
        [torch.arange(16)],
        workers=0,
    )
    measured = planning.measure(model, batch, config)[0] / GIB
    assert peaks[16] == pytest.approx(measured, rel=0.2)
    assert peaks[2] < peaks[8] < peaks[16]
    less = plan(model, train_set, config.merge({"batch_size": 16, "checkpoint_activations": True}))
    assert less.peak < peaks[16] / 2
    attach(model, "full fine-tuning", "full")
    trained = sum(parameter.numel() for parameter in model.trainable_parameters())
    # gradient and both means of AdamW
    assert plan(model, train_set, config).peak > 12 * trained / GIB


def test_it_says_what_to_set_where_the_batch_does_not_fit(train_set, config, make_model, free):
    model = make_model()
    whole = plan(model, train_set, config)
    assert "it will not fit" not in str(whole)
    free(whole.peak * GIB / 2)
    half = plan(model, train_set, config)
    assert 1 <= half.fitting < 8 and f"it will not fit: set micro_batch={half.fitting}" in str(half)
    chosen = plan(model, train_set, config.merge({"micro_batch": "auto"}))
    assert chosen.pairs == chosen.fitting and "it will not fit" not in str(chosen)
    free(1000)
    nothing = plan(model, train_set, config.merge({"micro_batch": "auto"}))
    assert (nothing.pairs, nothing.fitting) == (1, 0)
    assert "micro_batch=1 and checkpoint_activations=True" in str(nothing)
    free(math.inf)
    unknown = plan(model, train_set, config)
    assert unknown.fitting == 8 and str(unknown).endswith("unknown")
