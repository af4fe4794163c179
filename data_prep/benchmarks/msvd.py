"""MSVD: 1,970 clips with 18 to 81 captions each; 1,200 to train, 100 to validate, 670 to test."""

import re
from functools import partial
from pathlib import Path

from cma.files import short
from data_prep.benchmarks.clip_json import ClipRow, SplitRows, find_clips
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import VIDEOS, Benchmark
from data_prep.benchmarks.hub import Repository
from data_prep.dataset import (
    SPLITS,
    Annotations,
    CaptionCleaner,
    Counts,
    Entry,
    Place,
    count_of,
    left_out,
)
from data_prep.media import bare
from data_prep.readers import BadInput, IdList, NotThere, read_json, read_pickle, read_text

PUBLISHED = {"train": Counts(1_200, 48_774), "val": Counts(100, 4_290), "test": Counts(670, 27_763)}
CAPTIONS = ("captions_msvd.json", "raw-captions.pkl", "AllVideoDescriptions.txt")
OTHERS = re.compile(r"video\d|\d+@N")  # ids in the raw-captions.pkl of MSR-VTT and of DiDeMo
LIST = "{}_list.txt"
# captions of a split with its ids: on the hub, by UMT, by LAVIS
JOINED = ("msvd_{}.json", "msvd_ret_{}.json", "retrieval_{}.json")
ID = re.compile(r".{11}_\d{1,5}_\d{1,5}|vid\d+")
PAGE = "https://github.com/ArrowLuo/CLIP4Clip (msvd_data.zip)"
MAPPING = "youtube_mapping.txt"  # lines with a clip's id and vid1, vid2, …


def read(downloads: Downloads) -> Annotations:
    """Read the captions and `{train,val,test}_list.txt`, or for each split a JSON with both.

    If `youtube_mapping.txt` is there, media, captions and lists may also call the clips `vid1`, ….
    A split without a list and without a JSON is left out.
    """
    mapping = downloads.find(MAPPING)
    ids = _read_mapping(mapping) if mapping else {}
    names = {id: name for name, id in ids.items()}
    path, captions = downloads.known(CAPTIONS, partial(_read_captions, ids=ids)) or (None, {})
    files = [file for file in (path, mapping) if file]
    clean = CaptionCleaner()
    entries = []
    notes: list[str] = []
    absent: dict[str, str] = {}
    for split in SPLITS:
        known = captions.keys() | names.keys() | ids.keys()
        listed = downloads.id_list((LIST.format(split),), known) if path else None
        found: SplitRows | None
        if path and listed:
            found = _listed(listed, captions, ids, path)
        else:
            found = find_clips(downloads, [name.format(split) for name in JOINED], ID)
        if found is None:
            absent[split] = LIST.format(split)
            continue
        files += found.files
        notes += found.notes
        for row in found.rows:
            id = ids.get(bare(row.id), bare(row.id))
            instead = Place(names[id]) if id in names else None
            entries.append(Entry(id, id, clean(row.captions, row.where), split, instead=instead))
    if not entries and path is None:
        lacks = " and no ".join(CAPTIONS)
        raise NotThere(
            f"{downloads.folder}: found no {lacks} in this folder or below it; {PAGE} has them"
        )
    if not entries:
        lists = ", ".join(map(LIST.format, SPLITS))
        raise BadInput(
            f"{downloads.folder}: found none of {lists} with the ids of MSVD; {PAGE} has them"
        )
    used = {entry.id for entry in entries}
    notes = left_out(absent, " with these ids") + notes
    notes += count_of(
        (entry.id for entry in entries if not entry.captions), "listed clips without captions"
    )
    notes += count_of(
        (id for id in captions if id not in used), "clips with captions that are in no list"
    )
    notes += clean.notes()
    read_from = downloads.names_of(files)
    return Annotations("msvd", "video", VIDEOS, PUBLISHED, entries, "msvd", read_from, notes)


def _listed(
    listed: IdList, captions: dict[str, list[str]], ids: dict[str, str], path: Path
) -> SplitRows:
    """Return the clips of a list with their captions, which the file `path` holds."""
    rows = []
    for name in map(bare, listed.ids):
        id = ids.get(name, name)
        rows.append(ClipRow(name, f"{path}: {id}", captions.get(id, ())))
    return SplitRows([listed.path], rows, listed.notes())


def _read_captions(path: Path, ids: dict[str, str]) -> dict[str, list[str]] | None:
    """Read captions by id, each a sentence or a list of words; None for another benchmark's file.
    `ids` maps `vid1`, … to the clips' ids.
    """
    readers = {".pkl": read_pickle, ".txt": _read_lines}
    content = readers.get(path.suffix, partial(read_json, unique_keys=True))(path)
    if not isinstance(content, dict):
        raise BadInput(
            f"{path}: expected captions by id, found a value of type {type(content).__name__}"
        )
    if all(OTHERS.match(str(key)) for key in content):
        return None
    captions = {}
    for key, values in content.items():
        name = bare(str(key))
        id = ids.get(name, name)
        if id in captions:
            raise BadInput(
                f"{path}: the clip {id} occurs more than once, the second time as {short(key)}"
            )
        if not isinstance(values, list):
            raise BadInput(f"{path}: {id}: expected a list of captions, found {short(values)}")
        captions[id] = [_sentence(value, f"{path}: {id}") for value in values]
    return captions


def _read_lines(path: Path) -> dict[str, list[str]]:
    """Read MSVD's own `AllVideoDescriptions.txt`: an id, a blank and a caption in each line.

    Lines that begin with `#` are comments.
    """
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            id, blank, caption = line.partition(" ")
            if not id or not blank:
                raise BadInput(f"{path}:{number}: expected an id, a blank and a caption")
            captions.setdefault(id, []).append(caption)
    return captions


def _sentence(value: object, where: str) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if isinstance(value, str):
        return value
    raise BadInput(f"{where}: expected a caption (text or a list of words), found {short(value)}")


def _read_mapping(path: Path) -> dict[str, str]:
    """Read the file that maps `vid1`, `vid2`, … (counted from 1) to the clips' ids."""
    ids: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].startswith("vid"):
            raise BadInput(f"{path}:{number}: expected an id and vid<number>, found {short(line)}")
        if fields[1] in ids or fields[0] in ids.values():
            raise BadInput(
                f"{path}:{number}: {short(line)} repeats an id or a name of an earlier line"
            )
        ids[fields[1]] = fields[0]
    return ids


BENCHMARK = Benchmark(
    __doc__,
    read,
    hub=(
        Repository(
            "friedrichor/MSVD",
            ("msvd_*.json",),
            "the clips: unpack the archive of its page, and name the folder by --source",
        ),
    ),
)
