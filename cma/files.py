"""Files: written whole or not at all, walked in order, and JSON read into checked types."""

import dataclasses
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

T = TypeVar("T")
# (a folder, names of its folders, names of its files)
Folders = Iterator[tuple[Path, list[str], list[str]]]
# for pydantic, in `checked_dataclass`
RULES = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
LONGEST = 120  # characters of a value that a message quotes
_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(TypeAdapter)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield `.NAME.NUMBER.tmp`, which then replaces `path`; after an error `path` is as before.

    The new file is on the disk before it takes the name, so that a power cut leaves the old file or
    the new one. `glob(".NAME.*.tmp")` finds the files of a killed writer.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a random number, because threads, and containers that share a volume, share process ids
    temporary = path.with_name(f".{path.name}.{secrets.randbelow(10**12)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:  # without errno, a file name would hide its text
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, where the system can do that (Windows cannot)."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes; a reader finds the old file or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


def cache_folder() -> Path:
    """Return the folder `CMA_CACHE`, or else this user's cache folder on this platform."""
    from platformdirs import user_cache_path  # of the extras `prep` and `explorer`

    return (
        Path(os.environ.get("CMA_CACHE") or user_cache_path("cma", False)).expanduser().absolute()
    )


def read_text(path: Path | str, hint: str = "") -> str:
    """Read a UTF-8 file. Raises FileNotFoundError, or ValueError, with the file and the `hint`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file{hint}")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text ({error.reason}){hint}") from None


def read_json(path: Path | str, as_type: type[T], hint: str = "") -> T:
    """Read a JSON file as `as_type`, a dataclass or any type. Nothing is converted silently.

    Raises FileNotFoundError, or ValueError in one line with the file, the key, what was expected
    and found, and the `hint`, such as "; save it again".
    """
    return parse_json(read_text(path, hint), as_type, str(path), hint)


def read_jsonl(path: Path | str, as_type: type[T], hint: str = "") -> Iterator[tuple[str, T]]:
    """Yield (`file:line`, value) for each line of a `.jsonl` file. Raises as `read_json`."""
    for number, line in enumerate(read_text(path, hint).rstrip("\n").split("\n"), start=1):
        yield f"{path}:{number}", parse_json(line, as_type, f"{path}:{number}", hint)


def parse_json(text: str, as_type: type[T], where: str, hint: str = "") -> T:
    """Parse one JSON value as `as_type`. Raises ValueError in one line that starts with `where`."""
    try:
        return _adapter(as_type).validate_json(text.encode(errors="surrogatepass"), strict=True)
    except ValidationError as error:
        first, expected = _first(error)
        place = ".".join(map(str, first["loc"]))
        key = f"{short(place)}: " if place else ""
        message = f"{where}: {key}{expected}, found {short(first['input'])}{hint}"
        raise ValueError(printable(message)) from None


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def checked_dataclass(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields pydantic checks; numbers must be finite.

    A wrong value raises ValueError in one line, such as `epochs=0: expected greater than or equal
    to 1`. For an unknown field, the error lists all fields.
    """
    checked: Any = pydantic.dataclasses.dataclass(frozen=True, config=RULES)(cls)
    names = [field.name for field in dataclasses.fields(checked)]
    positions: dict[object, str] = dict(enumerate(names))
    build = checked.__init__

    @wraps(build)
    def init(self: T, *values: object, **named: object) -> None:
        try:
            build(self, *values, **named)
        except ValidationError as error:
            first, message = _first(error)
            place = next(iter(first["loc"]), None)  # the position of a value without a name
            key = positions.get(place, place)
            if first["type"] == "unexpected_keyword_argument":
                known = f"the fields are {', '.join(fields_of(cls))}"
                message = f"{cls.__name__} has no field {short(key)}: {known}"
            elif first["type"] == "missing":
                message = f"{key}: {message}"
            elif key is not None:
                message = f"{key}={short(first['input'])}: {message}"
            raise ValueError(printable(message)) from None

    checked.__init__ = init
    return checked


def fields_of(cls: type) -> list[str]:
    """Return `name = default` of each field of a dataclass, or its name if it is needed."""
    found = []
    for field in dataclasses.fields(cls):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        needed = default is dataclasses.MISSING
        found.append(field.name if needed else f"{field.name} = {default!r}")
    return found


def _first(error: ValidationError) -> tuple[ErrorDetails, str]:
    """Return pydantic's first error, and what was expected, in our words."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing":
        return first, "expected, but missing"
    if first["type"] == "unexpected_keyword_argument":
        return first, "not a key"
    message = first["msg"].removeprefix("Value error, ").replace("Invalid JSON", "broken JSON", 1)
    return first, re.sub(r"^\w+ should (be|have) ", "expected ", message)


def walk(folder: Path | str, failed: Callable[[OSError], None] | None = None) -> Folders:
    """Walk like `os.walk`, but sorted and through links; enter each real folder only once.

    The caller can remove the name of a folder that should not be entered; `failed` receives the
    errors of unreadable ones.
    """
    seen = set()
    for parent, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(parent), folders, sorted(files)


def escapes_folder(name: str) -> bool:
    """Return whether a file name is absolute or has `..`, for POSIX or Windows."""
    kinds = PurePosixPath(name), PureWindowsPath(name)
    return any(path.root or ".." in path.parts for path in kinds) or bool(PurePath(name).drive)


def short(value: object) -> str:
    """Return the `repr` of a value for a message: one line, cut to `LONGEST` characters."""
    text = printable(repr(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def printable(text: str) -> str:
    """Return `text` as one line of UTF-8, with invisible characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
