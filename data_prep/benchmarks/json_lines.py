"""CLIP-RSICD's files, one a split, an image a line: `{"filename": "rsicd_images/1.jpg", "captions": […]}`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_prep.benchmarks.forms import Reading, find_splits, image_file, some
from data_prep.dataset import SPLITS, CaptionCleaner, Entry
from data_prep.readers import BadInput, read_json_lines, read_start

REPHRASED = "textaug"  # in the names of files whose repeated captions were replaced by a machine's


def find_json_lines(source: Path, name: str) -> Callable[[], Reading] | None:
    """What reads benchmark `name` in files of JSON lines under `source`, or None when there are none."""
    paths = find_splits(source, name, (".jsonl",), _fits)
    return partial(_read, paths) if paths else None


def _fits(path: Path) -> bool:
    """Whether a file begins like lines of a file name and captions, or is empty (broken)."""
    start = read_start(path).lstrip()
    return not start or start.startswith("{") and '"filename"' in start and '"captions"' in start


def _read(paths: dict[str, Path]) -> Reading:
    clean, entries = CaptionCleaner(), []
    used = {split: paths[split] for split in SPLITS if split in paths}
    for split, path in used.items():
        for where, row in some([*read_json_lines(path)], path):
            file = image_file(row.get("filename"), where)
            captions = row.get("captions")
            if not isinstance(captions, list):
                raise BadInput(f"{where} ({file}): expected captions, a list of texts; found {captions!r}")
            entries.append(Entry(file.stem, str(file), clean(captions, f"{where} ({file})"), split))
    names = [path.name for path in used.values()]
    rephrased = [name for name in names if REPHRASED in name]
    notes = [f"{', '.join(rephrased)}: repeated captions are rephrased, unlike the benchmark's own"]
    return Reading(entries, names, notes * bool(rephrased) + clean.notes())
