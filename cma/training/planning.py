"""What a run will need, measured on its first pairs: memory, time of a step, hours to the end."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..model import RetrievalModel
from . import batches, devices, precision
from .batches import Batch
from .starting import check
from .step import batch_gradient, batch_loss, checkpointed, random_state, set_random_state

GIB = 2**30
EVEN = ("cpu",)  # devices that take for each pair the same time
SPARE = 0.9  # share of the free memory that a run may take


@dataclass(frozen=True)
class Plan:
    """What a run needs: `pairs` are in memory with their activations at once, `batch` pairs make a step.

    `peak` is the memory of a step and `free` what the device has for it, in GiB; `free` is None if unknown.
    """

    device: str
    batch: int
    pairs: int
    steps: int
    step_seconds: float
    peak: float
    free: float | None
    fitting: int  # the most pairs at once that fit; 0: not even one does
    processes: int = 1  # that share a batch; the other numbers are of one of them

    @property
    def hours(self) -> float:
        """Hours to the end of the last epoch; decoding on other processes and evaluation are not counted."""
        return self.steps * self.step_seconds / 3600

    @property
    def advice(self) -> str:
        """What to set where the step does not fit into memory; empty where it does."""
        if self.free is None or self.pairs <= self.fitting:
            return ""
        if self.fitting:
            return f"set micro_batch={self.fitting} or less, or checkpoint_activations=True"
        return "set micro_batch=1 and checkpoint_activations=True, or fewer max_frames"

    def __str__(self) -> str:
        known = "unknown" if self.free is None else f"{self.free:.1f} GiB free"
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        said = (
            f"plan on {self.device}: {self.steps:,} steps of {self.batch} pairs, {self.pairs} at once{each}; "
            f"{self.step_seconds:.2f} s a step, {self.hours:.1f} h; {self.peak:.1f} GiB a step, {known}"
        )
        return f"{said}; it will not fit: {self.advice}" if self.advice else said


def plan(model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig) -> Plan:
    """Measure two small steps of a run on the train split `dataset`, and say what the whole run needs.

    One and two pairs are embedded, with their gradients; memory grows with the pairs, and on a CPU so does
    time. A GPU takes for a few pairs as long as for many, so there as many as will be in memory at once are
    timed, too. The model, its adapter and the random state are afterwards as they were. Nothing is compiled
    for it. Raises ValueError as `cma.train`. In several processes it is about the share of one.
    """
    check(model, dataset)
    training = batches.choose_splits(dataset, config).training
    batches.describe_epoch(training, config)
    order = batches.epoch_batches(training, config, 0)
    size = devices.shares(len(order[0]))[0]  # of this process
    pixels = batches.Pixels(model.processor, config)
    ids, _ = model.tokenize(training.captions, config.max_words)
    pair = next(batches.read_batches(training, ids, pixels, [order[0][:2]], workers=0)).to(model.device)
    one = Batch(*(field[:1] for field in pair))
    state, training_mode = random_state(model.device), model.training
    chosen = config.micro_batch if isinstance(config.micro_batch, int) else None
    kept = [parameter.detach().clone() for parameter in model.trainable_parameters()]
    precision.prepare(model, replace(config, compile=False))
    model.train()
    try:
        with devices.alone():
            small, large = (_measure(model, batch, config) for batch in (one, pair))
        per_pair = max(large[0] - small[0], 1.0)
        fixed = max(small[0] - per_pair, 0.0) + _buffers(pair, size)
        free = free_memory(model.device)
        fitting = size if free is None else max(0, min(size, int((SPARE * free - fixed) // per_pair)))
        pairs = min(size, chosen or (max(1, fitting) if config.micro_batch == "auto" else size))
        timed, several = large, 2
        if model.device.type not in EVEN and 2 < pairs <= fitting:
            many = Batch(*(field[torch.arange(pairs) % len(field)] for field in pair))
            with devices.alone(), suppress(torch.OutOfMemoryError):
                timed, several = _measure(model, many, config), pairs
    finally:
        precision.restore(model)
        model.train(training_mode)
        model.zero_grad(set_to_none=True)
        set_random_state(model.device, state)
        with torch.no_grad():
            for parameter, value in zip(model.trainable_parameters(), kept, strict=True):
                parameter.copy_(value)
    seconds = (
        size / several * (timed[1] + (timed[2] if pairs < size else 0))
    )  # micro-batches are embedded twice
    steps = config.epochs * len(order)
    memory = (fixed + pairs * per_pair) / GIB
    known = None if free is None else free / GIB
    count = devices.count()
    return Plan(
        str(model.device), len(order[0]), pairs, steps, seconds, memory, known, fitting, processes=count
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a device; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch keeps for later is free, too
        return torch.cuda.mem_get_info(device)[0]
    try:
        free = 1024 * int(re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())[1])
        return free // (int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if devices.count() > 1 else 1)
    except (OSError, TypeError):  # Linux alone says it without another package
        return None


def _measure(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[float, float, float]:
    """(bytes, seconds) of the gradient of a small batch, the second of two times, and seconds without it."""
    whole = replace(config, micro_batch=None)
    with checkpointed(model, config.checkpoint_activations):
        batch_gradient(model, batch, whole).item()  # it waits for a GPU
        start = time.perf_counter()
        kept = kept_bytes(model, batch, whole)
        middle = time.perf_counter()
        with torch.no_grad():
            batch_loss(model, batch, whole).item()
    return kept, middle - start, time.perf_counter() - middle


def kept_bytes(model: RetrievalModel, batch: Batch, config: TrainConfig) -> float:
    """Bytes at the peak of a forward and backward pass: on a GPU as counted, else of the kept activations."""
    if model.device.type == "cuda":
        before = torch.cuda.memory_allocated(model.device)
        torch.cuda.reset_peak_memory_stats(model.device)
        batch_gradient(model, batch, config).item()
        return float(torch.cuda.max_memory_allocated(model.device) - before)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def seen(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        batch_gradient(model, batch, config)
    return float(sum(found.values()))


def _buffers(pair: Batch, size: int) -> float:
    """Bytes of a whole batch as it is read and as it is normalised."""
    return float(size * pair.frames[0].numel() * (1 + 4))
