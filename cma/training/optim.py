"""The authors' optimiser and schedule, and the usual ones: two recipes with one interface."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction and with decoupled decay, as in the authors' code (paper section 4.1).

    p ← p − lr (m / (√v + ε) + decay · p), with m, v the running means of g and g². The caller sets `lr`
    in every parameter group before each step.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                update = m / (v.sqrt() + group["eps"])
                p.add_(update.add_(p, alpha=group["weight_decay"]), alpha=-group["lr"])
        return loss


def parameter_groups(model: nn.Module, parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Weights with decay, biases (by their name in `model`) without; an empty group is left out."""
    names = {id(p): name.rsplit(".", 1)[-1] for name, p in model.named_parameters()}
    weights = [p for p in parameters if "bias" not in names[id(p)]]
    biases = [p for p in parameters if "bias" in names[id(p)]]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(name: str, groups: list[dict], lr: float) -> torch.optim.Optimizer:
    """`adamw` (β 0.9/0.98, ε 1e-6, bias correction) or `bert_adam` (the authors': the same without it)."""
    kinds = {"adamw": torch.optim.AdamW, "bert_adam": BertAdam}
    return kinds[name](groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)


def rate_factor(name: str, step: int, total: int, warmup: float) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of `total`; `warmup` is a share of `total`.

    `bert_adam`: x/w, then ½(1 + cos πx) with x = step/total, **not** rescaled after the warm-up, so it
    jumps (1 to 0.976 at w = 0.1) and the first update has rate 0. `adamw`: the usual warm-up that begins
    above 0, then a cosine from 1 towards 0.
    """
    if name == "bert_adam":
        x = step / total
        return x / warmup if x < warmup else 0.5 * (1 + math.cos(math.pi * x))
    warm = round(warmup * total)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr
