"""The single thread in which explorers compute; its tasks report progress and can be cancelled."""

import contextlib
import io
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from IPython import get_ipython

from cma.families import tower_of
from cma.model import RetrievalModel
from cma.patching import TOWERS

FIRST, EVERY = 0.7, 0.25  # seconds until a task first reports, and between two reports


class Task:
    """Work with a model that reports its progress and can be `cancelled`.

    `done` and `total` (an estimate) count frames and texts.
    """

    def __init__(self, name: str, model: RetrievalModel, job: Callable, report: Callable) -> None:
        self.name, self.model, self.job, self.report = name, model, job, report
        self.cancelled, self.done, self.total, self._due = False, 0, 0, time.monotonic() + FIRST

    def run(self) -> None:
        """Do the work; start again if a cell of the notebook interrupted it."""
        while not self.cancelled:
            with (
                worker().lock,
                contextlib.suppress(CancelledError),
                contextlib.ExitStack() as stack,
            ):
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                    # safe, because no cell is running that could print
                    stack.enter_context(redirect(io.StringIO()))
                for tower in (tower_of(self.model.clip, name) for name in TOWERS):
                    stack.callback(
                        tower.register_forward_pre_hook(self._batch, with_kwargs=True).remove
                    )
                return self.job(self)
            time.sleep(EVERY)

    def _batch(self, _: object, given: tuple, named: dict) -> None:
        if self.cancelled or worker().cells:
            raise CancelledError  # no `except Exception` catches it
        self.done += len((*given, *named.values())[0])
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            self.report(self.done, self.total)


class Worker:
    """One thread for all explorers of a process; it computes only while no notebook cell runs.

    Otherwise both could switch the adapters of one model. A cell waits until the current batch is
    computed. The task that it stops starts again after the cell; a gallery with a folder keeps what
    it has embedded so far.
    """

    def __init__(self) -> None:
        self.lock, self.cells, self.held = threading.Lock(), 0, False
        self.thread = ThreadPoolExecutor(1, "cma-explorer")
        if shell := get_ipython():
            shell.events.register("pre_run_cell", lambda *_: self.count(1))
            shell.events.register("post_run_cell", lambda *_: self.count(-1))
            self.count(1)  # for the cell that makes the first explorer

    def count(self, more: int) -> None:
        """Add `more` to the number of running cells (-1: one ended); a cell may run another one."""
        # a blank cell ends without having begun
        before, self.cells = self.cells, max(0, self.cells + more)
        if self.cells > before == 0:
            self.held = self.lock.acquire()  # not if the cell is interrupted while it waits
        elif self.held and not self.cells:
            self.lock.release()
            self.held = False


@cache
def worker() -> Worker:
    """Return the worker of this process, which its first explorer makes."""
    return Worker()
