"""Build the two offline benchmarks, mini-flickr30k and mini-msrvtt, from open packages of drawings.

Under OUT/sources they stand in the file formats of Flickr30K and MSR-VTT, and the very code that prepares
those prepares them. A benchmark that is there already is not built again.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cma.files import write_whole
from data_prep.benchmarks import flickr30k, msrvtt
from data_prep.dataset import (
    SEAL,
    Annotations,
    Counts,
    count_table,
    is_whole,
    read_object,
    unseal,
)
from data_prep.mini.packages import PINS
from data_prep.mini.sources import (
    CLIPS,
    STILLS,
    Drawing,
    count,
    select_clips,
    select_stills,
    write_flickr30k,
    write_msrvtt,
)
from data_prep.prepare import prepare

BUILD = 1  # raised when what is written changes, so that older builds are replaced
WORDS = ("emojibase-data", "emojilib")
ORIGIN = "origin.json"  # last file of a source folder: what it was built from, and the counts to expect


@dataclass(frozen=True)
class Mini:
    """One offline benchmark: its packages, what of them it takes, the writer and the reader of its format."""

    name: str
    packages: tuple[str, ...]
    select: Callable[[tuple[str, ...]], list[Drawing]]
    write: Callable[[Path, list[Drawing], int], None]
    read: Callable[[Path], Annotations]
    test_captions: int | None  # the most captions of a test item

    @property
    def origin(self) -> dict:
        """What decides the content of the source folder."""
        return {"build": BUILD, "packages": {name: PINS[name].version for name in (*self.packages, *WORDS)}}


def add_command(commands: argparse._SubParsersAction) -> None:
    """`python -m data_prep mini`."""
    command = commands.add_parser("mini", help="build the offline benchmarks", description=__doc__)
    command.add_argument("--out", type=Path, default=Path("data"), help="folder to build in (default: data)")
    packs = f"packages of clips, 165 to 197 MB each, 1 to {len(CLIPS)} (default: 2)"
    command.add_argument(
        "--packs", type=int, choices=range(1, len(CLIPS) + 1), default=2, metavar="N", help=packs
    )
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    command.set_defaults(run=lambda options: build(options.out, options.packs, options.workers))


def build(out: Path, packs: int = 2, workers: int = 2) -> None:
    """Build `out`/mini-flickr30k from stills and `out`/mini-msrvtt from clips, each unless it is there."""
    read_clips = partial(msrvtt.read, hold_out=True)
    stills = Mini("mini-flickr30k", (STILLS,), select_stills, write_flickr30k, flickr30k.read, None)
    clips = Mini("mini-msrvtt", CLIPS[:packs], select_clips, write_msrvtt, read_clips, 1)
    for mini in (stills, clips):
        build_one(mini, out, workers)


def build_one(mini: Mini, out: Path, workers: int) -> None:
    """Build one offline benchmark unless it is there, whole and from the same packages."""
    source, dataset = out / "sources" / mini.name, out / mini.name
    there = read_object(source / ORIGIN)
    if {key: there.get(key) for key in mini.origin} != mini.origin:
        unseal(dataset)
        there = _write_source(mini, source, workers)
    if is_whole(dataset, mini.name):
        print(
            f"{mini.name}: already in {dataset}",
            *count_table(read_object(dataset / SEAL)["counts"]),
            sep="\n  ",
        )
        return
    expected = {split: Counts(*counts) for split, counts in there["expected"].items()}
    annotations = replace(mini.read(source), name=mini.name, recipe=mini.name, expected=expected)
    prepare(annotations, source, dataset, workers=workers)


def _write_source(mini: Mini, source: Path, workers: int) -> dict:
    """Write the source folder under a temporary name, then rename it; returns its `origin.json`."""
    drawings = mini.select(mini.packages)
    origin = mini.origin | {"expected": count(drawings, mini.test_captions)}
    unfinished = source.with_name(source.name + ".partial")
    for folder in (unfinished, source):
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(parents=True)
    mini.write(unfinished, drawings, workers)
    write_whole(unfinished / ORIGIN, json.dumps(origin, indent=2) + "\n")
    unfinished.rename(source)
    return origin
