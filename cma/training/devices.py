"""Several processes that train as one: who does what, what they exchange, and how an error in one ends all.

`accelerate launch`, `torchrun` or `notebook_launcher` start the processes, one for each GPU, or several on a
CPU. Each embeds its share of a batch. The embeddings are gathered, every process computes the loss of the
whole batch, and its backward pass goes through its own rows alone; the sum of the gradients over the
processes is that of the whole batch in one. The first process (rank 0) alone writes and speaks.

All of this is so inside `joined`. Outside, and in one process, every function here does nothing or the usual.
What a process does by itself stands in `together`: a process that fails there would leave the others waiting.
"""

from __future__ import annotations

import atexit
import datetime
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from .. import require
from ..files import printable

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=2)  # for another process, which may decode or write
CPU = torch.device("cpu")
FINE, NO_MEMORY, STOPPED, FAILED = range(4)  # how a process came out of `together`


class Stopped(RuntimeError):
    """Another process of the run has failed; that one says why."""


@dataclass(frozen=True)
class Team:
    """This process among those of a run; `group` is for what the CPU exchanges."""

    rank: int
    count: int
    group: dist.ProcessGroup


_team: Team | None = None


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, all processes of a launch (`WORLD_SIZE`) work as one, each with its model on its own `device`.

    Nothing changes for one process. Raises ImportError without accelerate, and ValueError for a launch that
    is not complete or a GPU that is not the one of this process.
    """
    global _team
    if _team or (count := int(os.environ.get("WORLD_SIZE") or 1)) <= 1:
        yield
        return
    require("gpu", "accelerate")
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR") if not os.environ.get(name)]:
        remedy = "start the processes by `accelerate launch` or `torchrun`, or one without WORLD_SIZE"
        raise ValueError(f"WORLD_SIZE={count} without {', '.join(missing)}: {remedy}")
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and device != own:
        raise ValueError(f"the model of this process is on {device}, expected {own}")
    from accelerate import PartialState  # Hugging Face's: it knows the launchers, and what each GPU needs

    if not dist.is_initialized():
        atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
    PartialState(cpu=device.type != "cuda")
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    _team = Team(dist.get_rank(), dist.get_world_size(), group)
    try:
        if device.type == "cuda":  # NCCL begins, and takes its memory, before `plan` looks what is free
            with _connected(device):
                dist.all_reduce(torch.zeros(1, device=device))
                torch.cuda.synchronize(device)
        yield
    finally:
        _team = None
        dist.destroy_process_group(group)


@contextmanager
def alone() -> Iterator[None]:
    """Inside `joined`, a part that each process does for itself, without the others."""
    global _team
    team, _team = _team, None
    try:
        yield
    finally:
        _team = team


def count() -> int:
    """The number of processes that work as one."""
    return _team.count if _team else 1


def rank() -> int:
    """The number of this process, from 0."""
    return _team.rank if _team else 0


def say(text: str) -> None:
    """Print a line, in the first process."""
    if rank() == 0:
        tqdm.write(text)


def bar(steps: Iterable[T], *values: object, **options: object) -> tqdm:
    """A progress bar of tqdm, in the first process."""
    return tqdm(steps, *values, **options, disable=rank() != 0)


def shares(rows: int) -> list[int]:
    """How many of `rows` each process takes; they differ by one at most, and the first are larger."""
    return [rows // count() + (process < rows % count()) for process in range(count())]


def own_share(rows: int) -> slice:
    """The part of `rows` that this process takes."""
    start = sum(shares(rows)[: rank()])
    return slice(start, start + shares(rows)[rank()])


@contextmanager
def together() -> Iterator[None]:
    """A part that each process does by itself; it ends when all have done it, or with an error in all.

    The process that failed, the first of several, raises its error, and the others raise Stopped; if memory
    ran out, all raise MemoryError, so that all can try again with less.
    """
    error = None
    try:
        yield
    except Exception as caught:
        if not _team:
            raise
        error = caught
    if _team:
        _compare(error)


def _compare(error: Exception | None) -> None:
    own = FINE if error is None else FAILED
    own = STOPPED if isinstance(error, Stopped) else own
    own = NO_MEMORY if is_out_of_memory(error) else own
    try:
        codes = [int(code) for code in _exchange(torch.tensor([own]))]
    except Stopped as broken:
        raise error or broken from None
    first = codes.index(worst := max(codes))
    if worst == FINE:
        return
    if error is not None and (first == rank() or own == worst == NO_MEMORY):
        raise error
    if worst == NO_MEMORY:
        raise MemoryError(f"process {first} of {count()} has no memory left")
    raise Stopped(f"process {first} of {count()} has failed, and says why") from error


def raise_once(error: Exception) -> None:
    """Raise an error that every process has: its own in the first one, Stopped in the others."""
    raise error if rank() == 0 else Stopped("process 0 says why")


def guarded(batches: Iterable[T]) -> Iterator[T]:
    """As `batches`; where one process cannot read its own, all stop."""
    iterator, end = iter(batches), object()
    while True:
        with together():
            batch = next(iterator, end)
        if batch is end:
            return
        yield batch


def by_first(function: Callable[[], T]) -> T:
    """What `function` returns in the first process, in every process; its error ends all."""
    if not _team:
        return function()
    found = [None]
    with together():
        if rank() == 0:
            found[0] = function()
    with _connected():
        dist.broadcast_object_list(found, src=0, group=_team.group)
    return found[0]


def everyones(value: T) -> list[T]:
    """The `value` of each process, in order."""
    if not _team:
        return [value]
    found = [None] * count()
    with _connected():
        dist.all_gather_object(found, value, group=_team.group)
    return found


def most(*values: int) -> list[int]:
    """The largest of each value over the processes."""
    if not _team:
        return list(values)
    return torch.stack(_exchange(torch.tensor(values))).amax(0).tolist()


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order; a gradient goes to the rows of this one alone."""
    if not _team:
        return rows
    sizes = [int(size) for size in _exchange(torch.tensor([len(rows)]))]
    with together():  # memory may run out in one process alone
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        found = [torch.empty_like(padded) for _ in sizes]
    parts = [part[:size] for part, size in zip(_exchange(padded, found), sizes, strict=True)]
    parts[rank()] = rows
    with together():
        return torch.cat(parts)


def add_up(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each tensor over the processes, in float32 or float64: the same bits in every process."""
    if not _team:
        return list(tensors)
    kind = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    with together():
        flat = torch.cat([tensor.flatten().to(kind) for tensor in tensors])
    with _connected(flat.device):
        dist.all_reduce(flat, group=_team.group if flat.device.type == "cpu" else None)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _exchange(tensor: Tensor, found: list[Tensor] | None = None) -> list[Tensor]:
    """The tensor of each process, in `found`; they have one shape."""
    found = found or [torch.empty_like(tensor) for _ in range(count())]
    with _connected(tensor.device):
        dist.all_gather(found, tensor, group=_team.group if tensor.device.type == "cpu" else None)
    return found


@contextmanager
def _connected(device: torch.device = CPU) -> Iterator[None]:
    """An exchange of tensors on a `device`. Raises Stopped if it fails; NCCL may do so in all processes."""
    try:
        yield
    except RuntimeError as error:
        if device.type == "cuda":
            print(f"error: process {rank()}: {printable(str(error))}", file=sys.stderr)
        raise Stopped(f"process {rank()} has lost the connection to another, which has ended") from error


def is_out_of_memory(error: Exception | None) -> bool:
    """Whether a step failed for lack of memory, on a GPU or on a CPU, and can be tried again with less."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = "can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)
