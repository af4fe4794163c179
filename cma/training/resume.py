"""Save the state of a run, find it again after a stop, and check that it is the same run."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from ..backbone import known_by
from ..checkpoints import FILES
from ..config import NO_EFFECT
from ..files import parse_json, write_whole
from ..hub import CARD
from ..media import MediaError
from .record import RunRecord, weights_digest

CHECKPOINT, LOCK = "checkpoint.pt", ".run.lock"
ROOM = 2**20  # bytes that must be free on the disk at the start


# this process's adapters, each with the folder of the last run that trained it and the digest of
# the weights left there: the same call may continue from them
LAST_RUN: WeakKeyDictionary[nn.Module, tuple[Path, str]] = WeakKeyDictionary()


@dataclass
class EpochState:
    """The finished part of an epoch."""

    losses: list[float] = field(default_factory=list)  # one per step
    curve: list[list] = field(default_factory=list)  # [step, mean loss since the last point, rate]
    seconds: float = 0.0

    def add(self, step: int, loss: float, rate: float, every: int) -> None:
        """Add the loss of a step (from 1), and every `every` steps a point of the curve."""
        self.losses.append(loss)
        if len(self.losses) % every == 0:
            mean = sum(self.losses[-every:]) / every
            self.curve.append([step, round(mean, 5), rate])

    def entry(self, epoch: int) -> dict:
        """Return the epoch's (from 1) entry in the record."""
        steps = len(self.losses)
        return {
            "epoch": epoch,
            "steps": steps,
            "loss": sum(self.losses) / steps,
            "seconds": self.seconds,
            "curve": self.curve,
        }


@dataclass
class RunState:
    """The record so far, and the trained parameters after the best epoch.

    `last` (those after the last step) and `optimizer` exist only while a checkpoint is loaded.
    """

    record: RunRecord
    last: list[Tensor] = field(default_factory=list)
    epoch: EpochState = field(default_factory=EpochState)  # the unfinished one
    best: list[Tensor] = field(default_factory=list)
    optimizer: dict = field(default_factory=dict)

    def save(self, last: list[Tensor], optimizer: dict) -> None:
        """Write the checkpoint into the record's folder, whole or not at all."""
        content = io.BytesIO()  # if torch wrote the file, a full disk would not raise OSError
        now = {
            "record": self.record.to_json(),
            "epoch": asdict(self.epoch),
            "last": last,
            "optimizer": optimizer,
        }
        torch.save(vars(self) | now, content)
        write_whole(self.record.folder / CHECKPOINT, content.getvalue())


def find(record: RunRecord, method: nn.Module) -> RunState | None:
    """Return the saved state of this run, or None if its folder holds no run.

    It is the same run if settings and data are equal, and `method` has the weights that the run
    began with or left. Raises ValueError, with what to do, if the checkpoint cannot be read or
    belongs to another run.
    """
    folder = record.folder
    checkpoint = folder / CHECKPOINT
    ways_out = f'choose another name, delete {folder}, or set if_exists="replace"'
    finished = (folder / "run.json").exists()
    if not checkpoint.exists():
        if finished:
            raise ValueError(
                f"{folder}: run.json without {CHECKPOINT}, nothing to resume; {ways_out}"
            )
        return None
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        saved["record"] = parse_json(saved["record"], RunRecord, str(checkpoint))
        state = RunState(**saved | {"epoch": EpochState(**saved["epoch"])})
    except MemoryError:
        raise
    except Exception as error:  # which one depends on the bytes
        raise ValueError(
            f"{checkpoint}: no checkpoint of this version of cma.train, or cut short; {ways_out}"
        ) from error
    if differing := differences(state.record, record):
        raise ValueError(f"{folder} holds another run ({differing}); {ways_out}")

    # else other weights would be lost, or a warm start mistaken for a cold one
    here = record.initial_digest
    there = state.record.initial_digest
    known = (there, weights_digest(state.last), weights_digest(state.best))
    if here not in known and LAST_RUN.get(method) != (folder.absolute(), here):
        raise ValueError(
            f"{folder} holds another run (initial weights {there} there, {here} here); {ways_out}, "
            f'or load_adapter("{folder / "last"}", …) to continue'
        )
    if finished:
        state.record = RunRecord.load(folder)
    state.record.folder = folder
    return state


def differences(there: RunRecord, here: RunRecord) -> str:
    """Return how two runs differ, as in "lr 0.01 there, 0.5 here"; empty if they are the same."""
    names = (
        "dataset",
        "train_items",
        "held_out_items",
        "data_digest",
        "evaluated_digest",
        "method",
        "adapter",
    )
    runs = []
    for record in (there, here):
        config = {key: value for key, value in record.config.items() if key not in NO_EFFECT}
        about = {name: getattr(record, name) for name in names}
        runs.append(config | about | {"backbone": known_by(record.backbone)})
    one, other = runs
    return "; ".join(
        f"{k} {one.get(k)!r} there, {other[k]!r} here" for k in other if one.get(k) != other[k]
    )


def own_files(folder: Path) -> list[Path]:
    """Return the files that a run writes into its folder, without its card (README.md) and lock."""
    adapters = [folder / part / name for part in (".", "best", "last") for name in FILES]
    return [folder / CHECKPOINT, folder / "run.json", folder / "curve.png", *adapters]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock `folder`, created if needed, for this run; remove the unfinished files of a killed run.

    Raises ValueError if another process trains there now, OSError if the folder cannot be written
    to. To a media or disk error it adds how to continue the run.
    """
    require_writable(folder)
    try:
        with FileLock(folder / LOCK, timeout=0):
            for path in [*own_files(folder), folder / CARD]:
                for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
                    unfinished.unlink()
            yield
    except Timeout:
        raise ValueError(
            f"{folder}: another run is being trained there now; choose another name"
        ) from None
    except MediaError as error:
        raise MediaError(
            f"{folder}: stopped: {error}; once it can be read, the same call continues where "
            "the run stopped"
        ) from error
    except OSError as error:
        if not Path(error.filename or "").is_relative_to(folder):
            raise
        raise OSError(
            f"{error.filename}: not written ({error.strerror}); the old file is intact: "
            "once there is room, the same call continues from there"
        ) from error


def require_writable(folder: Path) -> None:
    """Create a run's folder; raise OSError that names it if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM))
            probe.flush()
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be written to ({error}); choose another runs_dir or name"
        ) from error


def copy_parameters(method: nn.Module) -> list[Tensor]:
    """Return a copy of a method's parameters, on the CPU."""
    return [parameter.detach().cpu().clone() for parameter in method.parameters()]


@torch.no_grad()
def set_parameters(method: nn.Module, values: list[Tensor]) -> None:
    """Set a method's parameters to `values`, in the order of `copy_parameters`."""
    for parameter, value in zip(method.parameters(), values, strict=True):
        parameter.copy_(value)
