"""One update of an adapter: the loss of a batch, its gradient, the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from ..config import TrainConfig
from ..losses import sigmoid, symmetric_cross_entropy
from ..model import RetrievalModel
from ..patching import TOWERS, encoder_layers, parts
from ..similarity import compare
from .devices import ALONE, Team, is_out_of_memory
from .optim import attention, autocast, set_rate
from .reading import Batch, model_frames


class NotFinite(ValueError):
    """A loss, a gradient or an embedding is infinite or NaN; the step was not taken."""


def train_step(
    model: RetrievalModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: TrainConfig,
    team: Team = ALONE,
) -> tuple[float, float]:
    """Update the active adapter once, at the learning rate `rate`, while other threads wait.

    Returns (loss before the update, gradient norm before clipping). Raises NotFinite, without an
    update, if one of them is not finite, and MemoryError if the batch does not fit. `team`: see
    `batch_gradient`.

    >>> import torch, cma
    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> _ = model.add_adapter("mine", cma.AdapterConfig())
    >>> config = cma.TrainConfig(lr=1e-3)
    >>> optimizer = cma.training.prepare(model, config)
    >>> ids, _ = model.tokenize(["a red cat", "two dogs"])
    >>> frames = torch.rand(2, 1, 3, 96, 96)  # two pictures
    >>> batch = cma.training.Batch(ids, frames, torch.ones(2, 1), [0, 1])
    >>> loss, norm = cma.training.train_step(model, optimizer, batch, config.lr, config)
    >>> loss > 0 and norm > 0
    True
    """
    with model.lock:
        parameters = model.trainable_parameters()
        if {*parameters} != {one for group in optimizer.param_groups for one in group["params"]}:
            raise ValueError(
                "the optimiser is not for the active adapter: call set_adapter, or `prepare` again"
            )
        set_rate(optimizer, rate)

        # forward and backward pass: every pair of the batch is a negative for all others
        with recomputed(model, config), attention(model, config.precision):
            loss = batch_gradient(model, batch, config, team)

        # in half precision the step depends on the gradient's size, which the authors' four
        # processes divide
        for parameter in parameters:
            if config.gradient_divisor > 1 and parameter.grad is not None:
                parameter.grad /= config.gradient_divisor

        # one norm over all parameters; refuse a batch that would make them infinite or NaN
        norm = clip_grad_norm_(parameters, config.max_grad_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise NotFinite(
                f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step "
                "taken; use a lower lr, or look for broken media in this batch"
            )

        try:
            optimizer.step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # some parameters may be updated already, so the step cannot be tried again
            raise ValueError(
                f"out of memory in the optimiser's update, so the run ends: {error}"
            ) from error
        return loss.item(), norm.item()


def batch_gradient(
    model: RetrievalModel, batch: Batch, config: TrainConfig, team: Team = ALONE
) -> Tensor:
    """Set the `.grad` of the active adapter's parameters; return the batch's loss, without graph.

    With `config.micro_batch`, only that many pairs have their activations in memory at once
    (`batch_loss`). In a `team`, `batch` is this process's share; every process gets the loss
    and gradient of all shares together.
    """
    model.zero_grad(set_to_none=True)
    loss = batch_loss(model, batch, config, team)
    # in one thread: the one that holds the model's lock embeds micro-batches again
    with team.agree_on_memory(), torch.autograd.set_multithreading_enabled(False):
        loss.backward()
    # each process has the whole loss, but the gradient through its own pairs only
    for parameter in model.trainable_parameters():
        if (own := parameter.grad) is not None:
            total = team.add_up(own.to(torch.promote_types(own.dtype, torch.float32)))
            parameter.grad = total.to(parameter.dtype)
    return loss.detach()


def batch_loss(
    model: RetrievalModel, batch: Batch, config: TrainConfig, team: Team = ALONE
) -> Tensor:
    """Return the loss of a batch: every pair is a negative for all others (paper section 3.4).

    Of no more than `config.micro_batch` pairs we keep the activations: the backward pass embeds one
    part after the other again, with the same dropout, and carries the gradient of its embeddings
    back (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup").
    """
    size = config.micro_batch
    with team.agree_on_memory():
        if isinstance(size, int) and size < len(batch.input_ids):
            # on its device, so that `checkpoint` keeps that one's random state, too
            whole, starts = batch.to(model.device), range(0, len(batch.input_ids), size)
            parts = [whole.part(slice(start, start + size)) for start in starts]
            again = [checkpoint(embed, model, part, config, use_reentrant=False) for part in parts]
            text, frames = map(torch.cat, zip(*again, strict=True))
        else:
            text, frames = embed(model, batch, config)
    return pairs_loss(model, text, frames, batch, config, team)


def embed(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return embeddings of the captions [B, D] and of the frames [B, F, D]."""
    frames = model_frames(model, batch.frames, batch.mask)
    with autocast(model, config.precision):
        text = model.encode_text(batch.input_ids)
        return text, model.encode_videos(frames, batch.mask.to(frames.device))


def pairs_loss(
    model: RetrievalModel,
    text: Tensor,
    frames: Tensor,
    batch: Batch,
    config: TrainConfig,
    team: Team = ALONE,
) -> Tensor:
    """Return `config.loss` of a batch's embedded pairs, together with those of the team.

    The logits are exp(logit_scale) · similarity (+ logit_bias).
    """
    text, frames, mask, *ids = team.gather(text, frames, *batch[2:])
    same = ids if config.mask_same_item else ()  # the authors mask nothing
    with team.agree_on_memory():
        comparable = model.family.comparable
        similarity = compare(comparable(text), comparable(frames), mask, config)
        logits = team.once(model.logit_scale) * similarity
        if config.loss == "sigmoid":
            return sigmoid(logits + team.once(model.clip.logit_bias).float(), *same)
        return symmetric_cross_entropy(logits, *same)


@contextmanager
def recomputed(model: RetrievalModel, config: TrainConfig) -> Iterator[None]:
    """Inside this context, a forward pass keeps less, and the backward pass computes it again.

    With `checkpoint_activations` it keeps only the input of each layer. One layer's activations at
    a time are in memory, and a step takes about 1.5 times as long (`python -m tests.bench step`).
    Without it, only the MLP's activation function is computed again, which costs hardly any time:
    with ViT-B/32 and 4 clips of 12 frames, a step's peak above the loaded model falls from 1.381 to
    1.055 GiB. The gradient is the same, bitwise.
    """
    whole = config.checkpoint_activations
    if whole:
        again = [layer for tower in TOWERS for layer in encoder_layers(model.clip, tower)]
    else:
        again = [part for *_, part in parts(model.clip, "activation")]
    # by module, which may serve several layers: its own forward, such as accelerate's
    own = {part: vars(part).get("forward") for part in again}
    for part in own:  # an activation function draws no random numbers
        part.forward = partial(
            checkpoint, part.forward, use_reentrant=False, preserve_rng_state=whole
        )
    try:
        yield
    finally:
        for part, forward in own.items():
            del part.forward  # so that the class's forward applies again
            if forward is not None:
                part.forward = forward


def norms(model: RetrievalModel, batch: Batch, config: TrainConfig) -> str:
    """Return a line with the mean norms of a batch's first pairs, and what τ means for them."""
    few = batch.part(slice(8))
    text, frames = embed(model, few, config)
    texts = text.float().norm(dim=-1).mean()
    frames = frames[few.mask.bool()].float().norm(dim=-1).mean()
    to = cast(float, model.family.norm)  # nobody calls this where it is None
    τ = config.temperature
    return (
        f"{model.family.name}: mean norms {texts:.2f} of texts, {frames:.2f} of frames; scaled to "
        f"{to:g}, so that temperature {τ:g} weighs frames by softmax({to**2:g} cos / {τ:g})"
    )


def generators(device: torch.device) -> list[torch.Generator]:
    """Return the random generators that dropout on a device draws from: the CPU's and its own."""
    if device.type == "cpu":
        return [torch.default_generator]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    own = torch.get_device_module(device).default_generators
    return [torch.default_generator, own[device.index or 0]]


@contextmanager
def own_random_state(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Give a device's random generators their state back after a `with`; seed them before it."""
    own = generators(device)
    states = [one.get_state() for one in own]
    if seed is not None:
        for one in own:
            one.manual_seed(seed)
    try:
        yield
    finally:
        for one, state in zip(own, states, strict=True):
            one.set_state(state)
