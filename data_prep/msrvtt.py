"""MSR-VTT: 9,000 (or 7,010) training clips of twenty captions, 1,000 test clips of one caption (1k-A)."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.annotations import Annotations, CaptionCleaner, Counts, Entry
from data_prep.errors import BadInput
from data_prep.readers import read_csv, read_json, require_file

PROTOCOL = {"query": "caption", "visual_to_text": "items"}
TRAIN_LISTS = {"9k": ("MSRVTT_train.9k.csv", 9_000), "7k": ("MSRVTT_train.7k.csv", 7_010)}
PUBLISHED_TEST = Counts(1_000, 1_000)
VALIDATE = 497  # clips that MSR-VTT's own division calls "validate"; both training lists hold them


def read(source: Path, train_list: str = "9k", hold_out: bool = False) -> Annotations:
    """Read `MSRVTT_data.json`, a training list and the 1k-A test from `source`.

    1k-A has no validation split. `hold_out` makes one of the training clips that the JSON marks "validate".
    """
    list_name, published = TRAIN_LISTS[train_list]
    data = require_file(source, ("MSRVTT_data.json",))
    train = require_file(source, (list_name,))
    test = require_file(source, ("MSRVTT_JSFUSION_test.csv",))
    clean = CaptionCleaner()
    sentences, divisions = _read_data(data)

    entries = []
    for line, row in read_csv(train, ("video_id",)):
        id = row["video_id"].strip()
        split = "val" if hold_out and divisions.get(id) == "validate" else "train"
        entries.append(Entry(id, id, clean(sentences.get(id, ()), f"{train}:{line}"), split))
    for line, row in read_csv(test, ("video_id", "sentence")):
        id = row["video_id"].strip()
        entries.append(Entry(id, id, clean([row["sentence"]], f"{test}:{line}"), "test"))

    expected = {"train": Counts(published, 20 * published), "test": PUBLISHED_TEST}
    if hold_out:
        expected["val"] = Counts(VALIDATE, 20 * VALIDATE)
        expected["train"] = Counts(published - VALIDATE, 20 * (published - VALIDATE))
        if not any(entry.split == "val" for entry in entries):
            raise BadInput(f'{data}: no training clip is marked "split": "validate", so none can be held out')
    files = [data.name, train.name, test.name]
    return Annotations("msrvtt", "video", PROTOCOL, expected, entries, "msrvtt", files, clean.notes())


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
        divisions = {video["video_id"]: video.get("split") for video in content["videos"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: expected lists videos (video_id) and sentences (video_id, caption); {error!r}"
        ) from None
    return sentences, divisions
