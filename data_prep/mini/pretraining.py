"""Write a dataset folder of drawings on which the bundled CLIP was pre-trained, to measure what is forgotten.

It has the split test alone: 1,000 concepts, one drawing of each with all its captions. The groups of icon
sets have the shares of the pre-training batches. `python -m tests.bench.forgetting` measures on it.
"""

import argparse
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.dataset import Annotations, Counts, Entry, is_whole
from data_prep.mini import icons
from data_prep.mini.drawings import on_white
from data_prep.mini.packages import PINS
from data_prep.prepare import prepare

NAME = "pretraining-drawings"
EXPECTED = Counts(1000, 1525)
SEED = 42


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `python -m data_prep pretraining`."""
    first = __doc__.splitlines()[0]
    command = commands.add_parser("pretraining", help=first, description=__doc__)
    command.add_argument("--out", type=Path, default=Path("data"), help="folder to build in (default: data)")
    command.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    command.set_defaults(run=lambda options: build_drawings(options.out, options.workers))


def build_drawings(out: Path, workers: int = 2) -> None:
    """Build `out`/pretraining-drawings, unless it is there."""
    source, dataset = out / "sources" / NAME, out / NAME
    if is_whole(dataset, NAME):
        print(f"{NAME}: already in {dataset}")
        return
    pixels, rows = icons.build(workers)
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    entries = []
    for row in choose(rows, EXPECTED.items):
        drawing, name = rows[row], f"{rows[row].source}-{rows[row].name}"
        on_white(Image.fromarray(pixels[row]), icons.SIZE).save(source / f"{name}.png")
        entries.append(Entry(name, f"{name}.png", drawing.captions, "test"))
    protocol = {"query": "caption", "visual_to_text": "captions"}
    files = [f"@iconify/json@{PINS['@iconify/json'].version}"]
    expected = {"test": EXPECTED}
    annotations = Annotations(NAME, "image", protocol, expected, entries, "mini-flickr30k", files)
    prepare(annotations, source, dataset, workers=workers)


def choose(rows: Sequence[icons.Drawing], concepts: int) -> list[int]:
    """The indices of one drawing each of so many concepts, in the groups' shares of a pre-training batch."""
    from cma.pretraining import PretrainConfig  # here, because it loads torch

    random, chosen = np.random.default_rng(SEED), {}
    for group, share in PretrainConfig().mix:
        found = defaultdict(list)
        for index, drawing in enumerate(rows):
            if drawing.group == group and drawing.concept not in chosen:
                found[drawing.concept].append(index)
        for name in random.permutation(sorted(found))[: round(share * concepts)].tolist():
            chosen[name] = int(random.choice(found[name]))
    return sorted(chosen.values())
