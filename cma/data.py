"""A split of a dataset folder: its items and their captions, and where the media are.

`dataset.json` and `metadata.jsonl` are read strictly: an error names the file, the line, the key
and what was expected. Letters in shapes: V items, T captions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from .files import leads_out, read_json, read_jsonl
from .media import MediaError

SPLITS = ("train", "val", "test")
HINT = "; the folder is no finished dataset: prepare it by `python -m data_prep`"
# the `visual_to_text` of a protocol that has none
READINGS = {"image": "captions", "video": "items"}


def _inside(name: str) -> str:
    if leads_out(name):
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
    """One picture or clip with its captions; `start` and `end` (seconds) cut a clip out of a longer
    file.

    An item without captions can be searched, but neither trained on nor evaluated. Raises
    ValueError if `start` is not before `end`.
    """

    id: Text
    file_name: Annotated[Text, AfterValidator(_inside)]
    captions: tuple[Annotated[str, AfterValidator(_not_blank)], ...]
    split: Literal[SPLITS]
    start: Seconds | None = None
    end: Seconds | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"expected start ({self.start} s) before end ({self.end} s)")


@dataclass(frozen=True)
class Protocol:
    """How a dataset is evaluated: what a query is, and what visual-to-text ranks (see
    `cma.metrics`).
    """

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
    published number of items, if `dataset.json` gives it.
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
        return torch.tensor(
            [i for i, item in enumerate(self.items) for _ in item.captions], dtype=torch.long
        )

    def require_captions(self) -> None:
        """Raise ValueError, naming the first, if items have no captions: these can only be
        searched.
        """
        if without := [item.id for item in self.items if not item.captions]:
            counts = f"{len(without):,} of {len(self):,} items have no captions, the first is {without[0]}"
            raise ValueError(
                f"{self.folder} ({self.split}): {counts}; training and evaluation need them"
            )

    def require_media(self) -> None:
        """Raise `cma.media.MediaError`, naming the first, if pictures, clips or folders are
        missing.
        """
        if missing := [path for path in map(self.path, self.items) if not path.exists()]:
            counts = f"the media of {len(missing):,} of {len(self):,} items are missing"
            raise MediaError(f"{self.folder} ({self.split}): {counts}, the first is {missing[0]}")

    def path(self, item: Item) -> Path:
        """Return the path of the item's picture, clip or folder of frames."""
        if self.media_root is None:
            return self.folder / item.file_name
        return self.media_root / PurePosixPath(item.file_name).relative_to("media")

    def subset(self, n: int | None, seed: int = 0) -> RetrievalDataset:
        """Return the first `n` items of a seeded permutation, or all for None. ValueError if `n` <
        1.
        """
        if n is None:
            return self
        if n < 1:
            raise ValueError(f"a subset needs at least 1 item, not {n}; None takes all")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[
            :n
        ].tolist()
        return replace(self, items=tuple(self.items[i] for i in order))


def load(folder: str | Path, split: str) -> RetrievalDataset:
    """Read the train, val or test split of a dataset folder.

    Raises FileNotFoundError if `dataset.json` or `metadata.jsonl` is missing, and ValueError if
    their content is not as expected (with file and line) or if the folder has no such split.
    """
    folder = Path(folder).expanduser()
    about = read_json(folder / "dataset.json", About, HINT)
    items = tuple(item for item in _read_items(folder) if item.split == split)
    if not items:
        raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(splits(folder))}")
    reading = about.protocol.visual_to_text or READINGS[about.kind]
    protocol = asdict(about.protocol) | {"visual_to_text": reading}
    return RetrievalDataset(
        folder,
        about.name or folder.name,
        about.kind,
        protocol,
        about.recipe or folder.name,
        split,
        items,
        about.counts.get(split, Count()).expected,
        about.media_root and folder / about.media_root,
    )


load_dataset = load  # its name at the top level of cma


def splits(folder: str | Path) -> list[str]:
    """Return which of train, val and test have items in a dataset folder. Raises as `load`."""
    present = {item.split for item in _read_items(Path(folder).expanduser())}
    return [split for split in SPLITS if split in present]


def _read_items(folder: Path) -> list[Item]:
    items: dict[str, Item] = {}
    for where, item in read_jsonl(folder / "metadata.jsonl", Item, HINT):
        if item.id in items:
            raise ValueError(f"{where}: the id {item.id!r} is there twice")
        items[item.id] = item
    return list(items.values())
