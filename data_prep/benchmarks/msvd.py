"""MSVD: 1,970 clips of 18 to 81 captions, 1,200 to train, 100 to validate and 670 to test."""

import reprlib
from argparse import ArgumentParser
from pathlib import Path

from data_prep.benchmarks.safe_pickle import read_pickle
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Counts, Entry, Place, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, IdList, find_file, find_id_list, read_json, read_text, require_file

PROTOCOL = {"query": "caption", "visual_to_text": "items"}
PUBLISHED = {"train": Counts(1_200, 48_774), "val": Counts(100, 4_290), "test": Counts(670, 27_763)}
CAPTIONS = ("captions_msvd.json", "raw-captions.pkl")
MAPPING = "youtube_mapping.txt"  # lines of a clip's id and vid1, vid2, …


def read(source: Path) -> Annotations:
    """Read the captions and `{train,val,test}_list.txt`; a list that is absent leaves its split out.

    Where `youtube_mapping.txt` is there, clips, captions and lists may name clips `vid1`, … as well.
    """
    path = require_file(source, CAPTIONS)
    mapping = find_file(source, (MAPPING,))
    ids = _read_mapping(mapping) if mapping else {}
    names = {id: name for name, id in ids.items()}
    captions = _read_captions(path, ids)
    clean, entries, files, notes, absent = CaptionCleaner(), [], [path.name], [], {}
    if mapping:
        files.append(mapping.name)
    for split in SPLITS:
        found = find_id_list(source, (f"{split}_list.txt",), captions.keys() | names.keys() | ids.keys())
        if found is None:
            absent[split] = f"{split}_list.txt"
            continue
        files.append(found.path.name)
        notes += found.notes()
        entries += _entries(found, split, ids, names, captions, clean, path)
    if not entries:
        raise BadInput(
            f"{source}: none of train_list.txt, val_list.txt, test_list.txt is there with MSVD's ids"
        )
    notes = left_out(absent, " with these ids") + notes
    listed = {entry.id for entry in entries}
    notes += count_of((entry.id for entry in entries if not entry.captions), "listed clips have no captions")
    notes += count_of((id for id in captions if id not in listed), "clips with captions are in no list")
    return Annotations("msvd", "video", PROTOCOL, PUBLISHED, entries, "msvd", files, notes + clean.notes())


def add_options(parser: ArgumentParser) -> None:
    """MSVD has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))


def _entries(
    found: IdList,
    split: str,
    ids: dict[str, str],
    names: dict[str, str],
    captions: dict[str, list[str]],
    clean: CaptionCleaner,
    path: Path,
) -> list[Entry]:
    entries = []
    for listed in map(bare, found.ids):
        id = ids.get(listed, listed)
        instead = Place(names[id]) if id in names else None
        entries.append(Entry(id, id, clean(captions.get(id, ()), f"{path}: {id}"), split, instead=instead))
    return entries


def _read_captions(path: Path, ids: dict[str, str]) -> dict[str, list[str]]:
    """The captions of each id, kept as sentences or as lists of words; `ids` are those of `vid1`, …"""
    content = read_pickle(path) if path.suffix == ".pkl" else read_json(path, unique_keys=True)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected captions by id, found a value of type {type(content).__name__}")
    captions = {}
    for key, values in content.items():
        id = ids.get(bare(key), bare(key))
        if id in captions:
            raise BadInput(f"{path}: the clip {id} is there more than once, the second time as {key!r}")
        if not isinstance(values, list):
            raise BadInput(f"{path}: {id}: expected a list of captions, found {reprlib.repr(values)}")
        captions[id] = [_sentence(value, f"{path}: {id}") for value in values]
    return captions


def _sentence(value: object, where: str) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if isinstance(value, str):
        return value
    raise BadInput(f"{where}: expected a caption (text or a list of words), found {reprlib.repr(value)}")


def _read_mapping(path: Path) -> dict[str, str]:
    """The clip's id of each `vid1`, `vid2`, … (counted from 1)."""
    ids: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].startswith("vid"):
            raise BadInput(f"{path}:{number}: expected an id and vid<number>, found {line!r}")
        if fields[1] in ids or fields[0] in ids.values():
            raise BadInput(f"{path}:{number}: {line!r} repeats an id or a name of an earlier line")
        ids[fields[1]] = fields[0]
    return ids
