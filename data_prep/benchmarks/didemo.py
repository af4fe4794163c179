"""DiDeMo: 30-second clips, each found by the paragraph of its descriptions; 8,392, 1,065 and 1,004 clips."""

import re
from argparse import ArgumentParser
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.benchmarks.clip_json import find_clips
from data_prep.benchmarks.forms import some
from data_prep.benchmarks.paragraphs import PROTOCOL, paragraph
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Counts, Entry, count_of, left_out
from data_prep.readers import BadInput, find_file, find_files, find_id_list, find_known, read_csv, read_json

PUBLISHED = {"train": Counts(8_392, 8_392), "val": Counts(1_065, 1_065), "test": Counts(1_004, 1_004)}
DATA, LIST = "{}_data.json", "{}_list.txt"
PARAGRAPHS = ("descs_ret_{}.json", "didemo_ret_{}.json")
LABELS = "didemo_{}_label.csv"
ID = re.compile(r"\d+@N\d+_.+")


class Found(NamedTuple):
    """The descriptions of one split's clips, and their files: that of the texts first."""

    files: tuple[Path, ...]
    descriptions: dict[str, list[str]]
    notes: list[str]


def read(source: Path) -> Annotations:
    """Read each split from `{split}_data.json` and `{split}_list.txt`, or from one file of paragraphs.

    The JSON holds more clips than the list: the list decides. Instead of the two, a split may lie in
    `descs_ret_{split}.json` or `didemo_ret_{split}.json`, or in `didemo_{split}_label.csv`. A split without
    any of these is left out. Ids keep the extension they have, or the bare dot they end in; transcoded files
    are found all the same.
    """
    clean, entries, files, notes, absent = CaptionCleaner(), [], [], [], {}
    for split in SPLITS:
        found = _pair(source, split) or _paragraphs(source, split) or _labels(source, split)
        if found is None:
            absent[split] = data = DATA.format(split)
            if find_files(source, (data,)):
                absent[split] = f"{LIST.format(split)} with the ids of {data}"
            continue
        files += [path.name for path in found.files]
        notes += found.notes
        where = f"{found.files[0]}: video "
        entries += [
            Entry(id, id, paragraph(texts, clean, where + id), split)
            for id, texts in found.descriptions.items()
        ]
    joined = [name for name in files if "_ret_" in name]
    if joined:
        notes.append(
            f"{', '.join(joined)}: descriptions joined already, maybe in another order than DiDeMo's"
        )
    if not entries:
        expected = f"a split's two files such as {DATA.format('test')}, {LIST.format('test')}"
        raise BadInput(f"{source}: expected {expected}; there is no {' and no '.join(absent.values())}")
    return Annotations(
        "didemo",
        "video",
        PROTOCOL,
        PUBLISHED,
        entries,
        "didemo",
        files,
        left_out(absent) + notes + clean.notes(),
    )


def add_options(parser: ArgumentParser) -> None:
    """DiDeMo has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))


def _pair(source: Path, split: str) -> Found | None:
    """The clips of a list with the descriptions of the JSON, none where the JSON does not have them."""
    data = find_known(source, (DATA.format(split),), _read_descriptions)
    found = find_id_list(source, (LIST.format(split),), data[1].keys()) if data else None
    if found is None:
        return None
    path, descriptions = data
    unlisted = descriptions.keys() - set(found.ids)
    notes = [
        *found.notes(),
        *count_of(
            (id for id in found.ids if id not in descriptions),
            f"ids of {found.path.name} have no description",
        ),
        *count_of(sorted(unlisted), f"clips of {path.name} are not in {found.path.name}, left out"),
    ]
    return Found((path, found.path), {id: descriptions.get(id, []) for id in found.ids}, notes)


def _paragraphs(source: Path, split: str) -> Found | None:
    found = find_clips(source, tuple(name.format(split) for name in PARAGRAPHS), ID)
    if found is None:
        return None
    return Found((found[0],), found[1], [])


def _labels(source: Path, split: str) -> Found | None:
    """The rows of a CSV with the path of a video, as it was on its author's machine, and its paragraph."""
    path = find_file(source, (LABELS.format(split),))
    if path is None:
        return None
    texts: dict[str, list[str]] = {}
    for line, row in read_csv(path, ("video_path", "text")):
        id = PurePosixPath(row["video_path"].strip()).name
        if not id:
            raise BadInput(f"{path}:{line}: expected the path of a video, found {row['video_path']!r}")
        texts.setdefault(id, []).append(row["text"])
    return Found((path,), some(texts, path), [])


def _read_descriptions(path: Path) -> dict[str, list[str]]:
    """The descriptions of each clip, in the order of the JSON."""
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInput(f"{path}: expected a list of objects with video and description")
    descriptions: dict[str, list[str]] = {}
    for number, row in enumerate(content):
        try:
            id, description = row["video"], row["description"]
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path}: entry {number}: expected video and description; {error!r}") from None
        if not isinstance(id, str) or not id.strip() or not isinstance(description, str):
            raise BadInput(f"{path}: entry {number}: expected texts, found {id!r} and {description!r}")
        descriptions.setdefault(id.strip(), []).append(description)
    return descriptions
