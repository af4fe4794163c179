"""A split of a dataset folder: its items and their captions, and where the media are.

`dataset.json` and `metadata.jsonl` are read strictly: an error names the file, the line, the key
and what was expected. A folder is parsed once for all its splits (`load_all`), and each split leads
to the others (`splits`). Letters in shapes: V items, T captions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
HINT = "; the folder is no finished dataset: prepare it by `python -m data_prep`"
MEMORY = Path("memory")  # in the place of the folder of a dataset that has none
# the `visual_to_text` of a protocol that has none
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
    split: Literal[SPLITS]
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
    published number of items, if `dataset.json` gives it. `splits` has this split and the others
    of the folder, whole, by name: `dataset.splits["val"]`. The pictures of a dataset in memory are
    in the column `column` of `rows`.
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
    rows: object = field(default=None, repr=False)
    column: str = ""
    splits: dict[str, RetrievalDataset] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def captions(self) -> list[str]:
        """Every caption, item by item [T]."""
        return [caption for item in self.items for caption in item.captions]

    @cached_property
    def text_to_item(self) -> Tensor:
        """The index of each caption's item [T]."""
        owners = [i for i, item in enumerate(self.items) for _ in item.captions]
        return torch.tensor(owners, dtype=torch.long)

    def require_captions(self) -> None:
        """Raise ValueError, naming the first, if items have no captions."""
        if without := [item.id for item in self.items if not item.captions]:
            raise ValueError(
                f"{self.folder} ({self.split}): {len(without):,} of {len(self):,} items have no "
                f"captions, the first is {without[0]}; training and evaluation need them"
            )

    def require_media(self) -> None:
        """Raise `cma.media.MediaError`, naming the first, if pictures or clips are missing."""
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


def load(
    folder: str | Path | object,
    split: str,
    image_column: str = "image",
    caption_column: str = "caption",
    id_column: str = "",
) -> RetrievalDataset:
    """Read the train, val or test split of a dataset folder, or of a `datasets.Dataset`.

    Args:
        folder: a dataset folder; or a `datasets.Dataset` of pictures, which becomes the split that
            you name. Its row numbers are the ids.
        split: "train", "val" or "test".
        image_column: the column of a `datasets.Dataset` with PIL pictures.
        caption_column: its column with a caption, or a list of captions, in each row.
        id_column: its column with ids, if row numbers will not do.

    Returns:
        The split, as a `RetrievalDataset`.

    Raises:
        FileNotFoundError: `dataset.json` or `metadata.jsonl` is missing.
        ValueError: their content is not as expected (with file and line, or row), or there is no
            such split or column.
        TypeError: `folder` is neither a folder nor a dataset.

    >>> import cma, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "dataset.json").write_text('{"kind": "image"}')
    >>> line = '{"file_name": "media/1.jpg", "id": "1", "captions": ["a cat"], "split": "train"}'
    >>> _ = (folder / "metadata.jsonl").write_text(line)
    >>> cma.load_dataset(folder, "train").captions
    ['a cat']
    """
    if isinstance(folder, str | Path):
        found = load_all(folder)
        if split not in found:
            raise ValueError(f"{folder}: no split {split!r}; it has {', '.join(found)}")
        return found[split]
    known = getattr(folder, "column_names", None)
    if not known or not len(folder):
        given = files.short(folder)
        raise TypeError(f"expected a dataset folder or a datasets.Dataset with rows, not {given}")
    for column in (image_column, caption_column, id_column or caption_column):
        if column not in known:
            raise ValueError(f"no column {column!r}; those of the dataset are {files.short(known)}")
    items = _rows(folder, split, caption_column, id_column)
    return _splits(About("image"), MEMORY, items, folder, image_column)[split]


load_dataset = load  # its name at the top level of cma


def load_all(folder: str | Path) -> dict[str, RetrievalDataset]:
    """Read a dataset folder, once; return those of train, val and test that have items, by name.

    This dict is also the `splits` of each of them. Raises as `load`.
    """
    folder = Path(folder).expanduser()
    about = files.read_json(folder / "dataset.json", About, HINT)
    items = files.read_jsonl(folder / "metadata.jsonl", Item, HINT)
    return _splits(about, folder, items)


def splits(folder: str | Path) -> list[str]:
    """Return which of train, val and test have items in a dataset folder. Raises as `load`."""
    return list(load_all(folder))


def _rows(
    rows: object, split: str, caption_column: str, id_column: str
) -> Iterator[tuple[str, Item]]:
    """Yield (where it is, item) for each row of a dataset in memory; no picture is decoded."""
    ids = rows[id_column] if id_column else range(len(rows))
    for number, (id, captions) in enumerate(zip(ids, rows[caption_column], strict=True)):
        captions = [captions] if isinstance(captions, str) else captions
        line = {"file_name": str(number), "id": str(id), "captions": captions, "split": split}
        where = f"row {number}"
        yield where, files.parse_json(json.dumps(line), Item, where)


def _splits(
    about: About,
    folder: Path,
    found: Iterable[tuple[str, Item]],
    rows: object = None,
    column: str = "",
) -> dict[str, RetrievalDataset]:
    """Return the splits of items, which come with where they are from, to name it in errors."""
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
