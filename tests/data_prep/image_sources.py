"""Invented annotation files of the shapes in which the image benchmarks circulate."""

import json
from pathlib import Path


def write(path: Path, content: object) -> Path:
    """A file of text, or of JSON for anything that is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def karpathy(images: dict[str, tuple[str, list[str]]]) -> dict:
    """Karpathy's JSON of {"folder/file": (split, captions)}."""
    rows = []
    for file, (split, captions) in images.items():
        folder, _, name = file.rpartition("/")
        sentences = [{"raw": text, "tokens": text.lower().split()} for text in captions]
        row = {"filename": name, "split": split, "sentences": sentences}
        rows.append(row | ({"filepath": folder} if folder else {}))
    return {"images": rows, "dataset": "invented"}


def albef(images: dict[str, list[str]], train: bool = False) -> list[dict]:
    """ALBEF's JSON of {"folder/file": captions}: a row an image, or a row a caption for training.

    In the latter, the first captions of all images come first, then the second ones.
    """
    if not train:
        return [{"image": file, "caption": captions} for file, captions in images.items()]
    most = max(map(len, images.values()))
    pairs = [
        (file, captions[n])
        for n in range(most)
        for file, captions in images.items()
        if n < len(captions)
    ]
    return [{"image": file, "caption": text, "image_id": file} for file, text in pairs]


def told(annotations) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """{id: (split, file, captions)} of annotations."""
    return {entry.id: (entry.split, entry.file, entry.captions) for entry in annotations.entries}
