"""A run with `compile`: loss and gradient as without, and a model that is as before."""

import pytest
import torch

import cma
from cma import RetrievalModel, TrainConfig
from cma.data import load
from cma.training import loop, prepare, restore
from tests.conftest import build_clip
from tests.methods.conftest import a_batch, build
from tests.training.conftest import weights
from tests.training.test_step import gradients, largest

COMPILED = TrainConfig(compile=True)
slow = pytest.mark.processes  # so that the fast suite stays fast


def untouched(model: RetrievalModel) -> bool:
    return not [module for module in model.modules() if module._compiled_call_impl is not None]


def test_compiling_and_checkpointing_exclude_each_other():
    with pytest.raises(ValueError, match="compile=True with checkpoint_activations=True: set one of them to"):
        TrainConfig(compile=True, checkpoint_activations=True)


@slow
@pytest.mark.parametrize(
    "method, size",
    [("cross-modal adapter", None), ("MaPLe", None), ("ST-Adapter", None), ("full fine-tuning", 3)],
)
def test_compiled_encoders_give_loss_and_gradient_of_the_batch(method, size):
    """Prompts before a layer, a mask of frames, replaced weights; a last micro-batch of one pair."""
    torch._dynamo.reset()
    model, config = build(method, moved=True, clip=build_clip(1, 1)).train(), TrainConfig(micro_batch=size)
    batch = a_batch()
    if method == "cross-modal adapter":  # clips of one frame would be embedded apart, by another graph
        batch = batch._replace(mask=torch.ones_like(batch.mask))
    short = batch._replace(input_ids=batch.input_ids[:, [0, 1, 2, 3, 8]])
    plain = [gradients(model, one, config) for one in (batch, short)]
    config = config.merge({"compile": True})
    prepare(model, config)
    for one, (loss, theirs) in zip((batch, short), plain, strict=True):
        compiled, ours = gradients(model, one, config)
        assert compiled == pytest.approx(loss, abs=1e-5) and largest(ours, theirs) <= 1e-5
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0 and (method != "cross-modal adapter" or graphs <= 3)  # one a tower serves both lengths
    restore(model)
    assert untouched(model)


@slow
def test_a_compiled_run_ends_as_one_that_is_not(folder, config, make_model):
    torch._dynamo.reset()
    dataset, config = load(folder, "train"), config.merge({"epochs": 2, "epoch_unit": "items"})
    plain, model = make_model(dropout=0.2), make_model(dropout=0.2)
    cma.train(plain, dataset, config)
    cma.train(model, dataset, config.merge({"name": "compiled", "compile": True}))
    assert largest(weights(model), weights(plain)) <= 1e-4 and untouched(model)


@slow
def test_without_a_compiler_a_run_says_so_before_its_first_step(folder, config, make_model, monkeypatch):
    monkeypatch.setattr(loop, "train_step", None)
    torch._dynamo.reset()
    model = make_model()
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        torch.compiler.config.patch(force_disable_caches=True),
        pytest.raises(ValueError, match="^torch.compile does not work here.*: set compile=False$"),
    ):
        cma.train(model, load(folder, "train"), config.merge({"compile": True}))
    assert untouched(model)
