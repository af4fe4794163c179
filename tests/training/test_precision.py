"""The authors' half precision, against the numbers of their own half-precision runs (see
parity_model).
"""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import cma
from cma import TrainConfig, methods
from cma.checkpoints import OFFICIAL
from cma.recipes import recipe
from cma.training import BertAdam, prepare, restore, set_rate
from tests.parity_model import numbers, parity_model
from tests.toy_data import write_images
from tests.training.conftest import stop_after
from tests.training.thirty_steps import SETTINGS, STEPS, follow, is_close, length


@pytest.fixture(scope="module")
def theirs():
    return numbers("half_train30")


def test_the_optimizer_alone_gives_their_parameters_from_their_gradients(theirs):
    gradients, rates = numbers("half_gradients"), theirs["lrs"].tolist()
    ours = {name: nn.Parameter(theirs[f"one.step1.{name}"].clone()) for name in OFFICIAL.values()}
    groups = [
        {
            "params": [p for name, p in ours.items() if ("bias" in name) == bias],
            "weight_decay": decay,
        }
        for bias, decay in ((False, 0.2), (True, 0.0))
    ]
    optimizer = BertAdam(groups, lr=0.0)
    start = {name: parameter.detach().clone() for name, parameter in ours.items()}
    for step in range(1, 31):
        for name, parameter in ours.items():
            parameter.grad = gradients[f"grad{step}.{name}"].clone()
        set_rate(optimizer, rates[step - 1])
        optimizer.step()
        if step in STEPS:
            wanted = {name: theirs[f"one.step{step}.{name}"] for name in ours}
            missed = length(ours[name].detach().double() - wanted[name] for name in ours)
            assert missed <= 1e-2 * length(wanted[name].double() - start[name] for name in ours), (
                step
            )
    state = optimizer.state[ours["vt_adapter_up_share_weight"]]
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}


@pytest.mark.slow
@pytest.mark.parametrize(("run", "divisor"), [("one", 1), ("ddp4", 4)])
def test_thirty_steps_follow_theirs(run, divisor):
    steps = follow(run, divisor)
    assert len(steps) == 30 and not [step for step in steps if not is_close(step)]


def test_what_is_half_precision_and_what_is_not():
    model = parity_model()
    seen = {}
    prepare(model, TrainConfig(**SETTINGS))
    for name, module in model.clip.named_modules():
        module.register_forward_hook(lambda m, i, out, name=name: seen.setdefault(name, out))
    inputs = numbers("inputs")
    text = model.encode_text(inputs["input_ids"])
    frames = model.encode_videos(inputs["video"], inputs["video_mask"])
    assert text.dtype == frames.dtype == torch.float16
    for name, parameter in model.clip.named_parameters():
        whole = "norm" in name or "layrnorm" in name or "embedding" in name and "patch" not in name
        expected = torch.float32 if whole or name == "logit_scale" else torch.float16
        assert parameter.dtype == expected, name
    outputs = {name: out for name, out in seen.items() if isinstance(out, torch.Tensor)}
    assert len(outputs) > 60 and {out.dtype for out in outputs.values()} == {torch.float16}
    assert {parameter.dtype for parameter in model.trainable_parameters()} == {torch.float16}


def test_the_backbone_gets_its_own_tensors_back_and_the_adapter_float32(model):
    model.set_adapter("a")
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.clip.named_parameters()}
    text = model.encode_text(["a red cat"])
    prepare(model, TrainConfig(**SETTINGS))
    prepare(model, TrainConfig(**SETTINGS))  # again: still the same originals
    assert not torch.equal(model.encode_text(["a red cat"]).float(), text)
    halved = [parameter.detach().clone() for parameter in model.trainable_parameters()]
    restore(model)
    restore(model)
    for name, parameter in model.clip.named_parameters():
        assert parameter.data_ptr() == before[name][0] and torch.equal(
            parameter, before[name][1]
        ), name
    for parameter, half in zip(model.trainable_parameters(), halved, strict=True):
        assert parameter.dtype == torch.float32 and torch.equal(parameter, half.float())
    hooks = [m for m in model.clip.modules() if isinstance(m, nn.LayerNorm) and m._forward_hooks]
    assert not hooks


@pytest.mark.parametrize("name", ["LoRA", "projection"])
def test_what_trains_in_the_backbones_place_is_not_put_back(model, monkeypatch, name):
    copied = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied(tensor).clone())  # as from a GPU
    methods.attach(model, name, "tuned")
    own = {
        name: p.detach().clone() for name, p in model.clip.named_parameters() if not p.requires_grad
    }
    prepare(model, TrainConfig(**SETTINGS))
    for parameter in model.trainable_parameters():
        parameter.data += 1  # a step
    trained = [parameter.detach().float() for parameter in model.trainable_parameters()]
    restore(model)
    for parameter, value in zip(model.trainable_parameters(), trained, strict=True):
        assert parameter.dtype == torch.float32 and torch.equal(parameter, value)
    left = dict(model.clip.named_parameters())
    assert all(torch.equal(left[name], value) for name, value in own.items())


@pytest.mark.slow
def test_a_run_of_the_papers_recipe_gives_the_backbone_back_and_goes_on_after_its_first_epoch(
    model, tmp_path
):
    model.set_adapter("a")
    dataset = cma.data.load(
        write_images(tmp_path / "toy", {"train": 24, "val": 8, "test": 8}), "train"
    )
    paper = recipe("flickr30k").train_config("paper")
    config = paper.merge(
        {"batch_size": 8, "epochs": 2, "workers": 0, "runs_dir": tmp_path, "lr": 1e-3}
    )
    own = {name: p.detach().clone() for name, p in model.clip.named_parameters()}
    start = copy.deepcopy(model.adapters["a"].state_dict())

    with pytest.raises(KeyboardInterrupt):
        cma.train(model, dataset, config, on_epoch=stop_after(1))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    resumed = cma.train(model, dataset, config)
    trained = copy.deepcopy(model.adapters["a"].state_dict())
    model.adapters["a"].load_state_dict(start)
    whole = cma.train(model, dataset, config.merge({"name": "whole"}))
    assert whole.metrics == resumed.metrics and whole.config["precision"] == "fp16"
    for name, value in model.adapters["a"].state_dict().items():
        assert torch.equal(value, trained[name]) and not torch.equal(value, start[name])
        assert torch.equal(value, value.half().float())
    for name, parameter in model.clip.named_parameters():
        assert torch.equal(parameter, own[name]) and parameter.dtype == torch.float32
    kept = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    best = load_file(tmp_path / "whole" / "best" / "adapter_model.safetensors")
    assert {value.dtype for value in (*kept.values(), *best.values())} == {torch.float32}
