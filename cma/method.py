"""`Method`, the base class of everything that adapts a frozen CLIP, and the cross-modal adapter."""

from __future__ import annotations

import importlib
import inspect
import json
import reprlib
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .adapter import AdapterConfig, CrossModalAdapters
from .config import ReadConfig
from .dataset import RetrievalDataset
from .files import checked_dataclass, parse_json
from .patching import parts
from .recipes import recipe

if TYPE_CHECKING:
    from .model import RetrievalModel

# the tables' name for a cross-modal adapter of `shared_dim` 0
WITHOUT_SHARING = "adapter without sharing"
METHODS: dict[str, type[Method]] = {}  # every class with a NAME, by name; the newest wins
MODULES = ["cma.methods"]  # modules that define further classes, imported on demand


@checked_dataclass
class NoOptions:
    """The options of a method that has none."""


class Method(nn.Module):
    """One way to adapt a CLIP that stays frozen; all of its parameters are trained.

    A subclass has a `NAME`, its row in the tables, and `Options` (a `cma.files.checked_dataclass`).
    It makes its parameters in `__init__` and changes CLIP in `install`; it never copies a forward.
    Only parameters and buffers are saved; other tensors must get the same values in every build.
    `scales`: whether it can act at any scale, or only at 1 and 0. `kinds`: the data it works on.
    `halves`: whether it trains with `precision="fp16"`. `across_frames`: whether it looks at all
    frames of a clip at once, so that no frame can be embedded alone. `why_not`: the reason, if it
    cannot do one of these. `defaults`: options that differ from those of `Options`; `pictures`: the
    options for pictures in the paper's tables.
    """

    NAME: str
    Options: ClassVar[type] = NoOptions
    defaults: ClassVar[dict] = {}
    pictures: ClassVar[dict] = {}
    scales: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("image", "video")
    halves: ClassVar[bool] = True
    across_frames: ClassVar[bool] = False
    why_not: ClassVar[str] = ""
    options: Any  # an instance of `Options`
    widths: dict[str, int]
    layers: dict[str, int]
    frame_mask: Tensor | None = None  # [V, F] of the clips being encoded; None for pictures
    # how captions and media were read in training; None before it, and in older files
    reading: ReadConfig | None = None
    strength: float | None = None  # a scale that its author recommends; nothing applies it
    backbone: dict[str, str | None] | None = None  # of a loaded one: what it was trained on

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not inspect.isgeneratorfunction(cls.install) and cls.install is not Method.install:
            raise TypeError(f"{cls.__name__}.install must yield a handle after each change")
        if "NAME" in vars(cls):
            if cls.__module__.partition(".")[0] != __package__:
                for module in MODULES:
                    importlib.import_module(module)
                known = METHODS.get(cls.NAME)
                if known and known.__module__.partition(".")[0] == __package__:
                    raise TypeError(
                        f"{cls.__name__}: NAME = {cls.NAME!r} is that of {known.__module__}."
                        f"{known.__name__}; saved adapters would be read as yours: choose another"
                    )
            METHODS[cls.NAME] = cls

    def __init__(self, model: RetrievalModel, options: object) -> None:
        """Build the method for a `RetrievalModel`, with an instance of `Options`."""
        super().__init__()
        self.options = options
        self.widths = model.widths
        self.layers = model.layers

    @classmethod
    def options_from(cls, given: dict) -> object:
        """Make `Options` from JSON values. Raises ValueError that names method and option."""
        if not is_dataclass(cls.Options):
            raise TypeError(f"{cls.__name__}.Options: expected a cma.files.checked_dataclass")
        known = [option.name for option in fields(cls.Options)]
        wrong = sorted(given.keys() - set(known))
        if wrong:
            message = f"options are {', '.join(known) or 'none'}, not {', '.join(wrong)[:99]}"
            raise ValueError(f"{cls.NAME}: {message}")
        return parse_json(json.dumps(cls.defaults | given), cls.Options, cls.NAME)

    @classmethod
    def options_for(cls, dataset: RetrievalDataset) -> dict:
        """Return the options for data like `dataset`, as in the paper's tables."""
        return cls.pictures if dataset.kind == "image" else {}

    @classmethod
    def shapes(cls, model: RetrievalModel, options: object) -> dict[str, Tensor]:
        """Return the tensors that the method would save, without values (on torch's meta device).

        Raises ValueError if they would be many times as large as the backbone, or if the method
        reads a tensor's values in `__init__`, because then no file could be checked before loading
        it.
        """
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                state = cls(model, options).state_dict()
        except (RuntimeError, TypeError) as error:
            why = (
                f"{str(error)[:200].splitlines()[0]}; expected `__init__(self, model, options)` "
                "that reads no tensor's values"
            )
            raise ValueError(f"{cls.NAME}: cannot be built from shapes alone: {why}") from error
        numbers = sum(value.numel() for value in state.values())
        max_numbers = sum(64 * depth * model.widths[t] ** 2 for t, depth in model.layers.items())
        if numbers > max_numbers:
            message = (
                f"{str(options)[:200]} mean {numbers:,} numbers, expected {max_numbers:,} at most"
            )
            raise ValueError(f"{cls.NAME}: {message}")
        return state

    def install(self, clip: nn.Module, scale: float) -> Iterator:
        """Add hooks to `clip`, or replace its tensors or modules; `scale` is not 0 (1: as trained).

        After each change, yields an object whose `remove()` undoes it, such as the handle of a
        hook.
        """
        raise TypeError(
            f"{type(self).__name__} has no `install(clip, scale)`; expected one that yields the "
            "handle of each hook it adds"
        )

    def check_data(self, kind: str) -> None:
        """Raise ValueError if the method cannot handle data of this kind, "image" or "video"."""
        if kind not in self.kinds:
            raise ValueError(f"{self.NAME}: cannot do {kind} data: {self.why_not}")

    def check_training(self, precision: str, scale: float) -> None:
        """Raise ValueError if the method cannot be trained in this precision and at this scale."""
        if not any(True for _ in self.parameters()):
            raise ValueError(f"{self.NAME}: has nothing to train; use cma.evaluate")
        if precision == "fp16" and not self.halves:
            raise ValueError(
                f"{self.NAME}: cannot train in fp16: {self.why_not}; use bf16 or float32"
            )
        if scale != 1:
            raise ValueError(
                f"{self.NAME}: trains at scale 1, not {scale}; use model.set_adapter(name)"
            )


class CrossModalAdapter(Method, CrossModalAdapters):
    """Jiang et al. 2025, "Cross-Modal Adapter for Vision-Language Retrieval".

    Adds the output of `cma.adapter` to the output of each attention and each MLP of both towers,
    before the residual (0.5M parameters).
    """

    NAME = "cross-modal adapter"
    Options = AdapterConfig

    def __init__(self, model: RetrievalModel, options: AdapterConfig) -> None:
        CrossModalAdapters.__init__(self, options, model.widths, model.layers)
        self.options = options
        # a class of your own keeps its name
        if self.NAME in (CrossModalAdapter.NAME, WITHOUT_SHARING):
            self.NAME = CrossModalAdapter.NAME if options.shared_dim else WITHOUT_SHARING

    @classmethod
    def options_for(cls, dataset: RetrievalDataset) -> dict:
        """Return r and d_s of the dataset's recipe."""
        own = asdict(recipe(dataset.recipe).adapter_config())
        sizes = {"bottleneck_dim", "shared_dim"} - cls.defaults.keys()
        return {key: value for key, value in own.items() if key in sizes}

    def install(self, clip: nn.Module, scale: float) -> Iterator[RemovableHandle]:
        """Add a hook to the last linear layer of each sublayer: its output is z."""
        for i, name in enumerate(("after_attention", "after_mlp")):
            for tower, depth, sublayer in parts(clip, name):
                yield sublayer.register_forward_hook(
                    partial(_add, self, scale, tower, 2 * depth + i)
                )


def describe(method: Method | None) -> tuple[str, dict | None]:
    """Return (name in the tables, options as JSON values); ("zero-shot", None) for None."""
    if method is None:
        return "zero-shot", None
    options = json.loads(json.dumps(asdict(method.options)))
    return method.NAME, options or None


def class_of(method: object) -> type[Method]:
    """Return the method class with this `NAME` or these options; a class is returned as it is.

    Your own classes are found, too. Raises ValueError for an unknown name (lists them all),
    TypeError for anything else.
    """
    if isinstance(method, type) and issubclass(method, Method):
        if not hasattr(method, "NAME"):
            raise TypeError(f'{method.__name__} has no NAME; give it one: NAME = "…"')
        METHODS.setdefault(method.NAME, method)  # it may have been named after its definition
        return method
    if isinstance(method, str):
        for module in MODULES if method not in METHODS else ():
            importlib.import_module(module)
        if method in METHODS:
            return METHODS[method]
        there = f"there are: {', '.join(METHODS)}; or yours, by its NAME"
        raise ValueError(f"unknown method {reprlib.repr(method)}; {there}")
    if isinstance(method, type):
        raise TypeError(f"{method.__name__}: expected a class of cma.methods.Method")
    # several methods may share the options of a base class
    classes = [
        each
        for each in METHODS.values()
        if each.Options is type(method) is not getattr(each.__base__, "Options", None)
    ]
    if len(classes) == 1:
        return classes[0]
    wanted = "expected a method's name or class, or options of one, such as cma.AdapterConfig"
    raise TypeError(f"{wanted}; found {type(method).__name__} {reprlib.repr(method)}")


def _add(method: CrossModalAdapter, scale: float, tower: str, site: int, *call: Any) -> Tensor:
    z = call[-1]  # torch gives a hook the module, its inputs and its output
    return z.add(method(tower, site, z), alpha=scale)
