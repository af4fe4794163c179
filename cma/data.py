"""A split of a dataset folder: its items and captions, and its media as the tensors that CLIP takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from transformers import CLIPProcessor

from .folder import SPLITS, Item, read_about, read_items
from .media import CHANNELS_LAST, MediaError, central, read_frames, read_image

__all__ = ["Item", "Pixels", "RetrievalDataset", "load", "splits"]


@dataclass(frozen=True)
class RetrievalDataset:
    """One split of a dataset folder, in the order of its `metadata.jsonl`: V items with T captions.

    `protocol["visual_to_text"]` is "captions" or "items" (see `cma.metrics`); `expected` is the published
    number of items, where `dataset.json` gives it.
    """

    folder: Path
    name: str
    kind: str
    protocol: dict[str, str]
    recipe: str
    split: str
    items: tuple[Item, ...]
    expected: int | None = None
    media_root: Path | None = None

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def captions(self) -> list[str]:
        """Every caption, item by item [T]."""
        return [caption for item in self.items for caption in item.captions]

    @cached_property
    def text_to_item(self) -> Tensor:
        """The index of each caption's item [T]."""
        counts = torch.tensor([len(item.captions) for item in self.items], dtype=torch.long)
        return torch.arange(len(self)).repeat_interleave(counts)

    def require_captions(self) -> None:
        """Raise ValueError that names an item without captions, which can be searched and nothing more."""
        without = [item.id for item in self.items if not item.captions]
        if without:
            raise ValueError(
                f"{self.folder} ({self.split}): {len(without):,} of {len(self):,} items have no captions, "
                f"the first is {without[0]}; training and evaluation need them, cma.search does not"
            )

    def require_media(self) -> None:
        """Raise `cma.media.MediaError` that names an item whose picture, clip or folder is not there."""
        missing = [self.path(item) for item in self.items if not self.path(item).exists()]
        if missing:
            raise MediaError(
                f"{self.folder} ({self.split}): the media of {len(missing):,} of {len(self):,} items are "
                f"missing, the first is {missing[0]}"
            )

    def path(self, item: Item) -> Path:
        """Where the item's picture, clip or folder of frames lies."""
        if self.media_root is None:
            return self.folder / item.file_name
        return self.media_root / PurePosixPath(item.file_name).relative_to("media")

    def subset(self, n: int | None, seed: int = 0) -> RetrievalDataset:
        """The first `n` items of a seeded permutation; None keeps all, in their order."""
        if n is None:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n].tolist()
        return dataclasses.replace(self, items=tuple(self.items[i] for i in order))


def load(folder: str | Path, split: str) -> RetrievalDataset:
    """The train, val or test split of a dataset folder.

    Raises FileNotFoundError when `dataset.json` or `metadata.jsonl` is not there, ValueError (with file and
    line) when their content is not as expected, or when the folder has no such split.
    """
    folder = Path(folder).expanduser()
    about, items = read_about(folder), read_items(folder)
    chosen = tuple(item for item in items if item.split == split)
    if not chosen:
        raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(_splits(items))}")
    return RetrievalDataset(
        folder=folder,
        name=about.name,
        kind=about.kind,
        protocol=dataclasses.asdict(about.protocol),
        recipe=about.recipe,
        split=split,
        items=chosen,
        expected=about.counts[split].expected if split in about.counts else None,
        media_root=about.media_root,
    )


def splits(folder: str | Path) -> list[str]:
    """Which of train, val and test have items in a dataset folder; raises like `load`."""
    return _splits(read_items(Path(folder).expanduser()))


class Pixels:
    """Reads media as CLIP's input, with the resizing, crop, mean and deviation of `processor`.

    Picklable and made for a DataLoader's workers: every file is opened inside the call. `cache` keeps the
    resized frames (uint8) in the memory of the process that read them, so that epochs do not decode again.
    `fps` is that of `cma.media.read_frames`: None considers every frame, right for clips of a few seconds.
    """

    def __init__(
        self, processor: CLIPProcessor, max_frames: int = 12, cache: bool = False, fps: float | None = 1.0
    ) -> None:
        self.image_processor = processor.image_processor
        self.max_frames = max_frames
        self.fps = fps
        self.cache: dict[tuple, Tensor] | None = {} if cache else None

    def __call__(self, dataset: RetrievalDataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(frames [V, F, 3, H, W] float32, mask [V, F] int64) of the items at `indices`.

        F is 1 for pictures and `max_frames` for clips; the frames that a clip has less are zeros (after
        normalisation) and masked by 0. Raises `cma.media.MediaError` naming a file that cannot be read.
        """
        clips = [self._frames(dataset, dataset.items[index]) for index in indices]
        most = 1 if dataset.kind == "image" else self.max_frames
        frames = torch.zeros(len(clips), most, *clips[0].shape[1:])
        mask = torch.zeros(len(clips), most, dtype=torch.long)
        for row, clip in enumerate(clips):
            frames[row, : len(clip)] = self._normalised(clip)
            mask[row, : len(clip)] = 1
        return frames, mask

    def _frames(self, dataset: RetrievalDataset, item: Item) -> Tensor:
        """The item's frames [F, 3, H, W], resized and cropped, uint8."""
        key = (dataset.path(item), item.start, item.end)
        if self.cache is None:
            return self._read(dataset.kind, *key)
        if key not in self.cache:
            self.cache[key] = self._read(dataset.kind, *key)
        return self.cache[key]

    def _read(self, kind: str, path: Path, start: float | None, end: float | None) -> Tensor:
        clip = kind == "video"
        pictures = read_frames(path, self.max_frames, self.fps, start, end) if clip else [read_image(path)]
        pictures = [central(picture) for picture in pictures]
        frames = self.image_processor(
            pictures,
            do_rescale=False,
            do_normalize=False,
            input_data_format=CHANNELS_LAST,
            return_tensors="pt",
        )
        return frames["pixel_values"].to(torch.uint8)

    def _normalised(self, frames: Tensor) -> Tensor:
        mean = torch.tensor(self.image_processor.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_processor.image_std).view(3, 1, 1)
        return (frames * self.image_processor.rescale_factor - mean) / std


def _splits(items: list[Item]) -> list[str]:
    present = {item.split for item in items}
    return [split for split in SPLITS if split in present]
