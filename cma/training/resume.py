"""Save what a stopped run needs to continue, find it again, and check that it is the same run."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from ..backbone import known_by
from ..checkpoints import CONFIG, WEIGHTS
from ..config import NO_EFFECT
from ..files import parse_json, write_whole
from ..media import MediaError
from .record import RunRecord

CHECKPOINT, LOCK = "checkpoint.pt", ".run.lock"
ROOM = 2**20  # bytes that a disk must have free at the start


@dataclass
class EpochState:
    """The part of an epoch that is done so far."""

    losses: list[float] = field(default_factory=list)  # one per step
    curve: list[list] = field(default_factory=list)  # [step, mean loss since the last point, rate]
    seconds: float = 0.0


@dataclass
class RunState:
    """The record so far, the trained parameters now and after the best epoch, and the optimiser's
    state.
    """

    record: RunRecord
    last: list[Tensor] = field(default_factory=list)
    epoch: EpochState = field(default_factory=EpochState)  # the one that was not finished
    best: list[Tensor] = field(default_factory=list)
    optimizer: dict = field(default_factory=dict)

    @property
    def kept(self) -> list[Tensor]:
        """The parameters that `select_on` chooses."""
        return self.last if self.record.select_on == "last" else self.best

    def save(self) -> None:
        """Write the checkpoint into the record's folder, whole or not at all."""
        content = io.BytesIO()  # if torch wrote the file, a full disk would be no OSError
        torch.save(
            vars(self) | {"record": self.record.to_json(), "epoch": asdict(self.epoch)}, content
        )
        write_whole(self.record.folder / CHECKPOINT, content.getvalue())


def find(record: RunRecord) -> RunState | None:
    """Return the state of the same run in the record's folder, or None if no run is there.

    Raises ValueError that says what to do, for a checkpoint that cannot be read and for another
    run.
    """
    folder, checkpoint = record.folder, record.folder / CHECKPOINT
    ways_out = f'choose another name, delete {folder}, or set if_exists="replace"'
    finished = (folder / "run.json").exists()
    if not checkpoint.exists():
        if finished:
            raise ValueError(
                f"{folder}: run.json without {CHECKPOINT}, nothing to resume; {ways_out}"
            )
        return None
    try:
        state = RunState(**torch.load(checkpoint, map_location="cpu", weights_only=True))
        state.record = parse_json(state.record, RunRecord, str(checkpoint))
        state.epoch = EpochState(**state.epoch)
    except MemoryError:
        raise
    except Exception as error:  # which one depends on the bytes
        problem = "no checkpoint of this version of cma.train, or cut short"
        raise ValueError(f"{checkpoint}: {problem}; {ways_out}") from error
    if differing := differences(state.record, record):
        raise ValueError(f"{folder} holds another run ({differing}); {ways_out}")
    if finished:
        state.record = RunRecord.load(folder)
    state.record.folder = folder
    return state


def differences(there: RunRecord, here: RunRecord) -> str:
    """Return how two runs differ, as in "lr 0.01 there, 0.5 here"; empty if they are the same run."""
    one, other = _same_in_a_run(there), _same_in_a_run(here)
    return "; ".join(
        f"{k} {one.get(k)!r} there, {other[k]!r} here" for k in other if one.get(k) != other[k]
    )


def _same_in_a_run(record: RunRecord) -> dict:
    """Return what must be equal for two runs to be the same: config, adapter, backbone and data."""
    config = {key: value for key, value in record.config.items() if key not in NO_EFFECT}
    names = ("dataset", "train_items", "held_out_items", "data_digest", "method", "adapter")
    about = {name: getattr(record, name) for name in names}
    return config | about | {"backbone": known_by(record.backbone)}


def own_files(folder: Path) -> list[Path]:
    """Return the files that a run writes into its folder, except its card (README.md) and its lock."""
    adapters = [
        folder / part / name for part in (".", "best", "last") for name in (CONFIG, WEIGHTS)
    ]
    return [folder / CHECKPOINT, folder / "run.json", folder / "curve.png", *adapters]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock `folder`, created if needed, for this run; remove the unfinished files of a killed run.

    Raises ValueError if another process trains there now, OSError if the folder cannot be written
    to. To a media or disk error inside, it adds how to continue the run.
    """
    require_writable(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder}: another run is being trained there now; choose another name"
        ) from None
    try:
        for path in own_files(folder):
            for unfinished in path.parent.glob(f".{path.name}.*.tmp"):
                unfinished.unlink()
        yield
    except MediaError as error:
        hint = "once it can be read, the same call goes on where the run stopped"
        raise MediaError(f"{folder}: stopped: {error}; {hint}") from error
    except OSError as error:
        if not Path(error.filename or "").is_relative_to(folder):
            raise
        hint = (
            "what was there before is whole: once there is room, the same call goes on from there"
        )
        raise OSError(f"{error.filename}: not written ({error.strerror}); {hint}") from error
    finally:
        lock.release()


def require_writable(folder: Path) -> None:
    """Create a run's folder and try to write into it. Raises OSError that names it, also for a full
    disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM))
            probe.flush()
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be written to ({error}); choose another runs_dir or name"
        ) from error


def copy_parameters(model: nn.Module) -> list[Tensor]:
    """Return a copy of the trained parameters, on the CPU."""
    return [parameter.detach().cpu().clone() for parameter in model.trainable_parameters()]


@torch.no_grad()
def set_parameters(model: nn.Module, values: list[Tensor]) -> None:
    """Set the trained parameters to `values`, in the order of `copy_parameters`."""
    for parameter, value in zip(model.trainable_parameters(), values, strict=True):
        parameter.copy_(value)
