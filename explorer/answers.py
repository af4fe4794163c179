"""Answer queries from an index and explain matches: the explorer without its display."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath

from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cma import metrics
from explorer.index import MediaFile, MediaIndex, Where, frames_of
from explorer.index.ask import DEPTH

from . import attention

Like = str | Path | MediaFile  # the path of a picture or clip, or one of the media
# the indexes of one set of media by the model's label, such as "zero-shot"
Indexes = Mapping[str, MediaIndex]
EVERYWHERE = Where()
SEEN, MAX_CAPTIONS = 264, 500  # longer side in pixels of an explained frame; captions compared
MAX_SCORES = 2**26  # held at once when captions are compared with all items
BYTES_A_LETTER = 1.5  # a tokenizer with this many tokens per letter does not know the script
REPEATED = 8  # look at this many times the wanted captions, since some may be equal


@dataclass(frozen=True)
class Hit:
    """A result: its rank (from 1), item, cosine and file; whether the query is its caption; its
    copies.
    """

    rank: int
    item: int
    score: float
    file: MediaFile
    right: bool
    alike: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The answer to a query, which may be "".

    `ranked` has (item, cosine, copies), best first; a large index ranks only its best. `index`
    stays as it was when it answered, so item numbers stay valid. `moments` has the other moments of
    a ranked item's clip.
    """

    index: MediaIndex
    query: str
    k: int
    ranked: list[tuple[int, float, tuple[int, ...]]]
    right: frozenset[int]  # the items that have the query as a caption
    seconds: float
    cut: bool  # whether the query is too long for the text tower
    moments: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    foreign: bool = False  # whether the query is in a script that the tokenizer does not know
    dated: bool = False  # whether the results are ordered by date, the newest first

    @cached_property
    def hits(self) -> tuple[Hit, ...]:
        """The best `k` results."""
        return self.piece(0, self.k)

    @cached_property
    def right_rank(self) -> int | None:
        """The rank of the first right result, or None if none is known, or by date."""
        places = enumerate(self.ranked, start=1) if self.right and not self.dated else ()
        return next((rank for rank, (item, *_) in places if item in self.right), None)

    @cached_property
    def rank_of(self) -> dict[int, int]:
        """The rank of each ranked item; copies and other moments have the rank of their result."""
        ranks: dict[int, int] = {}
        for rank, (item, _, alike) in enumerate(self.ranked, start=1):
            for one in (item, *alike, *self.moments.get(item, ())):
                ranks.setdefault(one, rank)
        return ranks

    def piece(self, start: int, k: int) -> tuple[Hit, ...]:
        """Return at most `k` results from rank `start` + 1 on; read all their records at once."""
        hits = []
        ranked = self.ranked[start : start + k]
        items = [item for item, *_ in ranked]
        files = self.index.files[[*items, *chain(*(alike for *_, alike in ranked))]][: len(items)]
        numbered = enumerate(zip(ranked, files, strict=True), start + 1)
        for rank, ((item, score, alike), file) in numbered:
            hits.append(Hit(rank, item, score, file, item in self.right, alike))
        return tuple(hits)


@dataclass(frozen=True)
class RankChange:
    """A caption and the ranks that two models give its item."""

    caption: str
    file: MediaFile
    before: int
    after: int


@dataclass(frozen=True)
class Why:
    """An explained match: F frames with heat maps of their patches, words with weights up to 1."""

    score: float
    frames: tuple[Image.Image, ...]
    weights: tuple[float, ...]
    cosines: tuple[float, ...]
    words: tuple[tuple[str, float], ...]


def ask(
    index: MediaIndex,
    query: str = "",
    k: int = 5,
    like: Like | None = None,
    without: Sequence[str] = (),
    where: Where = EVERYWHERE,
    folded: bool = False,
) -> Answer:
    """Rank the media of an index for a sentence, for a picture or clip `like`, or for both.

    `where` filters the media; the first `k` results are the hits. With `folded`, copies and the
    moments of a clip count as one result, unless they are right answers. Other arguments and errors
    are those of `MediaIndex.ranking`.
    """
    if k < 1:
        raise ValueError(f"k={k}: expected at least 1")
    start = time.perf_counter()
    index = index.now()
    if not len(index):  # nothing is embedded yet
        return Answer(index, query, k, [], frozenset(), time.perf_counter() - start, False)
    if like is not None and not query and not without:
        items, scores = index.ranking_media(like, where)  # as `query_media`, to the last bit
    else:
        items, scores = index.ranking(query, where, like, without)
    cut = bool(query and index.model.tokenize([query], index.config.max_words)[1])
    ranking = items.tolist()
    right = frozenset(index.right(query, ranking if index.table.large else None))
    score_of = dict(zip(ranking, scores.tolist(), strict=True))
    # a list for each of 100,000 items would take longer than ranking them
    moments: dict[int, list[int]] = {}
    if folded and index.table.column("clip", items).any():
        moments = index.moments(ranking)
        ranking = list(moments)
    compared = ranking[:DEPTH] if folded else []
    ranked: list[tuple[int, float, tuple[int, ...]]] = [
        (item, score_of[item], tuple(others))
        for item, (_, *others) in index.copies(compared, right).items()
    ]
    ranked += [(item, score_of[item], ()) for item in ranking[len(compared) :]]
    behind = {item: tuple(others) for item, (_, *others) in moments.items() if others}
    seconds = time.perf_counter() - start
    foreign = is_foreign(index.model.processor.tokenizer, query)
    return Answer(index, query, k, ranked, right, seconds, cut, behind, foreign)


def is_foreign(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Return whether the model cannot read a text: its tokenizer splits most of the letters into
    single bytes, or does not know them.
    """
    letters = [one for one in text if one.isalpha()]
    others = "".join(one for one in letters if not one.isascii())
    if 2 * len(others) <= len(letters):
        return False
    tokens = tokenizer.tokenize(others)
    return len(tokens) > BYTES_A_LETTER * len(others) or tokenizer.unk_token in tokens


def search_both(indexes: Indexes, query: str, k: int = 5) -> dict[str, Answer]:
    """Return the answer of every model to one sentence, by the model's label."""
    return {label: ask(index, query, k) for label, index in indexes.items()}


def why(index: MediaIndex, text: str, item: int) -> Why:
    """Explain why a sentence matches an item. Raises ValueError if its number of frames changed."""
    file = index.files[item]
    path = index.path(file)
    config = index.config
    weights = index.frame_weights(text, item)
    frames = frames_of(file, path, config)
    if len(frames) != len(weights):
        counts = f"found {len(frames)} frames, but the index has {len(weights)}"
        raise ValueError(f"{path}: {counts}; build the index again")
    with index.using():
        explained = attention.explain(index.model, text, frames, weights, config.max_words)
    heat = attention.scaled(explained.patches * weights[:, None, None])  # by frame
    for frame in frames:
        frame.thumbnail((SEEN, SEEN))
    seen = [
        attention.overlay(*pair, index.model.processor) for pair in zip(frames, heat, strict=True)
    ]
    score = index.scores([text], [item]).item()
    words = tuple(zip(explained.words, explained.word_weights.tolist(), strict=True))
    return Why(
        score, tuple(seen), tuple(weights.tolist()), tuple(explained.cosines.tolist()), words
    )


def rank_changes(before: MediaIndex, after: MediaIndex) -> list[RankChange]:
    """Return the ranks that two models give each caption's item, the largest gain first.

    The gain is `before / after`. Ties count against a model, as in `cma.metrics`. Of more than
    `MAX_CAPTIONS` captions, that many are drawn at random, always the same. Raises ValueError if
    the indexes hold different files.
    """
    if list(before.column("key")) != list(after.column("key")):
        raise ValueError(
            f"the indexes hold different files ({len(before)} and {len(after)}); build both alike"
        )
    captions, owners = before.captions, before.text_to_item
    if len(captions) > MAX_CAPTIONS:
        drawn = sorted(random.Random(0).sample(range(len(captions)), MAX_CAPTIONS))
        captions, owners = [captions[i] for i in drawn], owners[drawn]
    both = [_ranks(index, captions, owners) for index in (before, after)]
    rows = zip(captions, before.files[owners.tolist()], *both, strict=True)
    changes = [RankChange(*row) for row in rows]
    return sorted(changes, key=lambda change: change.after / change.before)


def _ranks(index: MediaIndex, captions: Sequence[str], owners: Tensor) -> list[int]:
    """Return the rank of each caption's item, in batches whose scores fit into memory."""
    at_once = max(1, MAX_SCORES // len(index))
    ranks = []
    for start in range(0, len(captions), at_once):
        scores = index.scores(captions[start : start + at_once])
        ranks += metrics.ranks(scores, owners[start : start + at_once]).tolist()
    return ranks


def folders(index: MediaIndex, max_folders: int = 200) -> list[str]:
    """Return the folders that hold some but not all media, by name; the fullest `max_folders`."""
    counts: Counter[str] = Counter()
    for folder, count in index.table.counts("folder").items():
        for one in (PurePosixPath(folder), *PurePosixPath(folder).parents):
            counts[str(one)] += count
    return sorted(name for name, count in counts.most_common(max_folders + 1) if count < len(index))


def examples(index: MediaIndex, n: int = 8) -> list[str]:
    """Draw at most `n` captions of an index at random, always the same, as example queries."""
    drawn = random.Random(0)
    captioned = index.column("texts").nonzero()[0].tolist()
    some = drawn.sample(captioned, min(REPEATED * n, len(captioned)))
    firsts = [*dict.fromkeys(file.captions[0] for file in index.files[sorted(some)])]
    return drawn.sample(firsts, min(n, len(firsts)))
