"""A dataset folder of small coloured pictures, in the format every benchmark is prepared into."""

import json
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
THINGS = ("cat", "dog", "bird", "horse", "car", "boat", "tree", "house", "flower", "star")


def write_dataset(folder: Path, lines: list[dict | str], about: dict) -> Path:
    """Write `metadata.jsonl`, whose lines may be given as text, and `dataset.json`; the folder."""
    folder.mkdir(exist_ok=True)
    texts = [
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    ]
    (folder / "metadata.jsonl").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def write_named(folder: Path, names: list[str]) -> Path:
    """A test split of the pictures `names`, with a caption each; none is made. The folder."""
    lines = [{"file_name": name, "id": name, "captions": ["a"], "split": "test"} for name in names]
    return write_dataset(folder, lines, {"name": "toy", "kind": "image"})


def write_images(
    folder: Path,
    counts: dict[str, int],
    captions: int = 2,
    reading: str = "captions",
    recipe: str = "flickr30k",
) -> Path:
    """`counts` pictures a split, each with `captions` captions; the folder."""
    (folder / "media").mkdir(parents=True)
    lines, held = [], {}
    for split, count in counts.items():
        for i in range(count):
            colour, thing = COLOURS[i % 6], THINGS[(i // 6) % 10]
            name = f"media/{split}{i:03}.png"
            picture = Image.new("RGB", (32, 32), colour)
            picture.putpixel((i % 32, i // 32), (128, 128, 128))
            picture.save(folder / name)
            texts = [f"a {colour} {thing}", f"{thing} in the {colour} water", f"the {thing}"][
                :captions
            ]
            lines.append(
                {"file_name": name, "id": f"{split}{i:03}", "captions": texts, "split": split}
            )
        held[split] = {"found": count, "expected": count}
    about = {"format_version": 1, "name": "toy", "kind": "image", "recipe": recipe, "counts": held}
    about["protocol"] = {"query": "caption", "visual_to_text": reading}
    return write_dataset(folder, lines, about)
