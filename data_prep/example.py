"""A folder as people have one: pictures, clips and a moving GIF, a file that is broken, and captions.

Made from the test splits of the offline benchmarks, for the notebook on one's own media.
"""

import csv
import random
import shutil
from pathlib import Path

import cma
from cma.media.video import read_frames

MARK = ".example"
PARTS = (("train", 0.5), ("val", 0.1), ("test", 0.4))  # of the pictures in the captions file


def write_example(folder: Path, data_root: Path, items: int | None = None, seed: int = 0) -> Path:
    """Write pictures, clips and broken files into `folder`, anew; returns the CSV of captions beside them.

    `items` pictures at most (None: all of mini-flickr30k's test split) and a third as many clips. Files are
    called by their first caption. Captions are given for the pictures, with a split drawn by `seed`. Raises
    FileNotFoundError where the offline benchmarks are not built, FileExistsError rather than replace a
    folder that this did not write.
    """
    if folder.exists() and not (folder / MARK).is_file():
        raise FileExistsError(f"{folder}: there already, and no example; expected a new folder")
    pictures = cma.data.load(data_root / "mini-flickr30k", "test").subset(items, seed)
    clips = cma.data.load(data_root / "mini-msrvtt", "test")
    clips = clips.subset(max(2, len(pictures) // 3), seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    copies = {item.id: _copy(pictures, item, folder / "pictures") for item in pictures.items}
    for item in clips.items:
        _copy(clips, item, folder / "clips")
    frames = read_frames(clips.path(clips.items[0]), 20, fps=10)
    frames[0].save(folder / "clips" / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    (folder / "empty.jpg").touch()
    (folder / "not a picture.png").write_text("<html>404</html>")
    order = [item for item in pictures.items for _ in item.captions]
    split = _draw([item.id for item in pictures.items], seed)
    rows = zip(order, pictures.captions, strict=True)
    table = folder / "captions.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", "caption", "split"])
        writer.writerows([f"pictures/{copies[i.id].name}", text, split[i.id]] for i, text in rows)
    return table


def _copy(dataset: cma.data.RetrievalDataset, item: cma.data.Item, folder: Path) -> Path:
    """Copy an item's file, called by its first caption and, where that is taken, its id."""
    folder.mkdir(parents=True, exist_ok=True)
    source = dataset.path(item)
    words = "".join(c if c.isalnum() else " " for c in item.captions[0])
    target = folder / f"{' '.join(words.split())}{source.suffix}"
    if target.exists():
        target = target.with_stem(f"{target.stem} {item.id}")
    return Path(shutil.copyfile(source, target))


def _draw(ids: list[str], seed: int) -> dict[str, str]:
    """A split for each id, in the shares of `PARTS`, at least one each where there are three or more."""
    order = sorted(ids)
    random.Random(seed).shuffle(order)
    split, start = {}, 0
    for name, share in PARTS:
        end = len(order) if name == PARTS[-1][0] else start + max(1, round(share * len(order)))
        split |= dict.fromkeys(order[start:end], name)
        start = end
    return split
