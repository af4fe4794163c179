"""Make a dataset of pre-training drawings, to measure how much of them a model forgets."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cma.files import write_whole
from data_prep.dataset import SEAL, Annotations, Counts, Entry, is_whole, read_object
from data_prep.mini.build import ORIGIN
from data_prep.mini.drawings import on_white
from data_prep.mini.packages import PINS
from data_prep.prepare import prepare

from .pretraining import PretrainConfig, icons

NAME = "pretraining-drawings"
EXPECTED = {"val": Counts(1000, 1599), "test": Counts(1000, 1596)}
SEEDS = {"test": 42, "val": 43}  # test is drawn first, val from the remaining concepts


def build_drawings(out: Path, workers: int = 2) -> None:
    """Build the dataset `out`/pretraining-drawings, unless it is there; its pictures are in
    `out`/sources.

    Each split has one random drawing of each of 1,000 concepts with all its captions; the two share
    no concept. 700 are emoji by six artists, 200 icons in colour and 100 of one colour, as among
    the single drawings of pre-training. The artist of the offline benchmarks is not among them.
    Raises as `icons.build`.
    """
    source, dataset = out / "sources" / NAME, out / NAME
    if is_whole(dataset, NAME) and read_object(dataset / SEAL)["counts"].keys() == EXPECTED.keys():
        return
    pixels, drawings = icons.build(workers)
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    entries, digest, used = [], hashlib.sha256(), set()
    for split, seed in SEEDS.items():
        indices = choose(drawings, EXPECTED[split].items, seed, used)
        used |= {drawings[index].concept for index in indices}
        for index in indices:
            drawing = drawings[index]
            name = f"{drawing.source}-{drawing.name}"
            picture = on_white(Image.fromarray(pixels[index]), icons.SIZE)
            digest.update(picture.tobytes())
            picture.save(source / f"{name}.png")
            entries.append(Entry(name, f"{name}.png", drawing.captions, split))
    write_whole(source / ORIGIN, json.dumps({"pixels": digest.hexdigest()}) + "\n")
    protocol = {"query": "caption", "visual_to_text": "captions"}
    files = [f"@iconify/json@{PINS['@iconify/json'].version}"]
    prepare(
        Annotations(NAME, "image", protocol, EXPECTED, entries, "mini-flickr30k", files),
        source,
        dataset,
        workers=workers,
    )


def choose(
    rows: Sequence[icons.Drawing], concepts: int, seed: int, used: Collection[str] = ()
) -> list[int]:
    """Return indices of drawings of so many unused concepts, in pre-training's shares of groups."""
    random, chosen = np.random.default_rng(seed), {}
    for group, share in PretrainConfig().mix:
        indices = defaultdict(list)  # by concept
        for index, drawing in enumerate(rows):
            if drawing.group == group and drawing.concept not in {*chosen, *used}:
                indices[drawing.concept].append(index)
        for name in random.permutation(sorted(indices))[: round(share * concepts)].tolist():
            chosen[name] = int(random.choice(indices[name]))
    return sorted(chosen.values())
