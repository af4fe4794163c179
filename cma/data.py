"""A split of a dataset folder: its items and their captions, and where the media are.

`dataset.json` and `metadata.jsonl` are read strictly: an error names the file, the line, the key
and what was expected. A folder is parsed once for all its splits (`load_all`), and each split leads
to the others (`splits`). Letters in shapes: V items, T captions.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from . import files
from .media import CLIPS, PICTURES, InMemoryImage, MediaError, exists

SPLITS = ("train", "val", "test")
HINT = "; the folder is no finished dataset: prepare it by `python -m data_prep`"
MEMORY = Path("memory")  # in the place of the folder of a dataset that has none
RECIPES = {"image": "flickr30k", "video": "msrvtt"}  # of pairs: the paper's for that kind
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


def from_pairs(
    pairs: Iterable[tuple[str | Path, str]] | str | Path,
    split: str | None = None,
    kind: Literal["image", "video"] | None = None,
    name: str = "",
    seed: int = 0,
) -> RetrievalDataset | dict[str, RetrievalDataset]:
    """Return a dataset of (path of a picture or clip, caption) pairs, without preparing a folder.

    All captions of one file belong to one item. Without `split` the items are split at random: a
    tenth for val, a tenth for test, at least one each, and the others for train.

    Args:
        pairs: A list of (path, caption), or the name of a CSV file with a column `file_name` and a
            column `caption`; its paths start at its folder, and a column `split` decides the split.
        split: Put all items into this one split, and return it alone.
        kind: Choose pictures ("image") or clips ("video") if there are both; others are left out.
        name: Of the dataset, and of runs on it; by default the CSV's, or "pairs".
        seed: Decides the random split.

    Returns:
        The dataset of `split`, or {split: dataset} of train, val and test, each with `splits`.

    Raises:
        ValueError: For pairs that are not as expected (the first is named with its line), both
            pictures and clips without `kind`, and fewer than three items to split at random.
        MediaError: If files do not exist: the first of them, and how many.

    >>> import cma, pathlib, tempfile, PIL.Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for colour in ("red", "green", "blue"):
    ...     PIL.Image.new("RGB", (64, 64), colour).save(folder / f"{colour}.png")
    >>> pairs = [(path, f"a {path.stem} page") for path in sorted(folder.glob("*.png"))]
    >>> {split: dataset.captions for split, dataset in cma.data.from_pairs(pairs).items()}
    {'train': ['a green page'], 'val': ['a red page'], 'test': ['a blue page']}
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"no split {split!r}; expected one of {', '.join(SPLITS)}")
    if isinstance(pairs, str | Path):
        source = Path(pairs).expanduser().absolute()
        name = name or source.stem
        rows = _csv_pairs(source)
    else:
        name = name or "pairs"
        rows = ((f"pair {n}", Path(), pair, None) for n, pair in enumerate(pairs))
    captions: dict[Path, list[str]] = {}
    chosen: dict[Path, str | None] = {}
    for where, folder, pair, of_row in rows:
        try:
            path, caption = pair
            path = folder / Path(path).expanduser()
        except (TypeError, ValueError):
            raise ValueError(
                f"{where}: expected (path, caption), found {files.short(pair)}"
            ) from None
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(
                f"{where}: {path}: expected a caption, found {files.short(caption)}; "
                "leave such rows out, or describe the file"
            )
        path = path.resolve()
        if chosen.setdefault(path, of_row) != of_row:
            raise ValueError(
                f"{where}: {path}: in split {of_row!r} here and {chosen[path]!r} above; all "
                "captions of a file belong to one split"
            )
        captions.setdefault(path, []).append(caption)
    if not captions:
        raise ValueError(f"{name}: 0 pairs found; expected (path, caption) pairs")
    if missing := [path for path in captions if not path.exists()]:
        raise MediaError(
            f"{name}: {len(missing):,} of {len(captions):,} files do not exist, the first is "
            f"{missing[0]}; relative paths start at the CSV's folder, or at the working directory"
        )
    kind, paths = _of_one_kind(list(captions), kind, name)
    splits = {path: split or chosen[path] for path in paths}
    if None in splits.values():
        splits = _at_random(paths, seed, name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    lines = []
    for path in paths:
        inside = path.relative_to(root).as_posix()
        item = Item(inside, f"media/{inside}", tuple(captions[path]), splits[path])
        lines.append((str(path), item))
    about = About(kind, name=name, recipe=RECIPES[kind], media_root=root)
    found = _splits(about, MEMORY, lines)
    return found[split] if split else found


def _csv_pairs(file: Path) -> Iterator[tuple[str, Path, tuple[str, str], str | None]]:
    """Yield (where it is, folder, (path, caption), split) for each row of a CSV file."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected UTF-8; save it again in that encoding") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = reader.fieldnames or []
    if not {"file_name", "caption"} <= set(columns):
        raise ValueError(
            f"{file}: expected the columns file_name, caption and, if you like, split; found "
            f"{files.short(columns)}"
        )
    for row in reader:
        where = f"{file}:{reader.line_num}"
        of_row = row["split"] if "split" in columns else None
        if "split" in columns and of_row not in SPLITS:
            raise ValueError(
                f"{where}: 'split': expected one of {', '.join(SPLITS)}, found {of_row!r}"
            )
        yield where, file.parent, (row["file_name"], row["caption"]), of_row


def _of_one_kind(paths: list[Path], kind: str | None, name: str) -> tuple[str, list[Path]]:
    """Return the kind of paths, and those of them that are of it."""
    suffixes = {"image": PICTURES, "video": CLIPS}
    found: dict[str, list[Path]] = {"image": [], "video": []}
    for path in paths:
        # a folder holds the frames of a clip
        is_clip = path.is_dir() or path.suffix.lower() in suffixes["video"]
        found["video" if is_clip else "image"].append(path)
    there = [one for one, of_kind in found.items() if of_kind]
    if kind is None and len(there) == 2:
        counts = f"{len(found['image']):,} pictures and {len(found['video']):,} clips"
        raise ValueError(f"{name}: {counts}; choose one by kind='image' or kind='video'")
    kind = kind or there[0]
    if not found.get(kind):
        raise ValueError(
            f"{name}: no {kind} among {len(paths):,} files; expected 'image' or 'video'"
        )
    return kind, found[kind]


def _at_random(paths: list[Path], seed: int, name: str) -> dict[Path, str]:
    """Return the split of each path: a tenth for val, a tenth for test, the others for train."""
    if len(paths) < len(SPLITS):
        raise ValueError(
            f"{name}: {len(paths)} items cannot be split into train, val and test; give more, or "
            "name one split for all: split='train'"
        )
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    held = max(1, round(len(paths) / 10))
    places = ["val"] * held + ["test"] * held + ["train"] * (len(paths) - 2 * held)
    return {paths[at]: split for at, split in zip(order, places, strict=True)}


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
