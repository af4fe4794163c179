"""ActivityNet Captions: long videos with one paragraph each; 10,009 to train, 4,917 (val_1) to
test.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from cma.files import short
from data_prep.benchmarks.clip_json import find_clips
from data_prep.benchmarks.didemo import paragraph
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import PARAGRAPHS, Benchmark
from data_prep.benchmarks.hub import Repository
from data_prep.dataset import Annotations, CaptionCleaner, Counts, Entry, Place, count_of, left_out
from data_prep.media import bare
from data_prep.readers import BadInput, NotThere, read_json

PUBLISHED = {"train": Counts(10_009, 10_009), "test": Counts(4_917, 4_917)}
FILES = {"train": "train.json", "test": "val_1.json"}
JOINED = {  # paragraphs by id: of VAST and UMT, on the hub
    "train": (
        "descs_ret_train.json",
        "anet_ret_train.json",
        "activitynet_captions_train.json",
    ),
    "test": (
        "descs_ret_test.json",
        "anet_ret_val_1.json",
        "anet_ret_val.json",
        "activitynet_captions_val1.json",
    ),
}
ID = re.compile(r"v_.+|.{11}")  # an id of YouTube has eleven characters
LISTS = {
    "train": ("train_ids.json", "train_list.txt", "train_ids.txt"),
    "test": ("val_ids.json", "val_list.txt", "val_ids.txt"),
}
EXPECTED = '{"v_<id>": {"sentences": [...], "timestamps": [...]}, ...}'
PAGE = "https://cs.stanford.edu/people/ranjaykrishna/densevid/"
OTHERS = "val_2.json"  # a second description of nearly the same videos


def read(downloads: Downloads) -> Annotations:
    """Read `train.json` as train and `val_1.json` as test, or files that hold their paragraphs.

    A split without a file is left out. There is no val split: published numbers are those of
    `val_1`. Lists of ids are only compared with the captions, since the published list holds nine
    ids without captions. In lists and files, ids may lack their `v_`.
    """
    clean = CaptionCleaner()
    entries = []
    files = []
    notes = []
    absent = {}
    for split, name in FILES.items():
        found = downloads.known((name,), _read_videos) or _find_paragraphs(downloads, split)
        if found is None:
            # other benchmarks have a train.json, too
            for path in downloads.named(name) if split == "test" else ():
                raise BadInput(f"{path}: expected {EXPECTED}")
            absent[split] = name
            continue
        path, videos = found
        files.append(path)
        others = _other_names(videos)
        entries += [
            Entry(
                id,
                id,
                paragraph(sentences, clean, f"{path}: {id}"),
                split,
                instead=Place(others[id]),
            )
            for id, sentences in videos.items()
        ]
        notes += _compare(downloads, split, others)
    if not entries:
        raise NotThere(
            f"{downloads.folder}: found neither train.json nor val_1.json with the captions of "
            f"ActivityNet; {PAGE} has them"
        )
    if downloads.named(OTHERS):
        notes.append(f"{OTHERS} describes the videos of val_1.json again: not used")
    notes = left_out(absent) + notes + clean.notes()
    names = downloads.names_of(files)
    return Annotations(
        "activitynet", "video", PARAGRAPHS, PUBLISHED, entries, "activitynet", names, notes
    )


def _find_paragraphs(
    downloads: Downloads, split: str
) -> tuple[Path, dict[str, Sequence[object]]] | None:
    """Return the file with a split's paragraphs, and these by id; its ids may have a video
    extension.
    """
    found = find_clips(downloads, JOINED[split], ID)
    return (found.files[0], {bare(row.id): row.captions for row in found.rows}) if found else None


def _read_videos(path: Path) -> dict[str, list[object]] | None:
    """Read each video's sentences by id; None if no video has any (another benchmark's file).

    Raises `BadInput` for a malformed video, or an id that occurs with and without `v_`.
    """
    content = read_json(path, unique_keys=True)
    if not isinstance(content, dict) or not any(
        isinstance(video, dict) and "sentences" in video for video in content.values()
    ):
        return None
    videos = {}
    for id, video in content.items():
        sentences = video.get("sentences") if isinstance(video, dict) else video
        if not isinstance(sentences, list):
            raise BadInput(
                f"{path}: {id}: expected sentences, a list of texts; found {short(video)}"
            )
        if not id.strip():
            raise BadInput(f"{path}: expected an id, found {short(id)}")
        if id.startswith("v_") and id[2:] in content:
            raise BadInput(f"{path}: {id[2:]} is there with and without v_; keep one of them")
        videos[id] = sentences
    return videos


def _compare(downloads: Downloads, split: str, others: dict[str, str]) -> list[str]:
    """Return notes on the ids that only the list has, and on those that only the captions have."""
    known = others.keys() | set(others.values())
    found = downloads.id_list(LISTS[split], known)
    if found is None:
        return []
    listed = dict.fromkeys(map(bare, found.ids))
    without = [id for id in listed if id not in known]
    unlisted = [id for id, other in others.items() if id not in listed and other not in listed]
    return [
        *found.notes(),
        *count_of(without, f"ids of {found.path.name} without captions, left out"),
        *count_of(unlisted, f"videos with captions that are not in {found.path.name}, kept"),
    ]


def _other_names(ids: Collection[str]) -> dict[str, str]:
    """Map each id to its form without `v_` if all ids begin with it, else to its form with `v_`."""
    # a single YouTube id may begin with `v_` itself
    prefixed = all(id.startswith("v_") for id in ids)
    return {id: id[2:] if prefixed else f"v_{id}" for id in ids}


BENCHMARK = Benchmark(
    __doc__,
    read,
    hub=(
        Repository(
            "friedrichor/ActivityNet_Captions",
            ("activitynet_captions_*.json",),
            "the videos: name their folder by --source",
        ),
    ),
)
