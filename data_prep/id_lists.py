"""Lists of ids, one a line or as JSON: which items a split holds."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from data_prep.errors import BadInput
from data_prep.media import VIDEO_SUFFIXES, stem
from data_prep.readers import find_known, read_json, read_text

SHOWN = 10  # ids that a note names


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


def bare(id: str) -> str:
    """A clip's id without a video's extension, where it has one."""
    name = stem(id)
    return name if id[len(name) :].lower() in VIDEO_SUFFIXES else id


def count_of(ids: Iterable[str], what: str) -> list[str]:
    """A note that counts ids and names the first of them; none for no id."""
    ids = list(ids)
    more = ", …" if len(ids) > SHOWN else ""
    return [f"{len(ids):,} {what}: {', '.join(ids[:SHOWN])}{more}"] if ids else []
