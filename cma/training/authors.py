"""The authors' arithmetic: their optimiser, its schedule, and half precision throughout.

Only runs with `optimizer="bert_adam"` or `precision="fp16"` (recipe "paper") use it.

In the authors' runs these are float16: weights and biases of linear layers, attention, the patch
convolution and both projections; activations; the adapter, its gradients, the norm they are clipped
by, both means of the optimiser and the update. These stay float32: the weights and the arithmetic
of LayerNorm, whose output is rounded to float16; the token, position and class embeddings, rounded
when they are used; the logit scale; and everything from the embeddings on: pooling, similarity and
loss. There is no loss scaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ..families import tower_of
from ..model import RetrievalModel
from ..patching import TOWERS


class BertAdam(torch.optim.Optimizer):
    """The authors' optimiser: Adam without bias correction, with decoupled decay (section 4.1).

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
    def step(self) -> None:  # type: ignore[override]  # takes no closure, as nobody gives one
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


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Return the factor of the rate: x/w during the warm-up w, then ½(1 + cos πx), x = step/total.

    The cosine is **not** rescaled after the warm-up, so the factor jumps (1 to 0.976 at w = 0.1),
    and the first update has rate 0.
    """
    x = step / total
    return x / warmup if x < warmup else 0.5 * (1 + math.cos(math.pi * x))


def halve(model: RetrievalModel) -> Callable[[], None]:
    """Put CLIP and the active adapter into half precision; return a function that undoes it."""
    adapter = model.get_adapter(model.active).half()
    kept, hooks = [], []  # (backbone's parameter, its own tensor); hook handles

    def to_half(parameter: nn.Parameter, dtype: torch.dtype = torch.float16) -> None:
        # a float16 one is trained in CLIP's place: not put back
        if parameter.dtype != torch.float16:
            kept.append((parameter, parameter.data.cpu()))  # a GPU may not have room for both
        parameter.data = parameter.data.half().to(dtype)

    embeddings = [tower_of(model.clip, tower).embeddings for tower in TOWERS]
    for module in model.clip.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention):
            for parameter in module.parameters(recurse=False):
                to_half(parameter)
        if isinstance(module, nn.LayerNorm):
            hooks.append(module.register_forward_pre_hook(lambda _, inputs: inputs[0].float()))
        if isinstance(module, nn.LayerNorm | nn.Embedding) or module in embeddings:
            hooks.append(module.register_forward_hook(lambda _, inputs, output: output.half()))
    # these belong to no module of their own, so no hook rounds them
    for name, token in model.clip.named_parameters():
        if name.endswith("class_embedding"):
            to_half(token, token.dtype)
        if name.endswith("head.probe"):  # the query of SigLIP's pooling attention
            to_half(token)

    def undo() -> None:
        for parameter, own in kept:
            parameter.data = own.to(parameter.device)
        for hook in hooks:
            hook.remove()
        adapter.float()

    return undo
