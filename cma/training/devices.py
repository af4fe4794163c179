"""Train in one process, or in several as one, started by `accelerate launch` or `torchrun`.

Each process embeds its share of a batch. The embeddings are gathered, every process computes the
loss of the whole batch, and its backward pass goes only through its own rows. The sum of the
gradients over the processes is the gradient of the whole batch in one process. Only the first
process writes files and prints. They exchange tensors through accelerate, which a single process
does not import. A process that fails tells the others at their next exchange, and all of them end.
"""

from __future__ import annotations

import atexit
import datetime
import logging
import os
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from tqdm import tqdm

from .. import require

T = TypeVar("T")
S = TypeVar("S", bound=Sequence | Tensor)
FAILED = -1  # the number of a process that has failed
TELLING = 30  # seconds in which a process that has failed tells the others
PATIENCE = datetime.timedelta(hours=2)  # how long to wait for a process that decodes or writes
logger = logging.getLogger(__name__)


class Stopped(RuntimeError):
    """Another process of the run has failed or ended; the message gives its reason, if known."""


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them. A single process has nothing to exchange."""

    rank: int = 0  # which process, from 0
    count: int = 1  # of how many

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Log a line, in the first process only, above the progress bars."""
        if self.first:
            with tqdm.external_write_mode():
                logger.info(text)

    def bar(self, steps: Iterable[T], title: str, **options: Any) -> tqdm:
        """Return a progress bar over `steps` that is shown in the first process only."""
        return tqdm(steps, title, **options, mininterval=1, disable=not self.first)

    def own(self, parts: S) -> S:
        """Return this process's share of `parts`; the sizes of the shares differ by one at most."""
        start = len(parts) * self.rank // self.count
        end = len(parts) * (self.rank + 1) // self.count
        return cast(S, parts[start:end])

    def exchange(self, number: int = 0, failed: str = "") -> list[int]:
        """Return the numbers of all processes, in order; each calls this with its own, from 0.

        Every exchange begins with this call, so a process that has `failed` (its reason) meets the
        others here, whatever they exchange next. Then all of them raise Stopped.
        """
        if self.count == 1:
            return [number]
        from accelerate.utils import gather, gather_object

        with _connected():
            own = torch.tensor([FAILED if failed else int(number)], device=_device())
            numbers = gather(own).tolist()
            reasons = gather_object([failed]) if FAILED in numbers else []
        if reasons:
            failures = [f"process {rank} failed: {why}" for rank, why in enumerate(reasons) if why]
            raise Stopped("; ".join(failures))
        return numbers

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order; each calls this with its own `value`.

        They are pickled; the exchanges of each step are not (`exchange`, `gather`, `add_up`).
        """
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        self.exchange()
        with _connected():
            return gather_object([value])

    def on_rank0(self, function: Callable[[], T]) -> T:
        """Call `function` in the first process only and return its result in every process."""
        own: Any = function() if self.first else None
        return self.all_gather(own)[0]

    @contextmanager
    def agree_on_memory(self) -> Iterator[None]:
        """Run a part that each process computes alone. If one lacks memory, all raise MemoryError.

        Then all can try again with less. Other errors end the process.
        """
        lacking = None
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold tensors
            lacking = error.with_traceback(None)
        everyone = self.exchange(lacking is not None)
        if any(everyone):
            where = f"process {everyone.index(1)} of {self.count}: " if self.count > 1 else ""
            raise MemoryError(f"{where}{lacking or 'no memory is left'}") from lacking

    def gather(self, *own: Any) -> tuple[Any, ...]:
        """Return the rows of all processes, in order; gradients flow only to this process's.

        `own` are tensors, sequences or None, which stays None. Processes may have different numbers
        of rows.
        """
        if self.count == 1:
            return own
        counts = self.exchange(len(own[0]))
        with _connected():
            return tuple(None if rows is None else self._gathered(rows, counts) for rows in own)

    def _gathered(self, rows: Tensor | Sequence, counts: list[int]) -> Tensor:
        from accelerate.utils import gather

        rows = torch.as_tensor(rows)
        max_count = max(counts)
        sent = torch.zeros(max_count, *rows.shape[1:], dtype=rows.dtype, device=_device())
        sent[: len(rows)] = rows.detach()  # accelerate gathers tensors of one shape
        parts = zip(gather(sent).split(max_count), counts, strict=True)
        whole = [part[:count].to(rows.device) for part, count in parts]
        whole[self.rank] = rows  # these keep their autograd graph
        return torch.cat(whole)

    def add_up(self, gradient: Tensor) -> Tensor:
        """Return the sum of a gradient over all processes, with the same bits in each process."""
        if self.count == 1:
            return gradient
        from accelerate.utils import reduce

        with _connected():
            return reduce(gradient, "sum")

    def once(self, factor: Tensor) -> Tensor:
        """Return `factor`, to which a gradient flows in the first process only.

        It acts on the whole loss, so otherwise each process would give it the whole gradient.
        """
        return factor if self.first else factor.detach()


ALONE = Team()


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Yield the team of this process: all processes of its launch, each on its own `device`.

    An error inside reaches the others at their next exchange. Raises ImportError without
    accelerate, and ValueError for an incomplete launch, or a `device` that is the GPU of another
    process.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    if count <= 1:
        yield ALONE
        return
    require("gpu", "accelerate")
    number = os.environ.get("LOCAL_RANK")
    if not number:  # accelerate would take it for one process
        raise ValueError(
            f"WORLD_SIZE={count} without LOCAL_RANK: start the processes by `accelerate launch` or "
            "`torchrun`, or one without WORLD_SIZE"
        )
    if device.type == "cuda" and device.index != int(number):
        raise ValueError(f"the model of this process is on {device}, expected cuda:{number}")
    # accelerate knows the launchers, and the needs of each kind of device
    from accelerate import PartialState

    state = PartialState(cpu=device.type != "cuda", timeout=PATIENCE)
    atexit.register(state.destroy_process_group)
    team = Team(state.process_index, state.num_processes)
    try:
        team.exchange()  # NCCL allocates memory here, before `plan` measures how much is free
        yield team
        team.exchange()  # a run has succeeded only if it has in all processes
    except Stopped:
        raise
    except BaseException as error:
        # processes that exchange nothing meanwhile are ended by the launcher, after this one
        leaving = threading.Timer(TELLING, _leave, [error])
        leaving.daemon = True
        leaving.start()
        with suppress(Stopped):
            team.exchange(failed=textwrap.shorten(f"{type(error).__name__}: {error}", 300))
        leaving.cancel()
        raise


def _leave(error: BaseException) -> None:
    """End this process at once, with its error."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _device() -> torch.device:
    """Return the device over which this process exchanges."""
    from accelerate import PartialState

    return PartialState().device


@contextmanager
def _connected() -> Iterator[None]:
    """Wrap an exchange. Raises Stopped if it fails, usually because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 200)
        raise Stopped(
            f"another process of the run has ended, or cannot be reached ({reason})"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a step ran out of memory, on a GPU or a CPU, so that a smaller one may fit."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in signs)


def choose_device() -> torch.device:
    """Return this process's GPU; the CPU without a GPU, or with `ACCELERATE_USE_CPU` (`--cpu`).

    Raises ValueError if a machine has more processes than GPUs.
    """
    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if wants_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    own = int(os.environ.get("LOCAL_RANK") or 0)
    wanted = max(own + 1, int(os.environ.get("LOCAL_WORLD_SIZE") or 0))
    visible = torch.cuda.device_count()
    if visible < wanted:
        raise ValueError(
            f"{wanted} processes on this machine, but {visible} GPUs are visible: start at most "
            f"{visible} here, or set CUDA_VISIBLE_DEVICES to more"
        )
    return torch.device("cuda", own)
