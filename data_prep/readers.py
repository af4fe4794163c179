"""Read annotation files; errors give file, line and column."""

import csv
import io
import json
import pickle
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from cma.files import short

STAND_INS = {  # first bytes of files that only stand in for the real one, and what these are
    r"version https://(git-lfs|hawser)\.github\.com/spec": "a Git LFS pointer; get the file "
    "itself by `git lfs pull` in its repository, or by the download button of its page",
    r"/annex/objects/": "a git-annex pointer; get the file itself by `git annex get` in its "
    "repository",
    r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b": "a web page (HTML); "
    "open the "
    "address in a browser, which may ask to log in or to confirm, and download the file itself",
    r"404: Not Found\s*$": "a web server's answer: it has no such file; look for the address of "
    "the file",
}


BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
)


class BadInput(ValueError):
    """A file, folder or option is not what was expected; the message names it and says what to do.

    A user can correct it, so the command line prints it as one line, without a traceback.
    """


class NotThere(BadInput):
    """The folder has no file of a benchmark at all."""


def expand_home(options: Namespace) -> Namespace:
    """Expand the `~` of every path in a command's options; shells do not do so in `--out=~/x`."""
    vars(options).update(
        {k: v.expanduser() for k, v in vars(options).items() if isinstance(v, Path)}
    )
    return options


def read_start(path: Path, size: int = 4096) -> str:
    """Return the first bytes of a file as text, with replacements for bytes that are not UTF-8."""
    with path.open("rb") as file:
        return file.read(size).decode("utf-8-sig", errors="replace")


def stand_in(path: Path) -> str | None:
    """Return what stands in for the real file (a Git LFS pointer, a web page) and what to do, or
    None.
    """
    start = read_start(path).lstrip()
    found = (
        what
        for begin, what in STAND_INS.items()
        if re.match(begin, start, re.IGNORECASE | re.DOTALL)
    )
    return next(found, None)


def refuse_stand_in(path: Path) -> None:
    """Raise `BadInput` if the file only stands in for the real one."""
    if what := stand_in(path):
        raise BadInput(f"{path}: is not the file, but {what}")


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte-order mark. Raises `BadInput` for other content."""
    refuse_stand_in(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: not UTF-8 text; expected a file saved as UTF-8") from error


def read_json(path: Path, unique_keys: bool = False, without: tuple[str, ...] = ()) -> Any:
    """Read a JSON file. Raises `BadInput` with the line and column where it is broken.

    With `unique_keys`, so does a repeated key of an object (Python would keep the last one). The
    keys `without` are dropped while reading, so that a large file takes less memory. Give only one
    of the two.
    """
    return _parse(
        read_text(path),
        path,
        object_pairs_hook=partial(_unique, path) if unique_keys else None,
        object_hook=partial(_drop, without) if without else None,
    )


def read_json_lines(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield (`file:line`, object) for each non-blank line. Raises `BadInput` if one is not an
    object.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            content = _parse(line, path, number)
            if not isinstance(content, dict):
                raise BadInput(f"{path}:{number}: expected a JSON object, found {short(content)}")
            yield f"{path}:{number}", content


def _parse(text: str, path: Path, first_line: int = 1, **hooks: Any) -> Any:
    try:
        return json.loads(text, **hooks)
    except BadInput:
        raise
    except json.JSONDecodeError as error:
        where = f"{path}:{first_line + error.lineno - 1}:{error.colno}"
        raise BadInput(f"{where}: broken JSON ({error.msg}); download it again") from error
    except (ValueError, RecursionError) as error:  # very long numbers, brackets nested very deep
        raise BadInput(f"{path}:{first_line}: JSON that cannot be read ({error})") from error


def _drop(keys: tuple[str, ...], content: dict) -> dict:
    for key in keys:
        content.pop(key, None)
    return content


def _unique(path: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise BadInput(f"{path}: {short(key)} occurs more than once; keep one of them")
    return content


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line where it begins, row) of a CSV file with a header and commas or semicolons.

    Blank lines are skipped. Raises `BadInput` if one of `columns` is missing or repeated, or if a
    row has more or fewer fields than the header.
    """
    text = read_text(path)
    header = text.lstrip().partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{path}:{line}: broken CSV ({error})") from error
        if row is None:
            break
        if row == [] or (len(row) == 1 and not row[0].strip()):
            continue
        if not names:
            names = [name.strip() for name in row]
            if any(names.count(column) != 1 for column in columns):
                raise BadInput(
                    f"{path}:{line}: expected the columns {', '.join(columns)}; found "
                    f"{', '.join(names)[:200]}"
                )
        elif len(row) != len(names):
            raise BadInput(f"{path}:{line}: expected {len(names)} fields ({', '.join(names)})")
        else:
            yield line, dict(zip(names, row, strict=True))
    if not names:
        raise BadInput(f"{path}:1: expected the columns {', '.join(columns)}; found none")


def read_pickle(path: Path) -> object:
    """Read a pickle of lists, dicts, strings and whole numbers without running any code in it.

    Raises `BadInput` if the pickle is broken or holds anything else.
    """
    refuse_stand_in(path)
    with path.open("rb") as file:
        try:
            content = _PlainUnpickler(file, path).load()
        except BadInput:
            raise
        except (*BROKEN, OverflowError, RecursionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInput(f"{path}: broken pickle ({reason}); download it again") from error
    seen = set()
    left = [content]
    while left:  # look at each value once: a pickle may hold a list that holds itself
        value = left.pop()
        if type(value) in (str, int) or id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is dict:
            left += [*value.keys(), *value.values()]
        elif type(value) is list:
            left += value
        else:
            _refuse(path, f"a value of type {type(value).__name__}")
    return content


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every class and every function, so that only plain values can be built."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        _refuse(self._path, f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        _refuse(self._path, "a reference to something outside it")


def _refuse(path: Path, what: str) -> NoReturn:
    raise BadInput(
        f"{path}: holds {what}; expected only lists, dicts, strings and whole numbers, so it is "
        "not loaded"
    )


class IdList(NamedTuple):
    """The ids of one file in order, each once; `repeated` counts the repetitions we dropped."""

    path: Path
    ids: tuple[str, ...]
    repeated: int

    def notes(self) -> list[str]:
        """Return a note on the dropped ids, for `Annotations.notes`."""
        return (
            [f"repeated ids of {self.path.name}, dropped: {self.repeated:,}"]
            if self.repeated
            else []
        )


def read_id_list(path: Path) -> IdList:
    """Read the ids of a text file (one per line, the final newline is optional) or of a JSON
    list.
    """
    if path.suffix.lower() == ".json":
        ids = read_json(path)
        if not isinstance(ids, list) or not all(isinstance(id, str) and id.strip() for id in ids):
            raise BadInput(f"{path}: expected a JSON list of ids")
    else:
        ids = read_text(path).splitlines()
    ids = [text for id in ids if (text := id.strip())]
    if not ids:
        raise BadInput(f"{path}: no id in this list; expected one per line")
    unique = tuple(dict.fromkeys(ids))
    return IdList(path, unique, len(ids) - len(unique))
