"""A run with `compile`: loss and gradient as without, every method, and a model that is as before."""

import pytest
import torch

import cma
from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.data import load
from cma.training import compiled, loop, prepare
from cma.training.precision import restore
from tests.conftest import build_clip
from tests.methods.conftest import a_batch, build, embed
from tests.training.conftest import stop_after, weights
from tests.training.test_step import gradients, largest

COMPILED = TrainConfig(compile=True)
slow = pytest.mark.processes  # so that the fast suite stays fast


@pytest.fixture
def traced(monkeypatch):
    """Graphs of forward and backward pass, and their guards, without the code that is generated from them."""
    monkeypatch.setattr(compiled, "SETTINGS", {"dynamic": True, "backend": "aot_eager"})
    torch._dynamo.reset()


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def untouched(model: RetrievalModel) -> bool:
    return not [module for module in model.modules() if "forward" in vars(module)]


def test_compiling_and_checkpointing_exclude_each_other():
    with pytest.raises(ValueError, match="compile=True with checkpoint_activations=True: set one of them to"):
        TrainConfig(compile=True, checkpoint_activations=True)


@slow
def test_compiled_encoders_give_loss_and_gradient_of_the_batch_and_go_again():
    torch._dynamo.reset()
    model, batch = RetrievalModel(build_clip(1, 1)), a_batch()
    batch = batch._replace(mask=torch.ones_like(batch.mask))  # clips of one frame would be embedded apart
    torch.manual_seed(0)
    model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8, init_std=0.3, dropout=0.3))
    clip = embed(model)
    model.set_adapter("a")
    adapted = embed(model)
    model.train()
    short = batch._replace(input_ids=batch.input_ids[:, [0, 1, 2, 3, 8]])
    plain = [gradients(model, one, TrainConfig()) for one in (batch, short)]
    prepare(model, COMPILED)
    before = graphs()
    for one, (loss, theirs) in zip((batch, short), plain, strict=True):
        found, ours = gradients(model, one, COMPILED)
        assert graphs() == before + 2  # one a tower; a shorter caption needs no other
        assert found == pytest.approx(loss, abs=1e-5) and largest(ours, theirs) <= 1e-5
        assert max(gradient.abs().max().item() for gradient in ours) > 0.01
    assert not torch._dynamo.utils.counters["graph_break"]
    model.eval()
    assert largest(embed(model), adapted) == 0 and graphs() == before + 2  # evaluation is not compiled
    assert largest(adapted, clip) > 0.01
    restore(model)
    assert untouched(model)
    model.set_adapter(None)
    assert largest(embed(model), clip) == 0


@slow
@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("MaPLe", None),
        ("ST-Adapter", None),
        ("full fine-tuning", None),
        ("cross-modal adapter", 3),
    ],
)
def test_methods_are_compiled_and_micro_batches_too(method, size, traced):
    """Prompts before a layer, a mask of frames, replaced weights, hooks; a last micro-batch of one pair."""
    model, config = build(method, moved=True, clip=build_clip(1, 1)).train(), TrainConfig(micro_batch=size)
    batch = a_batch()
    loss, theirs = gradients(model, batch, config)
    config = config.merge({"compile": True})
    prepare(model, config)
    before = graphs()
    found, ours = gradients(model, batch, config)
    assert graphs() > before
    assert found == pytest.approx(loss, abs=1e-5) and largest(ours, theirs) <= 1e-5
    restore(model)
    assert untouched(model)


@slow
def test_a_compiled_run_ends_as_one_that_is_not(folder, config, make_model, monkeypatch, traced, capsys):
    """It is stopped after an epoch, resumed, and runs out of memory once."""
    dataset, config = load(folder, "train"), config.merge({"epochs": 2, "epoch_unit": "items"})
    plain = make_model(dropout=0.2)
    cma.train(plain, dataset, config)
    config = config.merge({"name": "compiled", "compile": True})
    with pytest.raises(KeyboardInterrupt):
        cma.train(first := make_model(dropout=0.2), dataset, config, stop_after(1))
    assert untouched(first)
    really, tries = loop.train_step, []

    def failing(*given):
        tries.append(given)
        if len(tries) == 2:
            raise torch.OutOfMemoryError("full")
        return really(*given)

    monkeypatch.setattr(loop, "train_step", failing)
    model = make_model(dropout=0.2, seed=9)
    record = cma.train(model, dataset, config)
    printed = capsys.readouterr().out
    assert "out of memory with 8 pairs at once; going on with 4" in printed and record.finished
    assert "the encoders are compiled" in printed
    assert largest(weights(model), weights(plain)) <= 1e-5 and untouched(model)


@slow
def test_without_a_compiler_a_run_says_so_before_its_first_step(folder, config, make_model, monkeypatch):
    monkeypatch.setattr(loop, "train_step", None)
    torch._dynamo.reset()
    model = make_model()
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ValueError, match="^compile=True: torch.compile does not work") as caught,
    ):
        cma.train(model, load(folder, "train"), config.merge({"compile": True}))
    assert "install a C++ compiler such as g++, or set compile=False" in str(caught.value)
    assert "\n" not in str(caught.value) and untouched(model)


@slow
def test_an_encoder_that_cannot_be_compiled_runs_as_before(make_model, monkeypatch, capsys):
    def broken(graph, inputs):
        raise RuntimeError("no code for this\nmore about it")

    monkeypatch.setattr(compiled, "SETTINGS", {"backend": broken})
    model, batch = make_model().train(), a_batch()
    plain = gradients(model, batch, TrainConfig())
    prepare(model, COMPILED)
    capsys.readouterr()
    found = gradients(model, batch, COMPILED)
    gradients(model, batch, COMPILED)
    assert found[0] == plain[0] and largest(found[1], plain[1]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all(line.startswith("an encoder is not compiled: ") for line in said)
