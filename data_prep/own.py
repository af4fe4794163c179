"""A folder of your own pictures or clips, with captions from a CSV or JSONL file, or without any.

Without captions the dataset can only be searched, and every item is in its test split. With captions, a
column `split` (train, val or test) decides; where there is none, 80 % train, 10 % val, 10 % test are drawn.
"""

import random
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cma.files import walk
from data_prep.caption_rows import CaptionRow, read_rows
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Entry
from data_prep.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from data_prep.readers import BadInput

READINGS = {"image": "captions", "video": "items"}  # of `visual_to_text`
RECIPES = {"image": "flickr30k", "video": "msrvtt"}  # the settings of the paper's benchmark of that kind
NAMED = 5  # files that a note names


def read(source: Path, captions: Path | None = None, kind: str | None = None, seed: int = 0) -> Annotations:
    """The pictures or clips under `source`, each with its captions; an item's id is its path below `source`.

    `kind` "image" or "video" chooses where both are there. `BadInput` for none, for both without a `kind`,
    and for a file of captions that is not as expected.
    """
    kind, files, notes = find_media(source, kind)
    texts, splits, cleaner = {}, {}, CaptionCleaner()
    if captions is not None:
        paths = _Paths(files)
        for row in read_rows(captions):
            file = paths.find(row)
            texts[file] = texts.get(file, ()) + cleaner(row.captions, row.where)
            if splits.setdefault(file, row.split) != row.split:
                raise BadInput(
                    f"{row.where}: {file} is in the split {splits[file]} above and {row.split} here"
                )
        notes += cleaner.notes() + _compare(files, texts, captions)
    names = [*files, *sorted(set(texts) - set(files))]
    split = _splits(captions, names, texts, splits, seed)
    return Annotations(
        name=source.resolve().name,
        kind=kind,
        protocol={"query": "caption", "visual_to_text": READINGS[kind]},
        expected={},
        entries=[Entry(name, name, texts.get(name, ()), split[name]) for name in names],
        recipe=RECIPES[kind],
        files=[captions.name] if captions else ["no captions, so only to be searched"],
        notes=notes,
        exact=True,
        captioned=captions is not None,
    )


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    parser.add_argument(
        "--captions",
        type=Path,
        help="CSV with the columns file_name,caption (several rows a file) or JSONL with file_name and "
        "caption or captions; split is optional (default: none, the items can only be searched)",
    )
    parser.add_argument("--kind", choices=READINGS, help="which to use where pictures and clips are there")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn splits (default: %(default)s)")
    parser.set_defaults(
        read=lambda options: read(options.source, options.captions, options.kind, options.seed)
    )


def find_media(source: Path, kind: str | None = None) -> tuple[str, list[str], list[str]]:
    """(kind, the paths below `source` in order, notes); hidden files are passed over.

    Where there are no clips, `kind` "video" takes each folder of pictures as the frames of one clip.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with your pictures or clips")
    pictures, clips = (_with_suffix(source, suffixes) for suffixes in (IMAGE_SUFFIXES, VIDEO_SUFFIXES))
    nameless = [name for name in (*pictures, *clips) if not _is_text(name)]
    pictures, clips = ([name for name in names if _is_text(name)] for names in (pictures, clips))
    if not pictures and not clips:
        known = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise BadInput(f"{source}: no pictures or clips in it or below it; expected files in {known}")
    if pictures and clips and kind is None:
        raise BadInput(
            f"{source}: holds {len(pictures):,} pictures and {len(clips):,} clips, and a dataset is of one "
            "kind; choose --kind image or --kind video, or prepare each into its own --out"
        )
    kind = kind or ("image" if pictures else "video")
    frames = {parent.as_posix() for picture in pictures if (parent := PurePosixPath(picture).parent).name}
    found = pictures if kind == "image" else clips or sorted(frames)
    if not found:
        what = "pictures" if kind == "image" else "clips or folders of frames"
        raise BadInput(f"{source}: no {what} in it or below it; leave out --kind {kind}")
    left, what = (clips, "clips") if kind == "image" else (pictures if clips else [], "pictures")
    notes = [f"{len(left):,} {what} left out, as --kind {kind} says"] if left else []
    if nameless:
        named = _name([name.encode(errors="surrogateescape").decode(errors="replace") for name in nameless])
        notes.append(f"{len(nameless):,} files left out, whose names are not UTF-8: {named}")
    return kind, found, notes


def _with_suffix(source: Path, suffixes: set[str]) -> list[str]:
    """The files below `source` with one of `suffixes`, in order, but for what is hidden."""
    found = []
    for parent, folders, names in walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (name for name in names if not name.startswith("."))
        chosen = [parent / name for name in visible if Path(name).suffix.lower() in suffixes]
        found += [path.relative_to(source).as_posix() for path in chosen]
    return sorted(found)


def _is_text(name: str) -> bool:
    """Whether a file name can be written down; Linux allows names that cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Paths:
    """Which file a row means: the one of that path below the source, or the only one of that name."""

    def __init__(self, files: Iterable[str]) -> None:
        self.files: set[str] = set(files)
        self.by_name: dict[str, list[str]] = {}
        for file in files:
            self.by_name.setdefault(file.rpartition("/")[2], []).append(file)

    def find(self, row: CaptionRow) -> str:
        """The path below the source, or what the row says where no such file is there."""
        name = PurePosixPath(row.file_name).as_posix()
        same = self.by_name.get(name, [])
        if name in self.files or not same:
            return name
        if len(same) > 1:
            raise BadInput(f"{row.where}: {name} may be {same[0]} or {same[1]}; write the whole path")
        return same[0]


def _compare(files: list[str], texts: dict[str, tuple[str, ...]], captions: Path) -> list[str]:
    """Notes that count what has no captions and what is not there."""
    without = [file for file in files if not texts.get(file)]
    absent = sorted(set(texts) - set(files))
    counted = {f"files have no captions in {captions.name}": without}
    counted[f"files named in {captions.name} are not there"] = absent
    return [f"{len(some):,} {what}: {_name(some)}" for what, some in counted.items() if some]


def _name(files: list[str]) -> str:
    return ", ".join(files[:NAMED]) + (", …" if len(files) > NAMED else "")


def _splits(
    captions: Path | None,
    names: list[str],
    texts: dict[str, tuple[str, ...]],
    splits: dict[str, str | None],
    seed: int,
) -> dict[str, str]:
    """The split of each file: test without captions, what the rows say, or drawn."""
    given = [file for file, split in splits.items() if split is not None]
    if given and len(given) < len(splits):
        file = next(file for file, split in splits.items() if split is None)
        raise BadInput(f"{captions}: {len(splits) - len(given):,} files have no split, the first is {file}")
    if captions is None or given:
        return {name: splits.get(name) or "test" for name in names}
    return dict.fromkeys(names, "test") | draw_splits([name for name in names if texts.get(name)], seed)


def draw_splits(names: list[str], seed: int) -> dict[str, str]:
    """A split for each name: a tenth val, a tenth test, of three or more at least one; of fewer all test."""
    order = sorted(names)
    random.Random(seed).shuffle(order)
    held = max(1, len(order) // 10) if len(order) >= len(SPLITS) else 0
    if not held:
        return dict.fromkeys(order, "test")
    parts = {"test": order[:held], "val": order[held : 2 * held], "train": order[2 * held :]}
    return {name: split for split, part in parts.items() for name in part}
