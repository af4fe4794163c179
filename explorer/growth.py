"""Embed a gallery while it is already shown, the newest files first, and follow its folder."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from explorer.index import SUFFIXES

from .work import worker

if TYPE_CHECKING:
    from .gallery import Gallery

WAIT = 0.2  # seconds until it is looked again whether to stop
TOLD = 0.5  # seconds between two reports
LOOKED = 20  # reports over which the pace is measured
SETTLED, STEP = 1000, 200  # milliseconds until a change in a folder is taken up
logger = logging.getLogger("explorer.index")


class Stopped(Exception):
    """The gallery is no longer wanted."""


class Listener(Protocol):
    """Who is told how far a growth is."""

    def grown(self, growth: Growth, fresh: bool) -> None: ...


class Growth:
    """Builds the indexes of a gallery in one thread, and again whenever its folder changes.

    Each batch waits until no query and no cell of a notebook is computed. `listeners` are told how
    many files are `done`, out of how many (`total`), about how many `seconds` it still takes, and
    what is wrong (`problem`).
    """

    def __init__(self, gallery: Gallery, keys: Sequence[tuple[str | None, float]]) -> None:
        self.gallery, self.keys = gallery, keys
        self.listeners: WeakSet[Listener] = WeakSet()
        self.done, self.total, self.seconds, self.problem = 0, 0, 0.0, ""
        self._stopped, self._changed = threading.Event(), threading.Event()
        self._reports: deque[tuple[float, int]] = deque(maxlen=LOOKED)
        self._thread = threading.Thread(target=self._run, name="cma-growth", daemon=True)

    @property
    def is_done(self) -> bool:
        """Whether everything that can be embedded is."""
        return bool(self.problem) or self.done >= self.total > 0

    def start(self) -> None:
        """Begin; does not wait."""
        self._thread.start()
        if folder := self.gallery.watched:
            watcher = threading.Thread(
                target=self._watch, args=[folder], name="cma-watch", daemon=True
            )
            watcher.start()

    def stop(self) -> None:
        """End after the batch that is computed, and keep it."""
        self._stopped.set()
        self._changed.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until the model is free, and use it."""
        lock = worker().lock
        while not lock.acquire(timeout=WAIT):
            if self._stopped.is_set():
                raise Stopped
        try:
            if self._stopped.is_set():
                raise Stopped
            yield
        finally:
            lock.release()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._changed.clear()
            try:
                if self.total and self.is_done:  # the folder has changed
                    self.gallery.list_again()
                    self._tell(fresh=True)
                self._update()
            except Stopped:
                return
            except Exception as error:  # e.g. the folder is gone; it may come back
                self.problem = " ".join((str(error) or type(error).__name__).split())
                self._tell(fresh=False)
            if not self.gallery.watched:
                return
            self._changed.wait()

    def _update(self) -> None:
        """Bring all indexes up to date, one batch of each after the other."""
        self._reports.clear()
        self.problem = ""
        done = dict.fromkeys(self.keys, 0)
        with ExitStack() as stack:
            growing = {
                key: stack.enter_context(closing(self.gallery.grow(*key, self._turn)))
                for key in self.keys
            }
            while growing:
                for key in list(growing):
                    step = next(growing[key], None)
                    if step is None:
                        del growing[key]
                        continue
                    fresh = self.gallery.hold_grown(key, step[0])
                    done[key], self.total = step[1], step[2]
                    if self.total > len(self.gallery.shown()):  # than were kept
                        self.gallery.list_again()
                    self.done = min(sum(done.values()) // len(done), self.total - 1)
                    if fresh or self._due():
                        self._tell(fresh)
        self.finish()

    def finish(self) -> None:
        """Note that all is embedded, and tell it."""
        self.done = self.total
        self.gallery.listing = None  # the index says more
        self._tell(fresh=True)

    def _due(self) -> bool:
        return not self._reports or time.monotonic() - self._reports[-1][0] >= TOLD

    def _tell(self, fresh: bool) -> None:
        """Report; `fresh`: there are other results than before."""
        now = time.monotonic()
        self._reports.append((now, self.done))
        (begun, before), left = self._reports[0], self.total - self.done
        self.seconds = left * (now - begun) / (self.done - before) if self.done > before else 0.0
        for one in list(self.listeners):
            one.grown(self, fresh)

    def concerns(self, folder: Path, path: Path) -> bool:
        """Return whether a change of `path` may change the media in `folder`: it is not hidden, it
        may be a medium, a shard or a folder, and it is not among the gallery's own files.
        """
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        known = path.suffix.lower() in ("", ".tar", ".jsonl", *SUFFIXES)  # "": a folder
        own = self.gallery.folder
        return known and not hidden and not (own and path.is_relative_to(own.absolute()))

    def _watch(self, folder: Path) -> None:
        """Note changes of media in a folder, until the end."""
        from watchfiles import watch

        seen = watch(
            folder,
            watch_filter=lambda _, path: self.concerns(folder, Path(path)),
            debounce=SETTLED,
            step=STEP,
            stop_event=self._stopped,
            raise_interrupt=False,
        )
        try:
            for _ in seen:
                self._changed.set()
        except OSError as error:  # e.g. too many folders for the system
            logger.info(f"{folder}: not watched ({error}); start again to see what changed")
