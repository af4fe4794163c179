"""The arithmetic of a run: float32, bfloat16, or the half precision of the authors' code.

In the authors' runs (recipe "paper") these are float16: weights and biases of linear layers,
attention, the patch convolution and both projections; activations; the adapter, its gradients, the
norm they are clipped by, both means of the optimiser and the update. These stay float32: the
weights and the arithmetic of LayerNorm, whose output is rounded to float16; the token, position and
class embeddings, rounded when they are used; the logit scale; and everything from the embeddings
on: pooling, similarity and loss. There is no loss scaling.

On a GPU "float32" is torch's default: since Ampere, the patch convolution rounds its factors to
TF32.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import TrainConfig
from ..families import tower_of
from ..model import RetrievalModel
from ..patching import TOWERS, on_clip
from .optim import BertAdam, parameter_groups


def prepare(model: RetrievalModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Put backbone and active adapter into `config.precision`; returns the adapter's optimiser.

    "float32" and "bf16" change no tensor: bfloat16 is used by autocast in the forward pass, and the
    adapter's weights stay float32. "fp16" changes the model in place until `restore`. The optimiser
    has two groups, weights with decay and biases without. Raises ValueError if no adapter is
    active, for a method that cannot be trained in this precision or at this scale, and for a loss
    that the backbone cannot use.

    >>> import cma
    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> _ = model.add_adapter("mine", cma.AdapterConfig())
    >>> optimizer = cma.training.prepare(model, cma.TrainConfig(weight_decay=0.1))
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(5, 0.1), (5, 0.0)]
    """
    check_training(model, config)
    restore(model)
    if config.precision == "fp16":
        on_clip(model.clip).undo.append(halve(model))
    kind = {"adamw": torch.optim.AdamW, "bert_adam": BertAdam}[config.optimizer]
    groups = parameter_groups(model, model.trainable_parameters(), config.weight_decay)
    return kind(groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-6)


def restore(model: RetrievalModel) -> None:
    """Undo `prepare`: give the backbone its own tensors back (bitwise), and the adapter float32."""
    undo = on_clip(model.clip).undo
    while undo:
        undo.pop()()


def check_training(model: RetrievalModel, config: TrainConfig) -> None:
    """Raise ValueError, as `prepare`, if no adapter is active or it cannot be trained so."""
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
            f'{model.family.name} has no logit bias for loss="sigmoid": take "cross_entropy"'
        )


def autocast(model: RetrievalModel, precision: str) -> torch.autocast:
    """Return the context for a forward pass in `precision`."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def attention(model: RetrievalModel, precision: str) -> AbstractContextManager:
    """Return a context in which a CPU computes bfloat16 attention by plain products.

    torch's fused kernel is slower for so few tokens: with plain products a step of the offline
    benchmark takes 0.82 of the time (cross-modal adapter, batch of 128, one thread of an AMD EPYC,
    torch 2.13).
    """
    plain = precision == "bf16" and model.device.type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def halve(model: RetrievalModel) -> Callable[[], None]:
    """Put CLIP and the active adapter into half precision; returns a function that undoes it."""
    adapter = model.get_adapter(model.active).half()
    kept, hooks = [], []  # (backbone's parameter, its own tensor); hook handles

    def to_half(parameter: nn.Parameter, dtype: torch.dtype = torch.float16) -> None:
        # else it is a trained one in CLIP's place: not put back
        if parameter.dtype != torch.float16:
            kept.append((parameter, parameter.data.cpu()))  # a GPU has no room for both
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
    # no module of their own, so no hook rounds them
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
