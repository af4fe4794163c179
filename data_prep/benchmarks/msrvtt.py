"""MSR-VTT (1k-A): 9,000 or 7,010 training clips with twenty captions each, 1,000 test clips with
one.

Or its official splits: 6,513 training clips, 497 for validation, 2,990 for the test, twenty
captions each.
"""

import re
from pathlib import Path
from typing import NamedTuple

from cma.files import short
from data_prep.benchmarks.clip_json import ClipRow, SplitRows, find_clips
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import VIDEOS, Benchmark, some
from data_prep.benchmarks.hub import Repository
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, NotThere, read_csv, read_id_list, read_json, read_pickle

TRAIN_LISTS = {"9k": ("MSRVTT_train.9k.csv", 9_000), "7k": ("MSRVTT_train.7k.csv", 7_010)}
DATA = "MSRVTT_data.json"
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
# the same content under other names: by Frozen in Time, and as Microsoft distributed it
OTHER_DATA = ("MSR_VTT.json",), ("train_val_videodatainfo.json", "test_videodatainfo.json")
# by Frozen in Time: the ids of 9k and of 1k-A, and the caption of a test clip that is the query
ID_LISTS = {"9k": "train_list_jsfusion.txt", "test": "val_list_jsfusion.txt"}
ASKED = "jsfusion_val_caption_idx.pkl"
# captions by id: of VAST and UMT, on the hub, by LAVIS and ALPRO
TRAIN_CAPTIONS = {
    "9k": ("descs_ret_train.json", "msrvtt_ret_train9k.json", "msrvtt_train_9k.json"),
    "7k": ("msrvtt_ret_train7k.json", "msrvtt_train_7k.json"),
}
EITHER = "retrieval_train.json"
VAL_CAPTIONS = ("retrieval_val.json",)
TEST_CAPTIONS = (
    "descs_ret_test.json",
    "msrvtt_ret_test1k.json",
    "msrvtt_test_1k.json",
    "retrieval_test.json",
)
PAGE = "https://github.com/ArrowLuo/CLIP4Clip (msrvtt_data.zip)"
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


class Data(NamedTuple):
    """The sentences and the official split of each clip by id, the files that hold them, and
    notes.
    """

    files: list[Path]
    sentences: dict[str, list[str]]
    divisions: dict[str, object]
    notes: list[str]


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
    listed = downloads.find(name, *filter(None, [ID_LISTS.get(split)]))
    test = _read_test(downloads)
    ids = downloads.find(ID_LISTS["test"])
    data = _find_data(downloads) if listed or val or ids else None
    if val and not data:
        raise BadInput(
            f"{downloads.folder}: found no {DATA} in this folder or below it; --val needs its "
            f"splits ({PAGE} has it)"
        )
    sentences, divisions = (data.sentences, data.divisions) if data else ({}, {})
    train: SplitRows | None
    if listed and data:
        train = SplitRows([*data.files, listed], _read_list(listed, sentences))
    else:
        train = find_clips(downloads, (*TRAIN_CAPTIONS[split], EITHER), ID)
    absent = {}
    hint: list[str] = []
    if train is None:
        absent["train"] = f"{DATA}, which has the captions of {name}" if listed else name
        hint = [] if listed else _hint(downloads, split)
    if test is None and ids and data:
        test = _read_asked(downloads, ids, data)
    if test is None:
        absent["test"] = f"{TEST_LIST} or {ASKED}, which say the captions" if ids else TEST_LIST
    if len(absent) == 2:
        kind = BadInput if listed or ids or hint else NotThere
        lacks = f"found no {' and no '.join(absent.values())} in this folder or below it"
        raise kind("; ".join([f"{downloads.folder}: {lacks}", *hint, f"{PAGE} has them"]))

    held_out = None if val else find_clips(downloads, VAL_CAPTIONS, ID)
    every = {"train": train, "val": held_out, "test": test}
    parts = {part: found for part, found in every.items() if found}
    clean = CaptionCleaner()
    entries = []
    used = set()
    shared = []
    for part, found in parts.items():
        for id, where, captions in some(found.rows, found.files[-1]):
            id = bare(id)
            if part == "val" and id in used:
                shared.append(id)
                continue
            used.add(id)
            held = val and part == "train" and divisions.get(id) == "validate"
            entries.append(Entry(id, id, clean(captions, where), "val" if held else part))
    if val and data and train and all(entry.split != "val" for entry in entries):
        raise BadInput(
            f'{data.files[0]}: no training clip has "split": "validate", so --val finds none to '
            "hold out"
        )
    unused = (str(id) for id in sentences if id not in used)
    notes = left_out(absent) + hint + (data.notes if val and data else [])
    notes += count_of(unused, "clips with captions that are in no list")
    notes += count_of(shared, "validation clips that are in train too, left there")
    left = published - VALIDATE if val else published
    expected = {"train": Counts(left, 20 * left), "test": PUBLISHED_TEST}
    if val:
        expected["val"] = Counts(VALIDATE, 20 * VALIDATE)
    files = [path for found in parts.values() for path in found.files]
    names = downloads.names_of(dict.fromkeys([*(data.files if val and data else ()), *files]))
    return Annotations(
        "msrvtt", "video", VIDEOS, expected, entries, "msrvtt", names, notes + clean.notes()
    )


def _read_official(downloads: Downloads) -> Annotations:
    """Read `MSRVTT_data.json` alone: its splits, and all its sentences."""
    data = _find_data(downloads)
    if data is None:
        raise NotThere(f"{downloads.folder}: found no {DATA} in this folder or below it")
    path = data.files[0]
    clean = CaptionCleaner()
    entries = []
    others = []
    for id, division in some(data.divisions, path).items():
        if not isinstance(id, str):
            raise BadInput(f"{path}: expected text as video_id, found {short(id)}")
        if isinstance(division, str) and division in DIVISIONS:
            captions = clean(data.sentences.get(id, ()), f"{path}: {id}")
            entries.append(Entry(bare(id), bare(id), captions, DIVISIONS[division]))
        else:
            others.append(str(id))
    there = {entry.split for entry in entries}
    notes = left_out(
        {split: f"{split} split" for split in PUBLISHED if split not in there}, " in it"
    )
    notes += count_of(others, f"clips whose split is none of {', '.join(DIVISIONS)}")
    notes += data.notes
    names = downloads.names_of(data.files)
    return Annotations(
        "msrvtt", "video", VIDEOS, PUBLISHED, entries, "msrvtt", names, notes + clean.notes()
    )


def _read_list(path: Path, sentences: dict[str, list[str]]) -> list[ClipRow]:
    if path.suffix == ".csv":
        ids = [(line, row["video_id"].strip()) for line, row in read_csv(path, ("video_id",))]
    else:
        ids = list(enumerate(read_id_list(path).ids, start=1))
    return [ClipRow(id, f"{path}:{line}", sentences.get(id, ())) for line, id in ids]


def _read_asked(downloads: Downloads, ids: Path, data: Data) -> SplitRows | None:
    """Read the clips of Frozen in Time's test list, each with the one caption that is its query.

    Returns None without the pickle that says which. Raises `BadInput` if it is not as expected.
    """
    path = downloads.find(ASKED)
    if path is None:
        return None
    numbers = read_pickle(path)
    rows = []
    for line, id in enumerate(read_id_list(ids).ids, start=1):
        number = numbers.get(id) if isinstance(numbers, dict) else None
        captions = data.sentences.get(id, ())
        if type(number) is not int or not 0 <= number < len(captions):
            raise BadInput(
                f"{path}: {id}: expected the number of one of its {len(captions)} captions, found "
                f"{short(number)}; use {TEST_LIST} instead"
            )
        rows.append(ClipRow(id, f"{ids}:{line}", [captions[number]]))
    return SplitRows([*data.files, ids, path], rows)


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
    """Return notes on files that another `--split` would read."""
    return [
        f"{path.name} is there: --split {other} reads it"
        for other, (name, _) in TRAIN_LISTS.items()
        if other != split
        for path in downloads.named(name, *TRAIN_CAPTIONS[other])[:1]
    ]


def _find_data(downloads: Downloads) -> Data | None:
    """Read the file of all sentences, or both of Microsoft's files; None without any."""
    for names in ((DATA,), *OTHER_DATA):
        paths = [path for name in names if (path := downloads.find(name))]
        if paths:
            break
    else:
        return None
    sentences: dict[str, list[str]] = {}
    divisions: dict[str, object] = {}
    for path in paths:
        _read_data(path, sentences, divisions)
    untold = all(division in (None, "train") for division in divisions.values())
    numbered = all(isinstance(id, str) and ID.fullmatch(bare(id)) for id in divisions)
    notes = []
    if untold and numbered:  # copies in circulation call every clip "train"
        divisions = {id: _by_number(int(bare(id).removeprefix("video"))) for id in divisions}
        notes = [f"{paths[0].name} names no splits: we use the numbers of the clips"]
    return Data(paths, sentences, divisions, notes)


def _by_number(number: int) -> str:
    """Return the official split of a clip: 0 to 6512 train, 6513 to 7009 validate, the rest
    test.
    """
    if number < PUBLISHED["train"].items:
        return "train"
    return "validate" if number < PUBLISHED["train"].items + VALIDATE else "test"


def _read_data(path: Path, sentences: dict[str, list[str]], divisions: dict[str, object]) -> None:
    """Add the sentences and the official split of each video in a file, by id.

    It has the lists videos and sentences, or in COCO's layout images and annotations.
    """
    content = read_json(path)
    try:
        coco = "sentences" not in content and "annotations" in content
        rows, key = ("annotations", "image_id") if coco else ("sentences", "video_id")
        videos, name = ("images", "id") if coco else ("videos", "video_id")
        for sentence in content[rows]:
            sentences.setdefault(sentence[key], []).append(sentence["caption"])
        divisions |= {video[name]: video.get("split") for video in content.get(videos, ())}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: expected lists videos (video_id) and sentences (video_id, caption); "
            f"{short(error)}"
        ) from error


BENCHMARK = Benchmark(
    __doc__,
    read,
    {
        "--split": {
            "choices": (*TRAIN_LISTS, OFFICIAL),
            "default": "9k",
            "help": f"training list of 1k-A, or the official splits of {DATA} (default: "
            "%(default)s)",
        },
        "--val": {
            "action": "store_true",
            "help": 'make a validation split of the training clips marked "validate" (1k-A has '
            "none)",
        },
    },
    (
        Repository(
            "friedrichor/MSR-VTT",
            ("msrvtt_*.json",),
            "the clips: unpack MSRVTT_Videos.zip of its page, and name the folder by --source",
        ),
    ),
)
