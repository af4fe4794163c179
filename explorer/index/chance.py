"""Decide which answers are better than chance, by the cosines of captions without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .ask import MediaIndex

ALARMS = 0.05  # the share of captions without an answer whose best cosine is above the line
CAPTIONS = 200  # captions to search for
ENOUGH = 100  # items with captions; fewer are too few to tell
NEAREST = 50  # results, of which the best one without the caption counts


def line(index: MediaIndex, captions: Sequence[str] | None = None) -> float:
    """Return the cosine above which an answer of an index is better than chance.

    We search for each caption as if its own items were not in the index, so its best result is
    wrong. A share `ALARMS` of these best cosines lies above the line. Without `captions`, we draw
    some from the index. Raises ValueError if fewer than `ENOUGH` of its items have captions.
    """
    best = []
    for caption in captions or _drawn(index):
        items, cosines = index.ranking(caption)
        near = items[:NEAREST].tolist()
        own = {*index.right(caption, near)}
        best += [cosines[rank].item() for rank, item in enumerate(near) if item not in own][:1]
    return float(np.quantile(best, 1 - ALARMS, method="higher"))


def _drawn(index: MediaIndex) -> list[str]:
    """Draw at most `CAPTIONS` from an index, one of each item."""
    drawn = Random(0)
    captioned = index.column("texts").nonzero()[0].tolist()
    if len(captioned) < ENOUGH:
        found = f"{len(captioned)} of its {len(index)} items have captions"
        raise ValueError(
            f"{index.table.uri}: {found}, expected at least {ENOUGH}; ask without likely=True"
        )
    some = sorted(drawn.sample(captioned, min(CAPTIONS, len(captioned))))
    return [drawn.choice(file.captions) for file in index.files[some]]
