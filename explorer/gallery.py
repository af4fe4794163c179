"""Galleries, which the explorer searches: media, with any adapter of one CLIP at any strength."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast
from weakref import WeakSet

from cma import data, recipes, training
from cma.backbone import PHOTOGRAPHS, Device, load_backbone
from cma.checkpoints import CONFIG, read_config
from cma.config import ReadConfig
from cma.model import RetrievalModel
from explorer.index import MediaIndex, WhenIdle, find
from explorer.index.table import Table

from .answers import ask
from .beside import Texts
from .browse import Dates
from .growth import Growth

ZERO_SHOT = "zero-shot"  # the name of CLIP without an adapter
ADAPTER = "adapter for {}s"  # the name of a benchmark's adapter, by the kind of its media
# where to look for a benchmark's adapter: the recorded one, then the one from its notebook
TRAINED = ("results/methods/{}-cross-modal-adapter", "runs/{}-cross-modal")
# name → notebook that trains its adapter
BENCHMARKS = {"mini-flickr30k": "03", "mini-msrvtt": "04"}


class Gallery:
    """The indexes of one set of media, one for each adapter and strength, each built on first use.

    Args:
        model: The model with all adapters that may be compared.
        source: What `MediaIndex.build` indexes, or one open index.
        config: How to read media, as for `MediaIndex.build`; by default as in each adapter's
            training, and for CLIP as for `adapter`.
        folder: Where to keep the indexes; without one they stay in memory.
        adapter: The name of the adapter that was trained for these media.
        max_files: The most files to index, evenly spread over all.

    Raises:
        ValueError: `model` has no such adapter.
    """

    def __init__(
        self,
        model: RetrievalModel,
        source: data.RetrievalDataset | MediaIndex | str | Path,
        config: ReadConfig | None = None,
        folder: str | Path | None = None,
        adapter: str | None = None,
        max_files: int | None = None,
    ) -> None:
        if adapter is not None:
            model.get_adapter(adapter)
        self.model, self.source, self.config, self.adapter = model, source, config, adapter
        self.folder = Path(folder) if folder else None
        self.max_files = max_files
        self._indexes: dict[tuple[str | None, float], MediaIndex] = {}
        self._dates: Dates | None = None
        self._asked: WeakSet[Table] = WeakSet()  # where everything is read that a query needs
        # until all is embedded, an index of what there is, without embeddings
        self.listing: MediaIndex | None = None
        self.growth: Growth | None = None

    def start(self) -> None:
        """Open the indexes that are kept, or list the files, and embed in a thread; meanwhile the
        indexes hold what is embedded so far, and `listing` what no index holds yet. Then follow the
        folder. Does nothing if an index is there already. Raises as `find`.
        """
        if self.is_open or self._indexes:
            return
        keys = list(dict.fromkeys([_key(None, 1.0), _key(self.adapter, 1.0)]))
        self.growth = Growth(self, keys)
        self._indexes = {key: opened for key in keys if (opened := self._opened(*key))}
        if keys[0] not in self._indexes:
            self.list_again()
        root = self.shown().media_root
        for key in keys:
            with self.model.using(*key):
                empty = MediaIndex.empty(self.model, root, self._reading(key[0]))
            self._indexes.setdefault(key, empty)
        self.growth.total = len(self.shown())
        self.growth.start()

    def stop(self) -> None:
        """Stop what `start` began; what is embedded is kept."""
        if self.growth:
            self.growth.stop()

    def _finish(self) -> None:
        """Embed at once what `start` has not embedded yet."""
        if self.growth is None or self.growth.is_done:
            return
        self.stop()
        self.growth.done = self.growth.total
        for key in self.growth.keys:
            del self._indexes[key]
            self.index(*key)
        self.growth.finish()

    @property
    def watched(self) -> Path | None:
        """The folder whose changes are followed: one whose embeddings are kept."""
        if self.folder and isinstance(self.source, str | Path):
            return Path(self.source).expanduser().absolute()
        return None

    def list_again(self) -> None:
        """List the files as they are now. Raises as `find`."""
        source = cast(data.RetrievalDataset, self.source)  # or a folder, but not open
        self.listing = MediaIndex.listed(self.model, source, self._reading(None), self.max_files)

    def grow(
        self, adapter: str | None, scale: float, when_idle: WhenIdle
    ) -> Generator[tuple[MediaIndex, int, int]]:
        """Do what `index` does, and yield the index so far, and how many files of how many are
        done; see `MediaIndex.grow`.
        """
        key = _key(adapter, scale)
        source = cast(data.RetrievalDataset, self.source)  # or a folder, but not open
        return self._indexes[key].grow(source, self._kept(*key), self.max_files, when_idle)

    def hold_grown(self, key: tuple[str | None, float], index: MediaIndex) -> bool:
        """Use what is embedded so far; whether it has changed."""
        before = self._indexes[key].table
        if (before.uri, before.version) == (index.table.uri, index.table.version):
            return False  # what was read of it stays
        self._indexes[key] = index
        return True

    def index(
        self, adapter: str | None = None, scale: float = 1.0, so_far: bool = False
    ) -> MediaIndex:
        """Return the index for an adapter at a scale; None or scale 0 means CLIP alone.

        It is built again if the adapter has been trained since. `so_far`: take what `start` has
        embedded until now. Raises like `MediaIndex.build` and `set_adapter`.
        """
        key = _key(adapter, scale)
        if not so_far:
            self._finish()
        with self.model.using(*key):
            known = self._indexes.get(key)
            if known is None or known.weights.changed(self.model):
                if self.growth and key in self.growth.keys:
                    self.stop()  # the model was trained meanwhile
                self._indexes[key] = MediaIndex.build(
                    self.model,
                    cast(data.RetrievalDataset, self.source),  # or a folder, but not open
                    self._reading(adapter),
                    folder=self._kept(*key),
                    max_files=self.max_files,
                )
        return self._indexes[key]

    def hold(self, adapter: str | None, index: MediaIndex) -> None:
        """Use an open index for an adapter (None: CLIP), instead of building one."""
        self._indexes[_key(adapter, 1.0)] = index

    def at_most(self, max_files: int) -> Gallery:
        """Return a gallery of at most `max_files` evenly spread files, with its own indexes; itself
        if it has no more files.
        """
        source = cast(data.RetrievalDataset, self.source)  # or a folder, but not open
        if len(find(source)[1]) <= max_files:
            return self
        folder = self.folder and self.folder.with_name(f"{self.folder.name}-{max_files}")
        return Gallery(self.model, self.source, self.config, folder, self.adapter, max_files)

    @property
    def is_open(self) -> bool:
        """Whether the gallery is one open index, of one model."""
        return isinstance(self.source, MediaIndex)

    def first(self) -> MediaIndex:
        """Return the open index, or else CLIP's index so far."""
        return self.source if isinstance(self.source, MediaIndex) else self.index(so_far=True)

    def indexes(
        self, adapters: Sequence[str | None], scale: float = 1.0, so_far: bool = False
    ) -> dict[str, MediaIndex]:
        """Return the indexes for several adapters by label, in the order given, each once; `so_far`
        as for `index`.

        An open index is the only one.
        """
        if isinstance(self.source, MediaIndex):
            made = self.source.header
            return {label(made.adapter, made.built_with.scale): self.source}
        return {label(name, scale): self.index(name, scale, so_far) for name in adapters}

    def _kept(self, adapter: str | None, scale: float) -> Path | None:
        """Return the folder of one index, None if it stays in memory."""
        unique = f"{adapter} {scale!r}"
        if adapter is None and self.config is None and (reading := self._reading(None)):
            unique += f" {reading}"  # each adapter is compared with CLIP read the same way
        return self.folder and self.folder / folder_name(label(adapter, scale), unique)

    def _reading(self, adapter: str | None) -> ReadConfig | None:
        """Return how to read media for an adapter; None leaves it to `MediaIndex.build`."""
        adapter = adapter or self.adapter
        own = self.model.get_adapter(adapter).reading if adapter else None
        return self.config or own

    def frames(self, adapters: Sequence[str | None], scale: float = 1.0) -> int:
        """Estimate how many frames `indexes` has to embed; 0 if unknown."""
        if self.is_open or not self._indexes:
            return 0
        index = self.listing or next(iter(self._indexes.values()))
        new = {_key(name, scale) for name in adapters} - self._indexes.keys()
        missing = sum(max(0, len(index) - len(self._opened(*key) or ())) for key in new)
        return round(missing * index.lengths.double().mean().item())

    def _opened(self, adapter: str | None, scale: float) -> MediaIndex | None:
        """Return an index as it was kept, None if none is."""
        kept = self._kept(adapter, scale)
        with contextlib.suppress(OSError, ValueError), self.model.using(adapter, scale):
            return MediaIndex.load(kept, self.model) if kept else None
        return None

    def shown(self) -> MediaIndex:
        """Return an index of all media, which may be without embeddings."""
        return self.listing or self.first().now()

    def ask_ahead(self, _: object) -> None:
        """Ask the indexes so far, so that the first query need not wait for what is read once."""
        self.texts.matching("a")
        for index in (
            [self.source] if isinstance(self.source, MediaIndex) else [*self._indexes.values()]
        ):
            if index.table not in self._asked:
                self._asked.add(index.table)
                ask(index, "a", folded=True)

    @cached_property
    def texts(self) -> Texts:
        """The texts beside the media."""
        return Texts(self.shown().media_root)

    def dates(self) -> Dates:
        """Return the dates of the items `shown`, read again when the table has grown or shrunk."""
        index = self.shown()
        if self._dates is None or self._dates.index.table is not index.table:
            self._dates = Dates(index)
        return self._dates


def label(adapter: str | None, scale: float = 1.0) -> str:
    """Return a column's title: "zero-shot", or the adapter's name, with its strength if not 1."""
    adapter, scale = _key(adapter, scale)
    return f"{adapter or ZERO_SHOT} × {scale:g}".removesuffix(" × 1")


def open_galleries(
    media: Sequence[str | Path] = (),
    adapters: Sequence[str | Path] = (),
    backbone: str | None = None,
    index: str | Path = Path("runs") / "explorer",
) -> dict[str, Gallery]:
    """Return galleries by name, one per folder of `media`, or else the benchmarks' test splits.

    Nothing is embedded yet: see `Gallery.start` and `Gallery.index`.

    Args:
        media: Folders of pictures and clips; also indexes, by their folder or address (s3://…).
        adapters: Folders that `save_adapter` has written.
        backbone: By default the adapters' backbone; without adapters "mini" for the benchmarks, and
            for `media` a CLIP for photographs from the hub (or else "mini").
        index: The folder that keeps the embeddings.

    Raises:
        OSError, ValueError: Something given cannot be used; the message says what to do.
    """
    given = [[one] if isinstance(one, str | Path) else one for one in (media, adapters)]
    places, trained = ([_whole(one) for one in several] for several in given)
    device = training.choose_device()
    if backbone is None and trained:
        adapter = Path(trained[0])
        trained_on = read_config(adapter).backbone
        if trained_on["name"] is None:
            raise ValueError(f"{adapter / CONFIG}: its backbone has no name; give it by --backbone")
        name, revision = trained_on["name"], trained_on["revision"]
        model = RetrievalModel(*load_backbone(name, device=device, revision=revision))
    else:
        names = [backbone] if backbone else [PHOTOGRAPHS, "mini"] if places else ["mini"]
        model = load_first(names, device)
    print("backbone", backbone_text(model.clip.config.name_or_path))
    for name, folder in named(trained, "-cross-modal").items():
        model.load_adapter(folder, name.replace(".", "·"), strict=True)  # torch takes no dots
    first, kept = next(iter(model.adapters), None), Path(index).expanduser()
    galleries = {
        name: _benchmark(model, name, kept / name, first) for name in ([] if places else BENCHMARKS)
    }
    for name, place in named(places).items():
        source = _open_index(model, place) or place
        folder = kept / folder_name(Path(place).name, str(place))
        galleries[name] = Gallery(model, source, None, folder, first)
    return galleries


def load_first(backbones: Sequence[str], device: Device = None) -> RetrievalModel:
    """Load a model on the first available backbone; print the unavailable ones.

    Raises like `load_backbone`.
    """
    for name in backbones[:-1]:
        with contextlib.suppress(OSError):
            return RetrievalModel.from_pretrained(name, device=device)
        print(f"{name}: neither in the cache nor reachable")
    return RetrievalModel.from_pretrained(backbones[-1], device=device)


def backbone_text(name: str) -> str:
    """Return a backbone's name (only the last part of a folder), and what it knows, if we know."""
    if name == "mini":
        return "mini: knows simple drawn scenes, not photographs"
    if name and Path(name).expanduser().is_dir():
        return Path(name).name
    return f"{name}: knows photographs" if name.startswith("openai/clip-vit-") else name or "CLIP"


def named(places: Sequence[Path | str], suffix: str = "") -> dict[str, Path | str]:
    """Return folders, or addresses such as s3://…, by names without `suffix`, each unique.

    If names clash, they are the last parts of the paths.
    """
    places = list(dict.fromkeys(places))
    paths = [Path(place) for place in places]
    names = [path.name.removesuffix(suffix) or str(path) for path in paths]
    parts = 0
    while len(set(names)) < len(places):
        parts += 1
        names = ["/".join(path.parts[-parts:]) for path in paths]
    return dict(zip(names, places, strict=True))


def folder_name(name: str, unique: str) -> str:
    """Make a plain folder name, never a path, from `name` and a digest of `unique`."""
    plain = re.sub(r"[^\w-]+", "-", name)[:40].strip("-")
    digest = hashlib.blake2s(unique.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{plain}-{digest}".lstrip("-")


def _key(adapter: str | None, scale: float) -> tuple[str | None, float]:
    """Return (adapter, scale); any adapter at scale 0 is CLIP, (None, 1.0)."""
    if adapter == ZERO_SHOT:
        raise ValueError(
            f"adapter {ZERO_SHOT!r}: CLIP without an adapter has this name; rename yours"
        )
    return (adapter, float(scale)) if adapter is not None and scale else (None, 1.0)


def _whole(place: str | Path) -> Path | str:
    """Return an absolute path; an address such as s3://… stays as it is."""
    return place if "://" in str(place) else Path(place).expanduser().absolute()


def _open_index(model: RetrievalModel, place: str | Path) -> MediaIndex | None:
    """Open the index at a path or address, of CLIP or a loaded adapter; None if there is none.

    Raises ValueError if it is of another model, OSError if the storage does not answer.
    """
    refused = None
    for name in (None, *model.adapters):
        try:
            with model.using(name):
                return MediaIndex.load(place, model)
        except FileNotFoundError:
            return None
        except ValueError as error:
            refused = refused or error
    raise cast(ValueError, refused)


def _benchmark(model: RetrievalModel, name: str, kept: Path, adapter: str | None) -> Gallery:
    """Open an offline benchmark's test split with `adapter`, or its notebook's adapter."""
    folder = Path("data", name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder here; `python -m data_prep mini` builds it, or give --media"
        )
    test = data.load(folder, "test")
    for place in TRAINED:
        with contextlib.suppress(FileNotFoundError, ValueError):
            if adapter is None:
                label = ADAPTER.format(test.kind)
                # a path: text might mean an adapter on the hub
                model.load_adapter(Path(place.format(name)), label, strict=True)
                adapter = label
    if adapter is None:
        command = f"python notebooks/run.py {BENCHMARKS[name]}"
        print(f"{name}: CLIP without an adapter; `{command}` trains one")
    return Gallery(model, test, recipes.recipe(test.recipe).config, kept, adapter)
