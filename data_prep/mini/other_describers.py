"""Five other describers, for scenes by other rules, and a test if a caption is true of a scene.

One owns the things, one asks about them, one tells how they stand, one counts them, and one writes
alt text about a part or about what is behind. None of their sentences has the form of one of the
describers in `data_prep.mini.describers`; a test compares them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from data_prep.mini.describers import capital, joined
from data_prep.mini.other_scenes import AROUND, BEHIND, NEXT_TO, FreeScene, draw_free_scene
from data_prep.mini.pictures import SEED
from data_prep.mini.scenes import Group
from data_prep.mini.things import NUMBERS, Thing

OTHER = 1000  # scenes
# what a pattern is called; with {a} and {b}, its colours, the claim is about them too
PATTERN_NAMES = {
    "stripes": ("a striped wall", "striped wallpaper", "{a} and {b} stripes", "a stripy curtain"),
    "checks": ("a checked cloth", "a checkerboard", "{a} and {b} squares", "a chequered wall"),
    "dots": ("a polka-dot wall", "polka dots", "spotted paper", "{b} dots on {a}"),
    "gradient": ("a soft colour gradient", "{a} fading into {b}", "a blend of {a} and {b}"),
    "halves": ("a two-tone wall", "a wall that is half {a} and half {b}", "a split background"),
    "bricks": ("a brick wall", "bricks", "{a} bricks", "an old {a} brick wall"),
}


@dataclass(frozen=True)
class FreeCaption:
    """One sentence about a `FreeScene`, and what it claims.

    things: (code, number), with None if the caption is also true of other numbers. pattern and
    colours: what is behind the things; "" and () if unsaid. relations: (code, relation, code).
    total: how many things there are in all, None if unsaid.
    """

    text: str
    things: tuple[tuple[str, int | None], ...]
    pattern: str = ""
    colours: tuple[str, ...] = ()
    relations: tuple[tuple[str, str, str], ...] = ()
    total: int | None = None

    def is_true_of(self, scene: FreeScene) -> bool:
        """Whether everything that the caption claims is true of a scene; the scene may show more,
        unless `total` is said.
        """
        counts = {group.code: group.count for group in scene.groups}
        if any(
            code not in counts or number not in (None, counts[code]) for code, number in self.things
        ):
            return False
        if self.pattern not in ("", scene.pattern) or not {*self.colours} <= {*scene.colours}:
            return False
        if self.total not in (None, len(scene.spots)):
            return False
        return {*self.relations} <= {*scene.relations()}


@dataclass(frozen=True)
class FreePicture:
    """One picture: its id, its split, what it shows, and its captions."""

    id: str
    split: str
    scene: FreeScene
    captions: tuple[FreeCaption, ...]


class FreeDescriber:
    """Describes one scene in random words. `lexicon`: the things by code."""

    def __init__(self, scene: FreeScene, lexicon: dict[str, Thing], chance: random.Random) -> None:
        self.scene, self.chance = scene, chance
        self.groups = {group.code: group for group in scene.groups}
        self.names = {code: chance.choice(lexicon[code].names) for code in self.groups}
        relations = scene.relations()
        self.relation = chance.choice(relations) if relations else None

    def said(self, text: str, *groups: Group, **claims: object) -> FreeCaption:
        """Return a caption that claims the groups, in the numbers that the words say."""
        things = tuple((group.code, group.count if group.count > 1 else None) for group in groups)
        return FreeCaption(text, things, **claims)

    def a(self, group: Group) -> str:
        """Name a group: `a fox`, `two foxes`."""
        name = self.names[group.code]
        return name.one() if group.count == 1 else name.counted(group.count)

    def whose(self, group: Group, owner: str) -> str:
        """Name a group with an owner or article: `my fox`, `the two foxes`."""
        name = self.names[group.code]
        if group.count == 1:
            return name.one(definite=True).replace("the", owner, 1)
        return f"{owner} {name.counted(group.count)}"

    def some(self, most: int) -> list[Group]:
        """Return up to `most` groups, in random order."""
        groups = list(self.groups.values())
        return self.chance.sample(groups, min(most, len(groups)))

    def behind(self) -> tuple[str, dict]:
        """Return words for the pattern, such as `a striped wall`, and what they claim."""
        words = self.chance.choice(PATTERN_NAMES[self.scene.pattern])
        first, second = self.scene.colours
        claims: dict[str, object] = {"pattern": self.scene.pattern}
        told = [one for mark, one in (("{a}", first), ("{b}", second)) if mark in words]
        if told:
            claims["colours"] = tuple(told)
        return words.format(a=first, b=second), claims

    def owner(self) -> FreeCaption:
        """Speak of one's own things: `My two foxes next to a striped wall`."""
        ground, claims = self.behind()
        if self.relation and self.chance.random() < 0.6:
            one, other = (self.groups[self.relation[at]] for at in (0, 2))
            words = {NEXT_TO: "right next to", BEHIND: "behind", AROUND: "all around"}
            form = self.chance.choice(
                (
                    "{my} {is_at} {your}",
                    "I found {my} {is_at} {your}",
                    "{my} {is_at} somebody's {bare}",
                )
            )
            text = form.format(
                my=self.whose(one, "my"),
                your=self.whose(other, "your"),
                is_at=words[self.relation[1]],
                bare=self.whose(other, "").strip(),
            )
            return self.said(capital(text), one, other, relations=(self.relation,))
        groups = self.some(2)
        mine = joined([self.whose(group, "my") for group in groups])
        form = self.chance.choice(
            (
                "{mine} next to {ground}",
                "{mine} posing against {ground}",
                "{mine}, and I chose {ground} to go with it all",
                "took this picture of {mine} with {ground} behind",
            )
        )
        return self.said(capital(form.format(mine=mine, ground=ground)), *groups, **claims)

    def asker(self) -> FreeCaption:
        """Ask: `Is that a fox behind an egg?`"""
        ground, claims = self.behind()
        if self.relation and self.chance.random() < 0.6:
            one, other = (self.groups[self.relation[at]] for at in (0, 2))
            words = {NEXT_TO: "beside", BEHIND: "hidden behind", AROUND: "in a circle around"}
            form = self.chance.choice(
                (
                    "can you spot {a} {at} {b}?",
                    "who else sees {a} {at} {b}?",
                    "what would {a} do {at} {b}?",
                )
            )
            text = form.format(a=self.a(one), b=self.a(other), at=words[self.relation[1]])
            return self.said(capital(text), one, other, relations=(self.relation,))
        groups = self.some(2)
        things = joined([self.a(group) for group in groups])
        form = self.chance.choice(
            (
                "who put {things} in front of {ground}?",
                "do {things} go well with {ground}?",
                "have you ever seen {things} and {ground} together?",
                "why would anyone want {things} with {ground}?",
            )
        )
        return self.said(capital(form.format(things=things, ground=ground)), *groups, **claims)

    def teller(self) -> FreeCaption:
        """Tell how things stand: `A fox peeks out from behind an egg.`"""
        if self.relation:
            one, other = (self.groups[self.relation[at]] for at in (0, 2))
            forms = {
                NEXT_TO: (
                    "{a} and {b}, side by side.",
                    "{a} {keep} close to {the_b}.",
                    "there's hardly a gap between {a} and {b}.",
                ),
                BEHIND: (
                    "{a} {peek} out from behind {b}.",
                    "{b} in front of {a}, hiding a part of it.",
                    "a bit of {the_a} is lost behind {b}.",
                ),
                AROUND: (
                    "{a} form a ring around {b}.",
                    "{b} surrounded by {a}.",
                    "round and round {the_b}: {a}.",
                ),
            }
            form = self.chance.choice(forms[self.relation[1]])
            text = form.format(
                a=self.a(one),
                b=self.a(other),
                the_a=self.whose(one, "the"),
                the_b=self.whose(other, "the"),
                keep="keeps" if one.count == 1 else "keep",
                peek="peeks" if one.count == 1 else "peek",
            )
            return self.said(capital(text), one, other, relations=(self.relation,))
        groups, total = self.some(3), len(self.scene.spots)
        things = joined([self.a(group) for group in groups])
        if total == 1:
            form = self.chance.choice(
                (
                    "{things}, all alone.",
                    "nobody but {things} here.",
                    "only {things}, and that is it.",
                )
            )
        else:
            form = self.chance.choice(
                (
                    "{things}, scattered all over the place.",
                    "{things} lie about wherever there was room.",
                    "no order at all, just {things}.",
                )
            )
        return self.said(capital(form.format(things=things)), *groups, total=total)

    def counter(self) -> FreeCaption:
        """Count everything: `I count six: two foxes and four eggs`."""
        groups, total = self.some(3), len(self.scene.spots)
        each = [self.names[group.code].counted(group.count) for group in groups]
        forms = ["I count {each}", "exactly {each} and nothing else", "{each}, no more, no less"]
        if len(groups) > 1:
            forms += ["{total} in all: {each}", "{plus} makes {total}"]
        text = self.chance.choice(forms).format(
            each=joined(each), total=NUMBERS[total], plus=" plus ".join(each)
        )
        things = tuple((group.code, group.count) for group in groups)
        return FreeCaption(capital(text), things, total=total)

    def part(self) -> FreeCaption:
        """Write alt text of one kind of thing: `Spotted paper, and on top a fox.`"""
        ground, claims = self.behind()
        group = self.some(1)[0]
        form = self.chance.choice(
            (
                "Close-up: {a} against {ground}",
                "{ground}, and on top {a}.",
                "You can't miss {the_a} with {ground} behind.",
                "What stands out from {ground} is {the_a}.",
                "Mostly {ground}, but also {a}.",
            )
        )
        text = form.format(a=self.a(group), the_a=self.whose(group, "the"), ground=ground)
        return self.said(capital(text), group, **claims)


FREE_HABITS = {
    "owner": FreeDescriber.owner,
    "asker": FreeDescriber.asker,
    "teller": FreeDescriber.teller,
    "counter": FreeDescriber.counter,
    "part": FreeDescriber.part,
}


def describe_freely(
    scene: FreeScene, lexicon: dict[str, Thing], chance: random.Random
) -> list[FreeCaption]:
    """Return five captions, one of each describer, in the order of `FREE_HABITS`."""
    return [habit(FreeDescriber(scene, lexicon, chance)) for habit in FREE_HABITS.values()]


def draw_others(lexicon: dict[str, Thing], seed: int = SEED) -> dict[str, list[FreePicture]]:
    """The pictures of `mini-flickr30k-other`: things, styles and pairs are those of test."""
    known = [thing for thing in lexicon.values() if not thing.is_new]
    chance = random.Random(f"{seed} other")
    pictures = []
    for number in range(OTHER):
        scene = draw_free_scene(chance, known, "test")
        captions = tuple(describe_freely(scene, lexicon, chance))
        pictures.append(FreePicture(f"other-{number:04d}", "test", scene, captions))
    return {"mini-flickr30k-other": pictures}
