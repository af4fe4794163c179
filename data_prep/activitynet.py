"""ActivityNet Captions: long videos, each found by its paragraph; 10,009 to train, 4,917 (val_1) to test."""

from argparse import ArgumentParser
from collections.abc import Collection
from pathlib import Path

from data_prep.annotations import Annotations, CaptionCleaner, Counts, Entry, Place
from data_prep.errors import BadInput
from data_prep.id_lists import bare, count_of, find_id_list
from data_prep.paragraphs import PROTOCOL, paragraph
from data_prep.readers import find_files, read_json

PUBLISHED = {"train": Counts(10_009, 10_009), "test": Counts(4_917, 4_917)}
FILES = {"train": "train.json", "test": "val_1.json"}
LISTS = {"train": ("train_ids.json", "train_list.txt", "train_ids.txt")}
LISTS["test"] = ("val_ids.json", "val_list.txt", "val_ids.txt")
OTHERS = "val_2.json"  # a second description of nearly the same videos


def read(source: Path) -> Annotations:
    """Read `train.json` as train and `val_1.json` as test; a file that is absent leaves its split out.

    There is no val split: published numbers are those of `val_1`. Lists of ids are only compared, as the
    published one holds nine ids without captions. In lists and files an id may lack its `v_`.
    """
    clean, entries, files, notes = CaptionCleaner(), [], [], []
    for split, name in FILES.items():
        found = _find(source, name)
        if found is None:
            notes.append(f"no {name}: the {split} split is left out")
            continue
        path, videos = found
        files.append(name)
        others = _other_names(videos)
        for id, video in videos.items():
            where = f"{path}: {id}"
            caption = paragraph(_sentences(video, where), clean, where)
            entries.append(Entry(id, id, caption, split, instead=Place(others[id])))
        backwards = (id for id, video in videos.items() if not _in_order(video.get("timestamps", ())))
        notes += count_of(backwards, f"videos of {name} have a start after its end (times are not used)")
        notes += _compare(source, split, others)
    if not entries:
        raise BadInput(f"{source}: neither train.json nor val_1.json with ActivityNet's captions is there")
    if find_files(source, (OTHERS,)):
        notes.append(f"{OTHERS} describes the videos of val_1.json again: not used")
    return Annotations(
        "activitynet", "video", PROTOCOL, PUBLISHED, entries, "activitynet", files, notes + clean.notes()
    )


def add_options(parser: ArgumentParser) -> None:
    """ActivityNet has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))


def _find(source: Path, name: str) -> tuple[Path, dict[str, dict]] | None:
    """The first file of that name with ActivityNet's captions; another benchmark may have such a name too."""
    paths = find_files(source, (name,))
    for path in paths:
        content = read_json(path, unique_keys=True)
        if isinstance(content, dict) and any(
            isinstance(v, dict) and "sentences" in v for v in content.values()
        ):
            return path, _videos(path, content)
    if paths:
        raise BadInput(f'{paths[0]}: expected {{"v_<id>": {{"sentences": [...], "timestamps": [...]}}, ...}}')
    return None


def _videos(path: Path, content: dict) -> dict[str, dict]:
    """The videos by id; `BadInput` for one that is no object, or that is there with and without `v_`."""
    for id, video in content.items():
        if not isinstance(video, dict):
            raise BadInput(f"{path}: {id}: expected an object with sentences, found {video!r}")
        if not id.strip():
            raise BadInput(f"{path}: expected an id, found {id!r}")
        if id.startswith("v_") and id[2:] in content:
            raise BadInput(f"{path}: {id[2:]} is there with and without v_; keep one of them")
    return content


def _sentences(video: dict, where: str) -> list[object]:
    sentences = video.get("sentences")
    if not isinstance(sentences, list):
        raise BadInput(f"{where}: expected sentences, a list of texts; found {sentences!r}")
    return sentences


def _in_order(timestamps: object) -> bool:
    """Whether each of them is a start and an end not before it."""
    try:
        return all(start <= end for start, end in timestamps)
    except (TypeError, ValueError):
        return False


def _compare(source: Path, split: str, others: dict[str, str]) -> list[str]:
    """Notes on what the list of ids names and the captions do not, and the reverse."""
    known = others.keys() | set(others.values())
    found = find_id_list(source, LISTS[split], known)
    if found is None:
        return []
    listed = dict.fromkeys(map(bare, found.ids))
    without = [id for id in listed if id not in known]
    unlisted = [id for id, other in others.items() if id not in listed and other not in listed]
    return [
        *found.notes(),
        *count_of(without, f"ids of {found.path.name} have no captions, left out"),
        *count_of(unlisted, f"videos with captions are not in {found.path.name}, kept"),
    ]


def _other_names(ids: Collection[str]) -> dict[str, str]:
    """Each id without its `v_`, or with it where they have none (one of YouTube's may begin with `v_`)."""
    prefixed = all(id.startswith("v_") for id in ids)
    return {id: id[2:] if prefixed else f"v_{id}" for id in ids}
