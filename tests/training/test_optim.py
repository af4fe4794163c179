"""The authors' optimiser and schedule against numbers of their code and against the formulas
written out.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import TrainConfig
from cma.training import optim, prepare, rate_factor


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
