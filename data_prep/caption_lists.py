"""AMFMN's lists: `train_caps.txt`, a caption a line, and `train_filename.txt`, their images, a file a line.

The images stand once for each caption (test) or once for all of theirs, captions in the same order (train).
"""

from pathlib import Path

from data_prep.annotations import SPLITS, CaptionCleaner, Entry
from data_prep.errors import BadInput
from data_prep.forms import Reading, find_splits, image_file
from data_prep.readers import read_text

CAPTIONS, IMAGES = "_caps.txt", "_filename.txt"


def read_caption_lists(source: Path, name: str) -> Reading | None:
    """The entries of benchmark `name` in pairs of lists under `source`, or None when there is no pair."""
    paths = find_splits(source, name, (".txt",), lambda path: path.name.endswith(CAPTIONS))
    if not paths:
        return None
    clean, entries, files = CaptionCleaner(), [], []
    for split in (split for split in SPLITS if split in paths):
        images = paths[split].with_name(paths[split].name.removesuffix(CAPTIONS) + IMAGES)
        if not images.is_file():
            raise BadInput(f"{images}: not there; expected the images of the captions in {paths[split].name}")
        entries += [
            Entry(Path(file).stem, file, tuple(captions), split)
            for file, captions in _read_pair(paths[split], images, clean).items()
        ]
        files += [path.relative_to(source).as_posix() for path in (paths[split], images)]
    return Reading(entries, files, clean.notes())


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
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a file, blank ones too; the last may end without a newline."""
    lines = read_text(path).split("\n")
    return lines[:-1] if not lines[-1] else lines
