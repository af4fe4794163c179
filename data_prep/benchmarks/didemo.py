"""DiDeMo: 30-second clips with one paragraph each; 8,392 to train, 1,065 to validate, 1,004 to
test.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cma.files import short
from data_prep.benchmarks.clip_json import ClipRow, SplitRows, find_clips
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import PARAGRAPHS, Benchmark, some
from data_prep.benchmarks.hub import Repository
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Counts, Entry, count_of, left_out
from data_prep.readers import BadInput, NotThere, read_csv, read_json

PUBLISHED = {
    "train": Counts(8_392, 8_392),
    "val": Counts(1_065, 1_065),
    "test": Counts(1_004, 1_004),
}
DATA = "{}_data.json"
LIST = "{}_list.txt"
# paragraphs by id: of VAST and UMT, on the hub, by LAVIS
JOINED = ("descs_ret_{}.json", "didemo_ret_{}.json", "didemo_{}.json", "retrieval_{}.json")
HUB_TRAIN = Counts(8_395, 8_395)  # the hub's `didemo_train.json` has three clips more
PAGE = "https://github.com/albanie/collaborative-experts (misc/datasets/didemo)"
LABELS = "didemo_{}_label.csv"
ID = re.compile(r"\d+@N\d+_.+")


def read(downloads: Downloads) -> Annotations:
    """Read each split from `{split}_data.json` and `{split}_list.txt`, or from one file of
    paragraphs.

    The list decides which clips are used, since the JSON holds more. Instead of these two, a split
    may be in a file of JOINED or in `didemo_{split}_label.csv`. A split without any of these is
    left out. Ids keep their extension or their final dot; transcoded files are found, too.
    """
    clean = CaptionCleaner()
    entries = []
    files: list[Path] = []
    notes: list[str] = []
    absent = {}
    joined: list[str] = []
    expected = dict(PUBLISHED)
    for split in SPLITS:
        found = _pair(downloads, split)
        if found is None:
            found = find_clips(downloads, [name.format(split) for name in JOINED], ID)
            joined += [path.name for path in found.files] if found else []
        found = found or _labels(downloads, split)
        if found is None:
            absent[split] = data = DATA.format(split)
            if downloads.named(data):
                absent[split] = f"{LIST.format(split)} with the ids of {data} ({PAGE} has it)"
            continue
        files += found.files
        notes += found.notes
        entries += [
            Entry(id, id, paragraph(texts, clean, where), split) for id, where, texts in found.rows
        ]
    if "didemo_train.json" in joined:
        expected["train"] = HUB_TRAIN
    if joined:
        notes.append(
            "descriptions joined already, maybe in another order than DiDeMo's: "
            f"{', '.join(joined)}"
        )
    if not entries:
        wanted = f"two files of a split such as {DATA.format('test')}, {LIST.format('test')}"
        kind = (
            BadInput if any(LIST.format(split) in absent[split] for split in absent) else NotThere
        )
        raise kind(
            f"{downloads.folder}: expected {wanted}; found no {' and no '.join(absent.values())}"
        )
    notes = left_out(absent) + notes + clean.notes()
    names = downloads.names_of(files)
    return Annotations("didemo", "video", PARAGRAPHS, expected, entries, "didemo", names, notes)


def paragraph(descriptions: Iterable[object], clean: CaptionCleaner, where: str) -> tuple[str, ...]:
    """Join the cleaned descriptions of a clip in their order, by spaces, into its one caption.

    Returns () if all descriptions are blank. Raises `BadInput` with `where` if one is not text.
    """
    text = " ".join(clean(descriptions, where))
    return (text,) if text else ()


def _pair(downloads: Downloads, split: str) -> SplitRows | None:
    """Read the listed clips of a split with their descriptions; None if no list has ids of the
    JSON.
    """
    data = downloads.known((DATA.format(split),), _read_descriptions)
    listed = downloads.id_list((LIST.format(split),), data[1].keys()) if data else None
    if data is None or listed is None:
        return None
    path, descriptions = data
    name = listed.path.name
    without = [id for id in listed.ids if id not in descriptions]
    unlisted = sorted(descriptions.keys() - set(listed.ids))
    notes = listed.notes() + count_of(without, f"ids of {name} without a description")
    notes += count_of(unlisted, f"clips of {path.name} that are not in {name}, left out")
    rows = [ClipRow(id, f"{path}: video {id}", descriptions.get(id, ())) for id in listed.ids]
    return SplitRows([path, listed.path], rows, notes)


def _labels(downloads: Downloads, split: str) -> SplitRows | None:
    """Read a CSV with paragraphs and the paths of the videos on its author's machine; None without
    one.
    """
    path = downloads.find(LABELS.format(split))
    if path is None:
        return None
    texts: dict[str, list[str]] = {}
    for line, row in read_csv(path, ("video_path", "text")):
        id = PurePosixPath(row["video_path"].strip()).name
        if not id:
            raise BadInput(
                f"{path}:{line}: expected the path of a video, found {short(row['video_path'])}"
            )
        texts.setdefault(id, []).append(row["text"])
    return SplitRows(
        [path], [ClipRow(id, f"{path}: {id}", row) for id, row in some(texts, path).items()]
    )


def _read_descriptions(path: Path) -> dict[str, list[str]]:
    """Return the descriptions of each clip, in the order of the JSON."""
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInput(f"{path}: expected a list of objects with video and description")
    descriptions: dict[str, list[str]] = {}
    for number, row in enumerate(content):
        try:
            id = row["video"]
            description = row["description"]
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"{path}: entry {number}: expected video and description; {short(error)}"
            ) from error
        if not isinstance(id, str) or not id.strip() or not isinstance(description, str):
            raise BadInput(
                f"{path}: entry {number}: expected texts, found {short(id)} and "
                f"{short(description)}"
            )
        descriptions.setdefault(id.strip(), []).append(description)
    return descriptions


BENCHMARK = Benchmark(
    __doc__,
    read,
    hub=(
        Repository(
            "friedrichor/DiDeMo",
            ("didemo_*.json",),
            "the val split, and the clips: unpack the archive of its page, and name the folder by "
            "--source",
        ),
    ),
)
