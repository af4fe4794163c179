"""One update of an adapter: the loss of a batch, its gradient in one piece or in micro-batches, the
step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from ..config import TrainConfig
from ..losses import sigmoid, symmetric_cross_entropy
from ..model import RetrievalModel
from ..patching import TOWERS, encoder_layers, parts
from ..similarity import compare
from . import optim
from .devices import ALONE, Team, is_out_of_memory
from .precision import attention, autocast
from .reading import Batch, model_frames


class NotFinite(ValueError):
    """A loss, a gradient or an embedding is infinite or NaN; no step was taken with it."""


def train_step(
    model: RetrievalModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    rate: float,
    config: TrainConfig,
    team: Team = ALONE,
) -> tuple[float, float]:
    """Do one update of the active adapter at the learning rate `rate`.

    Returns (loss before the update, gradient norm before clipping). Raises NotFinite, without an
    update, if one of them is not finite, and MemoryError if the batch does not fit. `team`: see
    `batch_gradient`.
    """
    parameters = model.trainable_parameters()
    if {*parameters} != {one for group in optimizer.param_groups for one in group["params"]}:
        raise ValueError(
            "the active adapter is not the optimiser's: call set_adapter, or `prepare` again"
        )
    optim.set_rate(optimizer, rate)

    # forward and backward pass of the whole batch, as in the paper: every pair is a negative of all
    # others
    with recomputed(model, config), attention(model, config.precision):
        loss = batch_gradient(model, batch, config, team)

    # in half precision the step depends on the gradient's size, which the authors' four processes
    # divide
    if config.gradient_divisor > 1:
        for parameter in (one for one in parameters if one.grad is not None):
            parameter.grad /= config.gradient_divisor

    # one norm over all parameters; a batch that would make them infinite or NaN is refused first
    norm = clip_grad_norm_(parameters, config.max_grad_norm)
    if not (loss.isfinite() and norm.isfinite()):
        problem = (
            f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step taken"
        )
        raise NotFinite(f"{problem}; use a lower lr, or look for broken media in this batch")

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


def batch_loss(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """`config.loss` of exp(logit_scale) · similarity (+ logit_bias) over a batch (paper section
    3.4).
    """
    return _loss(model, model.logit_scale, batch, _embed(model, batch, config), config)


def batch_gradient(
    model: RetrievalModel, batch: Batch, config: TrainConfig, team: Team = ALONE
) -> Tensor:
    """Set the adapter's `.grad` to the gradient of `batch_loss`; returns the loss, without its
    graph.

    With `config.micro_batch` at most so many pairs are in memory with their activations (GradCache:
    Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): all
    pairs are embedded without a graph, the loss gives the gradient of each embedding, and each
    micro-batch is embedded again, with the same dropout, to carry its part back. So every pair is
    still a negative of all others. The parts are summed in float32 (float64 stays) and rounded
    once, to the precision of the parameter.

    In a `team` of several processes, `batch` is the share of this one, and micro-batches are parts
    of the share. Loss and gradient are those of all shares together, in every process.
    """
    size = config.micro_batch if isinstance(config.micro_batch, int) else len(batch.input_ids)
    parts = [
        batch.part(slice(start, start + size)) for start in range(0, len(batch.input_ids), size)
    ]
    at_once = len(parts) == 1
    parameters = model.trainable_parameters()
    model.zero_grad(set_to_none=True)

    # embed all pairs: with their graph if they fit at once
    embedded, random_states = [], []
    with team.agree_on_memory():
        for part in parts:
            random_states.append(random_state(model.device))
            with torch.set_grad_enabled(at_once):
                embedded.append(_embed(model, part, config))
        text, frames = (
            torch.cat(side).detach().requires_grad_() for side in zip(*embedded, strict=True)
        )

    # the loss needs the embeddings of all pairs, also those of the other processes
    everyone = batch
    if team.count > 1:
        ids = (batch.item_ids, batch.caption_ids)
        ids = (None if one is None else team.gather(torch.as_tensor(one)) for one in ids)
        everyone = Batch(batch.input_ids, batch.frames, team.gather(batch.mask), *ids)
    all_text, all_frames = team.gather(text), team.gather(frames)
    # its gradient counts once
    scale = model.logit_scale if team.first else model.logit_scale.detach()
    sums: list[Tensor | None] = [None] * len(parameters)
    with team.agree_on_memory():
        loss = _loss(model, scale, everyone, (all_text, all_frames), config)
        loss.backward()

        # each part carries the gradient of its embeddings back to the parameters
        after, gradients = (
            random_state(model.device),
            (text.grad.split(size), frames.grad.split(size)),
        )
        for part, state, *of_part in zip(parts, random_states, *gradients, strict=True):
            if not at_once:
                set_random_state(model.device, state)  # the same dropout as the first time
                embedded = [_embed(model, part, config)]
            sides = zip(embedded.pop(), of_part, strict=True)
            # a method may act in one tower only
            sides = [side for side in sides if side[0].requires_grad]
            torch.autograd.backward(
                [side for side, _ in sides], [gradient for _, gradient in sides]
            )
            for i, parameter in enumerate(parameters):
                if (gradient := parameter.grad) is not None:
                    wide = torch.promote_types(parameter.dtype, torch.float32)
                    sums[i] = gradient.to(wide) if sums[i] is None else sums[i].add_(gradient)
                    parameter.grad = None
        set_random_state(model.device, after)

    # every process has the same loss, but gradients of its own pairs only: they are added up
    if team.count > 1:
        pairs = zip(sums, parameters, strict=True)
        sums = team.add_up(
            [torch.zeros_like(p).float() if own is None else own for own, p in pairs]
        )
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = None if total is None else total.to(parameter.dtype)
    return loss.detach()


@contextmanager
def recomputed(model: RetrievalModel, config: TrainConfig) -> Iterator[None]:
    """Inside this context a forward pass keeps less for the backward pass, which computes the rest
    again.

    With `checkpoint_activations` only the input of each layer is kept. The activations of one layer
    at a time are in memory, and a step takes about 1.5 times as long (`python -m tests.bench
    step`). Without it only the MLP's activation function is computed again, which costs hardly any
    time: with ViT-B/32 and 4 clips of 12 frames, a step's peak above the loaded model falls from
    1.381 to 1.055 GiB. The gradient is the same, bitwise.
    """
    layers = [layer for tower in TOWERS for layer in encoder_layers(model.clip, tower)]
    whole = config.checkpoint_activations
    again = dict.fromkeys(
        layers if whole else (part for *_, part in parts(model.clip, "activation"))
    )
    for part in again:  # an activation function draws no random numbers
        part.forward = partial(
            checkpoint, part.forward, use_reentrant=False, preserve_rng_state=whole
        )
    try:
        yield
    finally:
        for part in again:
            del part.forward  # then the class's own is used again


def norms(model: RetrievalModel, batch: Batch, config: TrainConfig) -> str:
    """Return a line: mean norms of a batch's first pairs, and what τ means there
    (`Family.comparable`).
    """
    few = batch.part(slice(min(8, config.micro_batch or 8)))
    with model.acting(model.active, model.scale):
        text, frames = _embed(model, few, config)
    text, frames = (x.float().norm(dim=-1).mean() for x in (text, frames[few.mask.bool()]))
    said = f"{model.family.name}: mean norms {text:.2f} of texts, {frames:.2f} of frames; scaled to"
    to, τ = model.family.norm, config.temperature
    return (
        f"{said} {to:g}, so that temperature {τ:g} weighs frames by softmax({to**2:g} cos / {τ:g})"
    )


def _embed(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return embeddings of the captions [B, D] and of the frames [B, F, D]."""
    frames = model_frames(model, batch.frames, batch.mask)
    with autocast(model, config.precision):
        return model.encode_text(batch.input_ids), model.encode_videos(
            frames, batch.mask.to(frames.device)
        )


def _loss(
    model: RetrievalModel, scale: Tensor, batch: Batch, pairs: tuple, config: TrainConfig
) -> Tensor:
    """Return the loss of embedded `pairs` (text, frames); only the mask and ids of `batch` are
    read.
    """
    # the authors mask nothing
    same = (batch.item_ids, batch.caption_ids) if config.mask_same_item else ()
    text, frames = map(model.family.comparable, pairs)
    logits = scale * compare(text, frames, batch.mask, config)
    if config.loss == "sigmoid":
        return sigmoid(logits + model.clip.logit_bias.float(), *same)
    return symmetric_cross_entropy(logits, *same)


def random_state(device: torch.device) -> list[Tensor]:
    """Return the state of the random generators that dropout draws from."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Set the random generators back to a state that `random_state` returned."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
