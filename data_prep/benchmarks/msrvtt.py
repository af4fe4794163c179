"""MSR-VTT (1k-A): 9,000 or 7,010 training clips with twenty captions each, 1,000 test clips with
one.

Or its official splits: 6,513 training clips, 497 for validation, 2,990 for the test, twenty
captions each.
"""

import re
from pathlib import Path

from data_prep.benchmarks.clip_json import ClipRow, SplitRows, find_clips
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import VIDEOS, Benchmark, some
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, read_csv, read_json

TRAIN_LISTS = {"9k": ("MSRVTT_train.9k.csv", 9_000), "7k": ("MSRVTT_train.7k.csv", 7_010)}
DATA, TEST_LIST = "MSRVTT_data.json", "MSRVTT_JSFUSION_test.csv"
TRAIN_CAPTIONS = {"9k": ("descs_ret_train.json", "msrvtt_ret_train9k.json")}
TRAIN_CAPTIONS["7k"] = ("msrvtt_ret_train7k.json",)
TEST_CAPTIONS = ("descs_ret_test.json", "msrvtt_ret_test1k.json")
ID = re.compile(r"video\d+")
PUBLISHED_TEST = Counts(1_000, 1_000)
# the splits of `MSRVTT_data.json` itself, with every caption of a test clip as a query
OFFICIAL = "official"
# as `MSRVTT_data.json` calls them
DIVISIONS = {"train": "train", "validate": "val", "test": "test"}
PUBLISHED = {
    "train": Counts(6_513, 130_260),
    "val": Counts(497, 9_940),
    "test": Counts(2_990, 59_800),
}
VALIDATE = PUBLISHED["val"].items  # both training lists hold these clips


def read(downloads: Downloads, split: str = "9k", val: bool = False) -> Annotations:
    """Read `MSRVTT_data.json`, a training list and the 1k-A test list; a JSON of captions may
    replace each.

    `split`, a key of TRAIN_LISTS, chooses the training list; with OFFICIAL the splits of
    `MSRVTT_data.json` are read instead. A split without files is left out. 1k-A has no validation
    split: `val` makes one from the training clips that `MSRVTT_data.json` marks "validate".
    """
    if split == OFFICIAL:
        return _read_official(downloads)
    name, published = TRAIN_LISTS[split]
    listed, test = downloads.find(name), _read_test(downloads)
    data = downloads.find(DATA) if listed or val else None
    if val and not data:
        raise BadInput(
            f"{downloads.folder}: found no {DATA} in this folder or below it; --val needs its splits"
        )
    sentences, divisions = _read_data(data) if data else ({}, {})
    if listed and data:
        train = SplitRows([data, listed], _read_list(listed, sentences))
    else:
        train = find_clips(downloads, TRAIN_CAPTIONS[split], ID)
    absent, hint = {}, []
    if train is None:
        absent["train"] = f"{DATA}, which has the captions of {name}" if listed else name
        hint = [] if listed else _hint(downloads, split)
    if test is None:
        absent["test"] = TEST_LIST
    if len(absent) == 2:
        lacks = f"found no {' and no '.join(absent.values())} in this folder or below it"
        raise BadInput("; ".join([f"{downloads.folder}: {lacks}", *hint]))

    clean, entries = CaptionCleaner(), []
    for part, found in (("train", train), ("test", test)):
        for id, where, captions in some(found.rows, found.files[-1]) if found else ():
            id = bare(id)
            held = val and part == "train" and divisions.get(id) == "validate"
            entries.append(Entry(id, id, clean(captions, where), "val" if held else part))
    if val and train and all(entry.split != "val" for entry in entries):
        raise BadInput(
            f'{data}: no training clip has "split": "validate", so --val finds none to hold out'
        )
    used = {entry.id for entry in entries}
    unused = (str(id) for id in sentences if id not in used)
    notes = left_out(absent) + hint + count_of(unused, "clips with captions that are in no list")
    held = VALIDATE if val else 0
    expected = {"train": Counts(published - held, 20 * (published - held)), "test": PUBLISHED_TEST}
    if val:
        expected["val"] = Counts(held, 20 * held)
    files = [path for found in (train, test) if found for path in found.files]
    names = downloads.names_of(dict.fromkeys([data, *files] if val else files))
    return Annotations(
        "msrvtt", "video", VIDEOS, expected, entries, "msrvtt", names, notes + clean.notes()
    )


def _read_official(downloads: Downloads) -> Annotations:
    """Read `MSRVTT_data.json` alone: its splits, and all its sentences."""
    path = downloads.require(DATA)
    sentences, divisions = _read_data(path)
    clean, entries, others = CaptionCleaner(), [], []
    for id, division in some(divisions, path).items():
        if not isinstance(id, str):
            raise BadInput(f"{path}: expected text as video_id, found {id!r}")
        if isinstance(division, str) and division in DIVISIONS:
            captions = clean(sentences.get(id, ()), f"{path}: {id}")
            entries.append(Entry(bare(id), bare(id), captions, DIVISIONS[division]))
        else:
            others.append(str(id))
    there = {entry.split for entry in entries}
    notes = left_out(
        {split: f"{split} split" for split in PUBLISHED if split not in there}, " in it"
    )
    notes += count_of(others, f"clips whose split is none of {', '.join(DIVISIONS)}")
    names = downloads.names_of([path])
    return Annotations(
        "msrvtt", "video", VIDEOS, PUBLISHED, entries, "msrvtt", names, notes + clean.notes()
    )


def _read_list(path: Path, sentences: dict[str, list[str]]) -> list[ClipRow]:
    rows = ((line, row["video_id"].strip()) for line, row in read_csv(path, ("video_id",)))
    return [ClipRow(id, f"{path}:{line}", sentences.get(id, ())) for line, id in rows]


def _read_test(downloads: Downloads) -> SplitRows | None:
    path = downloads.find(TEST_LIST)
    if path is None:
        return find_clips(downloads, TEST_CAPTIONS, ID)
    rows = read_csv(path, ("video_id", "sentence"))
    return SplitRows(
        [path],
        [
            ClipRow(row["video_id"].strip(), f"{path}:{line}", [row["sentence"]])
            for line, row in rows
        ],
    )


def _hint(downloads: Downloads, split: str) -> list[str]:
    """Return notes on files that another choice of `--split` would read."""
    return [
        f"{path.name} is there: --split {other} reads it"
        for other, (name, _) in TRAIN_LISTS.items()
        if other != split
        for path in downloads.named(name, *TRAIN_CAPTIONS[other])[:1]
    ]


def _read_data(path: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The sentences and the official split of each video in `MSRVTT_data.json`, by id."""
    content = read_json(path)
    sentences: dict[str, list[str]] = {}
    try:
        for sentence in content["sentences"]:
            sentences.setdefault(sentence["video_id"], []).append(sentence["caption"])
        divisions = {video["video_id"]: video.get("split") for video in content.get("videos", ())}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: expected lists videos (video_id) and sentences (video_id, caption); {error!r}"
        ) from error
    return sentences, divisions


BENCHMARK = Benchmark(
    __doc__,
    read,
    {
        "--split": {
            "choices": (*TRAIN_LISTS, OFFICIAL),
            "default": "9k",
            "help": f"training list of 1k-A, or the official splits of {DATA} (default: %(default)s)",
        },
        "--val": {
            "action": "store_true",
            "help": 'make a validation split of the training clips marked "validate" (1k-A has none)',
        },
    },
)
