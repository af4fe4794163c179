"""Karpathy's JSON, common to the image benchmarks: `{"images": [{"filename", "split", "sentences"}]}`."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from data_prep.benchmarks.forms import Reading, image_file
from data_prep.dataset import SPLITS, CaptionCleaner, Entry
from data_prep.readers import BadInput, find_file, read_json

UNUSED = ("tokens", "imgid", "sentid", "sentids", "cocoid")  # more than half of the file in memory
SAME = {split: split for split in SPLITS}


def read_karpathy(path: Path, splits: Mapping[str, str | None] = SAME) -> tuple[list[Entry], list[str]]:
    """The entries of a Karpathy JSON and notes on what was cleaned; ids are file names without extension.

    `splits` says which split the file's own are read as; those of None are left out, counted.
    """
    content = read_json(path, without=UNUSED)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadInput(f'{path}: expected Karpathy\'s JSON, an object with a list "images"')
    clean, entries, left_out = CaptionCleaner(), [], Counter()
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        try:
            file = image_file(image["filename"], where)
            file = image_file(image["filepath"], where) / file if image.get("filepath") else file
            split = image["split"]
            raw = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{where}: expected filename, split and sentences with raw; {error!r}") from None
        where = f"{where} ({file})"
        if not isinstance(split, str) or split not in splits:
            raise BadInput(f"{where}: expected the split {', '.join(splits)}; found {split!r}")
        if splits[split] is None:
            left_out[split] += 1
        else:
            entries.append(Entry(file.stem, str(file), clean(raw, where), splits[split]))
    notes = [f'{count:,} images of split "{split}" left out' for split, count in left_out.items()]
    return entries, notes + clean.notes()


def find_karpathy(
    source: Path, names: tuple[str, ...], splits: Mapping[str, str | None] = SAME
) -> Callable[[], Reading] | None:
    """What reads the first of `names` that is under `source` by `read_karpathy`, or None when none is."""
    path = find_file(source, names)
    return partial(_read, path, splits) if path else None


def _read(path: Path, splits: Mapping[str, str | None]) -> Reading:
    entries, notes = read_karpathy(path, splits)
    return Reading(entries, [path.name], notes)
