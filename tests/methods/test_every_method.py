"""What holds for every row of the tables: where it starts, what it trains, how it is kept and
removed.
"""

import json
from copy import deepcopy

import pytest
import torch
from tempme import TempMe

from cma import RetrievalModel, TrainConfig
from cma.checkpoints import CONFIG
from cma.methods import NAMES as ROWS
from cma.methods import attach
from cma.training import prepare, restore, train_step
from cma.training.step import batch_gradient, recomputed
from tests.conftest import build_clip, one_line, same_state
from tests.methods.conftest import (
    FRAMES,
    MASK,
    a_batch,
    assert_bare,
    build,
    embed,
    largest,
    token_ids,
)

# where training starts: all others at CLIP
NEAR = {"Adapter-ATTN", "adapter without sharing", "cross-modal adapter"}
AWAY = {"CoOp", "VPT", "VL-Prompt", "MaPLe", "TempMe"}
NAMES = (
    *ROWS[:-1],
    TempMe.NAME,  # a method of one's own
    ROWS[-1],
)
TRAINED = [name for name in NAMES if name != "zero-shot"]
CONFIGURED = TrainConfig(lr=1e-2, weight_decay=0.0)


@pytest.mark.parametrize("method", NAMES)
def test_where_it_starts_and_that_it_leaves_the_backbone_bitwise(method):
    model = RetrievalModel(build_clip())
    before, plain = deepcopy(model.clip.state_dict()), embed(model)
    attach(model, method, "m")
    assert model.active == "m"  # it acts at once
    away = largest(embed(model), plain)
    low, high = (1e-4, 10) if method in AWAY else (0, 0.02 if method in NEAR else 1e-6)
    assert low <= away <= high, "a new method that does not start at CLIP belongs to NEAR or AWAY"
    if method in TRAINED:
        optimizer = prepare(model, CONFIGURED)
        for _ in range(2):
            train_step(model, optimizer, a_batch(), 1e-2, CONFIGURED)
        assert largest(embed(model), plain) > 1e-3
        model.set_adapter("m", 0)
        assert largest(embed(model), plain) == 0
        model.set_adapter("m")
    model.set_adapter(None)
    assert_bare(model, before)
    assert largest(embed(model), plain) == 0
    assert not any(p.requires_grad or p.grad is not None for p in model.clip.parameters())


@pytest.mark.parametrize("method", TRAINED)
def test_its_tensors_and_no_others_get_gradients(method):
    model = build(method, moved=True)
    text, frames = model.encode_text(token_ids()), model.encode_videos(FRAMES, MASK)[:, 0]
    (text.square().sum() + frames.square().sum()).backward()
    named = {name: p for name, p in model.adapters["m"].named_parameters() if p.numel()}
    dead = [name for name, p in named.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [name for name in dead if "k_proj/bias" not in name]  # softmax takes no notice of it
    own = {id(p) for p in named.values()}
    assert own == {id(p) for p in model.trainable_parameters() if p.numel()}
    assert all(p.grad is None for p in model.parameters() if p.numel() and id(p) not in own)


@pytest.mark.parametrize("method", TRAINED)
def test_towers_of_unequal_depth(method):
    layers = (2, 4) if method in ("LoRA", "CoOp", "Adapter-ATTN", "partial") else (4, 2)
    model = build(method, moved=True, clip=build_clip(*layers))
    loss, norm = train_step(model, prepare(model, CONFIGURED), a_batch(), 1e-3, CONFIGURED)
    assert loss > 0 and norm > 0 and all(p.grad is not None for p in model.trainable_parameters())


@pytest.mark.parametrize("method", TRAINED)
def test_micro_batches_and_checkpointing_give_the_gradient_of_the_batch(method):
    model, found = build(method, moved=True, dtype=torch.float64), []
    batch = a_batch()
    batch = type(batch)(batch.input_ids, batch.frames.double(), batch.mask, batch.item_ids)
    for size, again in ((None, False), (3, False), (None, True)):
        model.zero_grad()
        config = CONFIGURED.merge({"micro_batch": size, "checkpoint_activations": again})
        with recomputed(model, config):
            batch_gradient(model, batch, config)
        found.append([p.grad for p in model.trainable_parameters()])
    most = 1e-6 * largest(found[0], [0 * g for g in found[0]])
    assert largest(found[0], found[1]) <= most and largest(found[0], found[2]) <= most


@pytest.mark.parametrize("method", TRAINED)
def test_bfloat16_follows_float32_and_keeps_float32_weights(method):
    losses = []
    for precision in ("float32", "bf16"):
        model, config = build(method, moved=True), CONFIGURED.merge({"precision": precision})
        optimizer = prepare(model, config)
        losses.append([train_step(model, optimizer, a_batch(), 1e-3, config)[0] for _ in range(2)])
        assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], abs=0.2)


@pytest.mark.parametrize("method", TRAINED)
def test_half_precision_trains_or_is_refused_in_one_line(method):
    model = build(method, moved=True)
    before = embed(RetrievalModel(build_clip()))
    config = CONFIGURED.merge({"precision": "fp16", "optimizer": "bert_adam"})
    try:
        optimizer = prepare(model, config)
    except ValueError as error:
        assert "cannot train in fp16" in str(error) and "\n" not in str(error)
        assert method in ("full fine-tuning", "partial")
        return
    train_step(model, optimizer, a_batch(), 1e-4, config)
    assert {p.dtype for p in model.trainable_parameters()} == {torch.float16}
    restore(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model.set_adapter(None)
    assert largest(embed(model), before) == 0


@pytest.mark.parametrize("method", TRAINED)
def test_equal_seeds_give_equal_weights_and_the_random_state_stays(method):
    model, state = RetrievalModel(build_clip()), torch.get_rng_state()
    one, again, other = (attach(model, method, f"m{i}", seed=i // 2).state_dict() for i in range(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert same_state(one, again)
    model.add_adapter("drawn", method)  # without a seed
    draws = not torch.equal(torch.get_rng_state(), state)
    assert same_state(one, other) != draws


def test_what_cannot_be_says_so_in_one_line(tmp_path):
    model = build("projection", moved=True)
    model.save_adapter(tmp_path, "m")
    for call, said in (
        (
            lambda: attach(model, "BitFit", "x"),
            "unknown method 'BitFit'; there are: .*CoOp",
        ),
        (lambda: attach(model, "partial", "m"), "adapter name 'm' cannot be used: .* in use"),
        (
            lambda: attach(model, "partial", "x", tokens=3),
            "partial: options are none, not tokens",
        ),
        (
            lambda: attach(model, NAMES[-1], "x", rank=3),
            "adapter: options are bottleneck_dim, .*, not rank$",
        ),
        (
            lambda: attach(model, "CoOp", "x", tokens=75),
            "CoOp: tokens=75 leave no word; expected at most 13",
        ),
        (lambda: attach(model, "MaPLe", "x", tokens=99), "MaPLe: tokens=99 leave no word"),
        (
            lambda: attach(model, "VL-Prompt", "x", tokens=10**15),
            "VL-Prompt: tokens=10+ leave no word",
        ),
        (
            lambda: RetrievalModel(build_clip(2, 3)).load_adapter(tmp_path, "x"),
            r"layers .* do not fit",
        ),
    ):
        with one_line(ValueError, said):
            call()
    about = json.loads((tmp_path / CONFIG).read_text())
    for change, said in (
        ({"method": "BitFit"}, "unknown method 'BitFit'"),
        ({"method": "partial"}, "does not fit adapter_config.json"),
        ({"options": {"depth": 1}}, "options are none, not depth"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(about | change))
        with one_line(ValueError, said) as error:
            model.load_adapter(tmp_path, "x")
        assert str(tmp_path) in str(error.value)
