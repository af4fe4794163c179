"""The authors' optimiser and schedule against numbers of their code and against the formulas
written out.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cma import TrainConfig
from cma.training import BertAdam, optim, prepare, rate_factor


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.floats(0, 0.5), st.floats(1e-4, 0.1))
def test_bert_adam_is_the_formula_without_bias_correction(gradients, decay, lr):
    parameter, still = (nn.Parameter(torch.tensor([0.7], dtype=torch.float64)) for _ in range(2))
    optimizer = BertAdam([parameter, still], lr=lr, weight_decay=decay)
    p, m, v = 0.7, 0.0, 0.0
    for g in gradients:
        parameter.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        p = p - lr * (m / (math.sqrt(v) + 1e-6) + decay * p)
    assert parameter.item() == pytest.approx(p, abs=1e-12)
    assert still.item() == 0.7  # no gradient, no decay


def test_the_authors_schedule_gives_their_rates_and_jumps_after_the_warm_up():
    rates = [1e-3 * rate_factor("bert_adam", step, 10, 0.1) for step in range(3)]
    assert rates == pytest.approx([0, 0.0009755283, 0.0009045085], abs=1e-10)
    factors = [rate_factor("bert_adam", step, 1000, 0.1) for step in (0, 99, 100)]
    assert factors == pytest.approx([0, 0.99, 0.9755], abs=1e-4)


@given(st.integers(1, 300), st.floats(0, 1))
def test_the_usual_schedule_rises_to_one_then_falls(total, warmup):
    factors = [rate_factor("adamw", step, total, warmup) for step in range(total)]
    top = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[top] == 1
    if round(warmup * total) < total:
        assert top == max(0, round(warmup * total) - 1)


@pytest.mark.parametrize("name", ["adamw", "bert_adam"])
def test_stacked_weights_decay_and_biases_do_not(make_model, name):
    model = make_model()
    optimizer = prepare(model, TrainConfig(optimizer=name, weight_decay=0.2, lr=1.0))
    optim.set_rate(optimizer, 0.5)
    before = {
        key: value.detach().clone() for key, value in model.get_adapter("a").named_parameters()
    }
    for parameter in model.trainable_parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert len(before) == 10 == sum(len(group["params"]) for group in optimizer.param_groups)
    for key, value in model.get_adapter("a").named_parameters():
        kept = 1.0 if "bias" in key else 1 - 0.5 * 0.2
        torch.testing.assert_close(value.detach(), before[key] * kept)
