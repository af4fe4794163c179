"""MSR-VTT: 9,000 (or 7,010) training clips of twenty captions, 1,000 test clips of one caption (1k-A)."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.annotations import Annotations, CaptionCleaner, Counts, Entry
from data_prep.errors import BadInput
from data_prep.id_lists import count_of
from data_prep.readers import find_file, read_csv, read_json, require_file

PROTOCOL = {"query": "caption", "visual_to_text": "items"}
TRAIN_LISTS = {"9k": ("MSRVTT_train.9k.csv", 9_000), "7k": ("MSRVTT_train.7k.csv", 7_010)}
DATA, TEST_LIST = "MSRVTT_data.json", "MSRVTT_JSFUSION_test.csv"
PUBLISHED_TEST = Counts(1_000, 1_000)
VALIDATE = 497  # clips that MSR-VTT's own division calls "validate"; both training lists hold them


def read(source: Path, train_list: str = "9k", hold_out: bool = False) -> Annotations:
    """Read `MSRVTT_data.json`, a training list and the 1k-A test list; a list that is absent is left out.

    1k-A has no validation split: `hold_out` makes one of the training clips that the JSON marks "validate".
    """
    train_name, published = TRAIN_LISTS[train_list]
    train, test = find_file(source, (train_name,)), find_file(source, (TEST_LIST,))
    if not train and not test:
        raise BadInput(f"{source}: neither {train_name} nor {TEST_LIST} is in this folder or below it")
    clean, entries, files, sentences = CaptionCleaner(), [], [], {}
    data = find_file(source, (DATA,)) if test and not hold_out else require_file(source, (DATA,))
    if train and data:
        sentences, divisions = _read_data(data)
        entries += _read_train(train, sentences, divisions, clean, hold_out)
        if hold_out and all(entry.split == "train" for entry in entries):
            raise BadInput(f'{data}: no training clip is marked "split": "validate"; none can be held out')
        files += [data.name, train.name]
    if test:
        entries += _read_test(test, clean)
        files.append(test.name)
    notes = [f"no {name}: that split is left out" for name in (train_name, TEST_LIST) if name not in files]
    if train and not data:
        notes = [f"no {DATA}, which has the captions of {train_name}: the train split is left out"]
    listed = {entry.id for entry in entries}
    notes += count_of((str(id) for id in sentences if id not in listed), "clips with captions are in no list")
    held = VALIDATE if hold_out else 0
    expected = {"train": Counts(published - held, 20 * (published - held)), "test": PUBLISHED_TEST}
    if hold_out:
        expected["val"] = Counts(held, 20 * held)
    return Annotations("msrvtt", "video", PROTOCOL, expected, entries, "msrvtt", files, notes + clean.notes())


def _read_train(
    path: Path,
    sentences: dict[str, list[str]],
    divisions: dict[str, str],
    clean: CaptionCleaner,
    hold_out: bool,
) -> list[Entry]:
    entries = []
    for line, row in read_csv(path, ("video_id",)):
        id = row["video_id"].strip()
        split = "val" if hold_out and divisions.get(id) == "validate" else "train"
        entries.append(Entry(id, id, clean(sentences.get(id, ()), f"{path}:{line}"), split))
    return entries


def _read_test(path: Path, clean: CaptionCleaner) -> list[Entry]:
    rows = (
        (line, row["video_id"].strip(), row["sentence"])
        for line, row in read_csv(path, ("video_id", "sentence"))
    )
    return [Entry(id, id, clean([sentence], f"{path}:{line}"), "test") for line, id, sentence in rows]


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
