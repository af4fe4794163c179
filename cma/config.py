"""What a training run is told: one frozen record, checked when it is built, merged strictly."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path

CHOICES = {
    "optimizer": ("adamw", "bert_adam"),
    "similarity": ("mean_pooled", "text_conditioned"),
    "select_on": ("val", "last", "test"),
    "report_on": ("test", "val"),
    "epoch_unit": ("captions", "items"),
    "precision": ("float32", "bf16"),
    "if_exists": ("resume", "replace"),
}
AT_LEAST = {
    "epochs": 1, "batch_size": 1, "lr": 0, "weight_decay": 0, "warmup": 0, "temperature": 1e-6,
    "max_words": 3, "max_frames": 1, "fps": 1e-6, "max_grad_norm": 1e-12, "seed": 0, "val_items": 1,
    "workers": 0, "eval_items": 1,
}  # fmt: skip
WHERE = ("runs_dir", "if_exists")  # settings of this machine, not of the run
NO_EFFECT = ("name", "workers", "cache")  # settings that change no number
LONGEST = 120  # characters of what differs in a run's name


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run of `cma.train`; the defaults are the paper's where it gives one (section 4.1).

    `lr` is per step, `fps` frames a second (None: every frame), `max_words` tokens with start and end,
    `warmup` a share of all steps, `val_items` the training items held out where a dataset has no val split.
    `if_exists` is about a run that lies in `runs_dir/name` already. "resume" goes on after its last epoch, or
    returns it if it is finished; a run of other settings or data is an error and stays as it is. "replace"
    deletes the run's own files, once all that training needs has been found, and starts afresh.
    Raises ValueError that names the field, its value and what is allowed.
    """

    name: str = "run"  # the run lives in runs_dir/name
    epochs: int = 5
    batch_size: int = 128
    lr: float = 1e-5
    weight_decay: float = 0.2  # on weights; biases have none
    warmup: float = 0.1
    optimizer: str = "adamw"  # "adamw" | "bert_adam": the authors' optimiser and schedule
    similarity: str = "mean_pooled"  # "mean_pooled" | "text_conditioned"
    temperature: float = 5.0  # of text-conditioned pooling (paper: τ)
    max_words: int = 32
    max_frames: int = 12
    fps: float | None = 1.0
    max_grad_norm: float = 1.0
    seed: int = 42
    select_on: str = "val"  # which epoch's adapter is kept: "val" | "last" | "test" (the authors' habit)
    val_items: int = 1000
    report_on: str = "test"  # the split of the final numbers; "val" leaves the test split unread
    epoch_unit: str = "captions"  # an epoch is every (item, caption) pair, or "items": each item once
    precision: str = "float32"  # "float32" | "bf16" autocast
    workers: int = 0  # processes that decode
    cache: bool = False  # keep preprocessed pixels in memory (small sets)
    eval_items: int | None = None  # evaluate on that many items only (tiny runs)
    if_exists: str = "resume"  # "resume" | "replace": of a run that lies in the folder, see above
    runs_dir: str | Path = "runs"

    def __post_init__(self) -> None:
        for field, kind in typing.get_type_hints(type(self)).items():
            value = getattr(self, field)
            if not _is_a(value, kind):
                raise ValueError(f"{field}={value!r}: expected {_say(kind)}, found {type(value).__name__}")
            if field in CHOICES and value not in CHOICES[field]:
                raise ValueError(f"{field}={value!r}: expected one of {', '.join(CHOICES[field])}")
            if field in AT_LEAST and value is not None and not value >= AT_LEAST[field]:
                raise ValueError(f"{field}={value!r}: expected at least {AT_LEAST[field]}")
        if self.warmup > 1:
            raise ValueError(f"warmup={self.warmup!r}: expected a share of all steps, at most 1")
        if not self.name or self.name in (".", "..") or any(c in self.name for c in '/\\:*?"<>|'):
            raise ValueError(f"name={self.name!r}: expected a plain folder name, without path separators")
        if self.cache and self.workers:
            raise ValueError(
                f"workers={self.workers} with cache=True: the cache lives in one process; "
                "set workers=0 or cache=False"
            )

    def merge(self, overrides: dict) -> TrainConfig:
        """A copy with `overrides` put in. Raises ValueError for a key that is no field, with the nearest."""
        if not isinstance(overrides, dict):
            raise ValueError(
                f"overrides must be a dictionary, not {overrides!r}; "
                "papermill takes one by -y 'overrides: {epochs: 2}'"
            )
        fields = [field.name for field in dataclasses.fields(self)]
        for key in overrides:
            if key not in fields:
                near = difflib.get_close_matches(str(key), fields, n=3)
                hint = f"did you mean {' or '.join(near)}?" if near else f"fields are {', '.join(fields)}"
                raise ValueError(f"TrainConfig has no field {key!r}: {hint}")
        return dataclasses.replace(self, **overrides)


def run_name(base: str, given: dict, usual: dict) -> str:
    """`base`, and after it what differs of `given` from `usual`: `base,epochs=20,seed=7`; a folder name.

    Equal settings give the equal name, other settings another one, in whatever order they stand. A value that
    no folder can be named by, such as a path, is written with "-" and followed by a digest of all of them.
    """
    differing = [(key, str(given[key])) for key in sorted(given) if given[key] != usual.get(key)]
    if not differing:
        return base
    words = [f"{key}={re.sub(r'[^A-Za-z0-9_.+-]', '-', value)}" for key, value in differing]
    name = ",".join(words)[:LONGEST].rstrip(".")
    if name != ",".join(f"{key}={value}" for key, value in differing):
        name += f",{hashlib.sha256(repr(differing).encode()).hexdigest()[:8]}"
    return f"{base},{name}"


def _is_a(value: object, kind: object) -> bool:
    """Whether a value fits an annotation: an int counts as a float, a bool as neither."""
    if isinstance(kind, types.UnionType):
        return any(_is_a(value, one) for one in typing.get_args(kind))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _say(kind: object) -> str:
    return str(kind) if isinstance(kind, types.UnionType) else kind.__name__
