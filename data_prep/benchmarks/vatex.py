"""VATEX: ten-second clips of ten English captions; 25,991 to train, the official validation halved."""

import re
from argparse import ArgumentParser
from pathlib import Path

from cma.files import walk
from data_prep.benchmarks.clip_json import Clip, read_clips
from data_prep.benchmarks.forms import split_word
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Counts, Entry, Place, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, IdList, find_files, find_id_list, read_start

PROTOCOL = {"query": "caption", "visual_to_text": "items"}
PUBLISHED = {
    split: Counts(items, 10 * items) for split, items in zip(SPLITS, (25_991, 1_500, 1_500), strict=True)
}
ID = re.compile(r"(.+)_(\d{6})_(\d{6})")  # the source video, and the seconds of it that are the clip
START = 1 << 16  # bytes in which the first id is looked for
OTHER_TEST = "test1k5_sec_list.txt"  # a test split of other works; half of its ids are in test_list.txt too


def read(source: Path) -> Annotations:
    """Read every JSON with VATEX's captions, whatever its name, and the lists of ids.

    `{train,val,test}_list.txt` decide on a clip's split. A split without a list takes the clips that a JSON
    says are in it, by a field, by a key, or by its name. Media are clips, or source videos that hold them.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; expected the folder with the downloaded files")
    by_file = _find_files(source)
    if not by_file:
        raise BadInput(
            f"{source}: no JSON with VATEX's captions; expected entries such as "
            f'{{"videoID": "abc_000001_000011", "enCap": [...]}}'
        )
    clips, notes = _merge(by_file)
    lists = {}
    for split in SPLITS:
        if found := find_id_list(source, _list_names(source, split), clips.keys()):
            lists[split] = found
            notes += found.notes()
    if find_files(source, (OTHER_TEST,)):
        notes.append(f"{OTHER_TEST} is another split than the paper's: not used")
    splits, more = _splits(clips, lists)
    clean = CaptionCleaner()
    entries = [_entry(id, split, clips.get(id), clean) for id, split in splits]
    if not entries:
        names = ", ".join(path.name for path in by_file)
        raise BadInput(f"{source}: no list such as test_list.txt, and {names} does not say which split it is")
    files = [path.name for path in by_file] + [found.path.name for found in lists.values()]
    return Annotations(
        "vatex", "video", PROTOCOL, PUBLISHED, entries, "vatex", files, notes + more + clean.notes()
    )


def add_options(parser: ArgumentParser) -> None:
    """VATEX has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))


def _find_files(source: Path) -> dict[Path, dict[str, Clip]]:
    """The clips, by id, of each JSON under `source` with VATEX's captions, those that tell a split first."""
    files = [parent / name for parent, _, names in walk(source) for name in names if name.endswith(".json")]
    clips = {path: read_clips(path, ID) for path in files if _may_be_vatex(path)}
    tell = {path: any(clip.split for clip in found.values()) for path, found in clips.items() if found}
    return {path: clips[path] for path in sorted(tell, key=tell.get, reverse=True)}


def _may_be_vatex(path: Path) -> bool:
    start = read_start(path, START)
    return bool(re.search(r'_\d{6}_\d{6}"', start)) or "vatex" in path.name.lower()


def _list_names(source: Path, split: str) -> tuple[str, ...]:
    """The usual name of a split's list, then text files that begin with an id and tell the split by name."""
    usual = f"{split}_list.txt"
    others = {
        name
        for parent, _, names in walk(source)
        for name in names
        if name.endswith(".txt") and name not in (usual, OTHER_TEST) and split_word(Path(name).stem) == split
        if ID.match(read_start(parent / name))
    }
    return (usual, *sorted(others))


def _merge(by_file: dict[Path, dict[str, Clip]]) -> tuple[dict[str, Clip], list[str]]:
    """The clips of all files by id; one that several files hold is that of the first, with a note."""
    merged: dict[str, Clip] = {}
    notes = []
    for path, clips in by_file.items():
        twice = []
        for id, clip in clips.items():
            there = merged.setdefault(bare(id), clip)
            if there.captions != clip.captions:
                twice.append(id)
            if there.split is None:
                merged[bare(id)] = Clip(there.captions, clip.split)
        notes += count_of(
            twice, f"clips have other captions in {path.name} than in an earlier file, not used"
        )
    return merged, notes


def _splits(clips: dict[str, Clip], lists: dict[str, IdList]) -> tuple[list[tuple[str, str]], list[str]]:
    """Id and split of each clip that is used, and notes on what is left out."""
    chosen, notes, own, absent = [], [], {}, {}
    for split in SPLITS:
        if split in lists:
            ids = [bare(id) for id in lists[split].ids]
            without = [id for id in ids if id not in clips]
            notes += count_of(without, f"ids of {lists[split].path.name} have no captions")
        else:
            listed = {bare(id) for found in lists.values() for id in found.ids}
            ids = [id for id, clip in clips.items() if clip.split == split and id not in listed]
            if ids:
                own[f"{split}_list.txt"] = f"{len(ids):,} clips are {split}"
            else:
                absent[split] = f"{split}_list.txt"
        chosen += [(id, split) for id in ids]
    if own:
        told = f"the files of captions say that {' and '.join(own.values())}"
        notes.append(f"no {' and no '.join(own)} with these ids: {told}")
    notes += left_out(absent, " with these ids")
    used = {id for id, _ in chosen}
    return chosen, notes + count_of(
        (id for id in clips if id not in used), "clips of the captions' files are in no split"
    )


def _entry(id: str, split: str, clip: Clip | None, clean: CaptionCleaner) -> Entry:
    times = ID.fullmatch(id)
    instead = None
    if times and int(times[2]) < int(times[3]):
        instead = Place(times[1], float(times[2]), float(times[3]))
    return Entry(id, id, clean(clip.captions if clip else (), id), split, instead=instead)
