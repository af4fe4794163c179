"""The authors' optimiser and learning rate schedule, and the usual schedule, with one interface."""

from __future__ import annotations

import math

import torch
from torch import nn


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction and with decoupled decay, as the authors' (paper section 4.1).

    p ← p − lr (m / (√v + ε) + decay · p), where m and v are the running means of g and g². Each
    product and sum is rounded to the precision of p, in the order of the authors' code: in half
    precision this changes the step. The caller sets `lr` in every parameter group before each step
    (`set_rate`).
    """

    def __init__(
        self,
        params: list,
        lr: float,
        betas: tuple = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                m = state["exp_avg"]
                v = state["exp_avg_sq"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                update = m / (v.sqrt() + group["eps"])
                if group["weight_decay"]:
                    update += group["weight_decay"] * p
                p -= group["lr"] * update


def parameter_groups(
    model: nn.Module, parameters: list[nn.Parameter], weight_decay: float
) -> list[dict]:
    """Return the optimiser's groups: weights with `weight_decay`, biases (by name) without.

    An empty group is left out.
    """
    biases = {p for name, p in model.named_parameters() if "bias" in name.rpartition(".")[2]}
    weights = [p for p in parameters if p not in biases]
    parts = (weights, weight_decay), ([p for p in parameters if p in biases], 0.0)
    return [{"params": part, "weight_decay": decay} for part, decay in parts if part]


def rate_factor(name: str, step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate at `step` (from 0); `warmup`: share of `total`.

    `bert_adam` is the authors' schedule: x/w during the warm-up w, then ½(1 + cos πx), with x =
    step/total. The cosine is **not** rescaled after the warm-up, so the factor jumps (1 to 0.976 at
    w = 0.1), and the first update has rate 0. `adamw` is the usual schedule: a linear warm-up that
    starts above 0, then a cosine from 1 to 0.
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
