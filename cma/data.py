"""Load a dataset: from a folder that `data_prep` made, from rows in memory, or from pairs.

`dataset.json` and `metadata.jsonl` are read strictly: an error names the file, the line, the key
and what was expected. A folder is parsed once for all its splits (`load_all`), and each split gives
access to the others (`splits`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import files
from .dataset import MEMORY, READINGS, About, Item, RetrievalDataset, in_splits
from .pairs import RECIPES, from_pairs

HINT = "; the folder is no finished dataset: prepare it by `python -m data_prep`"
__all__ = [
    "READINGS",
    "RECIPES",
    "Item",
    "RetrievalDataset",
    "from_pairs",
    "load",
    "load_all",
    "load_dataset",
    "splits",
]


def load(
    folder: str | Path | Any,
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
    return in_splits(About("image"), MEMORY, items, folder, image_column)[split]


load_dataset = load  # its name at the top level of cma


def load_all(folder: str | Path) -> dict[str, RetrievalDataset]:
    """Read a dataset folder once, and return its splits that have items, by name.

    This dict is also the `splits` of each of them. Raises as `load`.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder; `python -m data_prep` makes a dataset")
    if not ((folder / "dataset.json").exists() or (folder / "metadata.jsonl").exists()):
        found = "no dataset.json in it" if folder.is_dir() else "a file, not a dataset folder"
        raise FileNotFoundError(
            f"{folder}: {found}; of pictures or clips with captions, "
            "`cma.data.from_pairs` makes a dataset at once, and `python -m data_prep folder "
            "--source DIR --captions FILE --out OUT` a dataset folder"
        )
    about = files.read_json(folder / "dataset.json", About, HINT)
    items = files.read_jsonl(folder / "metadata.jsonl", Item, HINT)
    return in_splits(about, folder, items)


def splits(folder: str | Path) -> list[str]:
    """Return which of train, val and test have items in a dataset folder. Raises as `load`."""
    return list(load_all(folder))


def _rows(rows: Any, split: str, caption_column: str, id_column: str) -> Iterator[tuple[str, Item]]:
    """Yield (where it is, item) for each row of a dataset in memory; no picture is decoded."""
    ids = rows[id_column] if id_column else range(len(rows))
    for number, (id, captions) in enumerate(zip(ids, rows[caption_column], strict=True)):
        captions = [captions] if isinstance(captions, str) else captions
        line = {"file_name": str(number), "id": str(id), "captions": captions, "split": split}
        where = f"row {number}"
        yield where, files.parse_json(json.dumps(line), Item, where)
