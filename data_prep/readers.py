"""Annotation files, found by name and read with errors that say where: line, column, the columns found."""

import csv
import filecmp
import io
import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from cma import files
from data_prep.media import bare

T = TypeVar("T")
STAND_INS = {  # how a file begins that lies in place of another, and what it is
    r"version https://(git-lfs|hawser)\.github\.com/spec": "a Git LFS pointer; get the file itself by "
    "`git lfs pull` in its repository, or by the download button of its page",
    r"/annex/objects/": "a git-annex pointer; get the file itself by `git annex get` in its repository",
    r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b": "a web page (HTML); open the "
    "address in a browser, which may ask to log in or to confirm, and download the file itself",
    r"404: Not Found\s*$": "a web server's answer that nothing is there; look for the address of the file",
}


class BadInput(ValueError):
    """A file, folder or option is not what was expected; the message names it and says what to do."""


def find_files(source: Path, names: tuple[str, ...]) -> list[Path]:
    """The files under `source` with one of `names`: in the order of the names, the nearest first.

    What lies in place of a file (`stand_in`) comes after all that are files.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with the downloaded files")
    found = [
        parent / name for parent, _, there in files.walk(source) for name in set(names).intersection(there)
    ]
    found.sort(key=lambda path: (names.index(path.name), len(path.parts), path))
    return sorted(found, key=lambda path: stand_in(path) is not None)


def find_file(source: Path, names: tuple[str, ...]) -> Path | None:
    """The `first_copy` of the first of `names` that is there, or None."""
    found = find_files(source, names)
    return first_copy([path for path in found if path.name == found[0].name])


def first_copy(paths: Sequence[Path]) -> Path | None:
    """The first of the copies of one file, None of no file; `BadInput` where two of them differ.

    What lies in place of a file (`stand_in`) is taken only where there is nothing else.
    """
    paths = [path for path in paths if not stand_in(path)] or paths
    for path in paths[1:]:
        if not filecmp.cmp(paths[0], path, shallow=False):
            raise differ(paths[0], path)
    return paths[0] if paths else None


def find_known(
    source: Path, names: tuple[str, ...], read: Callable[[Path], T | None]
) -> tuple[Path, T] | None:
    """The first of `names` under `source` of which `read` knows the content, and that content, or None.

    Files of other benchmarks may have the same name: `read` returns None for those. `BadInput` where another
    file of that name holds something else.
    """
    found = None
    for path in find_files(source, names):
        if found and (path.name != found[0].name or stand_in(path)):
            break
        content = read(path)
        if content is None:
            continue
        if found and content != found[1]:
            raise differ(found[0], path)
        found = found or (path, content)
    return found


def differ(one: Path, other: Path) -> BadInput:
    """The error for two files of which only one can be meant."""
    return BadInput(f"{one} and {other} differ; leave the one that you mean there")


def require_file(source: Path, names: tuple[str, ...]) -> Path:
    """`find_file`, or `BadInput` that lists the names looked for."""
    path = find_file(source, names)
    if path is None:
        what = f"{names[0]} is not" if len(names) == 1 else f"none of {', '.join(names)} is"
        raise BadInput(f"{source}: {what} in this folder or below it")
    return path


def read_start(path: Path, size: int = 4096) -> str:
    """The first bytes of a file as text, whatever its encoding."""
    with path.open("rb") as file:
        return file.read(size).decode("utf-8-sig", errors="replace")


def stand_in(path: Path) -> str | None:
    """What lies there in place of the file (a pointer of Git LFS, a web page), and what to do; or None."""
    start = read_start(path).lstrip()
    found = (what for begin, what in STAND_INS.items() if re.match(begin, start, re.IGNORECASE | re.DOTALL))
    return next(found, None)


def refuse_stand_in(path: Path) -> None:
    """`BadInput` that says what lies there, if that is not the file itself."""
    if what := stand_in(path):
        raise BadInput(f"{path}: is not the file, but {what}")


def read_text(path: Path) -> str:
    """The file as UTF-8 text, with or without a byte-order mark; `BadInput` for a `stand_in`."""
    refuse_stand_in(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: not UTF-8 text; expected a file saved as UTF-8") from None


def read_json(path: Path, unique_keys: bool = False, without: tuple[str, ...] = ()) -> object:
    """The file's JSON value; `BadInput` with line and column where it is broken.

    With `unique_keys`, a key that an object has twice is a `BadInput` too (Python would keep the last). Keys
    `without` are dropped while reading, so that a large file takes less memory (one or the other).
    """
    pairs_hook = partial(_unique, path) if unique_keys else None
    hook = partial(_drop, without) if without else None
    try:
        return json.loads(read_text(path), object_pairs_hook=pairs_hook, object_hook=hook)
    except BadInput:
        raise
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}:{error.lineno}:{error.colno}: broken JSON ({error.msg}); download it again"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets a thousand deep
        raise BadInput(f"{path}: JSON that cannot be read ({error})") from None


def read_json_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """("file:line", object) of each line that is not blank; `BadInput` where one is no JSON object."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}:{error.colno}: broken JSON ({error.msg})") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: JSON that cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise BadInput(f"{where}: expected a JSON object, found {reprlib.repr(content)}")
        yield where, content


def _drop(keys: tuple[str, ...], content: dict) -> dict:
    for key in keys:
        content.pop(key, None)
    return content


def _unique(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise BadInput(f"{path}: {key!r} is there more than once; keep one of them")
    return content


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and row of a CSV file with a header, separated by commas or semicolons.

    Blank lines are skipped. Raises `BadInput` when one of `columns` is missing, or when a row has not as many
    fields as the header.
    """
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from _rows(path, reader, columns)
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: broken CSV ({error})") from None


def _rows(
    path: Path, reader: csv.DictReader, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    if not set(columns) <= set(names):
        raise BadInput(
            f"{path}:1: expected the columns {', '.join(columns)}; found {', '.join(names) or 'none'}"
        )
    for row in reader:
        if None in row or None in row.values():
            raise BadInput(f"{path}:{reader.line_num}: expected {len(names)} fields ({', '.join(names)})")
        yield reader.line_num, row


class IdList(NamedTuple):
    """The ids of one file, each once and in its order; `repeated` lines were dropped."""

    path: Path
    ids: tuple[str, ...]
    repeated: int

    def notes(self) -> list[str]:
        """What was dropped, for `Annotations.notes`."""
        return [f"{self.path.name}: {self.repeated:,} repeated ids dropped"] if self.repeated else []


def read_id_list(path: Path) -> IdList:
    """The ids of a text file (one a line, the last with or without newline) or of a JSON list."""
    if path.suffix.lower() == ".json":
        ids = read_json(path)
        if not isinstance(ids, list) or not all(isinstance(id, str) and id.strip() for id in ids):
            raise BadInput(f"{path}: expected a JSON list of ids")
    else:
        ids = read_text(path).splitlines()
    ids = [text for id in ids if (text := id.strip())]
    if not ids:
        raise BadInput(f"{path}: no id in this list; expected one a line")
    unique = tuple(dict.fromkeys(ids))
    return IdList(path, unique, len(ids) - len(unique))


def find_id_list(source: Path, names: tuple[str, ...], known: Collection[str]) -> IdList | None:
    """The list under `source` with the first of `names` that shares an id with those `known`, or None.

    Lists of other benchmarks have the same names; `known` are the ids that have captions. `BadInput` where
    two lists of one name share such ids, and differ.
    """

    def ids_of(path: Path) -> tuple[str, ...] | None:
        ids = read_id_list(path).ids
        return ids if any(id in known or bare(id) in known for id in ids) else None

    found = find_known(source, names, ids_of)
    return read_id_list(found[0]) if found else None
