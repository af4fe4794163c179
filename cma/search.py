"""An index of pictures and clips, asked by sentence, by picture or by clip.

Letters: T texts, V items, F frames, D width. Up to `DEPTH` items, a sentence is compared with all frames of
all of them. Beyond, a first search compares it with the mean of an item's frames, and the best `DEPTH` are
compared again over their frames, where pooling depends on the text (paper, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from . import index_storage, media
from .backbone import identity
from .data import RetrievalDataset
from .embedding import IndexConfig, Known, acting, embed_file, embed_files
from .media import MediaFile
from .model import RetrievalModel
from .similarity import mean_pooled, text_conditioned
from .video import MediaError

DEPTH = 1000  # items whose frames are compared with the text: the search is exact up to so many


@dataclass(frozen=True)
class MediaIndex:
    """Un-normalised frame embeddings [V, F, D] and mask [V, F] of `files`, made with the model's `adapter`.

    A query is embedded with that same adapter (None: CLIP as it is), whichever is active meanwhile, so that
    several indexes of one model answer side by side. `skipped` lists (file name, reason) of what could not
    be read; `built_with` identifies the weights of backbone and adapter.
    """

    model: RetrievalModel
    adapter: str | None
    built_with: dict
    config: IndexConfig
    media_root: Path
    files: tuple[MediaFile, ...]
    frames: Tensor
    mask: Tensor
    skipped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def build(
        cls,
        model: RetrievalModel,
        source: RetrievalDataset | str | Path,
        config: IndexConfig | None = None,
        previous: MediaIndex | None = None,
    ) -> MediaIndex:
        """Embed a split, a dataset folder (all its splits) or any folder of pictures and clips.

        Files that cannot be read are skipped, listed and counted. From `previous`, an index of the same model
        and config, the embeddings of unchanged files (by size and time, or content) are taken over.
        Raises FileNotFoundError for no such folder, ValueError where nothing in it can be read.
        """
        config, built_with = config or IndexConfig(), index_storage.identify(model)
        if previous and (previous.built_with, previous.config) != (built_with, config):
            raise ValueError("`previous` is of another model, adapter or config; build the index without it")
        root, listed = media.find(source)
        files, embedded, skipped = [], [], []
        with acting(model, model.active):
            read = embed_files(model, root, listed, config, previous._known() if previous else {})
            for file, result in tqdm(read, "index", len(listed), unit="file", mininterval=1):
                if isinstance(result, MediaError):
                    skipped.append((file.file_name, str(result).removeprefix(f"{root / file.media}: ")))
                else:
                    files.append(file)
                    embedded.append(result)
        print(f"indexed {len(files):,} / {len(listed):,} files")
        for name, reason in skipped[:5]:
            print(f"  skipped {name}: {reason}")
        if not files:
            raise ValueError(f"{root}: none of its {len(listed)} files can be read ({skipped[0][1]}, …)")
        mask = pad_sequence([torch.ones(len(vectors), dtype=torch.int64) for vectors in embedded], True)
        frames = pad_sequence(embedded, batch_first=True)
        return cls(model, model.active, built_with, config, root, tuple(files), frames, mask, tuple(skipped))

    def save(self, folder: str | Path) -> None:
        """Write `index.safetensors` and `files-….jsonl` into `folder`, whole or not at all."""
        about = {
            "backbone": identity(self.model.clip),
            "adapter": self.adapter,
            "built_with": self.built_with,
            "config": asdict(self.config),
            "media_root": str(self.media_root),
            "skipped": self.skipped,
        }
        index_storage.write(Path(folder).expanduser(), about, self.files, self.frames, self.mask)

    @classmethod
    def load(cls, folder: str | Path, model: RetrievalModel) -> MediaIndex:
        """Read an index for `model`, whose active adapter must be the one it was built with.

        Raises FileNotFoundError, or ValueError for a damaged index or another backbone or adapter.
        """
        fields = index_storage.read(Path(folder).expanduser(), model)
        return cls(model, model.active, **fields | {"config": IndexConfig(**fields["config"])})

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
        return torch.tensor(
            [i for i, file in enumerate(self.files) for _ in file.captions], dtype=torch.int64
        )

    # ---- asking

    def query(self, text: str, k: int = 5) -> list[tuple[str, float]]:
        """The `k` best (file name, cosine) for a sentence, best first; all items if there are fewer.

        Raises ValueError for a blank sentence, k below 1, and an adapter that changed since `build`.
        """
        return self._best(*self.ranking(text), k)

    def query_media(self, path: str | Path, k: int = 5) -> list[tuple[str, float]]:
        """The `k` best (file name, cosine) for a picture, a clip or a folder of frames, by mean frames.

        Raises MediaError, a ValueError, naming a file that cannot be read; the others as `query`.
        """
        path = Path(path).expanduser()
        kind = media.kind_of(path)
        if kind is None:
            raise MediaError(f"{path}: neither picture nor clip; expected {', '.join(media.SUFFIXES)}")
        wanted = MediaFile(path.name, path.name, kind)
        with self._own_adapter():
            vector = embed_file(self.model, wanted, path, self.config).mean(0, keepdim=True)
        return self._best(*_best_first(mean_pooled(vector, self.frames, self.mask)), k)

    def ranking(self, text: str) -> tuple[Tensor, Tensor]:
        """(items [V], their cosines [V]), best first; the first search orders those beyond `DEPTH`."""
        if not text.strip():
            raise ValueError("the query is blank; type a few words")
        vector = self._encode([text])
        if len(self) <= DEPTH or self.config.similarity == "mean_pooled":
            return _best_first(self._compare(vector, self.frames, self.mask))
        items, first = _best_first(mean_pooled(vector, self.frames, self.mask))
        near = items[:DEPTH]
        order, again = _best_first(self._compare(vector, self.frames[near], self.mask[near]))
        return torch.cat([near[order], items[DEPTH:]]), torch.cat([again, first[DEPTH:]])

    def scores(self, texts: Sequence[str]) -> Tensor:
        """Cosine [T, V] of every text with every item over all frames, whatever the size of the index."""
        return self._compare(self._encode(texts), self.frames, self.mask)

    def right(self, text: str) -> list[int]:
        """The items that have `text` as a caption, but for case and spaces."""
        wanted = _plain(text)
        return [i for i, file in enumerate(self.files) if wanted in map(_plain, file.captions)]

    def _encode(self, texts: Sequence[str]) -> Tensor:
        parts = [texts[i : i + 256] for i in range(0, len(texts), 256)]
        with self._own_adapter():
            return torch.cat([self.model.encode_text(part).float().cpu() for part in parts])

    def _compare(self, text: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        if self.config.similarity == "mean_pooled":
            return mean_pooled(text, frames, mask)
        return text_conditioned(text, frames, mask, self.config.temperature)

    def _best(self, items: Tensor, scores: Tensor, k: int) -> list[tuple[str, float]]:
        if k < 1:
            raise ValueError(f"k={k}: expected at least 1")
        pairs = zip(items[:k].tolist(), scores[:k].tolist(), strict=True)
        return [(self.files[item].file_name, score) for item, score in pairs]

    def _known(self) -> Known:
        rows = zip(self.files, self.frames, self.mask.bool(), strict=True)
        return {file.key: (file, frames[mask]) for file, frames, mask in rows}

    @contextmanager
    def _own_adapter(self) -> Iterator[None]:
        with acting(self.model, self.adapter):
            if index_storage.identify(self.model) != self.built_with:
                raise ValueError(
                    f"the weights of adapter {self.adapter!r} changed since; build the index again"
                )
            yield


def _best_first(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(items [V], scores [V]) of one text's scores [1, V]; of equal scores the first item comes first."""
    ordered = scores[0].sort(descending=True, stable=True)
    return ordered.indices, ordered.values


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
