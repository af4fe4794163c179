"""Let Ctrl-C and a cluster's SIGTERM end a run after a whole step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


class Stopping:
    """A context that notes the first Ctrl-C or SIGTERM in `asked`, so that the step can finish.

    A second one ends the run at once. It works only in the main thread of a process; elsewhere
    signals act as usual. Processes forked inside, such as workers, ignore the first one, too. `say`
    prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.asked = 0  # the number of the signal; 0: none yet
        self.process = os.getpid()
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            numbers = signal.SIGINT, signal.SIGTERM
            self.before = {number: signal.signal(number, self._keep) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt("stopped at once; the run continues from its last checkpoint")
        self.asked = number
        if os.getpid() == self.process:  # not in a worker
            self.say(
                f"{signal.Signals(number).name}: stopping after this step; another stops at once"
            )

    def end_if_asked(self, folder: Path) -> None:
        """After a signal, raise KeyboardInterrupt, or SystemExit with status 143 for SIGTERM."""
        if self.asked:
            self.say(
                f"{folder}: stopped, with a checkpoint; the same call continues from this step "
                "(in a new process with the same initial weights: `add_adapter(…, seed=…)`, or "
                f'`load_adapter("{folder / "last"}", …)`)'
            )
            raise (
                SystemExit(128 + self.asked) if self.asked == signal.SIGTERM else KeyboardInterrupt
            )
