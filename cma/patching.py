"""Let one method at a time act on a frozen CLIP: no forward is copied, no weight is changed."""

import inspect
import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from torch import nn

from .families import TOWERS, family_of, tower_of


class Turn:
    """The lock of a CLIP: threads that want it get it one after the other.

    A thread that holds it may take it again. One that lets it go and takes it again, as a training
    loop does at each step, lets those that wait go first.
    """

    def __init__(self) -> None:
        self.door = threading.Lock()  # only one thread at a time waits for `held`
        self.held = threading.Lock()
        self.hold: object | None = None  # a new one each time that `held` is taken
        self.own = threading.local()  # the hold that a thread is part of

    def __reduce__(self) -> tuple:
        return Turn, ()  # the copy of a model has a CLIP, and so a lock, of its own

    @property
    def mine(self) -> bool:
        """Whether this thread holds the lock, or works for the one that does."""
        return self.hold is not None and getattr(self.own, "hold", None) is self.hold

    def join(self) -> None:
        """Let this thread, of a pool, work for the thread that holds the lock and waits for it."""
        self.own.hold = self.hold

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the lock in this context."""
        if self.mine:
            yield
            return
        with self.door:
            self.held.acquire()
        try:
            self.hold = object()
            self.join()
            yield
        finally:
            self.hold = None
            self.held.release()


@dataclass
class OnClip:
    """All that this library keeps on a CLIP, as its attribute `cma`.

    `turn`: its lock, which models may share. `acting`: the method that acts and its scale, or None;
    `handles` remove it again. `undo`: functions that give the CLIP its own precision and forward
    back after `cma.training.prepare`.
    """

    turn: Turn = field(default_factory=Turn)
    acting: tuple[nn.Module, float] | None = None
    handles: list = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)


def on_clip(clip: nn.Module) -> OnClip:
    """Return the `OnClip` of `clip`, which is created at the first call."""
    if "cma" not in vars(clip):
        vars(clip).setdefault("cma", OnClip())  # of two threads, the second gets the first one's
    return clip.cma


def encoder_layers(clip: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer layers of one tower ("vision" | "text")."""
    return tower_of(clip, tower).get_submodule(getattr(family_of(clip.config), tower).layers)


def towers_and_layers(clip: nn.Module) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, layer) for all layers of both towers."""
    for tower in TOWERS:
        for depth, layer in enumerate(encoder_layers(clip, tower)):
            yield tower, depth, layer


def parts(clip: nn.Module, name: str) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield (tower, depth from 0, module) of each layer's part `name` (`cma.families.Tower`)."""
    family = family_of(clip.config)
    for tower, depth, layer in towers_and_layers(clip):
        yield tower, depth, layer.get_submodule(getattr(getattr(family, tower), name))


def activate(clip: nn.Module, method: nn.Module | None, scale: float = 1.0) -> None:
    """Let only `method` (a `cma.method.Method` or None) act on `clip`; the caller holds its turn.

    Nothing is to do if it does so already.

    Raises ValueError if it cannot at `scale`, TypeError if its `hang` gives no handles. After any
    error nothing acts, and CLIP is as it was before `hang`.
    """
    state = on_clip(clip)
    if state.acting == (None if method is None else (method, scale)):
        return
    deactivate(clip)
    if method is None:
        return
    if scale not in (0, 1) and not method.scales:
        raise ValueError(f"{method.NAME}: acts or does not; scale must be 1 or 0, not {scale}")
    # what failed once leaves nothing, even if it was hung without a handle; looking takes a while
    known = method.hung and inspect.isgeneratorfunction(method.hang)
    modules = [] if known else [vars(module) for module in clip.modules()]
    contents = [each for one in modules for each in (one, *one.values()) if isinstance(each, dict)]
    before = [(content, dict(content)) for content in contents]
    try:
        made = method.hang(clip, scale) if scale else ()
        for handle in made if isinstance(made, Iterable) else [made]:
            if not hasattr(handle, "remove"):
                wanted = "expected it to return or yield handles, each with remove()"
                raise TypeError(f"{method.NAME}: hang gave {reprlib.repr(handle)}; {wanted}")
            state.handles.append(handle)
    except BaseException:
        try:
            deactivate(clip)
        finally:  # what `hang` had no handle for yet
            for content, kept in before:
                for key in content.keys() - kept.keys():
                    del content[key]
                content.update(kept)
        raise
    method.hung = True
    state.acting = (method, scale)


def deactivate(clip: nn.Module) -> None:
    """Remove the method that acts on `clip`, which then computes bitwise the same as before."""
    state = on_clip(clip)
    with ExitStack() as removing:  # last first, and the others also if one fails
        for handle in state.handles:
            removing.callback(handle.remove)
        state.acting = None
        state.handles = []
