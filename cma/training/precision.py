"""The arithmetic of a run: float32, bfloat16, or the half precision of the authors' code.

In the authors' runs (recipe "paper") these are float16: weights and biases of linear layers, attention, the
patch convolution and both projections; activations; the adapter, its gradients, the norm they are clipped by,
both means of the optimiser and the update. These stay float32: the weights and the arithmetic of LayerNorm,
whose output is rounded to float16; the token, position and class embeddings, rounded when they are used; the
logit scale; and everything from the embeddings on: pooling, similarity and loss. There is no loss scaling.

On a GPU "float32" is as in torch: since Ampere, the convolution of the patches rounds its factors to TF32.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..methods import Method
from ..model import RetrievalModel
from . import compiled, optim

_half: WeakKeyDictionary[nn.Module, HalfPrecision] = WeakKeyDictionary()


def prepare(model: RetrievalModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Put the backbone and the active adapter into `config.precision`; returns the optimiser of the adapter.

    "float32" and "bf16" change no tensor: bfloat16 is used by autocast in the forward pass, and the adapter's
    weights stay float32. "fp16" changes the model in place until `restore`, and so does `config.compile`.
    The optimiser has two groups, weights with decay and biases without. Raises ValueError if no adapter is
    active, for a method that cannot be trained so, or where nothing can be compiled.
    """
    if model.active is None:
        raise ValueError("no adapter is active: model.set_adapter(name) first")
    if isinstance(method := model.get_adapter(model.active), Method):
        method.check_training(config.precision, model.scale)
    restore(model)
    if config.compile:
        compiled.begin(model)
    if config.precision == "fp16":
        _half[model.clip] = HalfPrecision(model)
    return optim.build_optimizer(model, config)


def restore(model: RetrievalModel) -> None:
    """Give the backbone its own tensors (from a GPU: their bits), the adapter float32; undoes `prepare`."""
    compiled.end(model)
    if model.clip in _half:
        _half.pop(model.clip).undo()


class HalfPrecision:
    """A CLIP and the adapter that is active, in the half precision of the authors' code, until `undo`."""

    def __init__(self, model: RetrievalModel) -> None:
        self.adapter = model.get_adapter(model.active).half()
        self.kept: list[tuple[nn.Parameter, Tensor]] = []  # parameters of the backbone, their own tensors
        self.hooks = []
        embeddings = model.clip.vision_model.embeddings, model.clip.text_model.embeddings
        for module in model.clip.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                for parameter in module.parameters():
                    self._replace(parameter, parameter.data.half())
            if isinstance(module, nn.LayerNorm):
                self.hooks.append(module.register_forward_pre_hook(_input_to_float32))
            if isinstance(module, nn.LayerNorm | nn.Embedding) or module in embeddings:
                self.hooks.append(module.register_forward_hook(_output_to_float16))
        token = embeddings[0].class_embedding  # no module of its own, so no hook rounds it when it is used
        self._replace(token, token.data.half().to(token.dtype))

    def undo(self) -> None:
        """Put every tensor back."""
        for parameter, own in self.kept:
            parameter.data = own.to(parameter.device)
        for hook in self.hooks:
            hook.remove()
        self.adapter.float()

    def _replace(self, parameter: nn.Parameter, value: Tensor) -> None:
        self.kept.append((parameter, parameter.data.cpu()))  # a GPU has no room for both
        parameter.data = value


def _input_to_float32(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].float(),)


def _output_to_float16(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output.half()
