"""MSR-VTT: 9,000 (or 7,010) training clips of twenty captions, 1,000 test clips of one caption (1k-A)."""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.benchmarks.clip_json import find_clips
from data_prep.benchmarks.forms import some
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, find_file, find_files, read_csv, read_json

PROTOCOL = {"query": "caption", "visual_to_text": "items"}
TRAIN_LISTS = {"9k": ("MSRVTT_train.9k.csv", 9_000), "7k": ("MSRVTT_train.7k.csv", 7_010)}
DATA, TEST_LIST = "MSRVTT_data.json", "MSRVTT_JSFUSION_test.csv"
TRAIN_CAPTIONS = {"9k": ("descs_ret_train.json", "msrvtt_ret_train9k.json")}
TRAIN_CAPTIONS["7k"] = ("msrvtt_ret_train7k.json",)
TEST_CAPTIONS = ("descs_ret_test.json", "msrvtt_ret_test1k.json")
ID = re.compile(r"video\d+")
PUBLISHED_TEST = Counts(1_000, 1_000)
VALIDATE = 497  # clips that MSR-VTT's own division calls "validate"; both training lists hold them


class Row(NamedTuple):
    """A clip, the place of its captions for messages, and the captions."""

    id: str
    where: str
    captions: Sequence[object]


class Found(NamedTuple):
    """The clips of one split, and the files that hold them."""

    files: list[Path]
    rows: Iterable[Row]


def read(source: Path, train_list: str = "9k", hold_out: bool = False) -> Annotations:
    """Read `MSRVTT_data.json`, a training list and the 1k-A test list, or a JSON of captions for either.

    A split without files is left out. 1k-A has no validation split: `hold_out` makes one of the training
    clips that `MSRVTT_data.json` marks "validate".
    """
    name, published = TRAIN_LISTS[train_list]
    listed, test = find_file(source, (name,)), _read_test(source)
    data = find_file(source, (DATA,)) if listed or hold_out else None
    if hold_out and not data:
        raise BadInput(f"{source}: no {DATA} in this folder or below it; --val needs what it marks")
    sentences, divisions = _read_data(data) if data else ({}, {})
    if listed and data:
        train = Found([data, listed], _read_list(listed, sentences))
    else:
        train = _read_captions(source, TRAIN_CAPTIONS[train_list])
    absent, hint = {}, []
    if train is None:
        absent["train"] = f"{DATA}, which has the captions of {name}" if listed else name
        hint = [] if listed else _hint(source, train_list)
    if test is None:
        absent["test"] = TEST_LIST
    if len(absent) == 2:
        lacks = f"no {' and no '.join(absent.values())} in this folder or below it"
        raise BadInput("; ".join([f"{source}: {lacks}", *hint]))
    notes = left_out(absent) + hint

    clean, entries = CaptionCleaner(), []
    for split, found in (("train", train), ("test", test)):
        for id, where, captions in some(list(found.rows), found.files[-1]) if found else ():
            held = hold_out and split == "train" and divisions.get(id) == "validate"
            entries.append(Entry(id, id, clean(captions, where), "val" if held else split))
    if hold_out and train and all(entry.split != "val" for entry in entries):
        raise BadInput(f'{data}: no training clip is marked "split": "validate"; none can be held out')
    used = {entry.id for entry in entries}
    notes += count_of((str(id) for id in sentences if id not in used), "clips with captions are in no list")
    held = VALIDATE if hold_out else 0
    expected = {"train": Counts(published - held, 20 * (published - held)), "test": PUBLISHED_TEST}
    if hold_out:
        expected["val"] = Counts(held, 20 * held)
    files = [*(train.files if train else ()), *(test.files if test else ())]
    files = [path.name for path in dict.fromkeys([data, *files] if hold_out else files)]
    return Annotations("msrvtt", "video", PROTOCOL, expected, entries, "msrvtt", files, notes + clean.notes())


def _read_list(path: Path, sentences: dict[str, list[str]]) -> Iterator[Row]:
    for line, row in read_csv(path, ("video_id",)):
        id = row["video_id"].strip()
        yield Row(id, f"{path}:{line}", sentences.get(id, ()))


def _read_test(source: Path) -> Found | None:
    path = find_file(source, (TEST_LIST,))
    if path is None:
        return _read_captions(source, TEST_CAPTIONS)
    rows = read_csv(path, ("video_id", "sentence"))
    return Found(
        [path], (Row(row["video_id"].strip(), f"{path}:{line}", [row["sentence"]]) for line, row in rows)
    )


def _read_captions(source: Path, names: tuple[str, ...]) -> Found | None:
    found = find_clips(source, names, ID)
    if found is None:
        return None
    path, clips = found
    return Found([path], [Row(bare(id), f"{path}: {id}", captions) for id, captions in clips.items()])


def _hint(source: Path, train_list: str) -> list[str]:
    """What another choice of `--split` would read."""
    return [
        f"{path.name} is there: --split {other} reads it"
        for other, (name, _) in TRAIN_LISTS.items()
        if other != train_list
        for path in find_files(source, (name, *TRAIN_CAPTIONS[other]))[:1]
    ]


def add_options(parser: ArgumentParser) -> None:
    """The options of `read`."""
    parser.add_argument(
        "--split", choices=TRAIN_LISTS, default="9k", help="training list (default: %(default)s)"
    )
    parser.add_argument(
        "--val",
        action="store_true",
        help='hold out the training clips marked "validate" (1k-A has no val split)',
    )
    parser.set_defaults(read=lambda options: read(options.source, options.split, options.val))


def _read_data(path: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The sentences and the official division of each video id in `MSRVTT_data.json`."""
    content = read_json(path)
    sentences: dict[str, list[str]] = {}
    try:
        for sentence in content["sentences"]:
            sentences.setdefault(sentence["video_id"], []).append(sentence["caption"])
        divisions = {video["video_id"]: video.get("split") for video in content.get("videos", ())}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: expected lists videos (video_id) and sentences (video_id, caption); {error!r}"
        ) from None
    return sentences, divisions
