"""One update of an adapter: the loss of a batch, its gradient in one piece or in micro-batches, the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from ..config import TrainConfig
from ..losses import symmetric_cross_entropy
from ..model import RetrievalModel
from ..patching import encoder_layers
from . import optim
from .batches import Batch, model_frames
from .evaluation import autocast, compare


class NotFinite(ValueError):
    """A loss or a gradient is infinite or no number; no step was taken."""


def train_step(
    model: RetrievalModel, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, config: TrainConfig
) -> tuple[float, float]:
    """One update of the active adapter at the learning rate `rate`.

    Returns (loss before the update, gradient norm before clipping). Raises NotFinite, without an update, if
    one of them is not finite.
    """
    optim.set_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    with checkpointed(model, config.checkpoint_activations):
        loss = batch_gradient(model, batch, config)
    if config.gradient_divisor > 1:
        for parameter in model.trainable_parameters():
            parameter.grad /= config.gradient_divisor
    norm = clip_grad_norm_(model.trainable_parameters(), config.max_grad_norm)
    if not (loss.isfinite() and norm.isfinite()):
        found = f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step taken"
        raise NotFinite(f"{found}; use a lower lr, or look for broken media in this batch")
    optimizer.step()
    return loss.item(), norm.item()


def batch_loss(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """The symmetric cross-entropy of exp(logit_scale) · similarity over a batch (paper section 3.4)."""
    return _loss(model, *_embed(model, batch, config), batch, config)


def batch_gradient(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """Add the gradient of `batch_loss` to the adapter's `.grad`; returns the loss, without its graph.

    With `config.micro_batch` no more than so many pairs are in memory with their activations (GradCache: Gao
    et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): all pairs are
    embedded without a graph, the loss gives the gradient of each embedding, and each micro-batch is embedded
    again, with the same dropout, to carry its part back. So every pair still is a negative of all others. The
    parts are summed in float32 (float64 stays) and rounded to the precision of the parameter once.
    """
    size = config.micro_batch
    if not isinstance(size, int) or size >= len(batch.input_ids):  # "auto" is decided before the first step
        loss = batch_loss(model, batch, config)
        loss.backward()
        return loss.detach()
    parts = [Batch(*part) for part in zip(*(_split(field, size) for field in batch), strict=True)]
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_state(model.device))
            embedded.append(_embed(model, part, config))
    after = random_state(model.device)
    text, frames = (torch.cat(side).requires_grad_() for side in zip(*embedded, strict=True))
    loss = _loss(model, text, frames, batch, config)
    loss.backward()
    parameters = model.trainable_parameters()
    sums = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
    for part, state, *gradients in zip(
        parts, states, text.grad.split(size), frames.grad.split(size), strict=True
    ):
        set_random_state(model.device, state)
        sides = zip(_embed(model, part, config), gradients, strict=True)
        sides = [side for side in sides if side[0].requires_grad]  # a method may act in one tower alone
        torch.autograd.backward(*zip(*sides, strict=True))
        for total, parameter in zip(sums, parameters, strict=True):
            total += parameter.grad
            parameter.grad = None
    set_random_state(model.device, after)
    for total, parameter in zip(sums, parameters, strict=True):
        parameter.grad = total.to(parameter.dtype)
    return loss.detach()


@contextmanager
def checkpointed(model: RetrievalModel, active: bool = True) -> Iterator[None]:
    """Inside, a forward pass with gradients keeps the input of each layer alone, and computes the rest again.

    Then the activations of one layer are in memory at a time, and the step takes about half as long again
    (`python -m tests.bench step`). The gradient is the same.
    """
    layers = [layer for tower in ("vision", "text") for layer in encoder_layers(model.clip, tower)]
    for layer in layers if active else ():
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers if active else ():
            del layer.forward  # the class's own again


def _embed(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    frames = model_frames(model, batch.frames, batch.mask)
    with autocast(model, config.precision):
        return model.encode_text(batch.input_ids), model.encode_videos(frames, batch.mask)


def _loss(model: RetrievalModel, text: Tensor, frames: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    similarity = compare(text, frames, batch.mask, config)
    item_ids = batch.item_ids if config.mask_same_item else None
    return symmetric_cross_entropy(model.logit_scale * similarity, item_ids)


def _split(field: Tensor | list, size: int) -> list[Tensor] | list[list]:
    return [field[start : start + size] for start in range(0, len(field), size)]


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the generators that dropout draws from."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Put the generators back to a `random_state`."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a step failed for lack of memory, on a GPU or on a CPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)
