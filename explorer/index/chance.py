"""Which answers are better than chance: those above the cosine that captions without an answer
seldom reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .ask import MediaIndex

ALARMS = 0.05  # share of the captions without an answer that have a cosine above the line
CAPTIONS = 200  # that are asked
ENOUGH = 100  # items with captions; an index of fewer is asked for `THINGS`
NEAREST = 50  # results among which the best one is sought that does not have the caption
THINGS = """
    accordion, anchor, axe, beehive, bulldozer, cactus, candle, chess board, clarinet, crown,
    dinosaur, dragon, elephant, fire engine, flamingo, gorilla, guitar, harp, helicopter, igloo,
    jellyfish, kangaroo, lighthouse, lobster, microscope, octopus, parachute, penguin, pineapple,
    pyramid, rocket, saxophone, snowman, submarine, telescope, tractor, treasure chest, unicycle,
    volcano, windmill
"""


def line(index: MediaIndex, captions: Sequence[str] | None = None) -> float:
    """Return the cosine above which an answer of an index is better than chance.

    Each caption is asked as if its own items were not there, so its best result is wrong. A share
    `ALARMS` of these best cosines lies above the line. The captions are drawn from the index. If
    less than `ENOUGH` items have some, they name two of `THINGS`, which are seldom together.
    """
    best = []
    for caption in captions or foreign(index):
        items, cosines = index.ranking(caption)
        near = items[:NEAREST].tolist()
        own = {*index.right(caption, near)}
        best += [cosines[rank].item() for rank, item in enumerate(near) if item not in own][:1]
    if not best:
        return -1.0
    return float(np.quantile(best, 1 - ALARMS, method="higher"))


def foreign(index: MediaIndex) -> list[str]:
    """Draw `CAPTIONS` from an index, at most one of each item, or of two `THINGS` each."""
    drawn = Random(0)
    captioned = index.column("texts").nonzero()[0].tolist()
    if len(captioned) >= ENOUGH:
        some = sorted(drawn.sample(captioned, min(CAPTIONS, len(captioned))))
        return [drawn.choice(file.captions) for file in index.files[some]]
    return pairs(drawn)


def pairs(drawn: Random) -> list[str]:
    """Draw `CAPTIONS` of two `THINGS` each."""
    both = combinations([thing.strip() for thing in THINGS.split(",")], 2)
    return [f"{one} and {other}" for one, other in drawn.sample([*both], CAPTIONS)]
