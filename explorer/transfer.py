"""Receive query files from a front end, and copy results to a folder."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

from cma.media import open_media
from explorer.index import SUFFIXES, MediaFile, kind_of

MAX_MEGABYTES, MAX_FILES = 200, 8  # the largest query file; how many are kept


class Arrivals:
    """Files that arrive in parts. The last `MAX_FILES` are kept, in temporary folders."""

    def __init__(self) -> None:
        # by name; a folder is deleted once nothing refers to it
        self.kept: dict[str, tuple[MediaFile, TemporaryDirectory]] = {}
        self.parts: dict[str, list[bytes]] = {}  # of the file being received

    def add(self, name: str, number: int, parts: int, content: bytes) -> bool:
        """Add part `number` of `parts`; return whether the file is complete. Raises ValueError."""
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(
                f"{name}: neither picture nor clip; choose one of {', '.join(SUFFIXES)}"
            )
        arrived = [*self.parts.get(name, [])[:number], content]
        complete = number + 1 == parts
        self.parts = {} if complete else {name: arrived}
        if len(arrived) != number + 1:
            raise ValueError(f"{name}: a part of the file is missing; choose it again")
        if sum(map(len, arrived)) > MAX_MEGABYTES * 1_000_000:
            raise ValueError(f"{name}: more than {MAX_MEGABYTES} MB; choose a smaller file")
        if complete:
            folder = TemporaryDirectory(prefix="cma-")
            path = Path(folder.name) / f"asked{suffix}"
            path.write_bytes(b"".join(arrived))
            file = MediaFile(str(path), str(path), cast(Literal["image", "video"], kind_of(path)))
            self.kept = dict([*self.kept.items(), (name, (file, folder))][-MAX_FILES:])
        return complete


def copy_into(paths: Sequence[Path], folder: str) -> Path:
    """Copy files, folders of frames and members of shards into a folder, made if needed; return it.

    Each is copied whole or not at all, under a free name, never over another file. Raises
    ValueError for a relative path, and OSError.
    """
    into = Path(folder.strip()).expanduser()
    if not into.is_absolute():
        raise ValueError(f"{folder!r}: expected the absolute path of a folder, such as ~/chosen")
    into.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with TemporaryDirectory(prefix=".cma-", dir=into) as kept:
            copied = Path(kept) / path.name
            if path.is_dir():
                shutil.copytree(path, copied)
            elif path.is_file():
                shutil.copy2(path, copied)
            else:
                with open_media(path) as source, copied.open("wb") as target:
                    shutil.copyfileobj(source, target)
            copied.replace(_free_name(into, path))
    return into


def _free_name(folder: Path, path: Path) -> Path:
    """Reserve a free name for `path` in a folder, and return it."""
    for number in count(1):
        label = path.stem if number == 1 else f"{path.stem} ({number})"
        target = folder / f"{label}{path.suffix}"
        with suppress(FileExistsError):
            target.mkdir() if path.is_dir() else target.touch(exist_ok=False)
            break
    return target
