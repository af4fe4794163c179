"""Make a dataset from (path, caption) pairs or a CSV file, without preparing a folder."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from . import files
from .dataset import MEMORY, SPLITS, About, Item, RetrievalDataset, in_splits
from .media import CLIPS, MediaError

Kind = Literal["image", "video"]
Row = tuple[str, Path, Any, str | None]  # origin (for messages), folder, (path, caption), split
RECIPES: dict[Kind, str] = {"image": "flickr30k", "video": "msrvtt"}  # for that kind


def from_pairs(
    pairs: Iterable[tuple[str | Path, str]] | str | Path,
    split: str | None = None,
    kind: Kind | None = None,
    name: str = "",
    seed: int = 0,
) -> RetrievalDataset | dict[str, RetrievalDataset]:
    """Return a dataset of (path of a picture or clip, caption) pairs, without preparing a folder.

    All captions of one file belong to one item. Without `split` they are split at random: a tenth
    for val, a tenth for test, at least one each, and the rest for train.

    Args:
        pairs: A list of (path, caption), or the name of a CSV file with a column `file_name` and a
            column `caption`; its paths start at its folder, and a column `split` decides the split.
        split: Put all items into this one split, and return it alone.
        kind: Keep only pictures ("image") or clips ("video"), if there are both.
        name: The name of the dataset and of runs on it; by default the CSV's, or "pairs".
        seed: Decides the random split.

    Returns:
        The dataset of `split`, or {split: dataset} of train, val and test, each with `splits`.

    Raises:
        ValueError: If pairs are not as expected (it names the first, with its line), if there are
            both pictures and clips but no `kind`, or fewer than three items to split at random.
        MediaError: If files do not exist; it names the first, and says how many.

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
        rows: Iterable[Row] = _csv_pairs(source)
    else:
        name = name or "pairs"
        rows = ((f"pair {n}", Path(), pair, None) for n, pair in enumerate(pairs))
    captions, chosen = _by_file(rows)
    if not captions:
        raise ValueError(f"{name}: 0 pairs found; expected (path, caption) pairs")
    if missing := [path for path in captions if not path.exists()]:
        raise MediaError(
            f"{name}: {len(missing):,} of {len(captions):,} files do not exist, the first is "
            f"{missing[0]}; relative paths start at the CSV's folder, or at the working directory"
        )
    of_kind, paths = _of_one_kind(list(captions), kind, name)
    splits: Mapping[Path, str | None] = {path: split or chosen[path] for path in paths}
    if None in splits.values():
        splits = _at_random(paths, seed, name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    lines = []
    for path in paths:
        inside = path.relative_to(root).as_posix()
        item = Item(inside, f"media/{inside}", tuple(captions[path]), splits[path])
        lines.append((str(path), item))
    about = About(of_kind, name=name, recipe=RECIPES[of_kind], media_root=root)
    found = in_splits(about, MEMORY, lines)
    return found[split] if split else found


def _by_file(
    rows: Iterable[Row],
) -> tuple[dict[Path, list[str]], dict[Path, str | None]]:
    """Return the captions of each file, and the split that its rows name, if any."""
    captions: dict[Path, list[str]] = {}
    chosen: dict[Path, str | None] = {}
    for where, folder, pair, of_row in rows:
        try:
            if isinstance(pair, str | dict):  # whose letters or keys would be unpacked
                raise TypeError
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
    return captions, chosen


def _csv_pairs(file: Path) -> Iterator[Row]:
    """Yield (where it is, folder, (path, caption), split) for each row of a CSV file."""
    hint = "; expected a CSV file in UTF-8, or a list of (path, caption)"
    text = files.read_text(file, hint)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = reader.fieldnames or []
    if not {"file_name", "caption"} <= set(columns):
        raise ValueError(
            f"{file}: expected the columns file_name, caption and, if you like, split, with commas "
            f"between them; found {files.short(columns)}"
        )
    for row in _rows(reader, file):
        where = f"{file}:{reader.line_num}"
        if None in row:
            raise ValueError(
                f"{where}: more cells than the {len(columns)} columns; put a caption with a comma "
                'between quotes ("…, …")'
            )
        of_row = row["split"] if "split" in columns else None
        if "split" in columns and of_row not in SPLITS:
            raise ValueError(
                f"{where}: 'split': expected one of {', '.join(SPLITS)}, found {of_row!r}"
            )
        yield where, file.parent, (row["file_name"], row["caption"]), of_row


def _rows(reader: csv.DictReader, file: Path) -> Iterator[dict]:
    """Yield the rows of a CSV file. Raises ValueError that finds a quote which is not ended."""
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(
            f"{file}: the row after line {reader.line_num}: {error}; expected each quote to be "
            'ended, and those inside a caption to be doubled ("")'
        ) from error


def _of_one_kind(paths: list[Path], kind: Kind | None, name: str) -> tuple[Kind, list[Path]]:
    """Return the kind of the paths (`kind` if given), and the paths of that kind."""
    found: dict[Kind, list[Path]] = {"image": [], "video": []}
    for path in paths:  # a folder holds the frames of a clip
        is_clip = path.is_dir() or path.suffix.lower() in CLIPS
        found["video" if is_clip else "image"].append(path)
    if kind is None and all(found.values()):
        counts = f"{len(found['image']):,} pictures and {len(found['video']):,} clips"
        raise ValueError(f"{name}: {counts}; choose one by kind='image' or kind='video'")
    kind = kind or ("video" if found["video"] else "image")
    if not found.get(kind):
        raise ValueError(
            f"{name}: no {kind} among {len(paths):,} files; expected 'image' or 'video'"
        )
    return kind, found[kind]


def _at_random(paths: list[Path], seed: int, name: str) -> dict[Path, str]:
    """Return the split of each path: a tenth for val, a tenth for test, the others for train."""
    if len(paths) < len(SPLITS):
        raise ValueError(
            f"{name}: {len(paths)} of the {len(SPLITS)} files needed for train, val and test; give "
            "more, or name one split for all: split='train'"
        )
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    held = max(1, round(len(paths) / 10))
    places = ["val"] * held + ["test"] * held + ["train"] * (len(paths) - 2 * held)
    return {paths[at]: split for at, split in zip(order, places, strict=True)}
