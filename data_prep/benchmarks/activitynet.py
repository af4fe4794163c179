"""ActivityNet Captions: long videos, each found by its paragraph; 10,009 to train, 4,917 (val_1) to test."""

import re
import reprlib
from argparse import ArgumentParser
from collections.abc import Collection
from pathlib import Path

from data_prep.benchmarks.clip_json import find_clips
from data_prep.benchmarks.paragraphs import PROTOCOL, paragraph
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, Place, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, find_files, find_id_list, find_known, read_json

PUBLISHED = {"train": Counts(10_009, 10_009), "test": Counts(4_917, 4_917)}
FILES = {"train": "train.json", "test": "val_1.json"}
PARAGRAPHS = {"train": ("descs_ret_train.json", "anet_ret_train.json")}
PARAGRAPHS["test"] = ("descs_ret_test.json", "anet_ret_val_1.json")
ID = re.compile(r"v_.+|.{11}")  # one of YouTube's ids has eleven characters
LISTS = {"train": ("train_ids.json", "train_list.txt", "train_ids.txt")}
LISTS["test"] = ("val_ids.json", "val_list.txt", "val_ids.txt")
EXPECTED = '{"v_<id>": {"sentences": [...], "timestamps": [...]}, ...}'
OTHERS = "val_2.json"  # a second description of nearly the same videos


def read(source: Path) -> Annotations:
    """Read `train.json` as train and `val_1.json` as test, or files that hold their paragraphs.

    A split without a file is left out. There is no val split: published numbers are those of `val_1`. Lists
    of ids are only compared, as the published one holds nine ids without captions. In lists and files an id
    may lack its `v_`.
    """
    clean, entries, files, notes, absent = CaptionCleaner(), [], [], [], {}
    for split, name in FILES.items():
        found = find_known(source, (name,), _read_videos) or _find_paragraphs(source, split)
        if found is None:
            for path in find_files(source, (name,)):
                raise BadInput(f"{path}: expected {EXPECTED}")
            absent[split] = name
            continue
        path, videos = found
        files.append(path.name)
        others = _other_names(videos)
        for id, video in videos.items():
            where = f"{path}: {id}"
            sentences = _sentences(video, where) if isinstance(video, dict) else video
            entries.append(
                Entry(id, id, paragraph(sentences, clean, where), split, instead=Place(others[id]))
            )
        backwards = (id for id, video in videos.items() if isinstance(video, dict) and not _in_order(video))
        notes += count_of(backwards, f"videos of {name} have a start after its end (times are not used)")
        notes += _compare(source, split, others)
    notes = left_out(absent) + notes
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


def _find_paragraphs(source: Path, split: str) -> tuple[Path, dict[str, list[str]]] | None:
    """The file of a split's paragraphs, and these by id; a file may name videos with their extension."""
    found = find_clips(source, PARAGRAPHS[split], ID)
    return (found[0], {bare(id): texts for id, texts in found[1].items()}) if found else None


def _read_videos(path: Path) -> dict[str, dict] | None:
    """The videos by id, None where none has sentences: another benchmark may have a file of that name too.

    `BadInput` for a video that is no object, or that is there with and without `v_`.
    """
    content = read_json(path, unique_keys=True)
    if not isinstance(content, dict) or not any(
        isinstance(video, dict) and "sentences" in video for video in content.values()
    ):
        return None
    for id, video in content.items():
        if not isinstance(video, dict):
            raise BadInput(f"{path}: {id}: expected an object with sentences, found {reprlib.repr(video)}")
        if not id.strip():
            raise BadInput(f"{path}: expected an id, found {id!r}")
        if id.startswith("v_") and id[2:] in content:
            raise BadInput(f"{path}: {id[2:]} is there with and without v_; keep one of them")
    return content


def _sentences(video: dict, where: str) -> list[object]:
    sentences = video.get("sentences")
    if not isinstance(sentences, list):
        raise BadInput(f"{where}: expected sentences, a list of texts; found {reprlib.repr(sentences)}")
    return sentences


def _in_order(video: dict) -> bool:
    """Whether each of its times is a start and an end not before it."""
    try:
        return all(start <= end for start, end in video.get("timestamps", ()))
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
