"""Pickles that hold lists, dicts and strings alone; anything else is refused before it is built."""

import pickle
from pathlib import Path
from typing import NoReturn

from data_prep.readers import BadInput, refuse_stand_in

BROKEN = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, MemoryError)


def read_pickle(path: Path) -> object:
    """The lists, dicts and strings in a pickle; `BadInput` if it holds anything else, which is not run."""
    refuse_stand_in(path)
    with path.open("rb") as file:
        try:
            content = _PlainUnpickler(file, path).load()
        except BadInput:
            raise
        except (*BROKEN, OverflowError, RecursionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInput(f"{path}: broken pickle ({reason}); download it again") from None
    _refuse_others(content, path)
    return content


class _PlainUnpickler(pickle.Unpickler):
    """Knows no class and no function: nothing but plain values can be built."""

    def __init__(self, file: object, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        _refuse(self._path, f"{module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        _refuse(self._path, "a reference to something outside it")


def _refuse_others(content: object, path: Path) -> None:
    """`BadInput` at the first value that is no list, dict or string; each value is looked at once."""
    seen, left = set(), [content]
    while left:
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


def _refuse(path: Path, what: str) -> NoReturn:
    raise BadInput(f"{path}: holds {what}; expected only lists, dicts and strings, so it is not loaded")
