"""The record of a run, as one JSON file: settings, hardware, time and results."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
import transformers
from pydantic import PositiveInt
from torch import Tensor

from .. import __version__
from ..backbone import identity
from ..config import WHERE, TrainConfig
from ..data import RetrievalDataset
from ..files import read_json, write_whole
from ..method import describe
from ..model import RetrievalModel
from .splits import Splits, describe_epoch, digest, epoch_size

if TYPE_CHECKING:
    from .evaluation import Embeddings

LABELS = {  # by `select_on`: how the epoch was chosen, in words
    "val": "chosen on validation",
    "last": "last epoch",
    "test": "(chosen on test, the authors' habit)",
    "none": "",
}


@dataclass
class RunRecord:
    """One run: `metrics` of the kept adapter, recalls in %; memory in GiB."""

    name: str
    dataset: str
    kind: Literal["image", "video"]
    method: str  # one of `cma.methods.NAMES`, or the name of your own
    backbone: dict  # name and revision
    config: dict  # TrainConfig without this machine's settings
    adapter: dict | None  # AdapterConfig or the options of the method; None for the frozen backbone
    seed: int
    select_on: Literal[tuple(LABELS)]  # type: ignore[valid-type]  # see LABELS; "none": nothing was trained
    trained_parameters: int
    total_parameters: PositiveInt  # backbone and adapter
    train_items: int = 0
    held_out_items: int = 0  # training items kept back for validation
    data_digest: str = ""  # of the training items' ids and captions
    evaluated_digest: str = ""  # of the watched and the final items; empty without training
    initial_digest: str = ""  # of the weights before the first step; empty without training
    epoch_counts: str = ""  # what an epoch counts, in words
    steps_per_epoch: int = 0
    total_steps: int = 0
    selected_epoch: int | None = None  # from 1
    history: list[dict] = field(default_factory=list)  # one dict per epoch
    metrics: dict = field(default_factory=dict)  # from `evaluate`; empty until the run is finished
    seconds: float = 0.0
    peak_memory_gib: float | None = None
    peak_memory_of: Literal["process", "gpu"] = "process"
    finished: str = ""  # time in UTC; empty until then
    hardware: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    commit: str | None = None

    # not fields, because they are not part of the file; None until known
    folder = cast(Path, None)  # where it was written
    encoded = cast("Embeddings", None)  # behind `metrics`
    # (points of text-to-visual R@1 above zero-shot, low, high) on the split of `metrics`
    gain = cast("tuple[float, float, float]", None)

    @property
    def trained_percent(self) -> float:
        """Trained parameters in % of all, adapter included."""
        return 100 * self.trained_parameters / self.total_parameters

    @property
    def label(self) -> str:
        """How the epoch was chosen, in the words shown beside the numbers."""
        return LABELS[self.select_on]

    @classmethod
    def describe(
        cls,
        model: RetrievalModel,
        dataset: RetrievalDataset,
        config: TrainConfig,
        splits: Splits | None = None,
    ) -> RunRecord:
        """Return the record of a run that begins; `splits`: its items, if it trains.

        Call it inside `model.using`, so that the active adapter is installed. Raises ValueError if
        the active method cannot handle this kind of data.
        """
        if model.device.type == "cuda":  # so that the peak is this run's
            torch.cuda.reset_peak_memory_stats(model.device)
        adapter = model.get_adapter(model.active) if model.active else None
        if adapter:
            adapter.check_data(dataset.kind)
        method, options = describe(adapter)
        trained = model.trainable_parameters()
        every = {
            *model.clip.parameters(),
            *trained,
        }  # trained ones may be in its place
        record = cls(
            name=config.name,
            dataset=dataset.name,
            kind=dataset.kind,
            method=method,
            backbone=identity(model.clip),
            config={k: v for k, v in dataclasses.asdict(config).items() if k not in WHERE},
            adapter=options,
            seed=config.seed,
            select_on="none",
            trained_parameters=sum(p.numel() for p in trained),
            total_parameters=sum(p.numel() for p in every),
        )
        record.folder = Path(config.runs_dir).expanduser() / config.name
        if splits is not None:
            training = splits.training
            record.select_on = config.select_on
            record.data_digest = digest(training)
            record.evaluated_digest = " ".join(map(digest, filter(None, splits[1:])))
            record.initial_digest = weights_digest(trained)
            record.train_items = len(training)
            record.held_out_items = len(dataset) - len(training)
            record.epoch_counts = describe_epoch(training, config)
            record.steps_per_epoch = epoch_size(training, config)[1]
            record.total_steps = config.epochs * record.steps_per_epoch
        return record

    def stamp(self, device: torch.device) -> RunRecord:
        """Fill in the present time, hardware, versions, commit and peak memory."""
        self.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.hardware = hardware(device)
        self.versions = versions()
        self.commit = commit()
        self.peak_memory_gib, self.peak_memory_of = peak_memory(device)
        return self

    def to_json(self) -> str:
        """Return the text of `run.json`."""
        content = dataclasses.asdict(self)
        for name in ("evaluated_digest", "initial_digest"):
            if not content[name]:
                del content[name]
        content |= {"trained_percent": round(self.trained_percent, 4), "label": self.label}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def save(self, folder: Path | str) -> None:
        """Write `run.json` into `folder`, whole or not at all."""
        self.folder = Path(folder)
        write_whole(self.folder / "run.json", self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> RunRecord:
        """Read a record: a `.json` file, or the `run.json` of a run's folder.

        Raises FileNotFoundError, or ValueError that names the file and the key that is not as
        expected.
        """
        path = Path(path).expanduser()
        path = path / "run.json" if path.is_dir() else path
        record = read_json(path, cls, "; expected a run record as cma.train writes it")
        record.folder = path.parent
        return record


def weights_digest(tensors: Iterable[Tensor]) -> str:
    """Return a short hash of weights in order, equal for equal values in any precision."""
    digest = hashlib.sha256()
    for one in tensors:
        digest.update(one.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def hardware(device: torch.device) -> dict:
    """Return names and counts of the hardware that a run on `device` uses."""
    found = {
        "device": str(device),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def versions() -> dict:
    """Return the versions of Python and of the packages that can change a result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cross-modal-adapter": __version__,
    }


def commit() -> str | None:
    """Return this source tree's commit, "+" if files of `cma` differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed package may lie inside another repository
        return None
    run = partial(
        subprocess.check_output, cwd=root, text=True, stderr=subprocess.DEVNULL, timeout=10
    )
    try:
        changed = run(["git", "status", "--porcelain", "--untracked-files=no", "--", "cma"])
        return run(["git", "rev-parse", "--short=10", "HEAD"]).strip() + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory(device: torch.device) -> tuple[float | None, Literal["process", "gpu"]]:
    """Return (peak GiB or None, of what): of the "gpu", or of the "process" since its start."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 3), "gpu"
    try:
        import resource
    except ImportError:  # Windows
        return None, "process"
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3), "process"


def best_epoch(history: list[dict], by: str = "R@1") -> int:
    """Return the first epoch (from 1) with the highest recall `by`; without recalls, the last."""
    if "validation" not in history[-1]:
        return len(history)
    evaluated = [entry["validation"] for entry in history]
    recalls = [one["mR"] if by == "mR" else one["text_to_visual"][by] for one in evaluated]
    return 1 + recalls.index(max(recalls))
