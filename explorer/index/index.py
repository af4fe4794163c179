"""An index of pictures and clips that can be searched by sentence, picture or clip.

Letters: T texts, V items, F frames, N frames of all items, D width. A first search compares a query
with the mean of each item's frames. Pooling depends on the text (paper, section 3.4), so a sentence
is compared again with all frames of the best `DEPTH` items. For an index of at most `DEPTH` items
the answer is exact.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cma import similarity
from cma.config import ReadConfig
from cma.media import MediaError
from cma.model import RetrievalModel

from . import build, lance, listing
from .copies import fold
from .listing import EVERYWHERE, MediaFile, Where
from .moments import IndexConfig
from .store import Files, Segments, Store, integers, joined, publish, read, writing
from .weights import ActingWeights, Header

# best items: all their frames are compared with the text, and copies are searched among them
DEPTH = 1000
ALIKE = 0.95  # a picture and its copy have at least this cosine
BLOCK = 4096  # items whose frames are gathered at once
AWAY = 0.5  # weight of what is wanted `without`: all sentences have much in common, which stays
logger = logging.getLogger("cma.index")

Like = str | Path | MediaFile  # the path of a picture, a clip or a folder of frames, or an item


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MediaIndex:
    """The embeddings of pictures and clips, made with one adapter of the model or with plain CLIP.

    They are in a `store`: segments in memory or in a folder, or a LanceDB table. Queries are
    embedded with the same adapter, whichever one is active at that time, so several indexes of one
    model, and threads, can ask side by side. Two indexes are equal only if they are the same
    object. Of a table, `query` and `query_media` see what others have added since, and all else is
    as it was when the index was opened; `now()` gives the newest.
    """

    model: RetrievalModel
    weights: ActingWeights
    store: Store

    @classmethod
    def build(
        cls,
        model: RetrievalModel,
        source: build.Source,
        config: ReadConfig | None = None,
        previous: MediaIndex | None = None,
        folder: str | Path | None = None,
        store: str | Path | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> MediaIndex:
        """Embed a split, a dataset folder (all its splits) or any folder of pictures and clips.

        `config`, an `IndexConfig`, says how they are read and compared; of a `TrainConfig` only
        these settings are used. Give the one that the adapter was trained with. Files that cannot
        be read are skipped, listed and counted. For files that have not changed (same size and
        time, or same content), embeddings are taken from `previous`, an index of the same model and
        config.

        The index is saved in `folder`, in parts during the build, so that after a kill the next
        call goes on from there. An index that is already there is updated, so that it holds this
        source alone; one of another model, adapter, scale or config is replaced. If another process
        writes there, this one waits.

        With `store`, a folder or an address such as `s3://bucket/photos`, the index is a LanceDB
        table there (extra `lance`). Several processes, on one machine or several, can fill one
        table: give each one its `shard` (number, how many) of the same files. If one is killed,
        start it again.

        Raises FileNotFoundError if the source does not exist; ValueError if nothing in it (or in
        the shard) can be read, if embeddings are not finite, or, before anything is embedded, if
        `folder` holds other things or `store` was built from another folder; TypeError for a config
        of another kind; ImportError for a video file without the extra `video`.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> len(index), index.files[0].file_name
        (1, 'red.png')
        """
        beside = folder is not None or previous is not None
        if (store is None and shard != (0, 1)) or (store is not None and beside):
            raise ValueError(
                "`shard` needs `store`, and `store` goes with neither `folder` nor `previous`"
            )
        if previous is not None and not isinstance(previous.store, Segments):
            raise ValueError("`previous` is in a table, which `store` updates; give that instead")
        weights = ActingWeights(model)
        header = weights.header(model, IndexConfig.of(config))
        if config is None and model.active is not None:
            said = "give the `config` that it was trained with, if that differs from"
            logger.info(f"{header.acting()}: {said} {header.config}")
        if store is not None:
            built = lance.build(model, source, header, store, shard)
        else:
            folder = None if folder is None else Path(folder).expanduser()
            built = build.build(model, source, header, previous and previous.store, folder)
        return cls(model=model, weights=weights, store=built)

    def save(self, folder: str | Path) -> None:
        """Write the index to `folder`, completely or not at all; waits and raises as `build` does.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> index.save(folder / "index")
        """
        folder = Path(folder).expanduser()
        with writing(folder), self.acting():
            publish(folder, joined(folder, self.store))

    def to_lance(self, uri: str | Path) -> MediaIndex:
        """Write the index to `uri` as a LanceDB table, replacing what is there; see `store` of
        `build`. Raises ValueError if it is itself a table.
        """
        if not isinstance(self.store, Segments):
            raise ValueError(f"{self.store.uri}: a table; `save` it to a folder, `load` that first")
        with self.acting():
            table = lance.Table(uri, self.header, self.media_root)
            table.write(self.store)
            table.compact()
        return replace(self, store=table.now())

    @classmethod
    def load(cls, folder: str | Path, model: RetrievalModel) -> MediaIndex:
        """Open an index for `model`, whose active adapter and scale must be those the index was
        built with.

        `folder` may also be the place of a LanceDB table. Vectors stay in the file and are read
        when they are used. Raises FileNotFoundError if there is no index; ValueError if it is
        damaged or of another backbone or adapter. Damaged vectors are found by the first query.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder, folder=folder / "index")
        indexed 1 / 1 files, 1 of them embedded now
        >>> explorer.MediaIndex.load(folder / "index", model).query("red") == index.query("red")
        True
        """
        table = lance.is_table(folder)
        store = lance.Table(folder) if table else read(Path(folder).expanduser())
        weights = ActingWeights(model)
        store.header.check(folder, weights.header(model, store.header.config))
        return cls(model=model, weights=weights, store=store)

    def now(self) -> MediaIndex:
        """The index with what other processes have made of its table; itself if nothing changed."""
        store = self.store.now()
        return self if store is self.store else replace(self, store=store)

    # ---- what it holds

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        clips = int(self.column("is_clip").sum())
        counts = f"{len(self) - clips:,} pictures, {clips:,} clips"
        return f"<MediaIndex of {self.media_root}: {counts}, {self.header.acting()}>"

    @property
    def header(self) -> Header:
        """What the embeddings were made with; the adapter may have had another name then."""
        return self.weights.header(self.model, self.config)

    @property
    def config(self) -> IndexConfig:
        return self.store.header.config

    @property
    def media_root(self) -> Path:
        """The folder that holds the media."""
        return self.store.media_root

    @property
    def skipped(self) -> tuple[listing.Problem, ...]:
        """(name, reason) of what could not be read."""
        return self.store.skipped

    @property
    def files(self) -> Files:
        """The files, item by item [V]; each is parsed when it is accessed."""
        return Files(self.store)

    @property
    def lengths(self) -> Tensor:
        """The number of each item's frames [V]."""
        return self.store.lengths(torch.arange(len(self)))

    def column(self, name: str) -> Tensor:
        """One of `segment.COLUMNS` for each item [V], such as "is_clip"."""
        return self.store.column(name)

    def path(self, file: MediaFile) -> Path:
        """The path of the picture, clip or folder of frames."""
        return self.media_root / file.media

    @cached_property
    def captions(self) -> list[str]:
        """All captions, item by item [T]."""
        captioned = self.column("captions").nonzero().flatten().tolist()
        return [caption for item in captioned for caption in self.files[item].captions]

    @property
    def text_to_item(self) -> Tensor:
        """The number of each caption's item [T]."""
        return torch.arange(len(self)).repeat_interleave(self.column("captions"))

    def frames(self, item: int) -> Tensor:
        """The embeddings [F, D] of one item's frames, un-normalised."""
        return self.store.frames(integers([item]))

    # ---- asking

    def query(
        self,
        text: str,
        k: int = 5,
        like: Like | None = None,
        without: str | Sequence[str] | None = None,
        where: Where = EVERYWHERE,
    ) -> list[tuple[str, float]]:
        """Return the `k` best (file name, cosine) for a sentence, best first; all items if there
        are fewer.

        A clip that was cut stands there once, with its best moment. `like` and `without` as in
        `ranking`; `where` leaves out what is of another kind, folder, year or name. Raises
        TypeError for anything but a string and a `Where`, ValueError for a blank sentence, k below
        1, embeddings that are not finite, or a backbone or adapter that has changed since `build`;
        OSError if the storage of a table does not answer.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> [name for name, cosine in index.query("a red square", k=3)]
        ['red.png']
        """
        index = self.now()
        return index._best(*index.ranking(text, where, like, without), k)

    def query_media(
        self, path: Like, k: int = 5, where: Where = EVERYWHERE
    ) -> list[tuple[str, float]]:
        """Do the same as `query` for a picture, a clip or a folder of frames; raises as
        `ranking_media`.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> folder.mkdir()  # a new one
        >>> Image.new("RGB", (64, 64), "red").save(folder / "red.png")
        >>> index = explorer.MediaIndex.build(model, folder)
        indexed 1 / 1 files, 1 of them embedded now
        >>> [(name, round(cosine, 4)) for name, cosine in index.query_media(folder / "red.png")]
        [('red.png', 1.0)]
        """
        index = self.now()
        return index._best(*index.ranking_media(path, where), k)

    def ranking(
        self,
        text: str,
        where: Where = EVERYWHERE,
        like: Like | None = None,
        without: str | Sequence[str] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (items, their cosines) for a sentence, best first; raises as `query`.

        These are all items [V] that are `where`, or the best `DEPTH` of a table or of `LARGE` or
        more. The first `DEPTH` are ranked by all their frames, the rest by the first search, which
        is the same for pictures and for mean_pooled. With a picture or clip `like` v and sentences
        `without` w_1, w_2, … the query is t/‖t‖ + v/‖v‖ − `AWAY` · Σ w_i/‖w_i‖ at length ‖t‖; the
        sentence t may then be "".
        """
        more = [without] if isinstance(without, str) else [*(without or ())]
        if like is None and not more:
            return self._ranked(self._text(text), self._compare, where)
        parts = [self._text(text)] if text != "" else []
        compare = self._compare if parts else self._compare_means
        length = parts[0].norm() if parts else 1.0
        if like is not None:
            parts.append(self._media(like))
        total = sum(F.normalize(one, dim=1) for one in parts)
        total -= AWAY * sum(F.normalize(self._text(one), dim=1) for one in more)
        if not parts or total.norm() < 1e-4:
            raise ValueError("nothing is left of the query; type a few words of what it shows")
        return self._ranked(length * F.normalize(total, dim=1), compare, where)

    def ranking_media(self, path: Like, where: Where = EVERYWHERE) -> tuple[Tensor, Tensor]:
        """Return (items, cosines of mean frames), best first, for a picture, clip, folder of frames
        or item.

        There are as many as `ranking` returns. Raises TypeError if `path` is not a path or a
        MediaFile, MediaError (a ValueError) that names a file that cannot be read, and ValueError
        as `query`.
        """
        return self._ranked(self._media(path), self._compare_means, where)

    def frame_weights(self, text: str, item: int) -> Tensor:
        """The weights [F] of the frames in an item's match: softmax_f(t . v_f / τ); 1 / F if
        mean_pooled.
        """
        matches = self.frames(item) @ self._encode([text])[0]
        if self.config.similarity == "mean_pooled":
            matches = torch.zeros_like(matches)
        return (matches / self.config.temperature).softmax(0)

    def scores(self, texts: Sequence[str], items: list[int] | None = None) -> Tensor:
        """The cosine [T, V] of every text with all items, or with those in `items`, from all their
        frames.
        """
        chosen = range(len(self)) if items is None else items
        return self._compare(self._encode(texts), integers(chosen))

    def right(self, text: str, items: Sequence[int] | None = None) -> list[int]:
        """The items, or those of `items`, that have `text` as a caption, ignoring case and extra
        spaces.
        """
        wanted = _folded(text)
        if items is None:
            same = torch.tensor([caption == wanted for caption in self._captions], dtype=torch.bool)
            return self.text_to_item[same].unique().tolist()
        files = self.store.files(integers(items))
        pairs = zip(items, files, strict=True)
        return sorted(item for item, file in pairs if wanted in map(_folded, file.captions))

    @cached_property
    def _captions(self) -> list[str]:
        """All captions as they are compared [T]."""
        return list(map(_folded, self.captions))

    def copies(self, items: Sequence[int], apart: Iterable[int] = ()) -> dict[int, list[int]]:
        """Return {item: [item and its copies]} for the ranked items that copy no better one
        (`fold`).

        The hashes are of grey values, so copies must also have a cosine of at least `ALIKE`: most
        pictures that differ in colour have less. Items in `apart` and items after the first `DEPTH`
        stay alone.
        """
        first = integers(items[:DEPTH])
        copies = {item: [item] for item in items}
        hashes = self.store.column("copy_hash", first).numpy().view(np.uint64)
        means = self._pooled(first)
        hashes[np.isin(first, list(apart))] = 0
        for best, *others in fold(hashes):
            for row in others:
                if means[row] @ means[best] >= ALIKE:
                    copies[items[best]] += copies.pop(items[row])
        return copies

    def moments(self, items: Sequence[int]) -> dict[int, list[int]]:
        """Return {item: [item and the other moments of its clip]} for ranked items, without those
        whose clip has a better moment.
        """
        numbers = integers(items)
        clips = self.store.column("is_clip", numbers).bool()
        new = [item for item in numbers[clips].tolist() if item not in self._clips]
        files = self.store.files(integers(new))
        for item, file in zip(new, files, strict=True):
            self._clips[item] = file.media if file.is_moment else item
        found = defaultdict(list)
        for item in items:
            found[self._clips.get(item, item)].append(item)
        return {together[0]: together for together in found.values()}

    @cached_property
    def _clips(self) -> dict[int, str | int]:
        """The clip of each moment that was ranked, and other clips' own numbers."""
        return {}

    def _text(self, text: str) -> Tensor:
        """The embedding [1, D] of a sentence."""
        if not isinstance(text, str):
            raise TypeError(
                f"a query is a sentence, not {text!r:.100}; for a picture or clip see `query_media`"
            )
        if not text.strip():
            raise ValueError("the query is blank; type a few words")
        return self._encode([text])

    def _media(self, path: Like) -> Tensor:
        """The mean embedding [1, D] of the frames of a picture, a clip or an item."""
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
        with self.acting():
            _, pixels = build.read_pixels(wanted, path, self.model, self.config)
            return build.embed(self.model, [pixels])[0].mean(0, keepdim=True)

    def _ranked(
        self, vector: Tensor, compare: Callable[[Tensor, Tensor], Tensor], where: Where
    ) -> tuple[Tensor, Tensor]:
        """Return (items, cosines) of those that are `where`, best first, ties by item.

        The `DEPTH` items whose means are nearest to a vector [1, D] are ranked again by `compare`.
        """
        if not isinstance(where, Where):
            wanted = 'explorer.index.Where(kind="image")'
            raise TypeError(f"where={where!r:.100}: expected, say, {wanted}")
        most = len(self) if self.store.whole else DEPTH
        items, cosines = self.store.nearest(F.normalize(vector[0], dim=0), most, where)
        first, order = cosines.sort(descending=True, stable=True)
        near = items[order[:DEPTH]].sort().values
        rest = items[order[DEPTH:]]
        again, order = compare(vector, near)[0].sort(descending=True, stable=True)
        return torch.cat([near[order], rest]), torch.cat([again, first[DEPTH:]])

    def _encode(self, texts: Sequence[str]) -> Tensor:
        with self.acting():
            encoded = self.model.encode_text(texts, self.config.max_words)
            vectors = self.model.family.comparable(encoded).float().cpu()
            return build.check_finite(vectors, self.model)

    def _pooled(self, items: Tensor) -> Tensor:
        """The normalised mean [V, D] of each item's frames."""
        means = self.store.frames(items)
        if len(means) > len(items):  # some have several frames
            means = torch.segment_reduce(means, "mean", lengths=self.store.lengths(items))
        return F.normalize(means, dim=1)

    def _compare_means(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Cosine [T, V] of every vector [T, D] with the mean of each item's frames."""
        if not len(items):
            return torch.empty(len(vectors), 0)
        return F.normalize(vectors, dim=1) @ self._pooled(items).T

    def _compare(self, text: Tensor, items: Tensor) -> Tensor:
        """Cosine [T, V] of every text [T, D] with some items [V], from all their frames."""
        scores = torch.empty(len(text), len(items))
        lengths = self.store.lengths(items)
        # items with the same number of frames need no padding
        for length in lengths.unique().tolist():
            for block in (lengths == length).nonzero().flatten().split(BLOCK):
                frames = self.store.frames(items[block]).unflatten(0, (-1, length))
                scores[:, block] = similarity.compare(text, frames, None, self.config)
        return scores

    def _best(self, items: Tensor, scores: Tensor, k: int) -> list[tuple[str, float]]:
        if not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k={k!r:.100}: expected at least 1")
        best = {}
        for item, score in zip(items.tolist(), scores.tolist(), strict=True):
            file = self.files[item]
            clip = file.media if file.is_moment else item
            best.setdefault(clip, (file.file_name, score))
            if len(best) == k:
                break
        return list(best.values())

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within `with`, the model embeds as for this index, and no other thread has it. ValueError
        if its weights have changed since.
        """
        weights = self.weights
        with self.model.turn(), self.model.acting(weights.adapter, weights.digests.scale):
            if changed := weights.changed(self.model):
                raise ValueError(f"the weights of {changed} changed since; build the index again")
            yield


def _folded(text: str) -> str:
    """A caption as it is compared: without case and extra spaces."""
    return " ".join(text.casefold().split())
