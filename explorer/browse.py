"""Lists that no model ranks, and what is done to a ranking: the newest first, by year, by name."""

import time
from dataclasses import replace

from cma.search import MediaIndex

from .answers import Answer
from .facts import Dates


def newest(index: MediaIndex, k: int, kind: str, folder: str, dates: Dates) -> Answer:
    """Return all media of an index, of one `kind` or in one `folder`, the newest first.

    Nobody has compared them with anything, so their cosines are 0.
    """
    start = time.perf_counter()
    items = dates.firsts
    if kind:
        clips = index.column("is_clip").tolist()
        items = [i for i in items if clips[i] == (kind == "video")]
    if folder:
        items = [i for i in items if index.files[i].file_name.startswith(f"{folder}/")]
    ranked = [(item, 0.0, ()) for item in dates.newest(items)]
    return Answer(index, "", k, ranked, frozenset(), time.perf_counter() - start, False)


def of_year(answer: Answer, dates: Dates, year: int) -> Answer:
    """Keep the results of one year."""
    years = dates.years()
    return replace(answer, ranked=[one for one in answer.ranked if years[one[0]] == year])


def by_date(answer: Answer, dates: Dates) -> Answer:
    """Put the results in the order of their dates, the newest first."""
    held = {one[0]: one for one in answer.ranked}
    return replace(answer, ranked=[held[item] for item in dates.newest(list(held))])


def by_name(answer: Answer, text: str) -> tuple[Answer, frozenset[int]]:
    """Put the results whose file name has every word of `text` first, in the order of their
    likeness; return these items too.
    """
    words, files = text.casefold().split(), answer.index.files
    named = set()
    for item, *_ in answer.ranked:
        name = files[item].file_name.casefold()
        if all(word in name for word in words):
            named.add(item)
    ranked = sorted(answer.ranked, key=lambda one: one[0] not in named)  # a stable order
    return replace(answer, ranked=ranked), frozenset(named)
