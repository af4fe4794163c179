"""How a run's processes end: by Ctrl-C or a cluster's SIGTERM after a whole step, workers with their run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from types import FrameType

from . import devices


class Stopping:
    """A context in which the first Ctrl-C or SIGTERM is kept in `asked` until a step is done.

    A second one ends the run at once. Only the main thread of a process can do that; elsewhere signals act as
    always. Processes that are forked inside wait for the main one too.
    """

    def __init__(self) -> None:
        self.asked = 0  # the number of the signal
        self.process = os.getpid()
        self.before: dict[int, object] = {}

    def __enter__(self) -> Stopping:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._keep)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt("stopped at once; the run goes on from its last checkpoint")
        self.asked = number
        if os.getpid() == self.process:  # and no worker of it
            devices.say(f"{signal.Signals(number).name}: stopping after this step; once more stops at once")

    def end_if_asked(self, folder: Path) -> None:
        """After a signal, raise KeyboardInterrupt, or SystemExit with the status 143 for SIGTERM."""
        if not self.asked:
            return
        devices.say(f"{folder}: stopped, a checkpoint is written; the same call goes on from this step")
        raise SystemExit(128 + self.asked) if self.asked == signal.SIGTERM else KeyboardInterrupt


def end_with_parent(worker: int) -> None:
    """In a loader's worker: end when the parent was killed, not wait for ever to hand over what was read."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
