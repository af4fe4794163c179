"""Karpathy's JSON, common to the image benchmarks: `{"images": [{"filename", "split", "sentences"}]}`."""

from pathlib import Path, PurePosixPath

from data_prep.annotations import SPLITS, CaptionCleaner, Entry
from data_prep.errors import BadInput
from data_prep.readers import read_json


def read_karpathy(path: Path) -> tuple[list[Entry], list[str]]:
    """The entries of a Karpathy JSON and notes on what was cleaned; ids are file names without extension."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadInput(f'{path}: expected Karpathy\'s JSON, an object with a list "images"')
    clean, entries = CaptionCleaner(), []
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        try:
            file = PurePosixPath(image.get("filepath", ""), image["filename"])
            split = image["split"]
            raw = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{where}: expected filename, split and sentences with raw; {error!r}") from None
        where = f"{where} ({file})"
        if split not in SPLITS:
            raise BadInput(f"{where}: expected the split {', '.join(SPLITS)}; found {split!r}")
        if not file.stem:
            raise BadInput(f"{where}: expected a file name")
        entries.append(Entry(file.stem, str(file), clean(raw, where), split))
    return entries, clean.notes()
