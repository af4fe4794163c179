"""An index of pictures and clips that can be searched by sentence, picture or clip.

Letters: T texts, V items, F frames, N frames of all items, D width. A first search compares a query
with the mean of each item's frames. Pooling depends on the text (paper, section 3.4), so a sentence
is compared again with all frames of the best `DEPTH` items. For an index of at most `DEPTH` items
the answer is exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import similarity
from ..config import ReadConfig
from ..media import MediaError
from ..model import RetrievalModel
from . import lance, listing, store
from .build import Source, build, check_finite, embed, read_pixels
from .copies import fold
from .listing import MediaFile
from .segment import LARGE, Segment
from .store import FORMAT_VERSION, Embedded, Manifest
from .weights import ActingWeights

# best items: all their frames are compared with the text, and copies are searched among them
DEPTH = 1000
ALIKE = 0.95  # a picture and its copy have at least this cosine
BLOCK = 4096  # items whose frames are gathered at once
# kept, since torch starts threads for each new one
THREADS = ThreadPoolExecutor(os.cpu_count(), "search")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MediaIndex(Embedded):
    """The embeddings of pictures and clips, made with one adapter of the model or with plain CLIP.

    Queries are embedded with the same adapter, whichever one is active at that time, so several
    indexes of one model, and threads, can ask side by side. Two indexes are equal only if they are
    the same object.
    """

    model: RetrievalModel
    weights: ActingWeights

    @classmethod
    def build(
        cls,
        model: RetrievalModel,
        source: Source,
        config: ReadConfig | None = None,
        previous: MediaIndex | None = None,
        folder: str | Path | None = None,
        store: str | Path | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> MediaIndex | LanceIndex:
        """Embed a split, a dataset folder (all its splits) or any folder of pictures and clips.

        `config` says how they are read and compared; of a `TrainConfig` only these settings are
        used. Files that cannot be read are skipped, listed and counted. For files that have not
        changed (same size and time, or same content), embeddings are taken from `previous`, an
        index of the same model and config.

        The index is saved in `folder`, in parts during the build, so that after a kill the next
        call goes on from there. An index that is already there is updated, so that it holds this
        source alone; one of another model, adapter, scale or config is replaced. If another process
        writes there, this one waits.

        With `store`, a folder or an address such as `s3://bucket/photos`, the index is a LanceDB
        table there (`LanceIndex`; extra `lance`). Several processes, on one machine or several, can
        fill one table: give each one its `shard` (number, how many) of the same files. If one is
        killed, start it again.

        Raises FileNotFoundError if the source does not exist; ValueError if nothing in it can be
        read, if embeddings are not finite, or, before anything is embedded, if `folder` holds other
        things; ImportError for a video file without the extra `video`.
        """
        if (store is None and shard != (0, 1)) or (store is not None and (folder or previous)):
            raise ValueError(
                "`shard` needs `store`, and `store` goes with neither `folder` nor `previous`"
            )
        given, weights = config or ReadConfig(), ActingWeights(model)
        config = ReadConfig(
            **{field.name: getattr(given, field.name) for field in fields(ReadConfig)}
        )
        folder = None if folder is None else Path(folder).expanduser()
        header = weights.header(model, config)
        if store is not None:
            return cls._stored(model, weights, lance.build(model, source, header, store, shard))
        return cls._of(model, weights, build(model, source, header, previous, folder))

    def save(self, folder: str | Path) -> None:
        """Write the index to `folder`, completely or not at all; waits and raises as `build` does."""
        folder = Path(folder).expanduser()
        with store.writing(folder), self.acting():
            store.publish(folder, store.joined(folder, self))

    def to_lance(self, uri: str | Path) -> LanceIndex:
        """Write the index to `uri` as a LanceDB table, replacing what is there; see `store` of
        `build`.
        """
        with self.acting():
            manifest = Manifest(self.header, str(self.media_root), (), (), (), FORMAT_VERSION)
            table = lance.Table(uri, manifest)
            table.write(self, manifest)
            table.compact()
        return self._stored(self.model, self.weights, table)

    @classmethod
    def load(cls, folder: str | Path, model: RetrievalModel) -> MediaIndex | LanceIndex:
        """Open an index for `model`, whose active adapter and scale must be those the index was
        built with.

        `folder` may also be the place of a LanceDB table. Vectors stay in the file and are read
        when they are used. Raises FileNotFoundError if there is no index; ValueError if it is
        damaged or of another backbone or adapter. Damaged vectors are found by the first query.
        """
        weights = ActingWeights(model)
        if lance.is_table(folder):
            table = lance.Table(folder)
            header = table.manifest.header
            header.check(table.uri, weights.header(model, header.config))
            return cls._stored(model, weights, table)
        index = store.read(folder := Path(folder).expanduser())
        index.header.check(folder / store.INDEX, weights.header(model, index.config))
        return cls._of(model, weights, index)

    @classmethod
    def _of(cls, model: RetrievalModel, weights: ActingWeights, index: Embedded) -> MediaIndex:
        held = {field.name: getattr(index, field.name) for field in fields(Embedded)}
        # the same adapter may have another name here
        held["header"] = weights.header(model, index.config)
        return cls(model=model, weights=weights, **held)

    @classmethod
    def _stored(
        cls, model: RetrievalModel, weights: ActingWeights, table: lance.Table
    ) -> LanceIndex:
        made = table.manifest
        nothing = Embedded(made.header, Path(made.media_root), segments=(), order=torch.arange(0))
        return LanceIndex(table, cls._of(model, weights, nothing))

    def __repr__(self) -> str:
        clips = int(self.column("is_clip").sum())
        counts = f"{len(self) - clips:,} pictures, {clips:,} clips"
        return f"<MediaIndex of {self.media_root}: {counts}, {self.header.acting()}>"

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
        return self.gather(torch.tensor([item]))

    # ---- asking

    def query(self, text: str, k: int = 5) -> list[tuple[str, float]]:
        """Return the `k` best (file name, cosine) for a sentence, best first; all items if there
        are fewer.

        Raises TypeError for anything but a string, ValueError for a blank sentence, k below 1,
        embeddings that are not finite, or a backbone or adapter that has changed since `build`.
        """
        return self._best(*self.ranking(text), k)

    def query_media(self, path: str | Path, k: int = 5) -> list[tuple[str, float]]:
        """Do the same as `query` for a picture, a clip or a folder of frames; raises as
        `ranking_media`.
        """
        return self._best(*self.ranking_media(path), k)

    def ranking(self, text: str) -> tuple[Tensor, Tensor]:
        """Return (items, their cosines) for a sentence, best first; raises as `query`.

        These are all items [V], or the best `DEPTH` of `LARGE` or more. The first `DEPTH` are
        ranked by all their frames, the rest by the first search, which is the same for pictures and
        for mean_pooled.
        """
        return self._ranked(self._text(text), self._compare)

    def ranking_media(self, path: str | Path | MediaFile) -> tuple[Tensor, Tensor]:
        """Return (items, cosines of mean frames), best first, for a picture, clip, folder of frames
        or item.

        There are as many as `ranking` returns. Raises TypeError if `path` is not a path or a
        MediaFile, MediaError (a ValueError) that names a file that cannot be read, and ValueError
        as `query`.
        """
        return self._ranked(self._media(path), self._compare_means)

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
        return self._compare(self._encode(texts), torch.tensor(chosen, dtype=torch.long))

    def right(self, text: str) -> list[int]:
        """The items that have `text` as a caption, ignoring case and extra spaces."""
        wanted, owned = (
            text.casefold().split(),
            zip(self.captions, self.text_to_item.tolist(), strict=True),
        )
        return sorted({item for caption, item in owned if caption.casefold().split() == wanted})

    def copies(self, items: Sequence[int], apart: Iterable[int] = ()) -> dict[int, list[int]]:
        """Return {item: [item and its copies]} for the ranked items that copy no better one
        (`fold`).

        The hashes are of grey values, so copies must also have a cosine of at least `ALIKE`: most
        pictures that differ in colour have less. Items in `apart` and items after the first `DEPTH`
        stay alone.
        """
        first, copies = (
            torch.tensor(items[:DEPTH], dtype=torch.long),
            {item: [item] for item in items},
        )
        hashes, means = self.column("copy_hash")[first].numpy().view(np.uint64), self._pooled(first)
        hashes[np.isin(first, list(apart))] = 0
        for best, *others in fold(hashes):
            for row in others:
                if means[row] @ means[best] >= ALIKE:
                    copies[items[best]] += copies.pop(items[row])
        return copies

    def _text(self, text: str) -> Tensor:
        """The embedding [1, D] of a sentence."""
        if not isinstance(text, str):
            raise TypeError(
                f"a query is a sentence, not {text!r}; for a picture or clip see `query_media`"
            )
        if not text.strip():
            raise ValueError("the query is blank; type a few words")
        return self._encode([text])

    def _media(self, path: str | Path | MediaFile) -> Tensor:
        """The mean embedding [1, D] of the frames of a picture, a clip or an item."""
        if isinstance(path, MediaFile):  # one of `files`, which may be a part of a clip
            wanted, path = path, self.path(path)
        elif not isinstance(path, str | Path) or path == "":
            raise TypeError(f"expected the path of a picture or clip, not {path!r}")
        elif kind := listing.kind_of(path := Path(path).expanduser()):
            wanted = MediaFile(path.name, path.name, kind)
        else:
            what = f"neither picture nor clip{'' if path.exists() else ', and not there'}"
            raise MediaError(f"{path}: {what}; expected {', '.join(listing.SUFFIXES)}")
        with self.acting():
            _, pixels = read_pixels(wanted, path, self.model, self.config)
            return embed(self.model, [pixels])[0].mean(0, keepdim=True)

    def _ranked(
        self, vector: Tensor, compare: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return (items, cosines), best first, ties by item; all, or the best `DEPTH` of `LARGE` or
        more.

        The `DEPTH` items whose means are nearest to a vector [1, D] are ranked again by `compare`.
        """
        unit, most = F.normalize(vector[0], dim=0), DEPTH if len(self) >= LARGE else len(self)
        deleted = sum(map(len, self.segments)) - len(self)  # their rows may be among the nearest
        found = THREADS.map(lambda part: part.cosines(unit, most + deleted), self.segments)
        cosines = torch.cat(list(found))[self.order]
        items = cosines.topk(most).indices.sort().values
        first, order = cosines[items].sort(descending=True, stable=True)
        near, rest = items[order[:DEPTH]].sort().values, items[order[DEPTH:]]
        again, order = compare(vector, near)[0].sort(descending=True, stable=True)
        return torch.cat([near[order], rest]), torch.cat([again, first[DEPTH:]])

    def _encode(self, texts: Sequence[str]) -> Tensor:
        with self.acting():
            encoded = self.model.encode_text(texts, self.config.max_words)
            return check_finite(self.model.family.comparable(encoded).float().cpu(), self.model)

    def _pooled(self, items: Tensor) -> Tensor:
        """The normalised mean [V, D] of each item's frames."""
        means = self.gather(items)
        if len(means) > len(items):  # some have several frames
            means = torch.segment_reduce(means, "mean", lengths=self.lengths[items])
        return F.normalize(means, dim=1)

    def _compare_means(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Cosine [T, V] of every vector [T, D] with the mean of each item's frames."""
        return F.normalize(vectors, dim=1) @ self._pooled(items).T

    def _compare(self, text: Tensor, items: Tensor) -> Tensor:
        """Cosine [T, V] of every text [T, D] with some items [V], from all their frames."""
        scores, lengths = torch.empty(len(text), len(items)), self.lengths[items]
        # items with the same number of frames need no padding
        for length in lengths.unique().tolist():
            for block in (lengths == length).nonzero().flatten().split(BLOCK):
                frames = self.gather(items[block]).unflatten(0, (-1, length))
                scores[:, block] = similarity.compare(text, frames, None, self.config)
        return scores

    def _best(self, items: Tensor, scores: Tensor, k: int) -> list[tuple[str, float]]:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k={k!r}: expected at least 1")
        pairs = zip(items[:k].tolist(), scores[:k].tolist(), strict=True)
        return [(self.files[item].file_name, score) for item, score in pairs]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within `with`, the model embeds as for this index. ValueError if its weights have changed
        since.
        """
        with self.model.acting(self.header.adapter, self.header.built_with["scale"]):
            if changed := self.weights.changed(self.model):
                raise ValueError(f"the weights of {changed} changed since; build the index again")
            yield


@dataclass(frozen=True, repr=False)
class LanceIndex:
    """An index in a LanceDB `table`; `asking` is an empty index that embeds the queries.

    LanceDB finds the `DEPTH` items whose means are nearest, and they are ranked again by all their
    frames. LanceDB compares all items, but only the most promising ones in a table of `LARGE` or
    more that was compacted (by `to_lance`, a build by one process or `python -m
    cma.search.compact`). Items that other processes add are found at once.
    """

    table: lance.Table
    asking: MediaIndex

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<LanceIndex at {self.table.uri}: {len(self):,} pictures and clips>"

    def query(self, text: str, k: int = 5) -> list[tuple[str, float]]:
        """Do the same as `MediaIndex.query`, `DEPTH` at most; OSError if the storage does not
        answer.
        """
        near = self._near(vector := self.asking._text(text))
        return near._best(*near._ranked(vector, near._compare), k)

    def query_media(self, path: str | Path, k: int = 5) -> list[tuple[str, float]]:
        """Do the same as `query` for a picture, a clip or a folder of frames."""
        near = self._near(vector := self.asking._media(path))
        return near._best(*near._ranked(vector, near._compare_means), k)

    def _near(self, vector: Tensor) -> MediaIndex:
        files, frames = zip(*self.table.nearest(vector[0], DEPTH), strict=True)
        segment = Segment.of(files, torch.cat(frames), torch.tensor(list(map(len, frames))))
        return replace(self.asking, segments=(segment,), order=torch.arange(len(files)))
