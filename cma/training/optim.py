"""The optimiser of a run, its learning rate, and the precision it computes in.

On a GPU "float32" is torch's default: since Ampere, the patch convolution rounds its factors to
TF32.
"""

from __future__ import annotations

import math
import reprlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import TrainConfig
from ..model import RetrievalModel
from ..patching import patch_of


def prepare(model: RetrievalModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Prepare a model for training in `config.precision`, and return the adapter's optimiser.

    "float32" and "bf16" change no tensor: autocast uses bfloat16 in the forward pass, and the
    adapter's weights stay float32. "fp16" changes the model in place until `restore`. The optimiser
    has two groups, weights with decay and biases without. Raises ValueError if no adapter is
    active, if the method cannot be trained in this precision or at this scale, or if the backbone
    cannot use the loss.

    >>> import cma
    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> _ = model.add_adapter("mine", cma.AdapterConfig())
    >>> optimizer = cma.training.prepare(model, cma.TrainConfig(weight_decay=0.1))
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(5, 0.1), (5, 0.0)]
    """
    check_training(model, config)
    restore(model)
    optimizer_class: Any = torch.optim.AdamW
    if config.precision == "fp16":
        from .authors import halve

        patch_of(model.clip).undo.append(halve(model))
    if config.optimizer == "bert_adam":
        from .authors import BertAdam as optimizer_class
    groups = parameter_groups(model, model.trainable_parameters(), config.weight_decay)
    return optimizer_class(groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-6)


def restore(model: RetrievalModel) -> None:
    """Undo `prepare`: give the backbone its own tensors back (bitwise), and the adapter float32."""
    undo = patch_of(model.clip).undo
    while undo:
        undo.pop()()


def check_training(model: RetrievalModel, config: TrainConfig) -> None:
    """Raise ValueError, like `prepare`, if no adapter is active or it cannot be trained so."""
    if not isinstance(model, RetrievalModel):
        raise TypeError(
            f"expected a cma.RetrievalModel(clip, processor), not {type(model).__name__}"
        )
    if not isinstance(config, TrainConfig):
        raise TypeError(
            "expected a cma.TrainConfig, such as recipe(name).train_config(), not "
            f"{reprlib.repr(config)}"
        )
    if model.active is None:
        raise ValueError(
            "no adapter is active: model.add_adapter(name, config), or model.set_adapter(name)"
        )
    model.get_adapter(model.active).check_training(config.precision, model.scale)
    if config.loss == "sigmoid" and not hasattr(model.clip, "logit_bias"):
        raise ValueError(
            f'{model.family.name} has no logit bias for loss="sigmoid": use "cross_entropy"'
        )


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

    `adamw` is the usual schedule: a linear warm-up that starts above 0, then a cosine from 1 to 0.
    `bert_adam` is the authors' (`authors.warmup_cosine`).
    """
    if name == "bert_adam":
        from .authors import warmup_cosine

        return warmup_cosine(step, total, warmup)
    warm = round(warmup * total)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every parameter group to `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def autocast(model: RetrievalModel, precision: str) -> torch.autocast:
    """Return the context for a forward pass in `precision`."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def attention(model: RetrievalModel, precision: str) -> AbstractContextManager:
    """Return a context in which a CPU computes bfloat16 attention by plain products.

    torch's fused kernel is slower for so few tokens: with plain products a step on the offline
    benchmark takes 0.82 of the time (cross-modal adapter, batch of 128, one thread of an AMD EPYC,
    torch 2.13).
    """
    plain = precision == "bf16" and model.device.type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
