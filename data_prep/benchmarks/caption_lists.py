"""AMFMN's lists: `train_caps.txt`, a caption a line, and `train_filename.txt`, their images, a file a line.

The images stand once for each caption (test) or once for all of theirs, captions in the same order (train).
Where `train_caps.txt` holds the validation images too, `train_caps_verify.txt` and `val_caps_verify.txt`
divide it (as in the repositories of SWAN and GaLR).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_prep.benchmarks.forms import Reading, find_splits, image_file, some
from data_prep.dataset import SPLITS, CaptionCleaner, Entry
from data_prep.readers import BadInput, read_text

CAPTIONS, DIVIDED = "_caps.txt", "_caps_verify.txt"


def find_caption_lists(source: Path, name: str) -> Callable[[], Reading] | None:
    """What reads benchmark `name` in pairs of lists under `source`, or None when there is no pair."""
    paths = find_splits(source, name, (CAPTIONS,), parts=_pair)
    paths |= find_splits(source, name, (DIVIDED,), parts=_pair)
    return partial(_read, source, paths) if paths else None


def _pair(captions: Path) -> tuple[Path, Path]:
    """The file of captions and that of their images."""
    start, _, ending = captions.name.rpartition("_caps")
    return captions, captions.with_name(f"{start}_filename{ending}")


def _read(source: Path, paths: dict[str, Path]) -> Reading:
    clean, files, notes, found = CaptionCleaner(), [], [], {}
    for split in (split for split in SPLITS if split in paths):
        captions, images = _pair(paths[split])
        if not images.is_file():
            raise BadInput(f"{images}: not there; expected the images of the captions in {captions.name}")
        found[split] = _read_pair(captions, images, clean)
        files += [path.relative_to(source).as_posix() for path in (captions, images)]
    if "val" in found and paths["val"].name.endswith(DIVIDED):
        shared = [found["train"].pop(file) for file in found["val"] if file in found.get("train", ())]
        if shared:
            what = f"images of {paths['val'].name} left out of train, which holds them too"
            notes.append(f"{len(shared):,} {what}")
    entries = [
        Entry(Path(file).stem, file, tuple(texts), split)
        for split, images in found.items()
        for file, texts in images.items()
    ]
    return Reading(entries, files, notes + clean.notes())


def _read_pair(captions: Path, images: Path, clean: CaptionCleaner) -> dict[str, list[str]]:
    texts, names = _lines(captions), _lines(images)
    each, rest = divmod(len(texts), len(names)) if names else (0, len(texts))
    if rest or (names and not each):
        raise BadInput(
            f"{captions}: {len(texts):,} captions for the {len(names):,} lines of {images.name}; expected "
            "one for each line, or the same number for each; take both files from one copy"
        )
    found: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        file = str(image_file(name, f"{images}:{number + 1}"))
        first = number * each
        found.setdefault(file, []).extend(clean(texts[first : first + each], f"{captions}:{first + 1}"))
    return some(found, captions)


def _lines(path: Path) -> list[str]:
    """The lines of a file, blank ones too; the last may end without a newline."""
    lines = read_text(path).split("\n")
    return lines[:-1] if not lines[-1] else lines
