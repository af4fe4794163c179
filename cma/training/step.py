"""One update of an adapter: the loss of a batch, its gradient in one piece or more, the step."""

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
from .devices import ALONE, Team, is_out_of_memory
from .optim import attention, autocast, set_rate
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
    """Do one update of the active adapter at the learning rate `rate`; other threads wait.

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
                "the active adapter is not the optimiser's: call set_adapter, or `prepare` again"
            )
        set_rate(optimizer, rate)

        # forward and backward pass: every pair of the batch is a negative of all others
        with recomputed(model, config), attention(model, config.precision):
            loss = batch_gradient(model, batch, config, team)

        # in half precision the step depends on the gradient's size, which the authors' four
        # processes divide
        for parameter in parameters:
            if config.gradient_divisor > 1 and parameter.grad is not None:
                parameter.grad /= config.gradient_divisor

        # one norm over all parameters; a batch that would make them infinite or NaN is refused
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


def batch_loss(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """`config.loss` of exp(logit_scale) · similarity (+ logit_bias) over a batch (section 3.4)."""
    return _loss(model, batch, _embed(model, batch, config), config)


def batch_gradient(
    model: RetrievalModel, batch: Batch, config: TrainConfig, team: Team = ALONE
) -> Tensor:
    """Set the adapter's `.grad` to the gradient of `batch_loss`; returns the loss, without graph.

    With `config.micro_batch` at most so many pairs are in memory with their activations (GradCache:
    Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"), and
    every pair is still a negative of all others. The parts are summed in float32 (float64 stays)
    and rounded once. In a `team`, `batch` is the share of this process; loss and gradient are those
    of all shares together, in every process.
    """
    pairs = len(batch.input_ids)
    size = config.micro_batch if isinstance(config.micro_batch, int) else pairs
    at_once = size >= pairs
    parameters = model.trainable_parameters()
    sums: list[Tensor | None] = [None] * len(parameters)
    model.zero_grad(set_to_none=True)

    # embed all pairs, part by part: with their graph if they fit at once
    before = random_state(model.device)
    with team.agree_on_memory(), torch.set_grad_enabled(at_once):
        parts = [batch.part(slice(start, start + size)) for start in range(0, pairs, size)]
        embedded = [_embed(model, part, config) for part in parts]
        text, frames = (
            torch.cat(side).detach().requires_grad_() for side in zip(*embedded, strict=True)
        )

    # the loss compares the pairs of all processes, and gives the gradient of each embedding
    about = {name: team.gather(getattr(batch, name)) for name in Batch._fields[2:]}
    everyone = team.gather(text), team.gather(frames)
    with team.agree_on_memory():
        loss = _loss(model, batch._replace(**about), everyone, config)
        loss.backward()
        if not team.first:  # what it gives to a parameter directly is the same in each: once
            model.zero_grad(set_to_none=False)  # zeros, as all add up the same parameters

        # each part, embedded again with the same dropout, carries its gradient back
        if not at_once:
            set_random_state(model.device, before)
        given = zip(text.grad.split(size), frames.grad.split(size), strict=True)
        for part, of_part in zip(parts, given, strict=True):
            sides = embedded.pop() if at_once else _embed(model, part, config)
            adapted = [pair for pair in zip(sides, of_part, strict=True) if pair[0].requires_grad]
            torch.autograd.backward(*zip(*adapted, strict=True))  # of one tower, or both
            sums = [_taken(*pair) for pair in zip(sums, parameters, strict=True)]

    # every process has the same loss, but gradients of its own pairs only: they are added up
    for parameter, total in zip(parameters, sums, strict=True):
        if total is not None:
            parameter.grad = team.add_up(total).to(parameter.dtype)
    return loss.detach()


def _taken(total: Tensor | None, parameter: Tensor) -> Tensor | None:
    """Return `total` with the gradient of a parameter, which then has none, in float32 at least."""
    gradient = parameter.grad
    parameter.grad = None
    if gradient is None:
        return total
    if total is not None:
        return total.add_(gradient)
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


@contextmanager
def recomputed(model: RetrievalModel, config: TrainConfig) -> Iterator[None]:
    """In this context a forward pass keeps less, and the backward pass computes the rest again.

    With `checkpoint_activations` only the input of each layer is kept. The activations of one layer
    at a time are in memory, and a step takes about 1.5 times as long (`python -m tests.bench
    step`). Without it only the MLP's activation function is computed again, which costs hardly any
    time: with ViT-B/32 and 4 clips of 12 frames, a step's peak above the loaded model falls from
    1.381 to 1.055 GiB. The gradient is the same, bitwise.
    """
    whole = config.checkpoint_activations
    if whole:
        again = [layer for tower in TOWERS for layer in encoder_layers(model.clip, tower)]
    else:
        again = [part for *_, part in parts(model.clip, "activation")]
    # by module, which may serve several layers: a forward of its own, such as accelerate's
    own = {part: vars(part).get("forward") for part in again}
    for part in own:  # an activation function draws no random numbers
        part.forward = partial(
            checkpoint, part.forward, use_reentrant=False, preserve_rng_state=whole
        )
    try:
        yield
    finally:
        for part, forward in own.items():
            del part.forward  # then the class's is used again
            if forward is not None:
                part.forward = forward


def norms(model: RetrievalModel, batch: Batch, config: TrainConfig) -> str:
    """Return a line: mean norms of a batch's first pairs, and what τ means with them."""
    few = batch.part(slice(8))
    text, frames = _embed(model, few, config)
    texts = text.float().norm(dim=-1).mean()
    frames = frames[few.mask.bool()].float().norm(dim=-1).mean()
    to = model.family.norm
    τ = config.temperature
    return (
        f"{model.family.name}: mean norms {texts:.2f} of texts, {frames:.2f} of frames; scaled to "
        f"{to:g}, so that temperature {τ:g} weighs frames by softmax({to**2:g} cos / {τ:g})"
    )


def _embed(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return embeddings of the captions [B, D] and of the frames [B, F, D]."""
    frames = model_frames(model, batch.frames, batch.mask)
    with autocast(model, config.precision):
        text = model.encode_text(batch.input_ids)
        return text, model.encode_videos(frames, batch.mask.to(frames.device))


def _loss(model: RetrievalModel, batch: Batch, pairs: tuple, config: TrainConfig) -> Tensor:
    """Return the loss of embedded `pairs` (text, frames), with the mask and ids of `batch`."""
    # the authors mask nothing
    same = (batch.item_ids, batch.caption_ids) if config.mask_same_item else ()
    text, frames = map(model.family.comparable, pairs)
    logits = model.logit_scale * compare(text, frames, batch.mask, config)
    if config.loss == "sigmoid":
        return sigmoid(logits + model.clip.logit_bias.float(), *same)
    return symmetric_cross_entropy(logits, *same)


def generators(device: torch.device) -> list[torch.Generator]:
    """Return the random generators that dropout on a device draws from: the CPU's and its own."""
    if device.type == "cpu":
        return [torch.default_generator]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    own = torch.get_device_module(device).default_generators
    return [torch.default_generator, own[device.index or 0]]


def random_state(device: torch.device) -> list[Tensor]:
    """Return the state of the random generators that dropout draws from."""
    return [one.get_state() for one in generators(device)]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Set the random generators back to a state that `random_state` returned."""
    for one, its_state in zip(generators(device), state, strict=True):
        one.set_state(its_state)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the random generators of a device; afterwards they go on as if nothing had happened."""
    before = random_state(device)
    for one in generators(device):
        one.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(device, before)
