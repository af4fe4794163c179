"""Steps for the tests of `data_prep.rehearsal.watch`, imported by new processes, so nothing slow."""

import os
import signal
import time

MEGABYTE = 2**20


def be_killed() -> dict:
    """What a step does that ends by a signal."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    time.sleep(60)


def use_memory() -> dict:
    """200 MB, for half a second."""
    held = bytearray(200 * MEGABYTE)
    time.sleep(0.5)
    return {"said": len(held)}


def refuse() -> dict:
    """What the user can correct."""
    raise ValueError("no such thing")
