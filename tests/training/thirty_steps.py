"""Our training beside the authors' own half-precision runs, step by step (see parity_model)."""

from typing import NamedTuple

import torch

from cma import TrainConfig
from cma.checkpoints import OFFICIAL
from cma.training import Batch, prepare, train_step
from tests.parity_model import numbers, parity_model

# step: how far a movement may be off, as a part of its length
STEPS = {2: 0.2, 5: 0.2, 10: 0.2, 30: 0.25}
# how far a loss, and as a part, a norm and a movement may be off
LOSS, NORM, MOVED = 6e-3, 1e-2, 0.02
SETTINGS = {"precision": "fp16", "optimizer": "bert_adam", "similarity": "text_conditioned"}


class Off(NamedTuple):
    """How far a step is from theirs; the last two only after the steps of `STEPS`."""

    step: int
    loss: float
    norm: float  # of the gradient before clipping, as a part
    moved: float | None  # length of the movement since the start, as a part
    missed: float | None  # length of the difference of the movements, as a part of theirs


def named(model) -> list[tuple[torch.nn.Parameter, str]]:
    """(our parameter, the authors' name) of the ten adapter tensors."""
    parameters = dict(model.adapters["official"].named_parameters())
    return [(parameters[ours], name) for ours, name in OFFICIAL.items()]


def length(tensors) -> float:
    """The length of several tensors together."""
    return torch.cat([tensor.double().flatten() for tensor in tensors]).norm().item()


def follow(run: str, divisor: int, device: str = "cpu") -> list[Off]:
    """Thirty steps from their start "small", as their `run` "one" or "ddp4"."""
    model, theirs, inputs = (
        parity_model().to(device),
        numbers("half_train30"),
        numbers("half_inputs"),
    )
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.mul_(1 / 16)
    config = TrainConfig(gradient_divisor=divisor, mask_same_item=False, **SETTINGS)
    optimizer = prepare(model, config)
    start, steps = [parameter.detach().cpu().clone() for parameter, _ in named(model)], []
    for step, rate in enumerate(theirs["lrs"].tolist(), start=1):
        i = (step - 1) % 6
        frames, mask = inputs["video"][i].float(), inputs["video_mask"][i]
        batch = Batch(inputs["input_ids"][i], frames, mask, list("abcdefgh")).to(
            torch.device(device)
        )
        loss, norm = train_step(model, optimizer, batch, rate, config)
        loss_off = abs(loss - theirs[f"{run}.losses"][step - 1].item())
        norm_off = abs(norm / theirs[f"{run}.grad_norms_before_clip"][step - 1].item() - 1)
        moved = missed = None
        if step in STEPS:
            ours = [parameter.detach().cpu().double() for parameter, _ in named(model)]
            wanted = [theirs[f"{run}.step{step}.{name}"].double() for _, name in named(model)]
            there = length(w - s for w, s in zip(wanted, start, strict=True))
            moved = abs(length(o - s for o, s in zip(ours, start, strict=True)) / there - 1)
            missed = length(o - w for o, w in zip(ours, wanted, strict=True)) / there
        steps.append(Off(step, loss_off, norm_off, moved, missed))
    return steps


def is_close(off: Off) -> bool:
    """Whether a step is as near to theirs as another implementation of their arithmetic comes."""
    near = off.loss <= LOSS and off.norm <= NORM
    return near and (off.moved is None or off.moved <= MOVED and off.missed <= STEPS[off.step])
