"""Our share of full fine-tuning's gain, by caption style and by number of things.

The style of a caption and the number of things in a picture decide what a model must learn for it:
`python -m experiments parts --help`. It trains nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cma import data
from cma.files import read_jsonl, write_whole
from data_prep.mini.caption_styles import CAPTION_STYLES
from data_prep.mini.other_hand import OTHER_CAPTION_STYLES
from data_prep.mini.world import RECORDS

from .gains import FULL, LORA, OURS, ZERO_SHOT, has_share, on_further
from .options import RESULTS
from .rows import MethodRow, difference, rows_of, share_of_gain
from .study import world_of

FILE = "parts.json"  # in the folder of results
WAY = "text_to_visual"
# by test set: "" is test itself
SAYERS = {"": tuple(CAPTION_STYLES), "new": tuple(CAPTION_STYLES)}
SAYERS |= {"words": tuple(OTHER_CAPTION_STYLES), "scenes": tuple(CAPTION_STYLES)}
LARGEST = 4  # pictures with this many things or more are one part


def parts_of(numbers: Sequence[int], styles: Sequence[str]) -> dict[str, np.ndarray]:
    """Return which texts belong to each part, {"describer NAME" | "N things": bool [T]}.

    numbers: how many things each item shows. Each item has one text in each of `styles`, in order.
    """
    styled = np.tile(np.arange(len(styles)), len(numbers))
    shown = np.repeat(np.minimum(numbers, LARGEST), len(styles))
    parts = {f"describer {name}": styled == at for at, name in enumerate(styles)}
    for number in sorted({*shown.tolist()}):
        words = "1 thing" if number == 1 else f"{number} things"
        parts[words + (" or more" if number == LARGEST else "")] = shown == number
    return parts


def limited(row: MethodRow, kept: np.ndarray) -> MethodRow:
    """Return a row with only some of its texts [T], and only text-to-visual."""
    owner = np.unique(np.array(row.text_to_item)[kept], return_inverse=True)[1]
    ranks = {seed: {WAY: np.array(of[WAY])[kept].tolist()} for seed, of in row.ranks.items()}
    return replace(row, ranks=ranks, text_to_item=owner.tolist())


def measured(
    of: Mapping[str, MethodRow], method: str, numbers: Sequence[int], styles: Sequence[str]
) -> dict[str, dict]:
    """Return {part: {"texts", "share", "points"}}, with intervals.

    "share": the method's share of full fine-tuning's gain in R@1, or None; "points": method − full.
    """
    found = {}
    for part, kept in parts_of(numbers, styles).items():
        one, full, start = (limited(of[name], kept) for name in (method, FULL, ZERO_SHOT))
        found[part] = {
            "texts": int(kept.sum()),
            "share": share_of_gain(one, full, start, WAY),
            "points": difference(one, full, WAY)[:3],
        }
    return found


def things_in(folder: Path) -> list[int]:
    """Return how many things each test picture shows, from the records beside its pictures."""
    shown = []
    for _, record in read_jsonl(folder / "media" / RECORDS, dict):
        scene = record["scene"]
        if record["split"] == "test":
            shown.append(sum(group["count"] for group in scene["groups"]))
    return shown


OPTIONS = {"folder": None, "--results": RESULTS}


def run(options: argparse.Namespace) -> None:
    """Divide the gain of a study's rows by caption style and by number of things; train nothing.

    The rows of ours, full fine-tuning and zero-shot must be complete; LoRA is added if its row is.
    Writes parts.json in the folder of results. Raises ValueError for rows of another world.
    """
    test = data.load(options.folder, "test")
    if test.kind != "image":
        raise ValueError(f"{test.name}: expected pictures, such as mini-flickr30k")
    rows = rows_of(options.results / "methods", test.name)
    whole = {m: row for m, row in rows.items() if row.ranks and not row.marks()}
    missing = sorted({OURS, FULL, ZERO_SHOT} - whole.keys())
    if missing:
        raise ValueError(f"{test.name}: no finished row of {', '.join(missing)}")
    if whole[OURS].world != world_of(options.folder):
        raise ValueError(f"{options.folder}: its pictures are not those of {options.results}")
    content = {"rows": {row.name: row.finished for row in whole.values()}, "parts": {}}
    for further, styles in SAYERS.items():
        of = on_further(whole, further) if further else whole
        for method in (OURS, LORA):
            if has_share(of, method):
                dataset = of[method].dataset
                shown = things_in(options.folder.with_name(dataset))
                made = content["parts"].setdefault(dataset, {})
                made[method] = measured(of, method, shown, styles)
    file = options.results / FILE
    write_whole(file, json.dumps(content, indent=1) + "\n")
    print(f"{file}: {', '.join(content['parts'])}")
