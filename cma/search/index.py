"""An index of pictures and clips that is asked by sentence, by picture or by clip.

Letters: T texts, V items, F frames, N frames of all items, D width. A first search compares a query with the
mean of each item's frames. Pooling depends on the text (paper, section 3.4), so a sentence is compared again
with all frames of the best `DEPTH` items; an index of at most `DEPTH` items is answered exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import ReadConfig
from ..data import RetrievalDataset
from ..media import MediaError
from ..model import RetrievalModel
from ..similarity import text_conditioned
from . import listing, store
from .build import build, check_finite, embed, read_pixels
from .listing import MediaFile
from .nearest import Nearest, best_first
from .store import ActingWeights, Embedded

DEPTH = 1000  # items whose frames are compared with the text
BLOCK = 4096  # items whose frames are gathered at once


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MediaIndex(Embedded):
    """The embeddings of pictures and clips, made with the model's `adapter` (None: plain CLIP) at `scale`.

    A query is embedded with that adapter too, whichever is active meanwhile, so that several indexes of one
    model answer side by side. Two indexes are equal only if they are the same object.
    """

    model: RetrievalModel
    adapter: str | None
    scale: float
    weights: ActingWeights

    @classmethod
    def build(
        cls,
        model: RetrievalModel,
        source: RetrievalDataset | str | Path,
        config: ReadConfig | None = None,
        previous: MediaIndex | None = None,
        folder: str | Path | None = None,
    ) -> MediaIndex:
        """Embed a split, a dataset folder (all its splits) or any folder of pictures and clips.

        `config` says how they are read and compared; a `TrainConfig` is one, of which the rest is left out.
        Files that cannot be read are skipped, listed and counted. Files that have not changed (by size and
        time, or by content) have their embeddings from `previous`, an index of the same model and config.

        The index is saved in `folder`, and its parts while it is built: after a kill the next call goes on
        from there. An index that lies there is brought up to date; one of another model, adapter, scale or
        config is replaced, so give each adapter a folder of its own. While another process writes there, this
        one waits. Raises FileNotFoundError if there is no such source, ValueError if nothing in it can be
        read, if the model's embeddings are not finite, and for a folder that holds other things and no index,
        before anything is embedded; ImportError for a video file without the extra `video`.
        """
        given, weights = config or ReadConfig(), ActingWeights(model)
        config = ReadConfig(**{field.name: getattr(given, field.name) for field in fields(ReadConfig)})
        folder = None if folder is None else Path(folder).expanduser()
        return cls._of(model, weights, build(model, source, config, weights.digests, previous, folder))

    def save(self, folder: str | Path) -> None:
        """Write `index.safetensors` into `folder`, whole or not at all; waits while another process does.

        Raises ValueError for a folder that holds other things and no index, and for an adapter that changed
        since `build`.
        """
        folder = Path(folder).expanduser()
        with store.writing(folder), self._own_adapter():
            store.write(folder / store.INDEX, self.model, self)

    @classmethod
    def load(cls, folder: str | Path, model: RetrievalModel) -> MediaIndex:
        """Read an index for `model`, whose active adapter and scale must be those it was built with.

        Raises FileNotFoundError, or ValueError for a damaged index or another backbone or adapter.
        """
        weights = ActingWeights(model)
        index = store.read(Path(folder).expanduser() / store.INDEX, model, weights.digests)
        return cls._of(model, weights, index)

    @classmethod
    def _of(cls, model: RetrievalModel, weights: ActingWeights, embedded: Embedded) -> MediaIndex:
        return cls(model=model, adapter=model.active, scale=model.scale, weights=weights, **vars(embedded))

    def __repr__(self) -> str:
        clips = sum(file.kind == "video" for file in self.files)
        counts = f"{len(self) - clips:,} pictures, {clips:,} clips"
        adapter = store.adapter_text(self.adapter, self.built_with)
        return f"<MediaIndex of {self.media_root}: {counts}, {adapter}>"

    def __len__(self) -> int:
        return len(self.files)

    def path(self, file: MediaFile) -> Path:
        """Where the picture, clip or folder of frames lies."""
        return self.media_root / file.media

    @property
    def captions(self) -> list[str]:
        """Every caption known, item by item [T]."""
        return [caption for file in self.files for caption in file.captions]

    @property
    def text_to_item(self) -> Tensor:
        """The index of each caption's item [T]."""
        owners = [item for item, file in enumerate(self.files) for _ in file.captions]
        return torch.tensor(owners, dtype=torch.int64)

    def frames(self, item: int) -> Tensor:
        """The embeddings [F, D] of one item's frames, un-normalised."""
        return self.vectors[self._starts[item] :][: self.lengths[item]]

    # ---- asking

    def query(self, text: str, k: int = 5) -> list[tuple[str, float]]:
        """The `k` best (file name, cosine) for a sentence, best first; all items if there are fewer.

        Raises TypeError for anything but a string, ValueError for a blank sentence, k below 1, embeddings
        that are not finite, and a backbone or adapter that changed since `build`.
        """
        return self._best(*self.ranking(text), k)

    def query_media(self, path: str | Path, k: int = 5) -> list[tuple[str, float]]:
        """As `query`, for a picture, a clip or a folder of frames; see `ranking_media`."""
        return self._best(*self.ranking_media(path), k)

    def ranking(self, text: str) -> tuple[Tensor, Tensor]:
        """(items, their cosines), best first; raises as `query`.

        All items [V]. The first `DEPTH` are compared by all their frames; the rest are in the order of the
        first search, which is the same for pictures and for mean_pooled. From `nearest.FAISS_FROM` items on,
        if faiss is installed, only the best `DEPTH` come back: the ranks of the others are not known.
        """
        if not isinstance(text, str):
            raise TypeError(f"a query is a sentence, not {text!r}; for a picture or clip see `query_media`")
        if not text.strip():
            raise ValueError("the query is blank; type a few words")
        vector = self._encode([text])
        if len(self) <= DEPTH:
            return best_first(self._compare(vector, torch.arange(len(self)))[0])
        items, first = self._nearest(F.normalize(vector[0], dim=0))
        near = items[:DEPTH].sort().values
        order, again = best_first(self._compare(vector, near)[0])
        return torch.cat([near[order], items[DEPTH:]]), torch.cat([again, first[DEPTH:]])

    def ranking_media(self, path: str | Path) -> tuple[Tensor, Tensor]:
        """(items, their cosines) by mean frames, best first, for a picture, a clip or a folder of frames.

        As many as `ranking` returns. Raises TypeError for what is no path, MediaError (a ValueError) that
        names a file that cannot be read, and ValueError as `query`.
        """
        if not isinstance(path, str | Path):
            raise TypeError(f"expected the path of a picture or clip, not {path!r}")
        path = Path(path).expanduser()
        kind = listing.kind_of(path)
        if kind is None:
            raise MediaError(f"{path}: neither picture nor clip; expected {', '.join(listing.SUFFIXES)}")
        wanted = MediaFile(path.name, path.name, kind)
        with self._own_adapter():
            vector = embed(self.model, [read_pixels(wanted, path, self.model, self.config)])[0].mean(0)
        return self._nearest(F.normalize(vector, dim=0))

    def frame_weights(self, text: str, items: Sequence[int]) -> list[Tensor]:
        """The share [F] of each frame in the match of some items with a sentence: softmax_f(t . v_f / τ).

        It is 1 / F for `mean_pooled`.
        """
        parts = [self.frames(item) for item in items]
        if self.config.similarity == "mean_pooled":
            return [torch.full((len(frames),), 1 / len(frames)) for frames in parts]
        vector = self._encode([text])[0]
        return [(frames @ vector / self.config.temperature).softmax(0) for frames in parts]

    def scores(self, texts: Sequence[str], items: list[int] | None = None) -> Tensor:
        """Cosine [T, V] of every text with every item, or with those in `items`, by all their frames."""
        chosen = range(len(self)) if items is None else items
        return self._compare(self._encode(texts), torch.tensor(chosen))

    def right(self, text: str) -> list[int]:
        """The items that have `text` as a caption; case and spaces do not count."""
        wanted = text.casefold().split()
        words = ((caption.casefold().split() for caption in file.captions) for file in self.files)
        return [item for item, captions in enumerate(words) if wanted in captions]

    @cached_property
    def _starts(self) -> Tensor:
        """Where each item's frames begin in `vectors` [V]."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def _pooled(self) -> Tensor:
        """The mean of each item's frames, normalised [V, D]."""
        owners = torch.arange(len(self)).repeat_interleave(self.lengths)
        sums = torch.zeros(len(self), self.vectors.shape[1]).index_add_(0, owners, self.vectors)
        return F.normalize(sums, dim=1)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self._pooled, DEPTH)

    def _encode(self, texts: Sequence[str]) -> Tensor:
        parts = [texts[i : i + 256] for i in range(0, len(texts), 256)]
        with self._own_adapter():
            encoded = [self.model.encode_text(part, self.config.max_words) for part in parts]
            return check_finite(self.model.family.comparable(torch.cat(encoded)).float().cpu(), self.model)

    def _compare(self, text: Tensor, items: Tensor) -> Tensor:
        """Cosine [T, V] of every text [T, D] with some items [V], over all their frames."""
        if self.config.similarity == "mean_pooled":
            return F.normalize(text, dim=1) @ self._pooled[items].T
        scores = torch.empty(len(text), len(items))
        lengths = self.lengths[items]
        for length in lengths.unique().tolist():  # items with the same number of frames need no padding
            for columns in (lengths == length).nonzero().flatten().split(BLOCK):
                rows = self._starts[items[columns], None] + torch.arange(length)
                scores[:, columns] = text_conditioned(text, self.vectors[rows], None, self.config.temperature)
        return scores

    def _best(self, items: Tensor, scores: Tensor, k: int) -> list[tuple[str, float]]:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k={k!r}: expected at least 1")
        pairs = zip(items[:k].tolist(), scores[:k].tolist(), strict=True)
        return [(self.files[item].file_name, score) for item, score in pairs]

    @contextmanager
    def _own_adapter(self) -> Iterator[None]:
        with self.model.acting(self.adapter, self.scale):
            if changed := self.weights.changed(self.model):
                raise ValueError(f"the weights of {changed} changed since; build the index again")
            yield
