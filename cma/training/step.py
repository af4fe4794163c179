"""One update of an adapter: the loss of a batch, its gradient in one piece or in micro-batches, the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from ..config import TrainConfig
from ..losses import symmetric_cross_entropy
from ..model import RetrievalModel
from ..patching import encoder_layers
from ..similarity import compare
from . import devices, optim
from .batches import Batch, model_frames, without_padding
from .evaluation import attention, autocast


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
    # the compiler decides by itself what is computed again
    recomputed = nullcontext() if config.compile else checkpointed(model, config.checkpoint_activations)
    with recomputed, attention(model, config.precision):
        loss = batch_gradient(model, batch, config)
    if config.gradient_divisor > 1:
        for parameter in model.trainable_parameters():
            parameter.grad /= config.gradient_divisor
    with devices.together():
        norm = clip_grad_norm_(model.trainable_parameters(), config.max_grad_norm)
    if not (loss.isfinite() and norm.isfinite()):
        found = f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step taken"
        raise NotFinite(f"{found}; use a lower lr, or look for broken media in this batch")
    with devices.together():
        try:
            optimizer.step()
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            # some numbers may be new already, so the step cannot be tried again
            raise ValueError(f"out of memory in the optimiser's update, so the run ends: {error}") from error
    return loss.item(), norm.item()


def batch_loss(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """The symmetric cross-entropy of exp(logit_scale) · similarity over a batch (paper section 3.4)."""
    return _loss(model, *_embed(model, batch, config), batch.mask, batch.item_ids, config)


def batch_gradient(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """Add the gradient of `batch_loss` to the adapter's `.grad`; returns the loss, without its graph.

    With `config.micro_batch` no more than so many pairs are in memory with their activations (GradCache: Gao
    et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): all pairs are
    embedded without a graph, the loss gives the gradient of each embedding, and each micro-batch is embedded
    again, with the same dropout, to carry its part back. So every pair still is a negative of all others. The
    parts are summed in float32 (float64 stays) and rounded to the precision of the parameter once.

    In several processes (`devices.joined`), `batch` is the share of this one, and micro-batches are parts of
    the share. Loss and gradient are those of all shares together, in every process; they replace `.grad`.
    """
    size, parameters = config.micro_batch, model.trainable_parameters()
    whole = not isinstance(size, int) or size >= len(batch.input_ids)  # "auto" was decided before
    parts = [batch] if whole else [Batch(*p) for p in zip(*(_split(f, size) for f in batch), strict=True)]
    with devices.together():
        if whole:
            text, frames = _embed(model, batch, config)
        else:
            text, frames, states = _embed_without_graph(model, parts, config)
    gathered = [devices.gather(rows) for rows in (text, frames, batch.mask)]
    item_ids = batch.item_ids if devices.count() == 1 else devices.gather(torch.as_tensor(batch.item_ids))
    with devices.together():
        loss = _loss(model, *gathered, item_ids, config)
        loss.backward()
        if whole and devices.count() == 1:
            return loss.detach()
        if whole:
            sums = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        else:
            sums = _carry_back(model, parts, states, (text.grad, frames.grad), config)
    own = loss.detach() if devices.rank() == 0 else torch.zeros_like(loss)  # the first's is everyone's
    loss, *sums = devices.add_up([own, *sums])
    for total, parameter in zip(sums, parameters, strict=True):
        parameter.grad = total.to(parameter.dtype)
    return loss


def _embed_without_graph(
    model: RetrievalModel, parts: list[Batch], config: TrainConfig
) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
    """(texts, frames, the random state before each part); both sides take a gradient, their parts do not."""
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_state(model.device))
            embedded.append(_embed(model, part, config))
    text, frames = (torch.cat(side).requires_grad_() for side in zip(*embedded, strict=True))
    return text, frames, states


def _carry_back(
    model: RetrievalModel,
    parts: list[Batch],
    states: list[list[Tensor]],
    gradients: tuple[Tensor, Tensor],
    config: TrainConfig,
) -> list[Tensor]:
    """The gradient of the parameters, given those of the embeddings: each part is embedded once more."""
    after, parameters = random_state(model.device), model.trainable_parameters()
    sums = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
    given = (side.split(len(parts[0].input_ids)) for side in gradients)
    for part, state, *own in zip(parts, states, *given, strict=True):
        set_random_state(model.device, state)
        sides = zip(_embed(model, part, config), own, strict=True)
        sides = [side for side in sides if side[0].requires_grad]  # a method may act in one tower alone
        torch.autograd.backward(*zip(*sides, strict=True))
        for total, parameter in zip(sums, parameters, strict=True):
            total += 0 if parameter.grad is None else parameter.grad
            parameter.grad = None
    set_random_state(model.device, after)
    return sums


@contextmanager
def checkpointed(model: RetrievalModel, active: bool = True) -> Iterator[None]:
    """Inside, a forward pass with gradients keeps the input of each layer alone, and computes the rest again.

    Then the activations of one layer are in memory at a time, and the step takes about half as long again
    (`python -m tests.bench step`). Not `active`, only the MLP's activation function is computed again: with
    ViT-B/32 and 4 clips of 12 frames, a step's peak above the loaded model falls from 1.381 to 1.055 GiB. The
    gradient is the same, bitwise.
    """
    layers = [layer for tower in ("vision", "text") for layer in encoder_layers(model.clip, tower)]
    parts = dict.fromkeys(layer if active else layer.mlp.activation_fn for layer in layers)
    for part in parts:
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=active)
    try:
        yield
    finally:
        for part in parts:
            del part.forward  # the class's own again


def _embed(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    ids = without_padding(model, batch.input_ids)
    frames = model_frames(model, batch.frames, batch.mask)
    with autocast(model, config.precision):
        return model.encode_text(ids), _encode_frames(model, frames, batch.mask)


def _encode_frames(model: RetrievalModel, frames: Tensor, mask: Tensor) -> Tensor:
    """The embeddings [B, F, D] of frames [B, F, 3, H, W]; zeros for the padding of clips of a single frame.

    Training clips may stand beside pictures, and a picture among clips of F frames is mostly padding.
    """
    mask = mask.to(frames.device)
    single = mask[:, 1:].sum(1) == 0
    if not single.any() or frames.shape[1] == 1:
        return model.encode_videos(frames, mask)
    pictures = model.encode_videos(frames[single, :1], mask[single, :1])
    embedded = pictures.new_zeros(*mask.shape, pictures.shape[-1])
    embedded[single, :1] = pictures
    if not single.all():
        embedded[~single] = model.encode_videos(frames[~single], mask[~single])
    return embedded


def _loss(
    model: RetrievalModel, text: Tensor, frames: Tensor, mask: Tensor, item_ids: Tensor, config: TrainConfig
) -> Tensor:
    scale = model.logit_scale
    if devices.rank() > 0:  # every process has the same loss: of what is trained in it, one gradient counts
        scale = scale.detach()
    similarity = compare(text, frames, mask, config)
    return symmetric_cross_entropy(scale * similarity, item_ids if config.mask_same_item else None)


def _split(field: Tensor | list, size: int) -> list[Tensor] | list[list]:
    return [field[start : start + size] for start in range(0, len(field), size)]


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the generators that dropout draws from."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Put the generators back to a `random_state`."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:  # a checkpoint may be of a CPU
        torch.cuda.set_rng_state(state[1], device)
