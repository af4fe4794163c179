"""MSVD: 1,970 clips with 18 to 81 captions each; 1,200 to train, 100 to validate, 670 to test."""

import pickle
import reprlib
from pathlib import Path
from typing import NoReturn

from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import VIDEOS, Benchmark
from data_prep.dataset import (
    SPLITS,
    Annotations,
    CaptionCleaner,
    Counts,
    Entry,
    Place,
    count_of,
    left_out,
)
from data_prep.media import bare
from data_prep.readers import BadInput, read_json, read_text, refuse_stand_in

PUBLISHED = {"train": Counts(1_200, 48_774), "val": Counts(100, 4_290), "test": Counts(670, 27_763)}
CAPTIONS = ("captions_msvd.json", "raw-captions.pkl")
LISTS = {split: f"{split}_list.txt" for split in SPLITS}
MAPPING = "youtube_mapping.txt"  # lines with a clip's id and vid1, vid2, …
BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
)


def read(downloads: Downloads) -> Annotations:
    """Read the captions and `{train,val,test}_list.txt`; a split without a list is left out.

    If `youtube_mapping.txt` is there, media, captions and lists may also call the clips `vid1`, ….
    """
    path, mapping = downloads.require(*CAPTIONS), downloads.find(MAPPING)
    ids = _read_mapping(mapping) if mapping else {}
    names = {id: name for name, id in ids.items()}
    captions = _read_captions(path, ids)
    files = [path, mapping] if mapping else [path]
    clean, entries, notes, absent = CaptionCleaner(), [], [], {}
    for split, name in LISTS.items():
        found = downloads.id_list((name,), captions.keys() | names.keys() | ids.keys())
        if found is None:
            absent[split] = name
            continue
        files.append(found.path)
        notes += found.notes()
        for listed in map(bare, found.ids):
            id = ids.get(listed, listed)
            instead = Place(names[id]) if id in names else None
            texts = clean(captions.get(id, ()), f"{path}: {id}")
            entries.append(Entry(id, id, texts, split, instead=instead))
    if not entries:
        raise BadInput(
            f"{downloads.folder}: found none of {', '.join(LISTS.values())} with the ids of MSVD"
        )
    listed = {entry.id for entry in entries}
    notes = left_out(absent, " with these ids") + notes
    notes += count_of(
        (entry.id for entry in entries if not entry.captions), "listed clips without captions"
    )
    notes += count_of(
        (id for id in captions if id not in listed), "clips with captions that are in no list"
    )
    names = downloads.names_of(files)
    return Annotations(
        "msvd", "video", VIDEOS, PUBLISHED, entries, "msvd", names, notes + clean.notes()
    )


def _read_captions(path: Path, ids: dict[str, str]) -> dict[str, list[str]]:
    """Read captions by id; each is a sentence or a list of words. `ids` maps `vid1`, … to the
    clips' ids.
    """
    content = read_pickle(path) if path.suffix == ".pkl" else read_json(path, unique_keys=True)
    if not isinstance(content, dict):
        raise BadInput(
            f"{path}: expected captions by id, found a value of type {type(content).__name__}"
        )
    captions = {}
    for key, values in content.items():
        id = ids.get(bare(key), bare(key))
        if id in captions:
            raise BadInput(
                f"{path}: the clip {id} is there more than once, the second time as {key!r}"
            )
        if not isinstance(values, list):
            raise BadInput(
                f"{path}: {id}: expected a list of captions, found {reprlib.repr(values)}"
            )
        captions[id] = [_sentence(value, f"{path}: {id}") for value in values]
    return captions


def _sentence(value: object, where: str) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if isinstance(value, str):
        return value
    raise BadInput(
        f"{where}: expected a caption (text or a list of words), found {reprlib.repr(value)}"
    )


def _read_mapping(path: Path) -> dict[str, str]:
    """Read the file that maps `vid1`, `vid2`, … (counted from 1) to the clips' ids."""
    ids: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].startswith("vid"):
            raise BadInput(f"{path}:{number}: expected an id and vid<number>, found {line!r}")
        if fields[1] in ids or fields[0] in ids.values():
            raise BadInput(f"{path}:{number}: {line!r} repeats an id or a name of an earlier line")
        ids[fields[1]] = fields[0]
    return ids


def read_pickle(path: Path) -> object:
    """Read a pickle of lists, dicts and strings without running any code in it.

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
    seen, left = set(), [content]
    while left:  # look at each value once: a pickle may hold a list that holds itself
        value = left.pop()
        if type(value) is str or id(value) in seen:
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

    def __init__(self, file: object, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        _refuse(self._path, f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        _refuse(self._path, "a reference to something outside it")


def _refuse(path: Path, what: str) -> NoReturn:
    raise BadInput(
        f"{path}: holds {what}; expected only lists, dicts and strings, so it is not loaded"
    )


BENCHMARK = Benchmark(__doc__, read)
