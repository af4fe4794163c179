"""Estimate the memory and time that a run needs, from its first pairs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..model import RetrievalModel
from . import optim
from .devices import ALONE, T, Team
from .reading import Batch, Pixels, read_batches
from .resume import copy_parameters, set_parameters
from .splits import choose_splits, describe_epoch, epoch_batches
from .step import batch_gradient, own_random_state, recomputed

GIB = 2**30
EVEN = ("cpu",)  # devices that take the same time for each pair
SPARE = 0.9  # the share of the free memory that a run may take


@dataclass(frozen=True)
class Plan:
    """The memory and the time that a run needs."""

    device: str
    batch: int  # pairs of a step, over all processes
    pairs: int  # pairs that are in memory at once, with their activations
    steps: int
    step_seconds: float
    peak: float  # GiB that a step needs
    free: float  # GiB that the device has for it; infinite if unknown
    fitting: int  # the most pairs at once that fit; 0: not even one does
    processes: int  # that share a batch; pairs, memory and time are those of one process

    def __str__(self) -> str:
        """Return one line, with what to set if a step does not fit.

        Decoding and evaluation do not count.
        """
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        memory = f"{self.free:.1f} GiB free" if math.isfinite(self.free) else "unknown"
        message = (
            f"plan on {self.device}: {self.steps:,} steps of {self.batch} pairs, "
            f"{self.pairs} at once{each}; "
            f"{self.step_seconds:.2f} s a step, {self.steps * self.step_seconds / 3600:.1f} h; "
            f"{self.peak:.1f} GiB a step, {memory}"
        )
        if self.pairs <= self.fitting:
            return message
        remedy = f"micro_batch={self.fitting}, or checkpoint_activations=True"
        if not self.fitting:
            remedy = "micro_batch=1 and checkpoint_activations=True, or fewer max_frames"
        return f"{message}; it will not fit: set {remedy}"


def plan(
    model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig, team: Team = ALONE
) -> Plan:
    """Estimate the memory and time that a run on a train split needs, from a few small steps.

    The model and the random state are restored at the end. Do not plan while a run trains on the
    same CLIP: that would end the run's half precision. In a `team`, memory and time are for the
    share of one process. Raises ValueError like `cma.train`.
    """
    optim.check_training(model, config)
    training = choose_splits(dataset, config).training
    describe_epoch(training, config)  # raises the same errors as a run
    ids, _ = model.tokenize(training.captions, config.max_words)
    return plan_of(model, training, ids, Pixels(model.processor, config), team)


def plan_of(
    model: RetrievalModel, training: RetrievalDataset, ids: Tensor, pixels: Pixels, team: Team
) -> Plan:
    """Return the plan of a run on `training`, whose captions have the tokens `ids` [T, L].

    The memory of a pair is what a second pair adds to the first. A CPU needs the same time for each
    pair, so we time two. A GPU takes as long for a few as for many, so we time as many as will be
    in memory at once. Micro-batches embed each pair twice, which takes a third more time.
    """
    config = pixels.config
    order = epoch_batches(training, config, 0)
    share = -(-len(order[0]) // team.count)  # the largest share of a process
    wanted = min(share, config.micro_batch if isinstance(config.micro_batch, int) else share)
    two = next(read_batches(training, ids, pixels, [order[0][:2]], workers=0))
    whole = replace(config, micro_batch=None)
    with model.using(model.active, training=True), own_random_state(model.device, config.seed):
        method = model.get_adapter(model.active)
        before = copy_parameters(method)
        optim.prepare(model, whole)
        try:
            # memory: the pairs with their activations, normalised; the whole share as it was read;
            # the trained parameters with their gradient and both means
            one_pair, _ = measure(model, two.part(slice(1)), whole)
            two_pairs, seconds = measure(model, two, whole)
            numbers = two.frames[0].numel()
            trained = sum(parameter.numel() for parameter in method.parameters())
            each = max(two_pairs - one_pair, 1.0) + 4 * numbers
            fixed = max(one_pair - each, 0.0) + share * numbers + 12 * trained
            free = free_memory(model.device, team)

            def seconds_of_each(pairs: int) -> float:
                """Return the seconds per pair for this many at once. Raises MemoryError if they do
                not fit.
                """
                if fixed + pairs * each > SPARE * free:
                    raise MemoryError("the device has no room for them")
                rows = 2 if model.device.type in EVEN else pairs
                return measure(model, two.part(torch.arange(rows) % 2), whole)[1] / rows

            fitting = 0
            seconds_each = seconds / 2
            with suppress(MemoryError):  # not even one pair fits
                fitting, seconds_each = until_it_fits(wanted, seconds_of_each)
        finally:
            optim.restore(model)
            model.zero_grad(set_to_none=True)
            set_parameters(method, before)  # because half precision has rounded them
    pairs = max(1, fitting) if config.micro_batch == "auto" else wanted
    passes = 1 if pairs == share else 4 / 3
    return Plan(
        device=str(model.device),
        batch=len(order[0]),
        pairs=pairs,
        steps=config.epochs * len(order),
        step_seconds=passes * share * seconds_each,
        peak=(fixed + pairs * each) / GIB,
        free=free / GIB,
        fitting=fitting,
        processes=team.count,
    )


def until_it_fits(
    pairs: int, attempt: Callable[[int], T], say: Callable[[str], object] = str
) -> tuple[int, T]:
    """Call `attempt(pairs)`, with half as many pairs each time memory runs out.

    Returns (pairs that fit, its result). Raises MemoryError if not even one pair fits.
    """
    while True:
        try:
            return pairs, attempt(pairs)
        except MemoryError as error:
            if pairs == 1:
                raise MemoryError(
                    f"one pair at once does not fit ({error}); set checkpoint_activations=True, "
                    "or fewer max_frames"
                ) from error
        less = (pairs + 1) // 2
        say(f"out of memory with {pairs} pairs at once; continuing with {less}")
        torch.cuda.empty_cache()  # does nothing without a GPU
        pairs = less


def measure(model: RetrievalModel, batch: Batch, config: TrainConfig) -> tuple[int, float]:
    """Return the (bytes, seconds) of a small batch's second forward and backward pass.

    The bytes are the size of the activations kept for the backward pass; on a GPU they are the peak
    above what was allocated before.
    """
    device = model.device
    kept: dict[int, int] = {}  # bytes of each storage, by its address
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with recomputed(model, config):
        batch_gradient(model, batch, config).item()  # `item` waits for the GPU
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            batch_gradient(model, batch, config).item()
        seconds = time.perf_counter() - start
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before, seconds
    return sum(kept.values()), seconds


def free_memory(device: torch.device, team: Team) -> float:
    """Return the bytes that this process can still allocate; inf if the system does not say.

    The processes of a team share the memory of a CPU.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()  # memory that torch only keeps for later is free, too
        return torch.cuda.mem_get_info(device)[0]
    try:
        found = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    # only Linux gives this without another package
    return 1024 * int(found[1]) / team.count if found else math.inf
