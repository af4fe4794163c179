"""List media by date, and reorder a ranking: by date, or with matching names first."""

import time
from dataclasses import replace
from itertools import repeat

import numpy as np
import torch

from explorer.index import MediaIndex, Where
from explorer.index.ask import DEPTH

from .answers import EVERYWHERE, Answer


class Dates:
    """The dates of an index's items: `all` [V], "" where a date is unknown."""

    def __init__(self, index: MediaIndex) -> None:
        self.index = index
        self.all = index.column("date").astype("S")
        clips = index.column("clip")
        # whether an item stands for its file: of a clip, the first moment
        self.first = clips == 0
        moments = np.flatnonzero(clips)
        self.first[moments[np.unique(clips[moments], return_index=True)[1]]] = True
        self.years = sorted(index.table.counts("year").keys() - {0}, reverse=True)

    def newest(self, items: np.ndarray | list[int]) -> list[int]:
        """Return items by date, the newest first; ties keep the order given."""
        items = np.asarray(items, int)
        return newest_first(items, self.all[items])


def newest_first(items: np.ndarray, dates: np.ndarray) -> list[int]:
    """Return items by their dates [V], the newest first; ties keep the order given."""
    return items[::-1][dates[::-1].argsort(kind="stable")][::-1].tolist()


def newest(dates: Dates, k: int, where: Where) -> Answer:
    """Return the media of an index that match `where`, the newest first.

    There is no query to compare them with, so their cosines are 0. Copies are one result.
    """
    start = time.perf_counter()
    index, items = dates.index, np.arange(len(dates.first))
    if where != EVERYWHERE:
        items = np.array(index.inside(where), int)
    newest = dates.newest(items[dates.first[items]])
    copies = index.copies(newest[:DEPTH])
    ranked = [(item, 0.0, tuple(alike)) for item, (_, *alike) in copies.items()]
    ranked += zip(newest[DEPTH:], repeat(0.0), repeat(()))
    seconds = time.perf_counter() - start
    return Answer(index, "", k, ranked, frozenset(), seconds, False, dated=True)


def matching(answer: Answer) -> Answer:
    """Leave out the results whose cosine is nearer to the median of all than to the best."""
    scores = np.array([score for _, score, _ in answer.ranked])
    count = (scores >= (scores[0] + np.median(scores)) / 2).sum() if len(scores) else 0
    return replace(answer, ranked=answer.ranked[:count])


def by_date(answer: Answer) -> Answer:
    """Sort the results by date, the newest first."""
    held = {one[0]: one for one in answer.ranked}
    items = np.array(list(held), int)
    dates = answer.index.table.column("date", torch.from_numpy(items)).astype("S")
    ranked = [held[item] for item in newest_first(items, dates)]
    return replace(answer, ranked=ranked, dated=True)


def first(named: Answer, answer: Answer) -> Answer:
    """Move the results that are also in `named` to the front of an answer."""
    known = {one[0] for one in named.ranked}
    others = [one for one in answer.ranked if one[0] not in known]
    return replace(
        answer,
        ranked=[*named.ranked, *others],
        moments={**answer.moments, **named.moments},
        right=answer.right | named.right,
    )
