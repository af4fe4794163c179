"""VATEX: ten-second clips with ten English captions; 25,991 to train, 1,500 to validate, 1,500 to
test.
"""

import re
from pathlib import Path

from data_prep.benchmarks.clip_json import CaptionedClip, read_clips
from data_prep.benchmarks.downloads import Downloads, split_word
from data_prep.benchmarks.forms import VIDEOS, Benchmark
from data_prep.benchmarks.hub import Repository
from data_prep.containers import NOT_LOOKED_AT, PARQUET, columns_of
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
from data_prep.readers import BadInput, IdList, NotThere, read_start

PUBLISHED = {  # val and test are halves of the official validation set
    split: Counts(items, 10 * items)
    for split, items in zip(SPLITS, (25_991, 1_500, 1_500), strict=True)
}
# the source video, and the clip's start and end in seconds
ID = re.compile(r"(.+)_(\d{6})_(\d{6})")
PAGE = "https://github.com/LiuRicky/ts2_net (data/vatex_data)"
START = 1 << 16  # bytes to search for the first id
LIST = "{}_list.txt"
# a test split of other works; half of its ids are in test_list.txt too
OTHER_TEST = "test1k5_sec_list.txt"


def read(downloads: Downloads) -> Annotations:
    """Read every JSON with captions of VATEX, whatever its name, and the lists of ids.

    `{train,val,test}_list.txt` define the splits. A split without a list takes the clips that a
    JSON assigns to it by a field, a key, or its file name. Media are the clips, or the whole
    videos.
    """
    by_file, unread = _find_json(downloads)
    if not by_file:
        raise NotThere(
            f"{downloads.folder}: found no JSON with captions of VATEX; expected entries such as "
            f'{{"videoID": "abc_000001_000011", "enCap": [...]}}'
        )
    clips, notes = _merge(by_file)
    notes += unread
    lists = {}
    for split in SPLITS:
        if found := downloads.id_list(_list_names(downloads, split), clips.keys()):
            lists[split] = found
            notes += found.notes()
    if downloads.named(OTHER_TEST):
        notes.append(f"{OTHER_TEST} is another split than the paper's: not used")
    splits, more = _splits(clips, lists)
    clean = CaptionCleaner()
    entries = [_entry(id, split, clips.get(id), clean) for id, split in splits]
    if not entries:
        held = ", ".join(path.name for path in by_file)
        lacks = f"found no list such as {LIST.format('test')}, and nothing in {held} names a split"
        raise BadInput(f"{downloads.folder}: {lacks}; {PAGE} has the lists")
    names = downloads.names_of([*by_file, *(found.path for found in lists.values())])
    notes += more + clean.notes()
    return Annotations("vatex", "video", VIDEOS, PUBLISHED, entries, "vatex", names, notes)


def _find_json(
    downloads: Downloads,
) -> tuple[dict[Path, dict[str, CaptionedClip]], list[str]]:
    """Return the clips by id of each JSON or parquet file with captions of VATEX, and notes.

    Files that name a split come first. Raises ImportError if there are only parquet files and no
    pyarrow.
    """
    clips = {}
    unread = None
    for path in downloads.ending(".json", PARQUET):
        try:
            found = read_clips(path, ID) if _may_be_vatex(path) else None
        except ImportError as error:
            unread = error
            continue
        if found:
            clips[path] = found
    if unread and not clips:
        raise unread

    def names_splits(path: Path) -> bool:
        return any(clip.split for clip in clips[path].values())

    notes = [NOT_LOOKED_AT.format(unread)] if unread else []
    return {path: clips[path] for path in sorted(clips, key=names_splits, reverse=True)}, notes


def _may_be_vatex(path: Path) -> bool:
    if path.suffix.lower() == PARQUET:
        return "videoID" in columns_of(path)
    start = read_start(path, START)
    return bool(re.search(r'_\d{6}_\d{6}"', start)) or "vatex" in path.name.lower()


def _list_names(downloads: Downloads, split: str) -> tuple[str, ...]:
    """Return the usual name of a split's list, then text files that name the split and begin with
    an id.
    """
    usual = LIST.format(split)
    others = {
        path.name
        for path in downloads.ending(".txt")
        if path.name not in (usual, OTHER_TEST) and split_word(path.stem) == split
        if ID.match(read_start(path))
    }
    return (usual, *sorted(others))


def _merge(
    by_file: dict[Path, dict[str, CaptionedClip]],
) -> tuple[dict[str, CaptionedClip], list[str]]:
    """Return the clips of all files by id, and notes; a clip's first file counts."""
    merged: dict[str, CaptionedClip] = {}
    notes = []
    for path, clips in by_file.items():
        unlike = []
        for id, clip in clips.items():
            there = merged.setdefault(bare(id), clip)
            if there.captions != clip.captions:
                unlike.append(id)
            if there.split is None:
                merged[bare(id)] = CaptionedClip(there.captions, clip.split)
        notes += count_of(
            unlike, f"clips with other captions in {path.name} than in an earlier file, not used"
        )
    return merged, notes


def _splits(
    clips: dict[str, CaptionedClip], lists: dict[str, IdList]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the id and split of each clip that is used, and notes on those left out."""
    chosen = []
    notes = []
    own = {}
    absent = {}
    listed = {bare(id) for found in lists.values() for id in found.ids}
    for split in SPLITS:
        if split in lists:
            ids = [bare(id) for id in lists[split].ids]
            without = [id for id in ids if id not in clips]
            notes += count_of(without, f"ids of {lists[split].path.name} without captions")
        else:
            ids = [id for id, clip in clips.items() if clip.split == split and id not in listed]
            if ids:
                own[LIST.format(split)] = f"{split}: {len(ids):,}"
            else:
                absent[split] = LIST.format(split)
        chosen += [(id, split) for id in ids]
    if own:
        message = f"the files of captions say the split (clips in {', '.join(own.values())})"
        notes.append(f"no {' and no '.join(own)} with these ids: {message}")
    used = {id for id, _ in chosen}
    unused = (id for id in clips if id not in used)
    notes += left_out(absent, " with these ids")
    return chosen, notes + count_of(unused, "clips with captions that are in no split")


def _entry(id: str, split: str, clip: CaptionedClip | None, clean: CaptionCleaner) -> Entry:
    times = ID.fullmatch(id)
    instead = None
    if times and int(times[2]) < int(times[3]):
        instead = Place(times[1], float(times[2]), float(times[3]))
    return Entry(id, id, clean(clip.captions if clip else (), id), split, instead=instead)


BENCHMARK = Benchmark(
    __doc__,
    read,
    hub=(
        Repository(
            "lmms-lab/VATEX",
            ("*.parquet",),
            "the clips and the lists of the paper's splits: name a folder with both by --source",
        ),
    ),
)
