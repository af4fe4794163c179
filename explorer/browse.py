"""Lists that no model ranks, and what is done to a ranking: by date, or by name first."""

import time
from dataclasses import replace

from explorer.index import MediaIndex, Where

from .answers import Answer


class Dates:
    """When the items of an index were made, as it knows: `all` [V], "" where it does not."""

    def __init__(self, index: MediaIndex) -> None:
        self.index = index
        self.all = []
        clips = {}  # of the moments of a clip the first one stands for the clip
        for item, file in enumerate(index.files):
            self.all.append(file.date)
            clips.setdefault((file.media, file.id), item)
        self.firsts = list(clips.values())
        self.years = sorted({int(date[:4]) for date in self.all if date}, reverse=True)

    def newest(self, items: list[int]) -> list[int]:
        """Return items in the order of their dates, the newest first; ties in the order given."""
        return sorted(items, key=self.all.__getitem__, reverse=True)


def newest(dates: Dates, k: int, where: Where) -> Answer:
    """Return all media of an index that are `where`, the newest first.

    Nobody has compared them with anything, so their cosines are 0.
    """
    start = time.perf_counter()
    index, items = dates.index, dates.firsts
    if where.kind:
        clips = index.column("is_clip").tolist()
        items = [i for i in items if clips[i] == (where.kind == "video")]
    if where.year:
        items = [i for i in items if dates.all[i].startswith(f"{where.year}-")]
    if where.folder:
        items = [i for i in items if index.files[i].file_name.startswith(f"{where.folder}/")]
    ranked = [(item, 0.0, ()) for item in dates.newest(items)]
    return Answer(index, "", k, ranked, frozenset(), time.perf_counter() - start, False)


def by_date(answer: Answer, dates: Dates) -> Answer:
    """Put the results in the order of their dates, the newest first."""
    held = {one[0]: one for one in answer.ranked}
    return replace(answer, ranked=[held[item] for item in dates.newest(list(held))])


def first(named: Answer, answer: Answer) -> Answer:
    """Put the results that are `named` before the others of an answer."""
    known = {one[0] for one in named.ranked}
    others = [one for one in answer.ranked if one[0] not in known]
    return replace(
        answer,
        ranked=[*named.ranked, *others],
        moments={**answer.moments, **named.moments},
        right=answer.right | named.right,
    )
