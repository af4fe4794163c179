"""The settings of a training run, checked when they are built."""

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


MOST_SEED = 2**32 - 1  # so that the seed derived for each epoch fits into torch's 64 bits
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(ge=1e-6)]


@checked_dataclass
class ReadConfig:
    """Settings for reading and comparing captions and clips.

    `encode`, `evaluate` and `MediaIndex` take them; `TrainConfig` has the same, with the same
    defaults.

    The default similarity works for pictures too: for an item of one frame it is the plain cosine.
    With `fps` None, `max_frames` are spread over the whole clip. The paper's 32 words and one frame
    a second are set by the recipes. Raises ValueError that names the field and its value.
    """

    similarity: Literal["mean_pooled", "text_conditioned"] = "text_conditioned"
    # of text-conditioned pooling; the paper's τ
    temperature: AboveZero = 5.0
    max_words: Annotated[int, Field(ge=3)] = 77  # tokens, including start and end
    max_frames: Positive = 12
    fps: AboveZero | None = None  # frames a second; None: every frame


@checked_dataclass
class TrainConfig(ReadConfig):
    """Settings of one run of `cma.train`.

    The defaults are the paper's (section 4.1), except `max_words`, `fps`, `optimizer`, `select_on`,
    `precision`, `gradient_divisor` and `mask_same_item`, which a benchmark's recipe `paper` sets.
    Media are read as `ReadConfig` says, so that an index searches as a run was trained.

    `if_exists` is for a run that is in `runs_dir/name` already. "resume" continues it, or returns
    it if it is finished; other settings or data are an error. "replace" deletes its files, once
    all inputs are found, and trains again, from the weights that the adapter has then: after a run
    those are the trained ones. Raises ValueError that names the field, its value and what is
    allowed.
    """

    # the run is written to runs_dir/name
    name: Annotated[str, AfterValidator(_folder_name)] = "run"
    epochs: Positive = 5
    batch_size: Positive = 128
    lr: NotNegative = 1e-5  # the highest rate of the schedule
    weight_decay: NotNegative = 0.2  # on weights; biases have none
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of all steps
    # "bert_adam": the authors' optimiser and schedule
    optimizer: Literal["adamw", "bert_adam"] = "adamw"
    # "sigmoid": SigLIP's, needs its logit bias
    loss: Literal["cross_entropy", "sigmoid"] = "cross_entropy"
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 42
    # chooses the kept epoch; the authors use "test"
    select_on: Literal["val", "last", "test"] = "val"
    select_by: Literal["R@1", "mR"] = "R@1"  # text-to-visual, or the less noisy mean of six recalls
    val_items: Positive = 1000  # training items held out if a dataset has no val split
    # the split of the final numbers; "val" never reads test
    report_on: Literal["test", "val"] = "test"
    # an epoch: each (item, caption), or item, once
    epoch_unit: Literal["captions", "items"] = "captions"
    # "fp16": throughout, as the authors do
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    # divides the gradient before clipping; 4 in the authors' 4 processes
    gradient_divisor: Positive = 1
    mask_same_item: bool = True  # captions of one item in a batch are not each other's negatives
    micro_batch: Positive | Literal["auto"] | None = None  # pairs in memory at once; None: all
    # compute them again in the backward pass: less memory, slower
    checkpoint_activations: bool = False
    workers: Annotated[int, Field(ge=0)] = 0  # processes that decode media
    cache: bool = False  # keep preprocessed pixels in memory (small sets)
    eval_items: Positive | None = None  # evaluate on that many items only (tiny runs)
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
