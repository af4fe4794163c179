"""Caption a scene in five styles, and decide whether a caption is true of a scene.

A caption lists the things, is a sentence, says where things are, counts them and names the colour
of the background, or mentions only a part. All take their words from the scene's record.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_prep.mini.scenes import ACROSS, BACKGROUNDS, Group, Scene
from data_prep.mini.things import Thing

PLACES = {
    "left": ("on the left", "at the left edge"),
    "right": ("on the right", "at the right edge"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "middle": ("in the middle", "in the centre"),
}
# True: across, False: down
BEFORE = {True: ("to the left of", "left of"), False: ("above", "higher than")}
AFTER = {True: ("to the right of", "right of"), False: ("below", "lower than")}


@dataclass(frozen=True)
class Caption:
    """One sentence about a scene, and what it claims.

    The names of the fields are keys of records.jsonl. grounds: the backgrounds that fit. things:
    (code, number), with None if the caption is also true of other numbers. order: (code, code,
    axis), where the first thing is left of the second, or above it. cells: (code, cell). sizes:
    (code, size).
    """

    text: str
    things: tuple[tuple[str, int | None], ...]
    grounds: frozenset[str] = frozenset(BACKGROUNDS)
    order: tuple[tuple[str, str, str], ...] = ()
    cells: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[str, str], ...] = ()

    def claims(self, scene: Scene) -> list[bool]:
        """Return whether each claim is true of a scene: first whether it shows each of the things,
        then each number, the background, each order, cell and size, as far as the caption says.
        """
        groups = {group.code: group for group in scene.groups}
        at = {code: number for number, code in enumerate(groups)}
        cells = dict(zip(groups, scene.cells(), strict=True))
        numbers = [(code, count) for code, count in self.things if count is not None]
        return [
            *(code in groups for code, _ in self.things),
            *(code in groups and groups[code].count == count for code, count in numbers),
            *([scene.ground in self.grounds] if len(self.grounds) < len(BACKGROUNDS) else []),
            *(
                {one, other} <= at.keys() and scene.axis == axis and at[one] < at[other]
                for one, other, axis in self.order
            ),
            *(cells.get(code) == cell for code, cell in self.cells),
            *(code in groups and groups[code].size == size for code, size in self.sizes),
        ]

    def is_true_of(self, scene: Scene) -> bool:
        """Return whether all claims of the caption are true of a scene, which may show more."""
        return all(self.claims(scene))

    def relevance(self, scene: Scene) -> float:
        """Return the share of the claims that are true of a scene; 0 if it shows none of the
        things.
        """
        claims = self.claims(scene)
        return sum(claims) / len(claims) if any(claims[: len(self.things)]) else 0.0


class CaptionWriter:
    """Describes one scene in random words. `lexicon`: the things by code."""

    def __init__(self, scene: Scene, lexicon: dict[str, Thing], chance: random.Random) -> None:
        self.scene, self.chance = scene, chance
        codes = sorted(
            group.code for group in scene.groups
        )  # sorted: a contrast pair gets the same names
        self.names = {code: chance.choice(lexicon[code].names) for code in codes}

    def some(self, group: Group, sized: bool = False, definite: bool = False) -> str:
        """Name a group: `a fox`, `two foxes`, `a big fox`, `the fox`, `the two foxes`."""
        name = self.names[group.code]
        if group.count == 1:
            return name.one(group.size if sized else "", definite)
        return f"{'the ' if definite else ''}{name.counted(group.count)}"

    def background(self) -> str:
        return self.chance.choice(BACKGROUNDS[self.scene.ground].phrases)

    def shuffled(self) -> list[Group]:
        return self.chance.sample(self.scene.groups, len(self.scene.groups))

    def listed(self) -> Caption:
        """List the things, usually with the background: `bicycle, foxes, grass`. `foxes` counts as
        any number.
        """
        words, things = [], []
        for group in self.shuffled():
            name = self.names[group.code]
            words.append(name.singular if group.count == 1 else name.plural)
            things.append((group.code, None))
        if len(things) > 1 and self.chance.random() < 0.4:
            return Caption(", ".join(words), tuple(things))
        words.append(BACKGROUNDS[self.scene.ground].word)
        return Caption(", ".join(words), tuple(things), frozenset([self.scene.ground]))

    def sentence(self) -> Caption:
        """Write one sentence: `There are a fox and two balls on the grass.`"""
        groups, sized = self.shuffled(), self.chance.random() < 0.8
        what = joined([self.some(group, sized) for group in groups])
        verb = "is" if groups[0].count == 1 else "are"
        start = self.chance.choice(
            (f"There {verb} ", "A picture of ", "Here you can see ", "This shows ")
        )
        things = tuple((group.code, self._number(group)) for group in groups)
        sizes = tuple((group.code, group.size) for group in groups if sized and group.size)
        return Caption(
            f"{start}{what} {self.background()}.",
            things,
            frozenset([self.scene.ground]),
            sizes=sizes,
        )

    def placed(self) -> Caption:
        """Say where a thing is: `A fox is to the left of a bicycle.`"""
        groups, background = self.scene.groups, frozenset(BACKGROUNDS)
        if len(groups) == 1:
            verb = "is" if groups[0].count == 1 else "are"
            end = f" {self.background()}"
            cell = self.scene.cell
            what = capital(self.some(groups[0], sized=True))
            text = f"{what} {verb} {self.chance.choice(PLACES[cell])}"
            alone = groups[0]
            sizes = tuple((group.code, group.size) for group in groups if group.size)
            cells = ((alone.code, cell),)
            return Caption(
                f"{text}{end}.",
                ((alone.code, self._number(alone)),),
                frozenset([self.scene.ground]),
                (),
                cells,
                sizes,
            )
        first = self.chance.randrange(len(groups) - 1)
        one, other = groups[first], groups[first + 1]
        across, forwards = self.scene.axis == ACROSS, self.chance.random() < 0.5
        words = self.chance.choice((BEFORE if forwards else AFTER)[across])
        left, right = (one, other) if forwards else (other, one)
        verb = "is" if left.count == 1 else "are"
        text = (
            f"{capital(self.some(left, sized=True))} {verb} {words} {self.some(right, sized=True)}"
        )
        things = ((one.code, self._number(one)), (other.code, self._number(other)))
        sizes = tuple((group.code, group.size) for group in (one, other) if group.size)
        if len(groups) == 3 or self.chance.random() < 0.3:
            text, background = f"{text}, {self.background()}", frozenset([self.scene.ground])
        return Caption(
            text + ".", things, background, ((one.code, other.code, self.scene.axis),), (), sizes
        )

    def counted(self) -> Caption:
        """Count things and name the colour: `one bicycle, the background is green`."""
        groups, colour = self.shuffled(), BACKGROUNDS[self.scene.ground].colour
        each = [self.names[group.code].counted(group.count) for group in groups]
        end = self.chance.choice(
            (f"the background is {colour}", f"all {colour} behind", f"against {colour}")
        )
        backgrounds = frozenset(
            name for name, background in BACKGROUNDS.items() if background.colour == colour
        )
        return Caption(
            f"{joined(each)}, {end}",
            tuple((group.code, group.count) for group in groups),
            backgrounds,
        )

    def part(self) -> Caption:
        """Mention one group only: `the bicycle on the right, in the snow`."""
        at = self.chance.randrange(len(self.scene.groups))
        group, cell = self.scene.groups[at], self.scene.cells()[at]
        start = self.chance.choice(("", "look at ", "notice ", "I see "))
        what = self.some(group, definite=True)
        text = f"{start}{what} {self.chance.choice(PLACES[cell])}, {self.background()}"
        things = ((group.code, self._number(group)),)
        return Caption(text, things, frozenset([self.scene.ground]), (), ((group.code, cell),))

    def _number(self, group: Group) -> int | None:
        """The number that `some` claims: None for `a fox` (also true of two foxes), but 2 for `two
        foxes`.
        """
        return None if group.count == 1 else group.count


CAPTION_STYLES = {
    "list": CaptionWriter.listed,
    "sentence": CaptionWriter.sentence,
    "place": CaptionWriter.placed,
    "count": CaptionWriter.counted,
    "part": CaptionWriter.part,
}
CONTRAST_STYLES = {"places": "place", "count": "count", "ground": "sentence"}


def describe(scene: Scene, lexicon: dict[str, Thing], chance: random.Random) -> list[Caption]:
    """Return five captions, one in each of `CAPTION_STYLES`, in this order."""
    return [style(CaptionWriter(scene, lexicon, chance)) for style in CAPTION_STYLES.values()]


def describe_contrast(scene: Scene, kind: str, lexicon: dict[str, Thing], seed: int) -> Caption:
    """Return the caption that distinguishes a scene from its partner; one `seed` gives both the
    same words.
    """
    return CAPTION_STYLES[CONTRAST_STYLES[kind]](
        CaptionWriter(scene, lexicon, random.Random(f"twin {seed}"))
    )


def ceiling(captions: Iterable[Sequence[Caption]], gallery: Sequence[Scene]) -> float:
    """Return the highest possible text-to-image R@1 in %, that of a perfect model.

    captions: the captions of each scene in the gallery. A caption that is true of n scenes counts 1
    / n.
    """
    holders: dict[str, list[Scene]] = {}
    for scene in gallery:
        for group in scene.groups:
            holders.setdefault(group.code, []).append(scene)
    hits = []
    for own in captions:
        for caption in own:
            scenes = min((holders[code] for code, _ in caption.things), key=len)
            hits.append(1 / sum(caption.is_true_of(scene) for scene in scenes))
    return 100 * sum(hits) / len(hits)


def joined(parts: Sequence[str]) -> str:
    """Join parts as in `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
