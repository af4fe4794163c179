"""One set of pictures and clips, searched with any adapter of one frozen CLIP, at any strength."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ..data import RetrievalDataset
from ..model import RetrievalModel
from ..search import IndexConfig, MediaIndex, identify

ZERO_SHOT = "zero-shot"


class Gallery:
    """The indexes of `source`, one an adapter and strength, each built when it is first asked for.

    `source` and `config` are those of `MediaIndex.build`; `folder` keeps the indexes for the next time.
    `adapter` is the one that belongs to these media, None where none does.
    """

    def __init__(
        self,
        model: RetrievalModel,
        source: RetrievalDataset | str | Path,
        config: IndexConfig | None = None,
        folder: str | Path | None = None,
        adapter: str | None = None,
    ) -> None:
        if adapter is not None:
            model.get_adapter(adapter)
        self.model, self.source, self.config, self.adapter = model, source, config, adapter
        self.folder = None if folder is None else Path(folder).expanduser()
        self._indexes: dict[tuple[str | None, float], MediaIndex] = {}

    def index(self, adapter: str | None = None, scale: float = 1.0) -> MediaIndex:
        """The index of an adapter whose output is multiplied by `scale`; None, or a scale of 0, is CLIP.

        Built again if the adapter was trained since. Raises as `MediaIndex.build` and `set_adapter`.
        """
        key = _key(adapter, scale)
        with self.model.acting(*key):
            known = self._indexes.get(key)
            if known is None or known.built_with != identify(self.model):
                kept = self.folder and self.folder / _folder(*key)
                self._indexes[key] = MediaIndex.build(self.model, self.source, self.config, folder=kept)
        return self._indexes[key]

    def has(self, adapter: str | None, scale: float = 1.0) -> bool:
        """Whether that index is there already, so that asking it takes no time."""
        return _key(adapter, scale) in self._indexes

    def indexes(self, adapters: Sequence[str | None], scale: float = 1.0) -> dict[str, MediaIndex]:
        """The indexes of several adapters by their labels, in the order given, each once."""
        return {label(name, scale): self.index(name, scale) for name in adapters}

    def switching_seconds(self, adapters: Sequence[str | None]) -> float:
        """How long it takes to hang one adapter on the backbone in place of another, on average."""
        before, scale = self.model.active, self.model.scale
        started = time.perf_counter()
        for name in adapters:
            self.model.set_adapter(name)
        seconds = (time.perf_counter() - started) / len(adapters)
        self.model.set_adapter(before, scale)
        return seconds


def _key(adapter: str | None, scale: float) -> tuple[str | None, float]:
    return (adapter, float(scale)) if adapter is not None and scale else (None, 1.0)


def _folder(adapter: str | None, scale: float) -> str:
    """The name of the folder that keeps the index of a key."""
    return ZERO_SHOT if adapter is None else folder_name(label(adapter, scale), f"{adapter} {scale!r}")


def folder_name(name: str, identity: str) -> str:
    """A plain folder name for what is called `name`, with a digest of its `identity`; never a path."""
    plain = re.sub(r"[^\w-]+", "-", name)[:40].strip("-")
    digest = hashlib.blake2s(identity.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{plain}-{digest}".lstrip("-")


def label(adapter: str | None, scale: float = 1.0) -> str:
    """What a column is called: zero-shot, the adapter's name, and its strength where that is not 1."""
    if adapter is None or not scale:
        return ZERO_SHOT
    return adapter if scale == 1 else f"{adapter} × {scale:g}"
