"""The forms that image benchmarks share: Karpathy's JSON, ALBEF's JSON, COCO's own layout, lists of
captions, JSON lines.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cma.files import short
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import Reading, Row, image_file, some, to_entries
from data_prep.dataset import SPLITS, CaptionCleaner
from data_prep.readers import (
    BadInput,
    read_json,
    read_json_lines,
    read_start,
    read_text,
)

UNUSED = ("tokens", "imgid", "sentid", "sentids", "cocoid")  # keys that take most of the memory
CAPTIONS = "_caps.txt"
DIVIDED = "_caps_verify.txt"
REPHRASED = "textaug"  # names files in which a machine has rephrased repeated captions


def karpathy_rows(path: Path, split: str) -> Iterator[Row]:
    """The rows of Karpathy's JSON: `{"images": [{"filename", "split", "sentences":
    [{"raw"}]}]}`.
    """
    content = read_json(path, without=UNUSED)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadInput(f'{path}: expected Karpathy\'s JSON, an object with a list "images"')
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        try:
            file = image_file(image["filename"], where)
            file = image_file(image["filepath"], where) / file if image.get("filepath") else file
            captions = [sentence["raw"] for sentence in image["sentences"]]
            yield Row(where, image["split"], str(file), captions)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{where}: expected filename, split and sentences with raw; {short(error)}"
            ) from error


def find_albef(downloads: Downloads, name: str) -> dict[str, Path]:
    """Find ALBEF's file of each split by the split in its name and its first characters."""
    return downloads.splits(name, (".json",), looks_like_albef)


def looks_like_albef(path: Path) -> bool:
    """Whether a JSON file begins like a list of objects with an image and a caption, or holds
    nothing.
    """
    start = read_start(path).strip()
    return (
        start in ("", "[]") or start.startswith("[") and '"image"' in start and '"caption"' in start
    )


def albef_rows(path: Path, split: str) -> Iterator[Row]:
    """The rows of ALBEF's JSON: `[{"image": "val2014/1.jpg", "caption": "…" or ["…", …]}]`.

    A training file has a row for each caption, other files have a row for each image.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInput(f"{path}: expected a list of objects with image and caption")
    for number, row in enumerate(content):
        where = f"{path}: [{number}]"
        if not isinstance(row, dict) or not {"image", "caption"} <= row.keys():
            raise BadInput(f"{where}: expected an object with image and caption")
        yield Row(where, split, row["image"], row["caption"])


def find_coco_style(downloads: Downloads, name: str) -> dict[str, Path]:
    """Find each split's file in COCO's style, but not COCO's own `captions_val2014.json`."""

    def fits(path: Path) -> bool:
        start = read_start(path).lstrip()
        begins = start.startswith("{") and ('"file_name"' in start or '"annotations"' in start)
        return begins and '"images"' in start and not re.search(r"_(train|val)20\d\d", path.stem)

    return downloads.splits(name, (".json",), fits)


def coco_style_rows(path: Path, split: str) -> Iterator[Row]:
    """The rows of COCO's own layout: `{"images": [{"id", "file_name"}], "annotations":
    [{"image_id", "caption"}]}`. An image without a file name is `<id>.jpg`.
    """
    content = read_json(path)
    where = f"{path}: images"
    try:
        files = {it["id"]: it.get("file_name", f"{it['id']}.jpg") for it in content["images"]}
        for number, row in enumerate(content["annotations"]):
            where = f"{path}: annotations[{number}]"
            yield Row(where, split, files[row["image_id"]], row["caption"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{where}: expected images (id, file_name) and annotations (image_id, caption) of "
            f"these images; {short(error)}"
        ) from error


def find_pairs_csv(downloads: Downloads, name: str) -> dict[str, Path]:
    """Find SkyScript's CSV of each split, such as `RSICD_img_txt_pairs_test.csv`."""
    file = f"{name.upper()}_img_txt_pairs_{{}}.csv"
    return {split: path for split in SPLITS if (path := downloads.find(file.format(split)))}


def find_json_lines(downloads: Downloads, name: str) -> dict[str, Path]:
    """Find CLIP-RSICD's file of each split by the split in its name and its first characters."""

    def fits(path: Path) -> bool:
        start = read_start(path).lstrip()
        return (
            not start or start.startswith("{") and '"filename"' in start and '"captions"' in start
        )

    return downloads.splits(name, (".jsonl",), fits)


def json_line_rows(path: Path, split: str) -> Iterator[Row]:
    """The rows of CLIP-RSICD's file, one image per line: `{"filename": "images/1.jpg", "captions":
    […]}`.
    """
    for where, row in read_json_lines(path):
        captions = row.get("captions")
        if not isinstance(captions, list):
            raise BadInput(f"{where}: expected captions, a list of texts; found {short(captions)}")
        yield Row(where, split, row.get("filename"), captions)


def find_caption_lists(downloads: Downloads, name: str) -> dict[str, Path]:
    """Find AMFMN's caption lists, such as `train_caps.txt` beside its list of images,
    `train_filename.txt`.

    In the repositories of SWAN and GaLR, `train_caps.txt` holds the validation images too, and is
    divided into `train_caps_verify.txt` and `val_caps_verify.txt`: these are preferred.
    """
    found = downloads.splits(name, (CAPTIONS,), parts=_pair)
    found |= downloads.splits(name, (DIVIDED,), parts=_pair)
    return {split: found[split] for split in SPLITS if split in found}


def read_caption_lists(paths: dict[str, Path]) -> Reading:
    """Read pairs of lists; images of a `val_caps_verify.txt` are left out of train."""
    clean = CaptionCleaner()
    notes = []
    found = {}
    for split, path in paths.items():
        entries = some(list(to_entries(caption_list_rows(path, split), clean)), path)
        found[split] = {entry.file: entry for entry in entries}
    if "val" in found and paths["val"].name.endswith(DIVIDED):
        shared = [
            found["train"].pop(file) for file in found["val"] if file in found.get("train", ())
        ]
        if shared:
            notes.append(
                f"images of {paths['val'].name} left out of train, which holds them too: "
                f"{len(shared):,}"
            )
    entries = [entry for images in found.values() for entry in images.values()]
    files = [part for path in paths.values() for part in _pair(path)]
    return Reading(entries, files, notes + clean.notes())


def caption_list_rows(captions: Path, split: str) -> Iterator[Row]:
    """Yield the rows of a pair of lists: one caption per line, and one image file per line.

    An image is there once for each of its captions (test), or once for all of its captions (train).
    """
    _, images = _pair(captions)
    if not images.is_file():
        raise BadInput(
            f"{images}: no such file; expected the images of the captions in {captions.name}"
        )
    texts = _lines(captions)
    names = _lines(images)
    each, rest = divmod(len(texts), len(names)) if names else (0, len(texts))
    if rest or (names and not each):
        raise BadInput(
            f"{captions}: captions: {len(texts):,}, lines in {images.name}: {len(names):,}; "
            "expected one "
            "caption for each line, or the same number for each; take both files from one copy"
        )
    for number, name in enumerate(names):
        file = str(image_file(name, f"{images}:{number + 1}"))
        for line in range(number * each, (number + 1) * each):
            yield Row(f"{captions}:{line + 1}", split, file, texts[line])


def _pair(captions: Path) -> tuple[Path, Path]:
    """Return the file of captions and the file of their images."""
    start, _, ending = captions.name.rpartition("_caps")
    return captions, captions.with_name(f"{start}_filename{ending}")


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, including blank ones; the last may end without a newline."""
    lines = read_text(path).split("\n")
    return lines[:-1] if not lines[-1] else lines
