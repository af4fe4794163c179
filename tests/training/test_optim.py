"""The authors' optimiser and schedule against numbers of their code and against the formulas written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cma.training.optim import BertAdam, build_optimizer, parameter_groups, rate_factor, set_rate


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.floats(0, 0.5), st.floats(1e-4, 0.1))
@settings(max_examples=30, deadline=None)
def test_bert_adam_is_the_formula_without_bias_correction(gradients, decay, lr):
    parameter = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = BertAdam([parameter], lr=lr, weight_decay=decay)
    p, m, v = 0.7, 0.0, 0.0
    for g in gradients:
        parameter.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        p = p - lr * (m / (math.sqrt(v) + 1e-6) + decay * p)
    assert parameter.item() == pytest.approx(p, abs=1e-12)


def test_bert_adam_skips_what_has_no_gradient_and_takes_a_closure():
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = BertAdam([moved, still], lr=0.1, weight_decay=0.2)

    def closure():
        optimizer.zero_grad()
        loss = moved.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert not torch.equal(moved, torch.ones(2))
    assert torch.equal(still, torch.ones(2))


def test_authors_schedule_gives_their_rates():
    rates = [1e-3 * rate_factor("bert_adam", step, 10, 0.1) for step in range(3)]
    assert rates == pytest.approx([0, 0.0009755283, 0.0009045085], abs=1e-10)


def test_authors_schedule_jumps_after_the_warm_up():
    factors = [rate_factor("bert_adam", step, 1000, 0.1) for step in range(1000)]
    assert factors[0] == 0
    assert factors[99] == pytest.approx(0.99)
    assert factors[100] == pytest.approx(0.9755, abs=1e-4)


@given(st.integers(1, 300), st.floats(0, 1))
@settings(deadline=None)
def test_usual_schedule_rises_to_one_then_falls(total, warmup):
    factors = [rate_factor("adamw", step, total, warmup) for step in range(total)]
    top = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[top] == 1
    if round(warmup * total) < total:
        assert top == max(0, round(warmup * total) - 1)


@pytest.mark.parametrize("name", ["adamw", "bert_adam"])
def test_weights_decay_and_biases_do_not(name):
    model = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    groups = parameter_groups(model, list(model.parameters()), weight_decay=0.2)
    optimizer = build_optimizer(name, groups, lr=1.0)
    set_rate(optimizer, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(model.bias, before["bias"])
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.5 * 0.2))


def test_groups_hold_each_trained_parameter_once(toy_clip):
    from cma import AdapterConfig, RetrievalModel

    model = RetrievalModel(toy_clip)
    model.add_adapter("a", AdapterConfig())
    model.set_adapter("a")
    decayed, plain = parameter_groups(model, model.trainable_parameters(), 0.2)
    assert [p.ndim for p in decayed["params"]] == [3] * 5  # stacked weights
    assert [p.ndim for p in plain["params"]] == [2] * 5  # stacked biases
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
