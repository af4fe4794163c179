"""What the media check found, kept so that files that have not changed are not decoded again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_prep import media
from data_prep.dataset import read_object, write_text


def check_changed(paths: Mapping[str, Path], kind: str, workers: int, kept: Path) -> dict[str, str]:
    """`media.check`, decoding only what is new or has changed since the results in `kept` were written.

    A file that several ids share is decoded once.
    """
    before = read_object(kept)
    marks = {str(path): _mark(path) for path in set(paths.values())}
    known = {file: before[file] for file, mark in marks.items() if _is_result(before.get(file), mark)}
    left = {str(path): path for path in paths.values() if str(path) not in known}
    problems = media.check(left, kind, workers)
    results = known | {file: [marks[file], problems.get(file)] for file in left}
    if left:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(dict(sorted(results.items())), indent=0) + "\n")
    return {id: why for id, path in paths.items() if (why := results[str(path)][1])}


def _is_result(result: object, mark: str | None) -> bool:
    """Whether this is a mark and what was found then, and the file still has that mark."""
    match result:
        case [str(then), None | str()]:
            return then == mark
    return False


def _mark(path: Path) -> str | None:
    """What changes when a file, or a frame in a folder, does: sizes and times; None if there is none."""
    try:
        files: Iterable[Path] = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError:
        return None
    sizes, latest = sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
    return f"{len(stats)} files, {sizes} bytes, {latest} ns"
