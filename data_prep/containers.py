"""Pictures and captions inside containers: WebDataset shards (`.tar`) and parquet files.

We read shards in place: a member's path is its shard's path and its own name. Parquet keeps many
pictures in one page, so we write its pictures out once, bytes unchanged. Parquet needs the extra
`hub`.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from cma import require
from cma.files import short, write_whole
from cma.media import CLIPS, PICTURES, MediaError, members, open_media, stamp
from data_prep.readers import BadInput, refuse_stand_in

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SHARD = ".tar"
PARQUET = ".parquet"
MAX_TEXT = 1 << 20  # bytes of captions in one member of a shard
# the most that a parquet file may declare: bytes of a column in a row group, and rows
MAX_BYTES = 4 << 30
MAX_ROWS = 10_000_000
AT_ONCE = 1 << 30  # the most bytes of one batch of rows
NOT_LOOKED_AT = "parquet files, not looked at: {}"
CAPTIONS = ("captions", "caption", "text", "texts", "sentences", "txt")
IMAGES = ("image", "img", "picture", "jpg", "jpeg", "png", "webp")


class Sample(NamedTuple):
    """A picture or clip of a container: its origin (for messages), path or name, and captions."""

    where: str
    file: str
    captions: list


def member_paths(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the paths of all members of the shards among the files `names` of a folder.

    Other files have none. Hidden members, such as a Mac's `._NAME`, are left out.
    """
    paths = []
    for name in names:
        if name.lower().endswith(SHARD):
            try:
                inside = (folder / name / member for member in members(folder / name))
                paths += [path for path in inside if not path.name.startswith(".")]
            except MediaError:  # reading its captions will raise it
                continue
    return paths


def has_texts(shard: Path) -> bool:
    """Return whether a shard has text members, or members that `samples` refuses."""
    try:
        table = members(shard)
    except MediaError:
        return True
    return any(it.problem or name.lower().endswith((".txt", ".json")) for name, it in table.items())


def samples(shard: Path, caption_key: str | None = None) -> Iterator[Sample]:
    """Yield the pictures and clips of a shard with their captions; `file` is the member's name.

    The members of a sample have one name up to the first dot. Captions are the lines of its `.txt`,
    or those in its `.json`: `caption_key`, or else `captions`, `caption` or `text`. Raises
    `BadInput` for a sample without captions, for one with two pictures or clips, and for a refused
    or truncated member.
    """
    refuse_stand_in(shard)
    try:
        table = members(shard)
    except MediaError as error:
        raise BadInput(f"{error}; download it again") from error
    groups: dict[str, list[str]] = {}
    for name in table:
        folder, slash, file = name.rpartition("/")
        if not file.startswith("."):
            groups.setdefault(f"{folder}{slash}{file.partition('.')[0]}", []).append(name)
    for key, names in groups.items():
        where = f"{shard}/{key}"
        for name in names:
            if table[name].problem:
                raise BadInput(
                    f"{shard}/{name}: {table[name].problem}; download the shard again, or remove it"
                )
        media = [name for name in names if name.lower().endswith((*PICTURES, *CLIPS))]
        if len(media) != 1:
            found = ", ".join(names[:4])
            raise BadInput(f"{where}: expected one picture or clip in each sample, found {found}")
        yield Sample(where, media[0], _texts(shard, names, caption_key))


def _texts(shard: Path, names: list[str], caption_key: str | None) -> list:
    """Return the captions of a sample from its `.txt` or `.json`, in the order of `names`."""
    for name in names:
        path = shard / name
        kind = Path(name).suffix.lower()
        if kind not in (".txt", ".json"):
            continue
        content = _text(path)
        if kind == ".txt":
            return content.rstrip("\n").split("\n")
        try:
            about = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: broken JSON; {short(error)}") from error
        keys = (caption_key,) if caption_key else CAPTIONS
        there = [about[key] for key in keys if key in about] if isinstance(about, dict) else []
        if there and isinstance(there[0], str | list):
            return there[0] if isinstance(there[0], list) else there
    wanted = caption_key or "captions"
    raise BadInput(
        f"{shard}/{names[0]}: no captions beside it; expected a .txt, or a .json with {wanted}"
    )


def _text(path: Path) -> str:
    """Return the text of a member of a shard. Raises `BadInput` if it is long or not UTF-8."""
    shard = next(parent for parent in path.parents if parent.suffix.lower() == SHARD)
    size = members(shard)[path.relative_to(shard).as_posix()].size
    if size > MAX_TEXT:
        raise BadInput(f"{path}: {size:,} bytes; expected captions, at most {MAX_TEXT:,} bytes")
    with open_media(path) as stream:
        try:
            return stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: not UTF-8 text; expected captions") from error


@contextmanager
def opened(path: Path) -> Iterator["ParquetFile"]:
    """Open a parquet file; every error of reading it becomes `BadInput` in one line.

    The rows and bytes of each column that it declares are checked before memory is allocated.
    Raises ImportError without pyarrow.
    """
    require("hub", "pyarrow")
    from pyarrow.parquet import ParquetFile

    refuse_stand_in(path)
    try:
        with ParquetFile(path) as file:
            about = file.metadata
            if not 0 <= about.num_rows <= MAX_ROWS:
                raise BadInput(
                    f"{path}: declares {about.num_rows:,} rows; expected at most {MAX_ROWS:,}"
                )
            for group in range(about.num_row_groups):
                for number in range(about.num_columns):
                    column = about.row_group(group).column(number)
                    if not 0 <= column.total_uncompressed_size <= MAX_BYTES:
                        raise BadInput(
                            f"{path}: row group {group}, column {column.path_in_schema}: declares "
                            f"{column.total_uncompressed_size:,} bytes; expected at most "
                            f"{MAX_BYTES:,}, so it is not read"
                        )
            yield file
    except BadInput:
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        raise BadInput(
            f"{path}: cannot be read as parquet ({short(error)}); download it again"
        ) from error


def columns_of(path: Path) -> dict[str, bool]:
    """Return the columns of a parquet file, and whether each holds pictures (bytes and a path)."""
    with opened(path) as file:
        schema = file.schema_arrow
    return {
        field.name: re.match(r"struct<.*bytes: (large_)?binary", str(field.type)) is not None
        for field in schema
    }


def rows(path: Path, columns: Sequence[str]) -> Iterator[dict]:
    """Yield the values of some columns of a parquet file, row by row.

    A column may be a part of another, such as `image.path`. As many rows are read at once as fit
    into AT_ONCE bytes uncompressed.
    """
    with opened(path) as file:
        about = file.metadata
        largest = 1
        for group in range(about.num_row_groups):
            for number in range(about.num_columns):
                column = about.row_group(group).column(number)
                name = column.path_in_schema
                if any(name == wanted or name.startswith(f"{wanted}.") for wanted in columns):
                    largest = max(largest, column.total_uncompressed_size)
        size = max(1, min(1024, AT_ONCE // largest))
        for batch in file.iter_batches(batch_size=size, columns=list(columns)):
            yield from batch.to_pylist()


@dataclass(frozen=True)
class Layout:
    """Which columns of a parquet file hold what: pictures, captions, file names and splits.

    `also` are further columns that distinguish this layout. Without a column of pictures, these are
    separate files. `divided` is False if the file names no split, or a wrong one.
    """

    captions: str
    image: str | None = None
    file: str | None = None
    folder: str | None = None
    split: str | None = None
    also: tuple[str, ...] = ()
    divided: bool = True

    def fits(self, columns: Mapping[str, bool]) -> bool:
        """Whether a file with these columns has this layout."""
        named = (self.captions, self.image, self.file, self.folder, self.split, *self.also)
        pictures = self.image is None or columns.get(self.image, False)
        return pictures and all(name in columns for name in named if name)

    def names(self, path: Path) -> Iterator[tuple[dict, str]]:
        """Yield each row, without pictures, and the file name of its picture.

        Without a column of names this is the path beside the picture, or the number of the row.
        """
        wanted = [self.captions, self.file, self.folder, self.split]
        if self.image and not self.file:
            wanted.append(f"{self.image}.path")
        for number, row in enumerate(rows(path, [name for name in wanted if name])):
            yield row, self.name_of(path, number, row)

    def name_of(self, path: Path, number: int, row: dict) -> str:
        """Return the file name of the picture in a row, of which `row` has at least the names.

        A name without a picture's extension gets one, so that we find the picture.
        """
        name = row[self.file] if self.file else None
        if self.image and not self.file:
            name = (row[self.image] or {}).get("path")
        if not isinstance(name, str) or not name.strip():
            name = f"{path.parent.name}-{path.stem}-{number:06}"
        name = name.strip()
        if not name.lower().endswith(PICTURES):
            name += ".jpg"
        folder = row[self.folder] if self.folder else None
        return PurePosixPath(str(folder or ""), name).as_posix()


@dataclass(frozen=True)
class Pictures:
    """The pictures in parquet files, and the names of those we want."""

    paths: tuple[Path, ...]
    layout: Layout
    wanted: Collection[str]

    def write(self, folder: Path) -> None:
        """Write each wanted picture below `folder`, bytes unchanged; keep those newer than the
        parquet files.

        Prints found / expected. Rows without a picture are skipped, and reported as not found.
        """
        newest = max(max(stamp(path)[1:]) for path in self.paths)  # `cp -p` keeps an old time
        left = set()
        for name in self.wanted:
            file = folder / name
            if not file.is_file() or file.stat().st_mtime_ns < newest:
                file.unlink(missing_ok=True)
                left.add(name)
        kept = len(self.wanted) - len(left)
        layout = self.layout
        image = layout.image
        progress = tqdm(total=len(left), desc="write pictures", disable=not left)
        for path in self.paths if left else ():
            wanted = [name for name in (image, layout.file, layout.folder) if name]
            for number, row in enumerate(rows(path, wanted)):
                name = layout.name_of(path, number, row)
                content = (row[image] or {}).get("bytes")
                if name in left and content:
                    write_whole(folder / name, content)
                    left.discard(name)
                    progress.update()
        progress.close()
        found = len(self.wanted) - len(left)
        print(f"  pictures in {folder}: {found:,} / {len(self.wanted):,}, {kept:,} of them before")


def layout_of(path: Path, image: str | None = None, caption: str | None = None) -> Layout:
    """Return the layout of a parquet file with pictures: the named columns, or the only fitting
    ones.

    Raises `BadInput` that lists the columns.
    """
    columns = columns_of(path)
    pictures = [name for name, holds in columns.items() if holds]
    image = image or next((name for name in (*IMAGES, *pictures) if name in pictures), None)
    caption = caption or next((name for name in CAPTIONS if name in columns), None)
    found = ", ".join(columns)
    if image not in pictures:
        raise BadInput(
            f"{path}: no column of pictures {image or ''}; give --image-column of {found}"
        )
    if caption not in columns:
        raise BadInput(
            f"{path}: no column of captions {caption or ''}; give --caption-column of {found}"
        )
    names = (name for name in ("file_name", "filename", "image_name") if name in columns)
    return Layout(caption, image, next(names, None), split="split" if "split" in columns else None)
