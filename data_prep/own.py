"""Read a folder of your own pictures or clips, with or without captions.

Without captions, you can only search the dataset, and every item is in its test split. With
captions, a column `split` gives each item's split (train, val or test); without that column, splits
are drawn at random: 80 % train, 10 % val, 10 % test.
"""

import os
import random
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

from cma.data import READINGS, RECIPES
from cma.files import printable, short, walk
from cma.media import not_read
from data_prep.benchmarks.downloads import SPLIT_WORDS, split_of
from data_prep.containers import (
    NOT_LOOKED_AT,
    PARQUET,
    SHARD,
    Pictures,
    columns_of,
    has_texts,
    layout_of,
    member_paths,
    samples,
)
from data_prep.dataset import (
    SEAL,
    SHOWN,
    SPLITS,
    Annotations,
    CaptionCleaner,
    Entry,
    Kind,
    count_of,
)
from data_prep.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from data_prep.readers import BadInput, NotThere, read_csv, read_json_lines

ROW_OF = re.compile(r"(:\d+|: row \d+|(?<=\.tar)/[^:]*)$")  # a row's place in its file


class CaptionRow(NamedTuple):
    """Captions of one picture or clip; `where` is the line of the caption file, for messages."""

    where: str
    file_name: str
    captions: list
    split: str | None


def read(
    source: Path,
    captions: Path | None = None,
    kind: Kind | None = None,
    seed: int = 0,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Annotations:
    """Return the pictures or clips under `source` with their captions; ids are paths below
    `source`.

    `source` may be a parquet file or a shard. Without the file `captions`, we read captions from
    parquet files with pictures, from shards, or from `metadata.csv` or `metadata.jsonl` (an
    imagefolder); `image_column` and `caption_column` name their columns. If there are pictures and
    clips, `kind` ("image" or "video") chooses one. Raises `BadInput` if there are no media, if
    there are both and `kind` is None, and if captions are not as expected.
    """
    named = (image_column, caption_column)
    tables, others = ([], []) if captions else _tables_in(source)
    packed = None
    notes = list(others)
    faults: list[str] = []
    rows: list[CaptionRow]
    if tables:
        packed, rows = _read_tables(source, tables, named)
        kind = "image"
        names = sorted(packed.wanted)
    else:
        try:
            kind, names, more, faults = find_media(source, kind)
        except NotThere:
            if others:  # the error says what the first of them lacks
                layout_of(next(_inner(source, PARQUET)), *named)
            raise
        notes += more
        rows = list(read_rows(captions, named) if captions else _rows_inside(source, named))
    from_file = captions.name if captions else "the captions inside"
    texts: dict[str, tuple[str, ...]] = {}
    splits: dict[str, str | None] = {}
    cleaner = CaptionCleaner()
    if rows:
        path_of = _path_finder(names, source, captions)
        for row in rows:
            file = path_of(row)
            if row.split not in (None, *SPLITS):
                raise BadInput(
                    f"{row.where}: expected split {', '.join(SPLITS)}, found {short(row.split)}"
                )
            texts[file] = texts.get(file, ()) + cleaner(row.captions, row.where)
            if splits.setdefault(file, row.split) != row.split:
                raise BadInput(
                    f"{row.where}: {file} is in split {splits[file]} above and {row.split} here"
                )
        bare = [name for name in names if not texts.get(name)]
        absent = sorted(set(texts) - set(names))
        if len(absent) == len(texts):
            raise BadInput(
                f"{captions or source}: 0 of {len(absent):,} files are there, the first is "
                f"{absent[0]}; expected paths that start at {source}"
                f"{' or at the folder of the captions' if captions else ''}, or names of files"
            )
        notes += cleaner.notes() + count_of(bare, f"files without captions in {from_file}")
        notes += count_of(absent, f"files named in {from_file} that are not there")
        names += absent
        without = [file for file, split in splits.items() if split is None]
        if 0 < len(without) < len(splits):
            raise BadInput(
                f"{captions or source}: files without a split: {len(without):,}, the first is "
                f"{without[0]}"
            )
        if without:
            splits = {**draw_splits([name for name in names if texts.get(name)], seed)}
    return Annotations(
        name=source.resolve().stem if source.is_file() else source.resolve().name,
        kind=kind,
        protocol={"query": "caption", "visual_to_text": READINGS[kind]},
        expected={},
        entries=[
            Entry(name, name, texts.get(name, ()), splits.get(name) or "test") for name in names
        ],
        recipe=RECIPES[kind],
        files=_files_of(rows) or ["no file, so it can only be searched"],
        notes=notes,
        faults=faults,
        advice="Mend or remove the unusable files",
        exact=True,
        captioned=bool(rows),
        packed=packed,
    )


def _files_of(rows: Sequence[CaptionRow]) -> list[str]:
    """Return the names of the files that rows of captions were read from, or how many there are."""
    names = sorted({Path(ROW_OF.sub("", row.where)).name for row in rows})
    return names if len(names) <= SHOWN else [f"{len(names):,} files, the first is {names[0]}"]


def _inner(source: Path, ending: str) -> Iterator[Path]:
    """Yield `source`, or the files below it with an ending, without hidden files and folders."""
    if source.is_file():
        if source.name.lower().endswith(ending):
            yield source
        return
    for parent, folders, names in walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(ending) and not name.startswith("."):
                yield parent / name


def _tables_in(source: Path) -> tuple[list[Path], list[str]]:
    """Return the parquet files with a column of pictures, and a note on the others."""
    found = list(_inner(source, PARQUET))
    try:
        tables = [path for path in found if any(columns_of(path).values())]
    except ImportError as error:
        return [], [NOT_LOOKED_AT.format(error)]
    others = [path.name for path in found if path not in tables]
    return tables, count_of(others, "parquet files without pictures, not read")


def _read_tables(
    source: Path, paths: list[Path], named: tuple[str | None, str | None]
) -> tuple[Pictures, list[CaptionRow]]:
    """Return the pictures and captions of parquet files; a single file's name gives no split."""
    layout = layout_of(paths[0], *named)
    captions = []
    owners: dict[str, Path] = {}
    for path in paths:
        place = path.relative_to(source) if source.is_dir() else Path()
        for number, (row, name) in enumerate(layout.names(path)):
            where = f"{path}: row {number}"
            values = row[layout.captions]
            if isinstance(values, list) and name in owners or owners.get(name, path) != path:
                raise BadInput(f"{where}: the picture {name} has a row already; keep one of them")
            owners[name] = path
            split = row[layout.split] if layout.split else split_of(place)
            split = SPLIT_WORDS.get(str(split), split)
            values = values if isinstance(values, list) else [values]
            captions.append(CaptionRow(where, name, values, split))
    return Pictures(tuple(paths), layout, frozenset(owners)), captions


def _rows_inside(source: Path, named: tuple[str | None, str | None]) -> Iterator[CaptionRow]:
    """Yield the captions beside the pictures: in shards, or in the metadata of an imagefolder."""
    for path in _inner(source, SHARD):
        place = path.relative_to(source) if source.is_dir() else Path(path.name)
        if has_texts(path):
            for where, file, captions in samples(path, named[1]):
                yield CaptionRow(where, f"{place.as_posix()}/{file}", captions, split_of(place))
    for path in (*_inner(source, "metadata.csv"), *_inner(source, "metadata.jsonl")):
        if path.stem == "metadata" and not (path.parent / SEAL).is_file():  # not one that we wrote
            place = path.relative_to(source).parent
            for row in read_rows(path, named):
                file = (place / row.file_name).as_posix()
                split = split_of(place) if row.split is None else row.split
                yield row._replace(file_name=file, split=split)


def add_options(parser: ArgumentParser) -> None:
    """Add the command-line options of `read`."""
    message = (
        "CSV with the columns file_name,caption (one row for each caption) or JSONL with file_name "
        "and caption or captions; split is optional (default: the captions inside, or none: the "
        "items can only be searched)"
    )
    parser.add_argument("--captions", type=Path, help=message)
    parser.add_argument(
        "--kind", choices=READINGS, help="which to use if there are pictures and clips"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="for drawing splits (default: %(default)s)"
    )
    parser.add_argument("--image-column", help="the column of the pictures, or of their names")
    parser.add_argument("--caption-column", help="the column or key of the captions")

    def run(given: Namespace) -> Annotations:
        columns = given.image_column, given.caption_column
        found = read(given.source, given.captions, given.kind, given.seed, *columns)
        fetched = getattr(given, "fetched", None)
        return replace(found, origin=fetched.origin) if fetched else found

    parser.set_defaults(read=run)


def find_media(
    source: Path, kind: Kind | None = None
) -> tuple[Kind, list[str], list[str], list[str]]:
    """Return (kind, sorted paths below `source`, notes, faults); hidden files are ignored.

    A folder that cannot be read is a fault. Other files, and files whose names JSON cannot hold,
    get a note. If `kind` is "video" and there are no clips, each folder of pictures is one clip.
    Raises as `read`.
    """
    found = []
    closed: list[OSError] = []
    top = source
    if source.is_file():
        top = source.parent
        found = member_paths(top, [source.name])
    elif not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with your pictures or clips")
    for parent, folders, here in walk(source, closed.append) if source.is_dir() else ():
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = [name for name in here if not name.startswith(".")]
        found += [parent / name for name in here] + member_paths(parent, here)
    paths = [path.relative_to(top).as_posix() for path in found]
    media = [path for path in paths if Path(path).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    unread = [f"{counts}: {why}" for counts, why in not_read(paths, len(media))]
    shut = [f"{os.path.relpath(error.filename, source)}: {error.strerror}" for error in closed]
    faults = count_of(shut, "folders that cannot be read")
    names = [path for path in media if path == printable(path)]
    pictures = sorted(name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
    clips = sorted(set(names) - set(pictures))
    if not names:
        known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        also = "".join(f"; {line}" for line in faults + unread)
        raise NotThere(
            f"{source}: no pictures or clips in it or below it{also}; expected files in {known}"
        )
    if pictures and clips and kind is None:
        raise BadInput(
            f"{source}: holds {len(pictures):,} pictures and {len(clips):,} clips, but a dataset "
            "has one kind; choose --kind image or --kind video, or prepare each into its own --out"
        )
    kind = kind or ("image" if pictures else "video")
    frames = {
        place.as_posix() for picture in pictures if (place := PurePosixPath(picture).parent).name
    }
    chosen = pictures if kind == "image" else clips or sorted(frames)
    if not chosen:
        what = "pictures" if kind == "image" else "clips or folders of frames"
        raise BadInput(f"{source}: no {what} in it or below it; leave out --kind {kind}")
    left, what = (clips, "clips") if kind == "image" else (pictures if clips else [], "pictures")
    notes = [f"{what} left out, as --kind {kind} says: {len(left):,}"] if left else []
    # Linux allows such names
    nameless = [printable(path) for path in media if path != printable(path)]
    notes += count_of(nameless, "files left out, whose names hold a line break or are not UTF-8")
    return kind, chosen, notes + unread, faults


def _path_finder(
    names: Sequence[str], source: Path, captions: Path | None
) -> Callable[[CaptionRow], str]:
    """Return a function that finds a row's file by its path below `source`, by its path from the
    folder of the file `captions`, or by its name if that is unique.
    """
    top = source.absolute()
    near = captions.absolute().parent if captions else top
    known = set(names)
    by_name: dict[str, list[str]] = {}
    for path in names:
        for key in {path, path.rpartition("/")[2]}:  # a Mac writes é as two characters
            by_name.setdefault(normalize("NFC", key), []).append(path)

    def find(row: CaptionRow) -> str:
        name = PurePosixPath(row.file_name).as_posix()
        same = by_name.get(normalize("NFC", name), [])
        there = Path(os.path.normpath(near / name))
        if not same and there.is_relative_to(top):
            same = by_name.get(normalize("NFC", there.relative_to(top).as_posix()), [])
        if name in known or not same:
            return name
        if len(same) > 1:
            raise BadInput(
                f"{row.where}: {name} may be {same[0]} or {same[1]}; write the whole path"
            )
        return same[0]

    return find


def read_rows(
    path: Path, named: tuple[str | None, str | None] = (None, None)
) -> Iterator[CaptionRow]:
    """Yield the rows of a `.csv` or `.jsonl` file of captions. Raises `BadInput` with the wrong
    line.

    A CSV has the columns file_name, caption and optionally split; JSONL has keys of the same names,
    or `captions`, a list. `named` are other names of the first two.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a .csv or .jsonl file of captions")
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise BadInput(f"{path}: expected a file of captions that ends in .csv or .jsonl")
    empty = True
    for row in readers[path.suffix.lower()](path, *named):
        empty = False
        if not isinstance(row.file_name, str) or not row.file_name.strip():
            raise BadInput(
                f"{row.where}: expected file_name to be text, found {short(row.file_name)}"
            )
        yield row
    if empty:
        raise BadInput(f"{path}: no captions in this file")


def _read_csv(path: Path, file: str | None, caption: str | None) -> Iterator[CaptionRow]:
    file, caption = file or "file_name", caption or "caption"
    for line, row in read_csv(path, (file, caption)):
        yield CaptionRow(f"{path}:{line}", row[file], [row[caption]], row.get("split"))


def _read_jsonl(path: Path, file: str | None, caption: str | None) -> Iterator[CaptionRow]:
    file, keys = file or "file_name", (caption,) if caption else ("captions", "caption")
    for where, fields in read_json_lines(path):
        key = next((key for key in keys if key in fields), None)
        if file not in fields or key is None:
            expected = caption or "caption or captions"
            raise BadInput(f"{where}: expected {file} and {expected}, found {', '.join(fields)}")
        captions = fields[key]
        if key == "caption" or (key != "captions" and not isinstance(captions, list)):
            captions = [captions]
        if not isinstance(captions, list):
            raise BadInput(f"{where}: expected captions to be a list, found {short(captions)}")
        yield CaptionRow(where, fields[file], captions, fields.get("split"))


def draw_splits(names: Sequence[str], seed: int) -> dict[str, str]:
    """Draw each name's split: 10 % val, 10 % test (at least one each); fewer than three are all
    test.
    """
    order = sorted(names)
    random.Random(seed).shuffle(order)
    held = max(1, len(order) // 10) if len(order) >= len(SPLITS) else 0
    if not held:
        return dict.fromkeys(order, "test")
    parts = {"test": order[:held], "val": order[held : 2 * held], "train": order[2 * held :]}
    return {name: split for split, part in parts.items() for name in part}
