"""One step in less memory: micro-batches and checkpointed activations give the gradient of the
batch.
"""

import pytest
import torch
from torch import nn

from cma import AdapterConfig, TrainConfig
from cma.training import prepare, train_step
from cma.training.step import batch_gradient, batch_loss, recomputed
from tests.methods.conftest import largest
from tests.training.toy_runs import PAIRS, a_batch, build

WITH_CHECKPOINTS = TrainConfig(checkpoint_activations=True)


def gradients(model, batch, config) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    loss = batch_gradient(model, batch, config)
    return loss.item(), [parameter.grad for parameter in model.trainable_parameters()]


@pytest.mark.parametrize("similarity", ["mean_pooled", "text_conditioned"])
@pytest.mark.parametrize("size", [1, 3, 6, 7, 100])
def test_micro_batches_give_the_gradient_of_the_whole_batch(similarity, size):
    model, batch, config = build(), a_batch(), TrainConfig(similarity=similarity)
    loss, whole = gradients(model, batch, config)
    again, parts = gradients(model, batch, config.merge({"micro_batch": size}))
    assert (
        again == pytest.approx(loss, abs=1e-12) and max(g.abs().max().item() for g in whole) > 0.01
    )
    assert largest(parts, whole) <= 1e-6


def test_both_passes_of_a_micro_batch_have_one_dropout_and_the_random_state_goes_on():
    model, batch, config = build(dropout=0.4), a_batch(), TrainConfig(micro_batch=3)
    _, ours = gradients(model, batch, config)
    state = torch.get_rng_state()
    torch.manual_seed(5)  # the same parts with the same dropout, in one graph
    parts = [batch.part(slice(start, start + 3)) for start in range(0, len(batch.input_ids), 3)]
    embedded = [
        (model.encode_text(p.input_ids), model.encode_videos(p.frames, p.mask)) for p in parts
    ]
    assert torch.equal(torch.get_rng_state(), state)
    text, frames = (torch.cat(side) for side in zip(*embedded, strict=True))

    class Whole(nn.Module):
        clip, family, logit_scale = model.clip, model.family, model.logit_scale
        encode_text = staticmethod(lambda ids: text)
        encode_videos = staticmethod(lambda frames_, mask: frames)
        device = model.device

    model.zero_grad()
    batch_loss(Whole(), batch, TrainConfig()).backward()
    assert largest(ours, [parameter.grad for parameter in model.trainable_parameters()]) <= 1e-6


@pytest.mark.parametrize("size", [None, 3])
def test_checkpointed_activations_give_the_same_gradient_and_leave_the_layers_as_they_were(size):
    model, batch, config = build(dropout=0.4), a_batch(), TrainConfig(micro_batch=size)
    _, plain = gradients(model, batch, config)
    with recomputed(model, WITH_CHECKPOINTS):
        _, ours = gradients(model, batch, config)
    assert largest(ours, plain) <= 1e-12
    with recomputed(model, config):
        _, ours = gradients(model, batch, config)
    assert largest(ours, plain) == 0
    assert not [module for module in model.modules() if "forward" in vars(module)]
    layer = model.clip.vision_model.encoder.layers[1]
    layer.forward = own = layer.forward  # as accelerate's hooks do
    with recomputed(model, WITH_CHECKPOINTS):
        assert layer.forward is not own
    assert vars(layer)["forward"] is own


@pytest.mark.parametrize("size", [None, 3])
def test_pairs_of_one_caption_are_no_negatives_as_pairs_of_one_item(size):
    model, batch, config = build(), a_batch(), TrainConfig(micro_batch=size)
    loss, ours = gradients(model, batch, config)
    distinct = batch._replace(item_ids=torch.arange(PAIRS))
    again, theirs = gradients(model, distinct._replace(caption_ids=batch.item_ids), config)
    assert again == loss and largest(ours, theirs) == 0
    assert gradients(model, distinct, config)[0] > loss  # all others are negatives


@pytest.mark.parametrize("size", [1, 3])
def test_half_precision_gradients_of_parts_are_those_of_the_batch(size):
    config = TrainConfig(precision="fp16", micro_batch=size)
    model, batch = build(dtype=torch.float32), a_batch(torch.float32)
    prepare(model, config)
    _, whole = gradients(model, batch, config.merge({"micro_batch": None}))
    _, ours = gradients(model, batch, config)
    assert {gradient.dtype for gradient in ours} == {torch.float16}
    for one, other in zip(ours, whole, strict=True):
        assert (one.float() - other.float()).norm() <= 2e-2 * other.float().norm()


def test_an_optimiser_of_another_adapter_is_refused():
    model, config = build(dtype=torch.float32), TrainConfig()
    optimizer = prepare(model, config)
    model.add_adapter("b", AdapterConfig(bottleneck_dim=4, shared_dim=8))
    for active in ("b", None):
        model.set_adapter(active)
        with pytest.raises(ValueError, match="the optimiser is not for the active adapter"):
            train_step(model, optimizer, a_batch(torch.float32), 1e-3, config)
