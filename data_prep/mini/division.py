"""Which captions of a concept train and which are held out, and in which split its still and its clip are.

Train and test share their concepts, as those of real benchmarks do; pictures and captions are new in test.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from itertools import combinations
from typing import NamedTuple

from data_prep.mini.emoji import Emoji, twin_key

VAL_SHARE = 0.25  # of the concepts, whose stills and clips are for validation
CLIP_SHARE = 0.1  # of the concepts, whose clips are trained on


class Division(NamedTuple):
    """The captions of one concept: those that train, those held out, and those near to a training caption."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    near: tuple[str, ...]


def word_set(caption: str) -> frozenset[str]:
    """The words of a caption in lower case, a plural s cut."""
    return frozenset(word.removesuffix("s") for word in re.findall(r"[^\W_]+", caption.casefold()))


def is_near(words: frozenset[str], trained: Iterable[frozenset[str]]) -> bool:
    """Whether `words` are contained in a training caption of their item, or overlap with it by half or more.

    The overlap is Jaccard's, |a ∩ b| / |a ∪ b|.
    """
    return any(words <= other or 2 * len(words & other) >= len(words | other) for other in trained)


def divide(emoji: Collection[Emoji]) -> dict[str, Division]:
    """The division of the captions of each emoji, by its code.

    Half of an emoji's captions train, and one of one: those with which most of the others are not near, a
    hash deciding between equals. A caption whose words are those of any training caption is near, too.
    """
    chosen = {one.code: _choose(one) for one in emoji}
    everywhere = {word_set(text) for trained in chosen.values() for text in trained}
    divisions = {}
    for one in emoji:
        trained = chosen[one.code]
        own = [word_set(text) for text in trained]
        others = [text for text in one.captions if text not in trained]
        near = [text for text in others if word_set(text) in everywhere or is_near(word_set(text), own)]
        divisions[one.code] = Division(
            trained, tuple(text for text in others if text not in near), tuple(near)
        )
    return divisions


def still_split(label: str) -> str:
    """The split of a concept's still, val or test; twins, which look alike, are in one split."""
    return "val" if _draw(twin_key(label)) < VAL_SHARE else "test"


def clip_split(label: str) -> str:
    """The split of a concept's clip; what validates as a still validates as a clip, too."""
    return "train" if _draw(twin_key(label)) >= 1 - CLIP_SHARE else still_split(label)


def _choose(emoji: Emoji) -> tuple[str, ...]:
    """The captions of one emoji that train."""
    words = {text: word_set(text) for text in emoji.captions}

    def rank(trained: tuple[str, ...]) -> tuple[int, float]:
        own = [words[text] for text in trained]
        left = sum(not is_near(words[text], own) for text in emoji.captions if text not in trained)
        return -left, _draw(emoji.code, *trained)

    return min(combinations(emoji.captions, max(1, len(emoji.captions) // 2)), key=rank)


def _draw(*parts: str) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    return int(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8], 16) / 16**8
