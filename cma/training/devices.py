"""One process, or several that train as one: `accelerate launch` or `torchrun` start one for each
GPU.

Each process embeds its share of a batch. The embeddings are gathered, every process computes the
loss of the whole batch, and its backward pass goes only through its own rows. The sum of the
gradients over the processes is the gradient of the whole batch in one process. Only the first
process writes files and prints. A process that fails says why and exits; the others notice that it
is gone, and the launcher ends them.
"""

from __future__ import annotations

import atexit
import datetime
import os
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from .. import require

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=2)  # how long to wait for a process that decodes or writes


class Stopped(RuntimeError):
    """Another process of the run has ended; its own error says why."""


class Team:
    """The processes of a run, as one of them sees it. With one process, nothing has to be
    exchanged.
    """

    def __init__(
        self, number: int = 0, count: int = 1, group: dist.ProcessGroup | None = None
    ) -> None:
        self.number, self.count = number, count  # which process, from 0; of how many
        self.group = group  # for messages between CPUs; GPUs add up gradients by NCCL

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.number == 0

    def say(self, text: str) -> None:
        """Print a line, in the first process only."""
        if self.first:
            tqdm.write(text)

    def bar(self, steps: Iterable[T], *values: object, **options: object) -> tqdm:
        """Return a progress bar over `steps` that is shown in the first process only."""
        return tqdm(steps, *values, **options, mininterval=1, disable=not self.first)

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """Return this process's share of `parts`; the sizes of the shares differ by one at most."""
        start, end = (
            len(parts) * number // self.count for number in (self.number, self.number + 1)
        )
        return parts[start:end]

    def everyones(self, value: T) -> list[T]:
        """Return the values of all processes, in order; each process calls this with its own
        `value`.
        """
        if self.count == 1:
            return [value]
        values = [None] * self.count
        with _connected():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def by_first(self, function: Callable[[], T]) -> T:
        """Call `function` in the first process only and return its result in every process."""
        if self.count == 1:
            return function()
        values = [function() if self.first else None]
        with _connected():
            dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    @contextmanager
    def agree_on_memory(self) -> Iterator[None]:
        """Run a part that each process computes on its own. If one runs out of memory, all raise
        MemoryError.

        So all can try again with less. Other errors end the process.
        """
        lacking = None
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold tensors
            lacking = error.with_traceback(None)
        everyone = self.everyones(lacking is not None)
        if any(everyone):
            where = f"process {everyone.index(True)} of {self.count}: " if self.count > 1 else ""
            raise MemoryError(f"{where}{lacking or 'no memory is left'}") from lacking

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, in order; gradients flow only to the rows of this
        process.
        """
        if self.count == 1:
            return rows
        parts = [part.to(rows.device) for part in self.everyones(rows.detach().cpu())]
        parts[self.number] = rows  # these keep their autograd graph
        return torch.cat(parts)

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sum of each tensor over all processes, with the same bits in each process."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _connected():
            dist.all_reduce(flat, group=None if flat.is_cuda else self.group)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


ALONE = Team()


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Yield the team of this process: all processes of its launch (`WORLD_SIZE`), each with its own
    `device`.

    Raises ImportError without accelerate, and ValueError for an incomplete launch, or a `device`
    that is the GPU of another process.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count <= 1:
        yield ALONE
        return
    require("gpu", "accelerate")
    if missing := [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR") if not os.environ.get(name)
    ]:
        remedy = (
            "start the processes by `accelerate launch` or `torchrun`, or one without WORLD_SIZE"
        )
        raise ValueError(f"WORLD_SIZE={count} without {', '.join(missing)}: {remedy}")
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and device != own:
        raise ValueError(f"the model of this process is on {device}, expected {own}")
    # it knows the launchers, and what each kind of device needs
    from accelerate import PartialState

    if not dist.is_initialized():
        atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
    state = PartialState(cpu=device.type != "cuda")
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        with _connected():  # NCCL starts, and takes its memory, before `plan` measures what is free
            state.wait_for_everyone()
        yield Team(dist.get_rank(), dist.get_world_size(), group)
    finally:
        dist.destroy_process_group(group)  # so that the others notice, if this process has failed


@contextmanager
def _connected() -> Iterator[None]:
    """Wrap an exchange. Raises Stopped if it fails, mostly because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200)
        raise Stopped(
            f"another process of the run has ended, or cannot be reached ({reason})"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a step ran out of memory, on a GPU or a CPU, and can be tried again with less."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = "can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"
    return isinstance(error, RuntimeError) and any(words in str(error) for words in signs)


def choose_device() -> torch.device:
    """Return the GPU of this process; the CPU if there is none or `ACCELERATE_USE_CPU` (`--cpu`) is
    set.

    Raises ValueError if a machine has more processes than GPUs.
    """
    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if wants_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    own, visible = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
    wanted = max(own + 1, int(os.environ.get("LOCAL_WORLD_SIZE") or 0))
    if visible < wanted:
        problem = f"{wanted} processes on this machine, but {visible} GPUs are visible"
        raise ValueError(
            f"{problem}: start at most {visible} here, or set CUDA_VISIBLE_DEVICES to more"
        )
    return torch.device("cuda", own)
