"""The settings of a training run, validated on construction."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .files import checked_dataclass, short

WHERE = ("runs_dir", "if_exists")  # settings of this machine, not of the run
NO_EFFECT = ("name", "workers", "cache", "micro_batch", "checkpoint_activations")  # except rounding


def _folder_name(name: str) -> str:
    if not name or name in (".", "..") or any(c in name for c in '/\\:*?"<>|'):
        raise ValueError("expected a plain folder name, without path separators")
    return name


MAX_SEED = 2**32 - 1  # so that the seed derived for each epoch fits into torch's 64 bits
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(ge=1e-6)]


@checked_dataclass
class ReadConfig:
    """How captions and clips are read and compared.

    `encode`, `evaluate` and `MediaIndex` take it; `TrainConfig` has the same fields and defaults.

    Args:
        similarity: how the frames of a clip are pooled. For an item of one frame both are the plain
            cosine.
        temperature: of text-conditioned pooling; the paper's τ.
        max_words: tokens kept of a caption, start and end included; the recipes set the paper's 32.
        max_frames: frames used of a clip, evenly spread over those that `fps` gives.
        fps: frames a second; None takes every frame. The recipes set the paper's 1.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    similarity: Literal["mean_pooled", "text_conditioned"] = "text_conditioned"
    temperature: AboveZero = 5.0
    max_words: Annotated[int, Field(ge=3)] = 77
    max_frames: Positive = 12
    fps: AboveZero | None = None

    def reading(self) -> ReadConfig:
        """Return these five fields alone; a `TrainConfig` has more.

        >>> from cma import TrainConfig
        >>> TrainConfig(lr=1e-3, max_words=32).reading().max_words
        32
        """
        names = [field.name for field in dataclasses.fields(ReadConfig)]
        return ReadConfig(**{name: getattr(self, name) for name in names})


@checked_dataclass
class TrainConfig(ReadConfig):
    """The settings of one run of `cma.train`.

    The defaults are the paper's (section 4.1), except `max_words`, `fps`, `optimizer`, `select_on`,
    `precision`, `gradient_divisor` and `mask_same_item`, which the recipe `paper` of a benchmark
    sets. It also has the fields of `ReadConfig`; to search as the run was trained, give an index
    the same ones.

    Args:
        name: the run is written to `runs_dir/name`.
        epochs: passes through the training items.
        batch_size: pairs of a step, over all processes.
        lr: the highest rate of the schedule.
        weight_decay: on weights; biases have none.
        warmup: the share of all steps in which the rate rises.
        optimizer: "adamw", or the authors' "bert_adam" with their schedule.
        loss: "cross_entropy", or SigLIP's "sigmoid", which needs its logit bias.
        max_grad_norm: gradients are clipped to this norm.
        seed: decides held-out items, batches and dropout.
        select_on: which split chooses the epoch that is kept; "last" keeps the last one. The
            authors use "test".
        select_by: text-to-visual R@1, or mR, the less noisy mean of six recalls.
        val_items: how many training items to hold out if a dataset has no val split.
        report_on: the split of the final numbers; with "val" the test split is never read.
        epoch_unit: whether an epoch sees each (item, caption) pair once, or each item once.
        precision: "fp16" is half precision throughout, as the authors train.
        gradient_divisor: divides the gradient before clipping; the authors' 4 processes divide by
            4.
        mask_same_item: whether captions of one item in a batch are left out as negatives.
        micro_batch: pairs in memory at once: a number, "auto", or None for all.
        checkpoint_activations: compute activations again in the backward pass: less memory, slower.
        workers: processes that decode media; at most one for each core is started.
        cache: keep the preprocessed pixels of a small dataset in memory.
        eval_items: the most items to evaluate on.
        if_exists: what to do if `runs_dir/name` already holds a run. "resume" continues it, or
            returns it if it is finished. "replace" deletes its files once all inputs are found, and
            trains again from the adapter's current weights: after a run, those are the trained
            ones.
        runs_dir: the folder of all runs.

    Raises:
        ValueError: a value is not allowed; the message names the field.
    """

    name: Annotated[str, AfterValidator(_folder_name)] = "run"
    epochs: Positive = 5
    batch_size: Positive = 128
    lr: NotNegative = 1e-5
    weight_decay: NotNegative = 0.2
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    optimizer: Literal["adamw", "bert_adam"] = "adamw"
    loss: Literal["cross_entropy", "sigmoid"] = "cross_entropy"
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 42
    select_on: Literal["val", "last", "test"] = "val"
    select_by: Literal["R@1", "mR"] = "R@1"
    val_items: Positive = 1000
    report_on: Literal["test", "val"] = "test"
    epoch_unit: Literal["captions", "items"] = "captions"
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    gradient_divisor: Positive = 1
    mask_same_item: bool = True
    micro_batch: Positive | Literal["auto"] | None = None
    checkpoint_activations: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    cache: bool = False
    eval_items: Positive | None = None
    if_exists: Literal["resume", "replace"] = "resume"
    runs_dir: str | Path = "runs"

    def __post_init__(self) -> None:
        if self.cache and self.workers:
            raise ValueError(
                f"workers={self.workers} with cache=True: set workers=0 or cache=False"
            )

    def merge(self, overrides: dict) -> TrainConfig:
        """Return a copy with other values of some fields. Raises ValueError as the class does.

        >>> from cma import TrainConfig
        >>> TrainConfig(lr=1e-3).merge({"epochs": 2}) == TrainConfig(lr=1e-3, epochs=2)
        True
        >>> TrainConfig().merge({"epochs": 0})
        Traceback (most recent call last):
        ValueError: epochs=0: expected greater than or equal to 1
        """
        if not isinstance(overrides, dict):
            raise ValueError(
                f"overrides must be a dictionary, not {short(overrides)}; papermill: {{epochs: 2}}"
            )
        return dataclasses.replace(self, **{str(key): value for key, value in overrides.items()})
