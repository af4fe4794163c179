"""What is checked before a run starts, in one process or several."""

from __future__ import annotations

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..model import RetrievalModel
from . import batches, devices, resume
from .record import RunRecord


def check(model: RetrievalModel, dataset: RetrievalDataset) -> None:
    """Raise ValueError if no adapter is active, or for a split that is not for training."""
    if model.active is None:
        raise ValueError("no adapter is active: use model.add_adapter(name, config), model.set_adapter(name)")
    if dataset.split != "train":
        hint = 'cma.data.load(folder, "train")'
        raise ValueError(f"{dataset.name}: expected its train split, found {dataset.split}: {hint}")


def check_processes(record: RunRecord, training: RetrievalDataset, config: TrainConfig) -> None:
    """Say how the processes share a batch.

    Raises ValueError if they do not have one and the same run, or if a batch has fewer pairs than there are
    processes. Micro-batches may be of any size: the last one of a share may be smaller.
    """
    if (count := devices.count()) == 1:
        return
    here, there = resume.settings(record), devices.by_first(lambda: resume.settings(record))
    pairs = min(config.batch_size, batches.epoch_size(training, config)[0])
    with devices.together():
        other = [f"{key} {there[key]!r} there, {here[key]!r} here" for key in here if there[key] != here[key]]
        if other:
            raise ValueError(f"process {devices.rank()} has another run than process 0: {'; '.join(other)}")
        if pairs < count:
            remedy = "each needs one; use a larger batch_size, or fewer processes"
            raise ValueError(f"a batch of {pairs} pairs for {count} processes: {remedy}")
    sizes = devices.shares(pairs)
    each = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} or {sizes[-1]}"
    devices.say(f"{count} processes share each batch of {pairs} pairs, {each} a process")
