"""What an index answers to a query, and what weighs most in a match: the explorer without its display."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from .. import metrics
from ..search import MediaFile, MediaIndex, read_pictures
from . import attention

Indexes = Mapping[str, MediaIndex]  # of one set of media, by the label of the model, such as "zero-shot"
SEEN = 264  # pixels of the longer side of a frame in an explanation, at most
MOST_CAPTIONS = 5000  # that `rank_changes` compares


@dataclass(frozen=True)
class Hit:
    """A result: its rank from 1, its item, its cosine, and whether the query is one of its captions.

    `weights` [F] of a clip's frames sum to 1; None for a picture, and if the query is a picture or clip.
    """

    rank: int
    item: int
    score: float
    file: MediaFile
    right: bool
    weights: Tensor | None = None


@dataclass(frozen=True)
class Answer:
    """The best hits of `items`; `right_rank` is the rank of the first right one, None if that is not known.

    `ranked` is how many items the search has put in order; in a very large index these are not all.
    `cut`: the query was longer than the text tower takes.
    """

    hits: tuple[Hit, ...]
    items: int
    ranked: int
    right_rank: int | None
    seconds: float
    cut: bool


@dataclass(frozen=True)
class RankChange:
    """A caption and the ranks that two models give its item."""

    caption: str
    file: MediaFile
    before: int
    after: int


@dataclass(frozen=True)
class Why:
    """What weighs most in a match of a sentence: the frames [F] that were compared, with weights and cosines.

    `frames` show what CLIP saw under the heat of its patches; `words` are (word, weight from 0 to 1).
    """

    file: MediaFile
    score: float
    frames: tuple[Image.Image, ...]
    weights: tuple[float, ...]
    cosines: tuple[float, ...]
    words: tuple[tuple[str, float], ...]


def ask(index: MediaIndex, query: str | Path, k: int = 5) -> Answer:
    """The `k` best of an index for a sentence, or for the picture or clip at a path.

    Raises ValueError as `MediaIndex.query` and `query_media`.
    """
    if k < 1:
        raise ValueError(f"k={k}: expected at least 1")
    start = time.perf_counter()
    by_text = isinstance(query, str)
    items, scores = index.ranking(query) if by_text else index.ranking_media(query)
    order = items.tolist()
    right = set(index.right(query)) if by_text else set()
    clips = [item for item in order[:k] if by_text and index.files[item].kind == "video"]
    weights = dict(zip(clips, index.frame_weights(query, clips), strict=True)) if clips else {}
    hits = tuple(
        Hit(rank, item, score, index.files[item], item in right, weights.get(item))
        for rank, (item, score) in enumerate(zip(order[:k], scores[:k].tolist(), strict=True), start=1)
    )
    first = next((rank for rank, item in enumerate(order, start=1) if item in right), None)
    seconds = time.perf_counter() - start
    return Answer(hits, len(index), len(order), first, seconds, by_text and bool(index.model.cut))


def search_both(indexes: Indexes, query: str | Path, k: int = 5) -> dict[str, Answer]:
    """The answer of every model to one query, by the model's label."""
    return {label: ask(index, query, k) for label, index in indexes.items()}


def why(index: MediaIndex, text: str, item: int) -> Why:
    """What weighs most in the match of a sentence with an item, by `cma.explore.explain`.

    Raises ValueError for a blank sentence or a clip that has changed, MediaError for an unreadable file.
    """
    file = index.files[item]
    weights = index.frame_weights(text, [item])[0]
    frames = read_pictures(file, index.path(file), index.config.max_frames, index.config.fps)
    if len(frames) != len(weights):
        counts = f"found {len(frames)} frames, its index holds {len(weights)}"
        raise ValueError(f"{index.path(file)}: {counts}; build it again")
    with index.model.acting(index.adapter, index.scale):
        explained = attention.explain(index.model, text, frames, weights, index.config.max_words)
    # a frame that hardly counts shows hardly any heat
    heat = attention.scaled(explained.patches * weights[:, None, None])
    for frame in frames:
        frame.thumbnail((SEEN, SEEN))
    seen = [attention.overlay(*pair, index.model.processor) for pair in zip(frames, heat, strict=True)]
    score = index.scores([text], [item]).item()
    words = tuple(zip(explained.words, explained.word_weights.tolist(), strict=True))
    return Why(file, score, tuple(seen), tuple(weights.tolist()), tuple(explained.cosines.tolist()), words)


def rank_changes(before: MediaIndex, after: MediaIndex, seed: int = 0) -> list[RankChange]:
    """The captions of the media with the ranks that two models give their items, largest gain first.

    The gain is `before / after`: the list starts with what only `after` finds and ends with what it loses.
    Ties count against a model, as in `cma.metrics`. Of many captions, `MOST_CAPTIONS` are drawn by `seed`.
    Raises ValueError for indexes of different files.
    """
    if [file.key for file in before.files] != [file.key for file in after.files]:
        counts = f"{len(before)} and {len(after)}"
        raise ValueError(f"the indexes hold different files ({counts}); build both alike")
    captions, owners = before.captions, before.text_to_item
    if len(captions) > MOST_CAPTIONS:
        drawn = sorted(random.Random(seed).sample(range(len(captions)), MOST_CAPTIONS))
        captions, owners = [captions[i] for i in drawn], owners[drawn]
    if not captions:
        return []
    ranks = [metrics.ranks(index.scores(captions), owners).tolist() for index in (before, after)]
    changes = [
        RankChange(caption, before.files[item], *pair)
        for caption, item, *pair in zip(captions, owners.tolist(), *ranks, strict=True)
    ]
    return sorted(changes, key=lambda change: change.after / change.before)


def examples(index: MediaIndex, n: int = 8, seed: int = 0) -> list[str]:
    """At most `n` captions of an index to start from, drawn by `seed`."""
    firsts = list(dict.fromkeys(file.captions[0] for file in index.files if file.captions))
    return random.Random(seed).sample(firsts, min(n, len(firsts)))
