"""The gradient of a batch, part by part, in the memory of one part (GradCache).

Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup". Every
pair is still a negative for all others: we embed all pairs without a graph, compute from their loss
the gradient of each embedding, and then embed each part again to carry its gradient back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from ..model import RetrievalModel
from .devices import Team
from .reading import Batch


def backward_in_parts(
    model: RetrievalModel,
    parts: Sequence[Batch],
    embed: Callable[[Batch], tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    team: Team,
) -> Tensor:
    """Set the `.grad` of the active adapter's parameters; return the loss of all parts.

    `embed` returns a part's text [B, D] and frames [B, F, D], and `loss_of` the loss of all parts'
    embeddings. Gradients of parts and processes are summed in float32 (float64 stays) and rounded
    once.
    """
    parameters = model.trainable_parameters()
    # the second pass over a part draws the same dropout as this one
    with team.agree_on_memory(), torch.no_grad(), own_random_state(model.device):
        embedded = [embed(part) for part in parts]
        text, frames = (torch.cat(side).requires_grad_() for side in zip(*embedded, strict=True))

    loss = loss_of(text, frames)
    with team.agree_on_memory():
        loss.backward()
        sums: list[Tensor | None] = [None] * len(parameters)
        sizes = [len(part.input_ids) for part in parts]
        gradients = (cast(Tensor, side.grad).split(sizes) for side in (text, frames))
        given = zip(*gradients, strict=True)
        for part, of_part in zip(parts, given, strict=True):
            sides = zip(embed(part), of_part, strict=True)
            adapted = [pair for pair in sides if pair[0].requires_grad]  # one tower, or both
            outputs, of_outputs = zip(*adapted, strict=True)
            torch.autograd.backward(outputs, of_outputs)
            sums = [_add_gradient(*pair) for pair in zip(sums, parameters, strict=True)]
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = None if total is None else team.add_up(total).to(parameter.dtype)
    return loss


def widened(gradient: Tensor) -> Tensor:
    """Return a gradient in at least float32, for summing."""
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _add_gradient(total: Tensor | None, parameter: Tensor) -> Tensor | None:
    """Move the gradient of a parameter into `total`, in at least float32, and return `total`."""
    gradient = parameter.grad
    parameter.grad = None
    if gradient is None:
        return total
    if total is not None:
        return total.add_(gradient)
    return widened(gradient)


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
