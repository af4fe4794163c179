"""`MediaIndex`: search pictures and clips by sentence, picture or clip.

Letters: T texts, V items, F frames, N frames of all items, D width. A first search compares a query
with the mean of each item's frames. Pooling depends on the text (paper, section 3.4), so a sentence
is compared again with all frames of the best `DEPTH` items. For an index of at most `DEPTH` items
the answer is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cma import similarity
from cma.config import ReadConfig
from cma.media import MediaError
from cma.model import RetrievalModel

from . import chance, embed, listing, table
from .copies import fold
from .listing import EVERYWHERE, MediaFile, Where
from .moments import IndexConfig
from .table import Table
from .weights import ActiveWeights, Header

# this many best items are compared by all their frames, and searched for copies
DEPTH = 1000
ALIKE = 0.95  # a picture and its copy have at least this cosine
BLOCK = 1024  # items whose frames are compared at once
AWAY = 0.5  # weight of sentences to search `without`; what all sentences have in common stays
logger = logging.getLogger("explorer.index")

# the path of a picture, a clip or a folder of frames; a result's name, or an item
Like = str | Path | MediaFile


class Files(Sequence[MediaFile]):
    """The files of an index, item by item, read when they are used."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, item: int) -> MediaFile: ...

    @overload
    def __getitem__(self, item: slice | Sequence[int]) -> list[MediaFile]: ...

    def __getitem__(self, item: int | slice | Sequence[int]) -> MediaFile | list[MediaFile]:
        if isinstance(item, Sequence):
            return self._table.files(integers(item))
        chosen = range(len(self))[item]
        return self[chosen] if isinstance(chosen, range) else self[[chosen]][0]

    def __iter__(self) -> Iterator[MediaFile]:
        for items in torch.arange(len(self)).split(table.ROWS):
            yield from self._table.files(items)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MediaIndex:
    """The embeddings of pictures and clips, made with one adapter of the model or with plain CLIP.

    They are the rows of a `table`, in memory, in a folder or at an address. Queries are embedded
    with the same adapter, whichever one is active, so several indexes of one model can be searched
    side by side, from several threads. Two indexes are equal only if they are the same object.
    `query` and `query_media` see what others have added to the table since; everything else stays
    as it was when the index was opened. `now()` returns the newest state.
    """

    model: RetrievalModel
    weights: ActiveWeights
    table: Table

    @classmethod
    def build(
        cls,
        model: RetrievalModel,
        source: embed.Source,
        config: ReadConfig | None = None,
        folder: str | Path | None = None,
        store: str | Path | None = None,
        shard: tuple[int, int] = (0, 1),
        max_files: int | None = None,
    ) -> MediaIndex:
        """Return an index of a split, a dataset folder (all its splits) or any folder of media.

        Files that cannot be read are skipped, listed and counted. Each batch is saved at once, so
        after a kill the same call continues from there. If `folder` already holds an index, it is
        updated to hold this source alone, without embedding unchanged files (same size and time, or
        same content) again; one made with another model, adapter, scale or config is replaced. If
        another process writes there, this one waits.

        Args:
            model: Its active adapter and scale embed everything.
            source: A split from `cma.load_dataset`, or the path of a folder.
            config: An `IndexConfig`, `ReadConfig` or `TrainConfig`: how to read and compare media.
                By default as in the active adapter's training.
            folder: Where to save the index; without it and `store`, it stays in memory.
            store: A folder or an address such as `s3://bucket/photos`, instead of `folder`, for an
                index that several processes fill. An index of another model there is refused.
            shard: (number, how many): the part of the files that this process adds to `store`. If
                it is killed, start it again.
            max_files: The most files to index, evenly spread over all.

        Returns:
            The open index.

        Raises:
            FileNotFoundError: The source does not exist.
            ValueError: Nothing in it (or in the shard) can be read, embeddings are not finite, or
                the folder holds other things (checked before embedding).
            TypeError: `config` is of another kind.
            ImportError: LanceDB (extra `explorer`) or the readers of video files (`video`) are
                missing.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> len(index), index.files[0].file_name
        (1, 'red.png')
        """
        if (store is None and shard != (0, 1)) or (store is not None and folder is not None):
            raise ValueError("`shard` needs `store`, and `store` goes without `folder`")
        weights, header = cls._made_with(model, config)
        uri, shared = (folder, False) if store is None else (store, True)
        *_, last = embed.grow(model, source, header, uri, shard, shared, max_files)
        return cls(model=model, weights=weights, table=last.table)

    @staticmethod
    def _made_with(
        model: RetrievalModel, config: ReadConfig | None
    ) -> tuple[ActiveWeights, Header]:
        with model.lock:
            weights = ActiveWeights(model)
            return weights, weights.header(model, IndexConfig.of(model.reading(config)))

    @classmethod
    def empty(
        cls, model: RetrievalModel, root: Path, config: ReadConfig | None = None
    ) -> MediaIndex:
        """Return an index without items, in memory, for media below `root`."""
        weights, header = cls._made_with(model, config)
        return cls(model=model, weights=weights, table=Table.new(None, header, root))

    @classmethod
    def listed(
        cls,
        model: RetrievalModel,
        source: embed.Source,
        config: ReadConfig | None = None,
        max_files: int | None = None,
    ) -> MediaIndex:
        """Return an index of the files in a source, in memory, without embeddings.

        It knows when the files were changed, so it can be browsed, but not searched. Raises as
        `build`.
        """
        root, files, _ = embed.found(source, max_files)
        days = [np.datetime64(embed.modified(root / one.media), "ns") for one in files]
        dated = [
            replace(file, date=str(day.astype("datetime64[s]")))
            for file, day in zip(files, days, strict=True)
        ]
        index = cls.empty(model, root, config)
        index.table.add([(file, torch.zeros(1, 1)) for file in dated])
        return index.now()

    def grow(
        self,
        source: embed.Source,
        folder: str | Path | None,
        max_files: int | None,
        when_idle: embed.WhenIdle,
    ) -> Generator[tuple[MediaIndex, int, int]]:
        """Do what `build` does with the model of this index, the newest files first, and yield the
        index so far, how many files are done, and how many there are. Each batch is embedded within
        `when_idle`. Raises ValueError if the model's weights change meanwhile.
        """

        @contextmanager
        def held() -> Iterator[None]:
            with when_idle(), self.using():
                yield

        steps = embed.grow(
            self.model, source, self.table.header, folder, max_files=max_files, when_idle=held
        )
        with closing(steps):
            for step in steps:
                yield replace(self, table=step.table), step.done, step.total

    def save(self, folder: str | Path, media_root: str | Path | None = None) -> None:
        """Write the index to `folder`, whole or not at all; it waits and raises like `build`.

        An index knows the folder of its media; give another `media_root` for a copy that will move
        together with the media.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> index.save(folder / "index")
        """
        with table.writing(table.address(folder), (0, 1)), self.using():
            self.table.copied(folder, media_root=media_root)

    def part(self, items: Sequence[int]) -> MediaIndex:
        """Return an index of some of the items, in memory."""
        return replace(self, table=self.table.copied(None, integers(items)))

    @classmethod
    def load(
        cls, folder: str | Path, model: RetrievalModel, media_root: str | Path | None = None
    ) -> MediaIndex:
        """Open the index in a folder or at an address, for `model`.

        With up to 200,000 items, the first query reads all embeddings and keeps them in memory.

        Args:
            folder: The folder of the index, or an address such as `s3://bucket/photos`.
            model: Its active adapter and scale must be those the index was built with.
            media_root: The folder of the media, if it has moved since.

        Raises:
            FileNotFoundError: There is no index.
            ValueError: It is damaged, or of another version, backbone or adapter.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder, folder=folder / "index")
        indexed 1 / 1 files, 1 of them embedded now
        >>> explorer.MediaIndex.load(folder / "index", model).query("red") == index.query("red")
        True
        """
        moved = Path(media_root).expanduser().absolute() if media_root else None
        opened = Table.open(folder, moved)
        weights = ActiveWeights(model)
        opened.header.check(folder, weights.header(model, opened.header.config))
        return cls(model=model, weights=weights, table=opened)

    def now(self) -> MediaIndex:
        """Return the index with the changes of other processes; itself if there are none."""
        newest = self.table.now()
        if newest is self.table:
            return self
        newest.header.check(newest.uri, self.header)
        return replace(self, table=newest)

    # ---- what it holds

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        clips = self.table.count("is_clip")
        counts = f"{self.table.rows - clips:,} pictures, {clips:,} clips"
        return f"<MediaIndex of {self.media_root}: {counts}, {self.header.adapter_text()}>"

    @property
    def header(self) -> Header:
        """The settings that made the embeddings; the adapter may have had another name then."""
        return self.weights.header(self.model, self.config)

    @property
    def config(self) -> IndexConfig:
        return self.table.header.config

    @property
    def media_root(self) -> Path:
        """The folder that holds the media."""
        return self.table.media_root

    @property
    def skipped(self) -> tuple[listing.Problem, ...]:
        """The (name, reason) of everything that could not be read."""
        return self.table.skipped

    @property
    def files(self) -> Files:
        """The files, item by item [V], read when they are used, e.g. `files[[3, 5]]`."""
        return Files(self.table)

    @property
    def lengths(self) -> Tensor:
        """The number of each item's frames [V]."""
        return self.table.lengths()

    def length(self, item: int) -> int:
        """Return the number of frames of one item."""
        return int(self.table.lengths(integers([item])))

    def column(self, name: str) -> np.ndarray:
        """Return one column of `table.schema_of` for each item [V], such as "is_clip"."""
        return self.table.column(name)

    def path(self, file: MediaFile) -> Path:
        """Return the path of the picture, clip or folder of frames."""
        return self.media_root / file.media

    def inside(self, where: Where) -> list[int]:
        """Return the items that match `where`, ascending."""
        return self.table.inside(where).tolist()

    def labelled(self, label: str) -> MediaFile | None:
        """Return the file with this `label`, None if there is none."""
        return next(iter(self.table.having("label", label)), None)

    @cached_property
    def captions(self) -> list[str]:
        """All captions, item by item [T]."""
        return [caption for captions in self.column("captions") for caption in captions]

    @property
    def text_to_item(self) -> Tensor:
        """The number of each caption's item [T]."""
        counts = torch.from_numpy(self.column("texts").astype(np.int64))
        return torch.arange(len(self)).repeat_interleave(counts)

    def frames(self, item: int | None = None) -> Tensor:
        """Return the un-normalised embeddings of one item's frames [F, D], or of all [N, D]."""
        items = torch.arange(len(self)) if item is None else integers([item])
        return torch.cat(self.table.frames(items))

    # ---- asking

    def query(
        self,
        text: str,
        k: int = 5,
        like: Like | None = None,
        without: str | Sequence[str] | None = None,
        where: Where = EVERYWHERE,
        likely: bool = False,
    ) -> list[tuple[str, float]]:
        """Return the `k` best (file name, cosine) for a sentence, best first.

        A clip split into moments appears once, at its best moment.

        Args:
            text: The sentence; "" if `like` is given.
            k: How many; if there are fewer items, all of them are returned.
            like: A picture or clip, given as in `query_media`, that the results should resemble,
                too; see `ranking`.
            without: Sentences that describe what you do not want to see.
            where: A filter by kind, folder, year or name.
            likely: Return only results better than chance (see `line`), perhaps none.

        Raises:
            TypeError: `text` is not a string, or `where` not a `Where`.
            ValueError: The sentence is blank, `k` is below 1, embeddings are not finite, or the
                backbone or adapter has changed since `build`; `likely` for an index of few
                captions, or with `like` or `without`.
            OSError: The storage of the table does not answer.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> [name for name, cosine in index.query("a red square", k=3)]
        ['red.png']
        """
        if likely and (like is not None or without):
            raise ValueError("likely=True judges a sentence alone: leave out `like` and `without`")
        index = self.now()
        best = index._best(*index._query(text, where, like, without), k)
        return [one for one in best if one[1] > index.line] if likely else best

    def query_media(
        self, path: Like, k: int = 5, where: Where = EVERYWHERE
    ) -> list[tuple[str, float]]:
        """Return the `k` best (file name, cosine) for a picture, a clip or a folder of frames.

        Args:
            path: Its path; or, where there is no such path, a name that `query` returned; or one
                of `files`.
            k: How many; if there are fewer items, all of them are returned.
            where: As for `query`.

        Raises:
            TypeError: `path` is neither a path nor a MediaFile.
            ValueError: as in `query`; a MediaError names a file that cannot be read.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> [(name, round(cosine, 4)) for name, cosine in index.query_media(folder / "red.png")]
        [('red.png', 1.0)]
        """
        index = self.now()
        return index._best(index.vector_of(path), index._compare_means, where, k)

    def ranking(
        self,
        text: str,
        where: Where = EVERYWHERE,
        like: Like | None = None,
        without: str | Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (items, their cosines) for a sentence, best first; raises like `query`.

        These are all items [V] that match `where`; of more than `LARGE`, the best `DEPTH`. The
        first `DEPTH` are ranked by all their frames, the rest by the mean of their frames, which is
        the same for pictures and for mean_pooled. With a picture or clip `like` v and sentences
        `without` w_1, w_2, … the query is t/‖t‖ + v/‖v‖ − `AWAY` · Σ w_i/‖w_i‖ at length ‖t‖; the
        sentence t may then be "".
        """
        return self._ranked(*self._query(text, where, like, without))

    def _query(
        self, text: str, where: Where, like: Like | None, without: str | Sequence[str] | None
    ) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor], Where]:
        """Return the arguments of `_ranked`: query vector [1, D], comparison and filter."""
        more = [without] if isinstance(without, str) else [*(without or ())]
        if like is None and not more:
            return self.vector_of_text(text), self._compare, where
        parts = [self.vector_of_text(text)] if text != "" else []
        compare = self._compare if parts else self._compare_means
        length = parts[0].norm() if parts else 1.0
        if like is not None:
            parts.append(self.vector_of(like))
        total: Any = sum(F.normalize(one, dim=1) for one in parts)
        total -= AWAY * sum(F.normalize(self.vector_of_text(one), dim=1) for one in more)
        if not parts or total.norm() < 1e-4:
            raise ValueError("nothing is left of the query; type a few words of what it shows")
        return length * F.normalize(total, dim=1), compare, where

    def ranking_media(self, path: Like, where: Where = EVERYWHERE) -> tuple[Tensor, Tensor]:
        """Return (items, cosines of mean frames), best first, for a picture, clip or item.

        There are as many as `ranking` returns. Raises like `query_media`.
        """
        return self._ranked(self.vector_of(path), self._compare_means, where)

    @cached_property
    def line(self) -> float:
        """Return the cosine above which an answer is better than chance; see `chance.line`.

        It is measured when first needed (seconds), then kept with the table.
        """
        if (found := self.table.line()) is None:
            found = chance.line(self)
            self.table.keep_line(found)
        return found

    def frame_weights(self, text: str, item: int) -> Tensor:
        """Return the weights [F] of an item's frames: softmax_f(t . v_f / τ), or 1 / F."""
        matches = self.frames(item) @ self._encode([text])[0]
        if self.config.similarity == "mean_pooled":
            matches = torch.zeros_like(matches)
        return (matches / self.config.temperature).softmax(0)

    def scores(self, texts: Sequence[str], items: list[int] | None = None) -> Tensor:
        """Return the cosine [T, V] of every text with `items` (default: all), by all frames."""
        chosen = range(len(self)) if items is None else items
        return self._compare(self._encode(texts), integers(chosen))

    def right(self, text: str, items: Sequence[int] | None = None) -> list[int]:
        """Return the items with `text` as a caption, ignoring case and extra spaces."""
        wanted = _folded(text)
        if items is None:
            same = torch.tensor([caption == wanted for caption in self._captions], dtype=torch.bool)
            return self.text_to_item[same].unique().tolist()
        captions = self.table.column("captions", integers(items))
        pairs = zip(items, captions, strict=True)
        return sorted(item for item, own in pairs if wanted in map(_folded, own))

    @cached_property
    def _captions(self) -> list[str]:
        """All captions [T] in the form used for comparison."""
        return list(map(_folded, self.captions))

    def copies(self, items: Sequence[int], apart: Iterable[int] = ()) -> dict[int, list[int]]:
        """Return {item: [item and its copies]} for ranked items that copy no better one.

        Hashes compare grey values, so copies must also have a cosine of at least `ALIKE`: most
        pictures that differ in colour have less. Items in `apart` and items after the first `DEPTH`
        stay alone.
        """
        first = integers(items[:DEPTH])
        copies = {item: [item] for item in items}
        hashes = self.table.column("copy_hash", first).astype(np.int64).view(np.uint64)
        means, _ = self.table.compared(first)
        hashes[np.isin(first, list(apart))] = 0
        for best, *others in fold(hashes):
            for row in others:
                if means[row] @ means[best] >= ALIKE:
                    copies[items[best]] += copies.pop(items[row])
        return copies

    def moments(self, items: Sequence[int]) -> dict[int, list[int]]:
        """Return {best moment: [it and the other moments of its clip]} for ranked items."""
        found: dict[int | str, list[int]] = {}
        for item, clip in zip(items, self._clips(integers(items)), strict=True):
            found.setdefault(clip, []).append(item)
        return {together[0]: together for together in found.values()}

    def _clips(self, items: Tensor) -> Iterator[int | str]:
        """Yield the clip of each moment, and the own number of any other item."""
        for item, clip in zip(items.tolist(), self.table.column("clip", items), strict=True):
            yield f"clip {clip}" if clip else item

    def vector_of_text(self, text: str) -> Tensor:
        """Return the embedding [1, D] of a sentence."""
        if not isinstance(text, str):
            raise TypeError(
                f"a query is a sentence, not {text!r:.100}; for a picture or clip see `query_media`"
            )
        if not text.strip():
            raise ValueError("the query is blank; type a few words")
        return self._encode([text])

    def vector_of(self, path: Like) -> Tensor:
        """Return the mean embedding [1, D] of the frames of a picture, a clip or an item."""
        if isinstance(path, str) and not Path(path).exists():
            match self.table.having("file_name", path):
                case [one]:
                    path = one
                case [first, *_]:  # parts of a clip: the name means the whole clip
                    path = replace(first, start=None, end=None)
        if isinstance(path, MediaFile):  # one of `files`, which may be a part of a clip
            wanted = path
            path = self.path(path)
        elif not isinstance(path, str | Path) or path == "":
            raise TypeError(f"expected the path of a picture or clip, not {path!r:.100}")
        elif kind := listing.kind_of(path := Path(path).expanduser()):
            wanted = MediaFile(path.name, path.name, kind)
        else:
            there = "" if path.exists() else ", and not there"
            what = f"neither picture nor clip{there}"
            raise MediaError(f"{path}: {what}; expected {', '.join(listing.SUFFIXES)}")
        with self.using():
            _, pixels = embed.read_pixels(wanted, path, self.model, self.config)
            return embed.embed(self.model, [pixels])[0].mean(0, keepdim=True)

    def _ranked(
        self,
        vector: Tensor,
        compare: Callable[[Tensor, Tensor], Tensor],
        where: Where,
    ) -> tuple[Tensor, Tensor]:
        """Return the (items, cosines) that match `where`, best first, ties by item.

        The `DEPTH` items whose means are nearest to a vector [1, D] are ranked again by `compare`.
        """
        if not isinstance(where, Where):
            wanted = 'explorer.index.Where(kind="image")'
            raise TypeError(f"where={where!r:.100}: expected, say, {wanted}")
        items, cosines = self.table.nearest(F.normalize(vector[0], dim=0), DEPTH, where)
        first, order = cosines.sort(descending=True, stable=True)
        near = items[order[:DEPTH]].sort().values
        rest = items[order[DEPTH:]]
        again, order = compare(vector, near)[0].sort(descending=True, stable=True)
        return torch.cat([near[order], rest]), torch.cat([again, first[DEPTH:]])

    def _encode(self, texts: Sequence[str]) -> Tensor:
        with self.using():
            encoded = self.model.encode_text(texts, self.config.max_words)
            vectors = self.model.family.comparable(encoded).float().cpu()
            return embed.check_finite(vectors, self.model)

    def _compare_means(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Return the cosine [T, V] of every vector [T, D] with the mean of each item's frames."""
        if not len(items):
            return torch.empty(len(vectors), 0)
        return F.normalize(vectors, dim=1) @ self.table.compared(items)[0].T

    def _compare(self, text: Tensor, items: Tensor) -> Tensor:
        """Return the cosine [T, V] of every text [T, D] with items [V], by all their frames."""
        if self.config.similarity == "mean_pooled" or not len(items):
            return self._compare_means(text, items)
        means, lengths = self.table.compared(items)
        scores = F.normalize(text, dim=1) @ means.T  # exact for one frame
        # items with the same number of frames need no padding
        for length in lengths[lengths > 1].unique().tolist():
            for block in (lengths == length).nonzero().flatten().split(BLOCK):
                frames = torch.stack(self.table.frames(items[block]))
                scores[:, block] = similarity.compare(text, frames, None, self.config)
        return scores

    def _best(
        self,
        vector: Tensor,
        compare: Callable[[Tensor, Tensor], Tensor],
        where: Where,
        k: int,
    ) -> list[tuple[str, float]]:
        """Return the names and cosines of the `k` best, each clip once."""
        if not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k={k!r:.100}: expected at least 1")
        items, scores = self._ranked(vector, compare, where)
        best: dict[int | str, int] = {}
        for place, clip in enumerate(self._clips(items)):
            best.setdefault(clip, place)
            if len(best) == k:
                break
        places = list(best.values())
        files = self.table.files(items[places])
        names = [file.file_name for file in files]
        return list(zip(names, scores[places].tolist(), strict=True))

    @contextmanager
    def using(self) -> Iterator[None]:
        """Inside a `with`, let the model embed as for this index, and no other thread use it.

        Raises ValueError if its weights have changed since.
        """
        weights = self.weights
        with self.model.lock, self.model.using(weights.adapter, weights.digests.scale):
            if changed := weights.changed(self.model):
                raise ValueError(f"the weights of {changed} changed since; build the index again")
            yield


def _folded(text: str) -> str:
    """Return a caption for comparison: in lower case, without extra spaces."""
    return " ".join(text.casefold().split())


def integers(numbers: Sequence[int]) -> Tensor:
    """Return whole numbers as a tensor, even if there are none."""
    return torch.tensor(numbers, dtype=torch.long)
