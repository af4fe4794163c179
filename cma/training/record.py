"""The record a run leaves: what was run, where, for how long and what came out, as one JSON file."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..adapter import CrossModalAdapters
from ..backbone import identity
from ..config import WHERE, TrainConfig
from ..data import RetrievalDataset
from ..files import write_whole
from ..model import RetrievalModel

ON_TEST = "(chosen on test, the authors' habit)"


@dataclass
class RunRecord:
    """One run: `metrics` are of the kept adapter; recalls in %, `seconds` of training, memory in GiB."""

    name: str
    dataset: str
    kind: str  # image | video
    method: str
    backbone: dict  # name and revision
    config: dict
    adapter: dict | None  # AdapterConfig, None for the frozen backbone
    seed: int
    select_on: str  # val | last | test | none
    trained_parameters: int
    total_parameters: int  # backbone and adapter
    train_items: int = 0
    held_out_items: int = 0  # training items kept back for validation
    data_digest: str = ""  # of the training items' ids and captions
    epoch_counts: str = ""  # what an epoch counts, in words
    steps_per_epoch: int = 0
    total_steps: int = 0
    selected_epoch: int | None = None  # from 1
    history: list[dict] = field(default_factory=list)  # one dict an epoch
    metrics: dict = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_gib: float | None = None
    peak_memory_of: str = "process"  # process | gpu
    finished: str = ""  # UTC
    hardware: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    commit: str | None = None
    folder: Path | None = None  # where it was written; not part of the file

    @property
    def trained_percent(self) -> float:
        """Trained parameters in % of all, adapter included."""
        return 100 * self.trained_parameters / self.total_parameters

    @property
    def label(self) -> str:
        """How the epoch was chosen, in the words that go beside every number."""
        if self.select_on == "test":
            return ON_TEST
        words = {"val": "chosen on validation", "last": "last epoch", "none": ""}
        return words[self.select_on]

    @classmethod
    def describe(cls, model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig) -> RunRecord:
        """A record of what `model` is, on which data, with which settings; nothing has been run yet."""
        adapters = model.adapters[model.active] if model.active else None
        trained = sum(p.numel() for p in model.trainable_parameters()) if model.active else 0
        return cls(
            name=config.name,
            dataset=dataset.name,
            kind=dataset.kind,
            method=method_name(adapters),
            backbone=identity(model.clip),
            config={k: v for k, v in dataclasses.asdict(config).items() if k not in WHERE},
            adapter=dataclasses.asdict(adapters.config) if adapters else None,
            seed=config.seed,
            select_on="none",
            trained_parameters=trained,
            total_parameters=sum(p.numel() for p in model.clip.parameters()) + trained,
        )

    def stamp(self, device: torch.device) -> RunRecord:
        """Fill in time, hardware, versions, commit and peak memory as they are now."""
        self.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.hardware, self.versions, self.commit = hardware(device), versions(), commit()
        self.peak_memory_gib, self.peak_memory_of = peak_memory(device)
        return self

    def to_json(self) -> str:
        """The text of `run.json`."""
        content = {
            one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "folder"
        }
        content |= {"trained_percent": round(self.trained_percent, 4), "label": self.label}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """The record of a `run.json`'s text. Raises TypeError for a missing field, ValueError for no JSON."""
        content = json.loads(text)
        names = {one.name for one in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in content.items() if key in names})

    def save(self, folder: Path | str) -> Path:
        """Write `run.json` into `folder`, whole or not at all."""
        self.folder = Path(folder)
        path = self.folder / "run.json"
        write_whole(path, self.to_json())
        return path

    @classmethod
    def load(cls, path: Path | str) -> RunRecord:
        """Read a record: a `.json` file or a run's folder. Raises ValueError naming a file that is none."""
        path = Path(path)
        path = path / "run.json" if path.is_dir() else path
        try:
            record = cls.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: no run record ({error}); expected a run.json of cma.train") from error
        record.folder = path.parent
        return record


def method_name(adapters: CrossModalAdapters | None) -> str:
    """What the results table calls it: zero-shot, the adapter, or the adapter without sharing."""
    if adapters is None:
        return "zero-shot"
    return "cross-modal adapter" if adapters.config.shared_dim else "adapter without sharing"


def hardware(device: torch.device) -> dict:
    """Names and counts of what the run used."""
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
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "cross-modal-adapter"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def commit() -> str | None:
    """The commit of this source tree, with "+" if files differ from it; None outside a git checkout."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        head = _git(here, "rev-parse", "--short=10", "HEAD")
        return head + (
            "+" if _git(here, "status", "--porcelain", "--untracked-files=no", "--", "cma") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return run.stdout.strip()


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """(GiB, of what): the GPU's highest allocation, or the process's since it started; None where unknown."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 3), "gpu"
    try:
        import resource
    except ImportError:  # Windows
        return None, "process"
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3), "process"
