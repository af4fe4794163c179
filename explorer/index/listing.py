"""List the pictures and clips of a source, their kinds, and whether they have changed."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

import numpy as np
from PIL import ExifTags, Image

from cma import data, media
from cma.data import RetrievalDataset
from cma.files import checked_dataclass, printable, walk
from cma.media import MediaError, shown_name

Kind = Literal["image", "video"]
SUFFIXES = media.PICTURES + media.CLIPS

Problem = tuple[str, str]  # name of an unreadable file or folder (or "2 .heic"), and reason


@dataclass(frozen=True)
class MediaFile:
    """One picture, clip or moment: its shown `file_name`, and its path `media` below the root.

    `media` may not be UTF-8 text; `file_name` always is. `start` and `end` (seconds) cut a part out
    of a clip. These are from the time of reading: `size` (bytes), `modified` (ns, when it was last
    changed or moved), `digest` (SHA-256) and, for a picture, `copy_hash` (`copies.picture_hash`);
    the `seconds` of a whole clip, if it may be cut into moments; and the `date`, such as
    2014-07-01T12:30:00, from the camera, or else of the file's last change (UTC). `place` is the
    item's place in a dataset, 0 in any other folder.
    """

    file_name: str
    media: str
    kind: Kind
    id: str = ""
    captions: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    size: int = 0
    modified: int = 0
    digest: str = ""
    copy_hash: int = 0
    seconds: float | None = None
    date: str = ""
    place: int = 0

    @property
    def is_moment(self) -> bool:
        """Whether `moments.cut` made it; the parts of clips in a dataset are no moments."""
        return self.seconds is not None and self.start is not None

    @property
    def part(self) -> str:
        """A text that identifies the embedded part of a file; parts of a clip share a path."""
        return json.dumps([self.media, self.kind, self.start, self.end])

    @property
    def key(self) -> str:
        """A text that identifies the item, since two items of a dataset may show one picture."""
        return json.dumps([self.media, self.kind, self.start, self.end, self.id])

    @property
    def label(self) -> str:
        """A unique name to show, since several items may be parts of one file."""
        if not (self.start or self.end):
            return printable(self.media)
        return self.id or f"{printable(self.media)}#t={self.start or 0:g}"


@checked_dataclass
class Where:
    """A filter of items: those of a `kind` (None: both) below a `folder`, with a `date` in a
    `year`, whose names (folders included) and first captions contain every word of `name` (ignoring
    case); with `media`, only those with one of these paths.
    """

    kind: Literal["image", "video"] | None = None
    folder: str = ""
    year: int | None = None
    name: str = ""
    media: tuple[str, ...] = ()


EVERYWHERE = Where()


def find(source: RetrievalDataset | str | Path) -> tuple[Path, list[MediaFile], list[Problem]]:
    """Return (media root, files, problems) of a split, a dataset folder or any other folder.

    Of a dataset folder (with `dataset.json` and `metadata.jsonl`) we list all splits. Any other
    folder is searched with all its subfolders, in the order of names, following links but entering
    each folder once; WebDataset shards (`.tar`) are searched, too, and their members listed as
    `shard.tar/name`. Hidden files and files that are neither pictures nor clips are not listed. The
    problems are unreadable folders and shards, refused members, and the counts of pictures and
    clips of each unsupported kind. An animated gif, webp or png is a clip; in a dataset of pictures
    it is a picture. Raises FileNotFoundError if there is no such folder, ValueError if it holds no
    pictures or clips of a supported kind.
    """
    if isinstance(source, RetrievalDataset):
        if source.rows is not None:
            raise ValueError(f"{source.name}: its pictures are in memory; index a folder of files")
        return *_of_splits([source]), []
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir() or source == "":
        there = "no such folder" if source else "an empty path is none"
        if folder.is_file():
            there = "a file"
        raise FileNotFoundError(
            f"{folder}: {there}; expected a dataset, or a folder of pictures or clips"
        )
    if (folder / "dataset.json").is_file() and (folder / "metadata.jsonl").is_file():
        return *_of_splits(list(data.load_all(folder).values())), []
    files, problems = _below(folder)
    if not files:
        left_out = "".join(f"; {name}: {why}" for name, why in problems[:3])
        raise ValueError(
            f"{folder}: no pictures or clips in it{left_out}; expected {', '.join(SUFFIXES)}"
        )
    return folder, files, problems


def kind_of(path: Path) -> Kind | None:
    """Return "image", "video" (also for a folder of frames), or None for other files.

    The suffix decides, and for pictures that may be animated also the header of the file. A picture
    that needs the extra `formats` is an "image" even without it; the error comes when it is read.
    """
    suffix = path.suffix.lower()
    folder = os.path.isdir(path)  # noqa: PTH112 (False, not an error, if access is denied)
    if folder or suffix in media.CLIPS or (suffix in media.ANIMATABLE and media.is_animation(path)):
        return "video"
    return "image" if suffix in media.PICTURES + media.LACKING else None


def stamp(file: MediaFile, path: Path, old: MediaFile | None = None) -> MediaFile:
    """Return `file` with size, times and content hash (of `old`, if size and time are equal).

    Raises MediaError for a file that is missing, empty or cannot be opened; OSError if reading it
    fails.
    """
    if path.is_dir():
        parts = media.FrameFolder(path).files
    else:
        media.with_content(path, "a picture" if file.kind == "image" else "a clip")
        parts = [path]
    stamps = [media.stamp(part) for part in parts]
    size = sum(one.size for one in stamps)
    modified = max(max(one.modified, one.changed) for one in stamps)
    known = file
    if old and (old.size, old.modified) == (size, modified):
        known = old
    digest = known.digest or _digest(parts)
    date = known.date or (file.kind == "image" and taken(path))
    if not date:
        date = str(np.datetime64(max(one.modified for one in stamps), "ns").astype("datetime64[s]"))
    return replace(file, size=size, modified=modified, digest=digest, date=date)


def taken(path: Path) -> str | None:
    """Return the camera's date of a picture, such as 2014-07-01T12:30:00; None without one."""
    # a damaged file can make a decoder raise anything
    with suppress(Exception), media.open_media(path) as stream, Image.open(stream) as picture:
        exif = Image.Image.getexif(picture)  # a PNG's own method would decode the whole picture
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        written = inner.get(ExifTags.Base.DateTimeOriginal) or exif[ExifTags.Base.DateTime]
        return datetime.strptime(written.strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    return None


def _digest(parts: Sequence[Path]) -> str:
    """Return the SHA-256 of the parts' SHA-256s."""
    digest = hashlib.sha256()
    for part in parts:
        with media.open_media(part) as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _below(folder: Path) -> tuple[list[MediaFile], list[Problem]]:
    """Return the media below a folder, ordered by path, and the problems as in `find`."""
    names = []
    problems = []

    def failed(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder)
        problems.append((shown_name(name), f"folder cannot be read ({error.strerror})"))

    for here, folders, files in walk(folder, failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = here.relative_to(folder) / name
            for inside, problem in _members(folder, path):
                if problem and inside.suffix.lower() in (*SUFFIXES, ".tar"):
                    problems.append((shown_name(inside.as_posix()), problem))
                elif not inside.name.startswith("."):
                    names.append(inside)
    below = [path.as_posix() for path in sorted(names) if path.suffix.lower() in SUFFIXES]
    kinds = [cast(Kind, kind_of(folder / path)) for path in below]
    found = [
        MediaFile(shown_name(path), path, kind) for path, kind in zip(below, kinds, strict=True)
    ]
    return found, problems + media.not_read(map(str, names), len(found))


def _members(folder: Path, path: Path) -> list[tuple[Path, str]]:
    """Return (path, reason to refuse it or "") for each member of a shard, or for the file."""
    shard = folder / path
    if path.suffix != ".tar" or path.name.startswith(".") or not shard.is_file():
        return [(path, "")]
    try:
        return [(path / name, one.problem) for name, one in media.members(shard).items()]
    except (OSError, MediaError) as error:
        return [(path, str(error))]


def _of_splits(splits: Sequence[RetrievalDataset]) -> tuple[Path, list[MediaFile]]:
    """Return the media root and the files of one or more splits of a dataset folder."""
    root = splits[0].media_root or splits[0].folder
    files: list[MediaFile] = []
    for split in splits:
        for item in split.items:
            name, path = shown_name(item.file_name), split.path(item).relative_to(root).as_posix()
            file = MediaFile(name, path, split.kind, item.id, item.captions, item.start, item.end)
            files.append(replace(file, place=len(files)))
    return root.absolute(), files
