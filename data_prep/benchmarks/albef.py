"""ALBEF's and BLIP's JSON, a file a split: `[{"image": "val2014/1.jpg", "caption": "…" or ["…", …]}]`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_prep.benchmarks.forms import Reading, find_splits, image_file, some
from data_prep.dataset import SPLITS, CaptionCleaner, Entry
from data_prep.readers import BadInput, read_json, read_start


def find_albef(
    source: Path, name: str, keep: Callable[[str, str], bool] | None = None
) -> Callable[[], Reading] | None:
    """What reads benchmark `name` in ALBEF's files under `source`, or None when there are none.

    Files are known by the split in their names and by what they hold; ids are file names without extension.
    Images for which `keep(file, split)` is false are left out.
    """
    paths = find_splits(source, name, (".json",), looks_like_albef)
    return partial(_read, paths, keep) if paths else None


def _read(paths: dict[str, Path], keep: Callable[[str, str], bool] | None) -> Reading:
    clean, entries, left_out = CaptionCleaner(), [], 0
    for split in SPLITS:
        for file, captions in (_read_split(paths[split], clean) if split in paths else {}).items():
            if keep is None or keep(file, split):
                entries.append(Entry(Path(file).stem, file, tuple(captions), split))
            else:
                left_out += 1
    notes = [f"{left_out:,} images left out by the choice of --split"] if left_out else []
    files = [paths[split].name for split in SPLITS if split in paths]
    return Reading(entries, files, notes + clean.notes())


def looks_like_albef(path: Path) -> bool:
    """Whether a JSON file begins like a list of objects with an image and a caption, or holds nothing."""
    start = read_start(path).strip()
    return start in ("", "[]") or start.startswith("[") and '"image"' in start and '"caption"' in start


def _read_split(path: Path, clean: CaptionCleaner) -> dict[str, list[str]]:
    """The captions of each image; a training file has a row a caption, so rows of one image are joined."""
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInput(f"{path}: expected a list of objects with image and caption")
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(content):
        where = f"{path}: [{number}]"
        if not isinstance(row, dict) or not {"image", "caption"} <= row.keys():
            raise BadInput(f"{where}: expected an object with image and caption")
        file = str(image_file(row["image"], where))
        whole = isinstance(row["caption"], list)  # all captions of the image: there is one such row
        if whole and file in captions:
            raise BadInput(f"{where}: {file} has a row already; expected one row for each image")
        given = row["caption"] if whole else [row["caption"]]
        captions.setdefault(file, []).extend(clean(given, f"{where} ({file})"))
    return some(captions, path)
