"""Both encoders through `torch.compile` while a run trains; afterwards the model is as it was."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..model import RetrievalModel
from ..patching import TOWERS, encoder_layers
from . import devices

VARIANTS = 32  # of an encoder at most: both towers, with and without gradients, one row or several
# Random numbers as without compilation; the number of rows and of tokens may change from step to step.
SETTINGS = {"dynamic": True, "options": {"fallback_random": True}}

_held: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()


def begin(model: RetrievalModel) -> None:
    """Compile the encoders of `model` at their first training step, hooks of the active adapter included.

    In evaluation they run as before. Raises ValueError where nothing can be compiled. An encoder that cannot
    be compiled runs as before, and a line says so.
    """
    end(model)
    with devices.together():
        check_compiler(model.device)
    devices.say("the encoders are compiled: the first step takes much longer")
    encoders = [_encoder(model.clip, tower) for tower in TOWERS]
    for encoder in encoders:
        encoder.forward = _chosen(model, encoder.forward)
    _held[model.clip] = encoders


def end(model: RetrievalModel) -> None:
    """Undo `begin`: the encoders have the forward of their class again."""
    for encoder in _held.pop(model.clip, ()):
        del encoder.forward


def check_compiler(device: torch.device) -> None:
    """Compile a sum, so that what is missing is known before a run; raises ValueError that says what."""
    try:
        with warnings.catch_warnings(), torch.compiler.config.patch(force_disable_caches=True):
            warnings.simplefilter("ignore")  # that caches are off: else an old result may be found
            torch.compile(lambda x: x.sin() + 1)(torch.ones(3, device=device))
    except Exception as error:  # a compiler, Python's headers, Triton, a folder for the result
        need = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler"
        said = f"compile=True: torch.compile does not work on this {device.type}: {_reason(error)}"
        raise ValueError(f"{said}; install {need}, or set compile=False") from error


def _reason(error: Exception) -> str:
    return textwrap.shorten(next(iter(str(error).strip().splitlines()), repr(error)), 200)


def _encoder(clip: nn.Module, tower: str) -> nn.Module:
    layers = encoder_layers(clip, tower)
    return next(module for module in clip.modules() if getattr(module, "layers", None) is layers)


def _chosen(model: RetrievalModel, plain: Callable) -> Callable:
    """The forward of an encoder: compiled in training, `plain` in evaluation."""
    fast = torch.compile(plain, **SETTINGS)

    def forward(*given: object, **named: object) -> object:
        nonlocal fast
        if fast is plain or not model.training:
            return plain(*given, **named)
        try:
            with torch._dynamo.config.patch(recompile_limit=VARIANTS):
                return fast(*given, **named)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            devices.say(f"an encoder is not compiled: {_reason(error)}")
            fast = plain
        return plain(*given, **named)

    return forward
