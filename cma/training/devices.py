"""One process, or several that train as one: `accelerate launch` or `torchrun` start one for each GPU.

Each process embeds its share of a batch. The embeddings are gathered, every process computes the loss of the
whole batch, and its backward pass goes through its own rows alone; the sum of the gradients over the
processes is that of the whole batch in one. The first process alone writes and speaks. A process that fails
says why and leaves; the others notice that it is gone, and the launcher ends them.
"""

from __future__ import annotations

import atexit
import datetime
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from .. import require

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=2)  # for another process, which may decode or write


class Stopped(RuntimeError):
    """Another process of the run has ended; that one says why."""


class Team:
    """The processes of a run. In a team of one nothing is shared, and nothing has to be agreed on."""

    def __init__(self, number: int = 0, count: int = 1, group: dist.ProcessGroup | None = None) -> None:
        self.number, self.count = number, count  # of this process, from 0; of all
        self.group = group  # for what the CPUs tell each other; GPUs add up gradients by NCCL

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.number == 0

    def say(self, text: str) -> None:
        """Print a line, in the first process."""
        if self.first:
            tqdm.write(text)

    def bar(self, steps: Iterable[T], *values: object, **options: object) -> tqdm:
        """A progress bar, in the first process."""
        return tqdm(steps, *values, **options, mininterval=1, disable=not self.first)

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """This process's share of something; shares differ by one at most."""
        start, end = (len(parts) * number // self.count for number in (self.number, self.number + 1))
        return parts[start:end]

    def everyones(self, value: T) -> list[T]:
        """The `value` of each process, in order."""
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with _connected():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def by_first(self, function: Callable[[], T]) -> T:
        """What `function` returns in the first process, in every process."""
        if self.count == 1:
            return function()
        values = [function() if self.first else None]
        with _connected():
            dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    @contextmanager
    def agree_on_memory(self) -> Iterator[None]:
        """A part that each process computes by itself; where one lacks memory, all raise MemoryError.

        So all can try again with less. Other errors end the process.
        """
        lacking = None
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            lacking = error
        everyone = self.everyones(lacking is not None)
        if any(everyone):
            where = f"process {everyone.index(True)} of {self.count}: " if self.count > 1 else ""
            raise MemoryError(f"{where}{lacking or 'no memory is left'}") from lacking

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order; a gradient goes to the rows of this one alone."""
        if self.count == 1:
            return rows
        parts = [part.to(rows.device) for part in self.everyones(rows.detach().cpu())]
        parts[self.number] = rows  # with its graph
        return torch.cat(parts)

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each tensor over all processes: the same bits in each of them."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _connected():
            dist.all_reduce(flat, group=None if flat.is_cuda else self.group)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


ALONE = Team()


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """The team of this process: all processes of its launch (`WORLD_SIZE`), each with its own `device`.

    Raises ImportError without accelerate, and ValueError for a launch that is not complete or a GPU that is
    not the one of this process.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count <= 1:
        yield ALONE
        return
    require("gpu", "accelerate")
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR") if not os.environ.get(name)]:
        remedy = "start the processes by `accelerate launch` or `torchrun`, or one without WORLD_SIZE"
        raise ValueError(f"WORLD_SIZE={count} without {', '.join(missing)}: {remedy}")
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and device != own:
        raise ValueError(f"the model of this process is on {device}, expected {own}")
    from accelerate import PartialState  # it knows the launchers, and what each kind of device needs

    if not dist.is_initialized():
        atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
    state = PartialState(cpu=device.type != "cuda")
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        with _connected():  # NCCL begins, and takes its memory, before `plan` looks what is free
            state.wait_for_everyone()
        yield Team(dist.get_rank(), dist.get_world_size(), group)
    finally:
        dist.destroy_process_group(group)  # so that the others notice, if this process has failed


@contextmanager
def _connected() -> Iterator[None]:
    """An exchange. Raises Stopped if it fails, which mostly is because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200)
        raise Stopped(f"another process of the run has ended, or cannot be reached ({reason})") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether a step failed for lack of memory, on a GPU or on a CPU, and can be tried again with less."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = "can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"
    return isinstance(error, RuntimeError) and any(words in str(error) for words in signs)


def choose_device() -> torch.device:
    """The GPU of this process, else the CPU; `ACCELERATE_USE_CPU`, as accelerate's `--cpu` sets it, says CPU.

    Raises ValueError if a machine has more processes than GPUs.
    """
    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if wants_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    own, visible = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
    wanted = max(own + 1, int(os.environ.get("LOCAL_WORLD_SIZE") or 0))
    if visible < wanted:
        problem = f"{wanted} processes on this machine, but {visible} GPUs are visible"
        raise ValueError(f"{problem}: start at most {visible} here, or set CUDA_VISIBLE_DEVICES to more")
    return torch.device("cuda", own)
