"""A dataset: the items of a split, their captions, and where their media are.

Letters in shapes: V items, T captions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from . import files
from .media import InMemoryImage, MediaError, exists

SPLITS = ("train", "val", "test")
MEMORY = Path("memory")  # stands for the folder of a dataset in memory
# the default `visual_to_text` of a protocol
READINGS = {"image": "captions", "video": "items"}


def _inside(name: str) -> str:
    if files.escapes_folder(name):
        raise ValueError("expected a path inside the folder")
    return name


def _not_blank(caption: str) -> str:
    if not caption.strip():
        raise ValueError("expected text that is not blank")
    return caption


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Item:
    """One picture or clip with its captions; `start` and `end` (seconds) cut a part out.

    An item without captions can be searched, but neither trained on nor evaluated. Raises
    ValueError if `start` is not before `end`.
    """

    id: Text
    file_name: Annotated[Text, AfterValidator(_inside)]
    captions: tuple[Annotated[str, AfterValidator(_not_blank)], ...]
    split: Literal[SPLITS]  # type: ignore[valid-type]  # the names are written once, in SPLITS
    start: Seconds | None = None
    end: Seconds | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"expected start ({self.start} s) before end ({self.end} s)")


@dataclass(frozen=True)
class Protocol:
    """How a dataset is evaluated: what a query is, and what visual-to-text ranks."""

    query: str = "caption"
    visual_to_text: Literal["captions", "items"] | None = None


@dataclass(frozen=True)
class Count:
    """The published number of items of a split, or None if none is published."""

    expected: int | None = None


@dataclass(frozen=True)
class About:
    """The content of `dataset.json`, which describes the whole folder."""

    kind: Literal["image", "video"]
    format_version: Literal[1] = 1
    name: str = ""
    protocol: Protocol = Protocol()
    recipe: str = ""
    counts: dict[str, Count] = field(default_factory=dict)
    media_root: Path | None = None


@dataclass(frozen=True)
class RetrievalDataset:
    """One split of a dataset folder, in the order of its `metadata.jsonl`: V items with T captions.

    `protocol["visual_to_text"]` is "captions" or "items" (see `cma.metrics`); `expected` is the
    published number of items, if `dataset.json` gives it. `splits` has all splits of the folder,
    whole, by name: `dataset.splits["val"]`. The pictures of a dataset in memory are in the column
    `column` of `rows`.
    """

    folder: Path
    name: str
    kind: Literal["image", "video"]
    protocol: dict[str, str]
    recipe: str
    split: str
    items: tuple[Item, ...]
    expected: int | None = None
    media_root: Path | None = None
    rows: object = field(default=None, repr=False)
    column: str = ""
    splits: dict[str, RetrievalDataset] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def captions(self) -> list[str]:
        """All captions, item by item [T]."""
        return [caption for item in self.items for caption in item.captions]

    @cached_property
    def text_to_item(self) -> Tensor:
        """The index of each caption's item [T]."""
        owners = [i for i, item in enumerate(self.items) for _ in item.captions]
        return torch.tensor(owners, dtype=torch.long)

    def require_captions(self) -> None:
        """Raise ValueError if items have no captions; the message names the first."""
        if without := [item.id for item in self.items if not item.captions]:
            raise ValueError(
                f"{self.folder} ({self.split}): {len(without):,} of {len(self):,} items have no "
                f"captions, the first is {without[0]}; training and evaluation need them"
            )

    def require_media(self) -> None:
        """Raise `cma.media.MediaError` if media are missing; the message names the first."""
        if self.rows is not None:
            return
        if missing := [path for path in map(self.path, self.items) if not exists(path)]:
            counts = f"the media of {len(missing):,} of {len(self):,} items are missing"
            raise MediaError(f"{self.folder} ({self.split}): {counts}, the first is {missing[0]}")

    def path(self, item: Item) -> Path | InMemoryImage:
        """Return where the item's media are, for `cma.media`: a path, or its row in memory.

        The path may be a folder of frames, or name a member of a shard.
        """
        if self.rows is not None:
            return InMemoryImage(self.rows, self.column, int(item.file_name))
        if self.media_root is None:
            return self.folder / item.file_name
        return self.media_root / PurePosixPath(item.file_name).relative_to("media")

    def subset(self, n: int | None, seed: int = 0) -> RetrievalDataset:
        """Return the first `n` items of a seeded permutation; all for None. ValueError if n < 1."""
        if n is None:
            return self
        if n < 1:
            raise ValueError(f"a subset needs at least 1 item, not {n}; None takes all")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return replace(self, items=tuple(self.items[i] for i in order[:n].tolist()))


def in_splits(
    about: About,
    folder: Path,
    found: Iterable[tuple[str, Item]],
    rows: object = None,
    column: str = "",
) -> dict[str, RetrievalDataset]:
    """Return {split: dataset} of items; each comes with its origin, which error messages name."""
    media_root = None if about.media_root is None else folder / about.media_root
    items: dict[str, Item] = {}
    for where, item in found:
        if item.id in items:
            raise ValueError(f"{where}: the id {files.short(item.id)} is there twice")
        if media_root and not item.file_name.startswith("media/"):
            name = files.short(item.file_name)
            raise ValueError(f"{where}: 'file_name': expected a path below media/, found {name}")
        items[item.id] = item
    reading = about.protocol.visual_to_text or READINGS[about.kind]
    splits: dict[str, RetrievalDataset] = {}
    for split in SPLITS:
        if own := tuple(item for item in items.values() if item.split == split):
            splits[split] = RetrievalDataset(
                folder,
                about.name or folder.name,
                about.kind,
                asdict(about.protocol) | {"visual_to_text": reading},
                about.recipe or folder.name,
                split,
                own,
                about.counts.get(split, Count()).expected,
                media_root,
                rows,
                column,
                splits,
            )
    return splits
