"""Open a picture or clip in place: a file, or a member of a WebDataset shard (`.tar`).

A path below a `.tar` file names a member, as in `media/shard-000.tar/000012.jpg`. Nothing is
unpacked: each process keeps a table of where a shard's members begin. Every function here takes
either kind of path, and is safe for threads.
"""

from __future__ import annotations

import io
import stat
import tarfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from ..files import escapes_folder, printable

SHARDS = 1024  # whose tables are kept


class MediaError(ValueError):
    """A picture or clip is missing, empty or cannot be decoded; the message, one line, names it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Member(NamedTuple):
    """Where a member of a shard begins, and its size (bytes); `problem`: why we refuse it."""

    begin: int
    size: int
    problem: str


class Stamp(NamedTuple):
    """The size of a file or member in bytes, and the times (ns) of its file's or shard's last write
    and change.
    """

    size: int
    modified: int
    changed: int


def members(shard: Path) -> dict[str, Member]:
    """Return the members of a shard by name, in order. Raises MediaError if it is not a tar file.

    Links, devices, truncated members, and names that leave the shard or appear twice are members
    with a `problem`.
    """
    return _table(shard, stamp(shard))


@lru_cache(SHARDS)
def _table(shard: Path, about: Stamp) -> dict[str, Member]:
    table = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for one in archive:
                if one.size < 0:  # tarfile would go back and read forever
                    raise ValueError(f"{one.name}: a size of {one.size}")
                name = PurePosixPath(one.name).as_posix()
                problem = ""
                if name in table:
                    problem = "its name is in the shard twice, so we cannot know which one counts"
                elif not one.isreg() or one.issparse():
                    problem = "a link or no regular file"
                elif escapes_folder(one.name):
                    problem = "a name that points outside its shard"
                elif one.offset_data + one.size > about.size:
                    problem = f"cut short: the shard ends within its {one.size:,} bytes"
                if not one.isdir():
                    table[name] = Member(one.offset_data, one.size, problem)
    except Exception as error:  # a damaged file can make a reader raise anything
        if not table:  # else the members before the damage can be read
            raise MediaError(f"{shard}: cannot be read as a tar file ({error})") from error
    return table


def _member_of(path: Path) -> tuple[Path, Member] | None:
    """Return the shard and the member that `path` names, or None if it is any other path."""
    if ".tar/" not in path.as_posix():  # nearly every path
        return None
    for shard in path.parents:
        if shard.suffix == ".tar" and shard.is_file():
            name = path.relative_to(shard).as_posix()
            member = members(shard).get(name, Member(0, 0, "no such member of the shard"))
            if member.problem:
                raise MediaError(f"{path}: {member.problem}")
            return shard, member
    return None


def open_media(path: Path) -> BinaryIO:
    """Open a file or member for reading bytes. Raises MediaError for a missing or refused member,
    OSError like `Path.open`.
    """
    found = _member_of(path)
    if found is None:
        return path.open("rb")
    shard, member = found
    with shard.open("rb") as stream:
        stream.seek(member.begin)
        return io.BytesIO(stream.read(member.size))


def exists(path: Path) -> bool:
    """Return whether `path` is a file, a folder, or a member that we do not refuse."""
    try:
        return _member_of(path) is not None or path.exists()
    except MediaError:
        return False


def stamp(path: Path) -> Stamp:
    """Return size and times, which show whether media have changed. Raises like `open_media`."""
    found = _member_of(path)
    about = (found[0] if found else path).stat()
    size = found[1].size if found else about.st_size
    return Stamp(size, about.st_mtime_ns, about.st_ctime_ns)


def with_content(path: Path, what: str) -> None:
    """Raise MediaError unless `path` is a non-empty file or member; the message calls it `what`."""
    try:
        if _member_of(path) is None and not stat.S_ISREG(path.stat().st_mode):
            problem = "no regular file"  # opening a pipe would wait forever
        elif stamp(path).size:
            open_media(path).close()
            return
        else:
            problem = "empty file"
    except MediaError:
        raise
    except FileNotFoundError:
        problem = "no such file"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        problem = f"cannot be opened ({error})"
    raise MediaError(f"{path}: {problem}; cannot be read as {what}")


def head_of(path: Path) -> bytes:
    """Return the first 24 bytes of a file or member, which show its format."""
    with open_media(path) as stream:
        return stream.read(24)
