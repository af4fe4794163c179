"""Another hand in two steps: other words for our scenes, and our words for other scenes.

The scenes of `mini-flickr30k-words` are composed as in test, and captioned in five other styles.
The scenes of `mini-flickr30k-scenes` are composed by other rules, and captioned in our styles. A
loss on the first is due to the wording, a loss on the second to the composition. Both have the
things, pairs of things and drawing styles of test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.mini.caption_styles import Caption, CaptionWriter, capital, describe, joined
from data_prep.mini.pictures import SEED, Picture, described
from data_prep.mini.scenes import (
    ACROSS,
    ALONE,
    BACKGROUNDS,
    SIZES,
    Group,
    Scene,
    compose,
    ink_on,
)
from data_prep.mini.things import Thing

OTHER = 1000  # scenes of each set
TURN = 15  # degrees, the most that a thing is turned
SHADE = 18  # levels of 255 between the two shades of a plain background
PLAIN = ("{} wallpaper", "a {} curtain", "plain {} all over")
BEHIND: dict[
    str, tuple[str, ...]
] = {  # what is behind the things, in words that our own captions do not use
    "sky": ("clouds all over", "a bright daytime sky", "clear air"),
    "grass": ("a green field", "freshly cut turf", "a grassy hill"),
    "sea": ("the ocean", "blue waves", "the open sea"),
    "snow": ("a white winter landscape", "fresh snow", "a field of snow"),
    "night": ("a starry night", "the dark of the night", "a night sky"),
    "sand": ("sand dunes", "a sandy shore", "hot yellow sand"),
}
BEHIND |= {
    name: tuple(form.format(background.colour) for form in PLAIN)
    for name, background in BACKGROUNDS.items()
    if name not in BEHIND
}
HALVES = {
    "left": "the left half",
    "right": "the right half",
    "top": "the upper half",
    "bottom": "the lower half",
    "middle": "the very centre",
}


class OtherWriter(CaptionWriter):
    """Captions a scene in five other styles; a test shows that it shares no sentence form with
    ours.
    """

    def behind(self) -> str:
        return self.chance.choice(BEHIND[self.scene.ground])

    def caption(self, forms: Sequence[str], groups: Sequence[Group], **claims: Any) -> Caption:
        """Fill one of `forms` with these groups and with what is behind them."""
        form = self.chance.choice(forms)
        things = joined([self.some(group) for group in groups])
        if "{behind}" in form:
            claims["grounds"] = frozenset([self.scene.ground])
        text = capital(form.format(things=things, behind=self.behind()))
        return Caption(text, tuple((one.code, self._number(one)) for one in groups), **claims)

    def owner(self) -> Caption:
        """Tell what one did: `I put a fox and two eggs in front of a red curtain`."""
        forms = (
            "I put {things} in front of {behind}",
            "took this photo of {things} with {behind} in the background",
            "we chose {behind} to go with {things}",
        )
        return self.caption(forms, self.shuffled())

    def asker(self) -> Caption:
        """Ask: `Who left a fox near the ocean?`"""
        forms = (
            "who left {things} near {behind}?",
            "have you ever seen {things} together with {behind}?",
            "why would anyone want {things} and {behind}?",
        )
        return self.caption(forms, self.shuffled()[:2])

    def teller(self) -> Caption:
        """Tell the order of things: `From left to right: a fox, then two eggs.`"""
        groups, axis = self.scene.groups, self.scene.axis
        if len(groups) == 1:
            form = f"{{things}}, drawn in {HALVES[self.scene.cell]}."
            return self.caption((form,), groups, cells=((groups[0].code, self.scene.cell),))
        names = ", then ".join(self.some(group) for group in groups)
        across = ("from left to right: ", "reading across: ")
        start = self.chance.choice(across if axis == ACROSS else ("from the top down: ",))
        things = tuple((group.code, self._number(group)) for group in groups)
        pairs = zip(groups, groups[1:], strict=False)
        order = tuple((one.code, other.code, axis) for one, other in pairs)
        return Caption(capital(f"{start}{names}."), things, order=order)

    def counter(self) -> Caption:
        """Count: `I count one fox plus two eggs`."""
        groups = self.shuffled()
        each = " plus ".join(self.names[group.code].counted(group.count) for group in groups)
        form = self.chance.choice(("I count {}", "exactly {}", "{}, no more, no less"))
        things = tuple((group.code, group.count) for group in groups)
        return Caption(capital(form.format(each)), things)

    def closer(self) -> Caption:
        """Write alt text of one kind of thing: `Mostly fresh snow, but also a fox.`"""
        forms = (
            "close-up: {things} against {behind}",
            "mostly {behind}, but also {things}.",
            "what stands out from {behind} is {things}.",
        )
        return self.caption(forms, self.shuffled()[:1])


OTHER_CAPTION_STYLES: dict[str, Callable[[OtherWriter], Caption]] = {
    "owner": OtherWriter.owner,
    "asker": OtherWriter.asker,
    "teller": OtherWriter.teller,
    "counter": OtherWriter.counter,
    "close-up": OtherWriter.closer,
}


def describe_otherwise(
    scene: Scene, lexicon: dict[str, Thing], chance: random.Random
) -> list[Caption]:
    """Return five captions, one in each style, in the order of `OTHER_HABITS`."""
    return [style(OtherWriter(scene, lexicon, chance)) for style in OTHER_CAPTION_STYLES.values()]


@dataclass(frozen=True)
class LooseScene(Scene):
    """A scene composed by other rules; captions may claim the same about it."""


Loose = tuple[Group, float, float, float, int]  # a group, centre and side of one thing, its turn


def place_loosely(scene: Scene) -> list[Loose]:
    """Place each thing freely where the record allows: of another size, turned, overlapping.

    Centres and sides are shares of the picture's side, turns are in degrees.
    """
    chance, placed = random.Random(f"loose {scene.seed}"), []
    many = len(scene.groups)
    for number, group in enumerate(scene.groups):
        usual = (0.44, 0.4, 0.32)[many - 1] * SIZES[group.size] * chance.uniform(0.9, 1.2)
        for copy in range(group.count):
            side = min(usual * chance.uniform(0.85, 1.15), 0.9 / group.count, 0.6)
            free = (copy + chance.uniform(0.35, 0.65)) / group.count
            if many > 1:
                along = (number + chance.uniform(0.4, 0.6)) / many
                x, y = (along, free) if scene.axis == ACROSS else (free, along)
            else:
                x, y = (at + chance.uniform(-0.1, 0.1) for at in ALONE[scene.cell])
                x = x if group.count == 1 else free
            x, y = (min(max(at, side / 2), 1 - side / 2) for at in (x, y))
            placed.append((group, x, y, side, chance.randint(-TURN, TURN)))
    return placed


def paint_loosely(name: str, seed: int, size: int) -> Image.Image:
    """Paint a background, RGB [size, size]: a pattern of two shades, or a soft horizon."""
    background, chance = BACKGROUNDS[name], random.Random(f"loose ground {seed}")
    down, across = np.mgrid[:size, :size] / size
    first, second = np.array(background.above), np.array(background.below)
    if background.horizon < 1:
        amount = (down - chance.uniform(0.25, 0.65)) / chance.uniform(0.05, 0.4) + 0.5
    else:
        second = second + (SHADE if second.mean() < 128 else -SHADE)
        width = chance.uniform(0.1, 0.3)
        waves = [np.sin(2 * np.pi * at / width) / 2 + 0.5 for at in (across, down)]
        amount = chance.choice((across, down, *waves, waves[0] * waves[1]))
    pixels = first + (second - first) * amount.clip(0, 1)[..., None]
    picture = Image.fromarray((pixels + chance.randint(-12, 12)).clip(0, 255).astype(np.uint8))
    if background.dots:
        draw = ImageDraw.Draw(picture)
        for _ in range(chance.randint(8, 24)):
            x, y, scale = chance.random(), chance.random(), chance.uniform(0.6, 1.8)
            box = (x, y, x + scale * background.dot[0], y + scale * background.dot[1])
            draw.ellipse([round(size * length) for length in box], fill=background.dots)
    return picture


def loose_picture(
    scene: Scene, size: int, drawing: Callable[[str, str, str], Image.Image]
) -> Image.Image:
    """Compose a scene as RGB [size, size]; `drawing(code, style, ink)` returns an RGBA drawing."""
    sprites = []
    for group, x, y, side, turn in place_loosely(scene):
        sprite = drawing(group.code, group.style, ink_on(scene.ground))
        turned = sprite.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        sprites.append((turned, x, y, side * turned.width / sprite.width))
    return compose(paint_loosely(scene.ground, scene.seed, size), sprites)


def draw_other_hand(
    lexicon: dict[str, Thing], train: Iterable[Picture], seed: int = SEED, use: str = ""
) -> dict[str, list[Picture]]:
    """The pictures of `mini-flickr30k-words` and `mini-flickr30k-scenes`.

    train: the training pictures, whose captions are not used again. use: "" for the two test sets;
    other values draw other scenes, such as those on which we chose the rules above.
    """
    known = [thing for thing in lexicon.values() if not thing.is_new]
    held = {caption.text for picture in train for caption in picture.captions}
    drawn: dict[str, list[Picture]] = {}
    for name, describes in (("words", describe_otherwise), ("scenes", describe)):
        chance = random.Random(f"{seed} {name}{use}")
        rows = described(known, "test", lexicon, held, chance, describe=describes)
        pictures = drawn[f"mini-flickr30k-{name}"] = []
        for number, (scene, captions) in zip(range(OTHER), rows, strict=False):
            scene = LooseScene(**vars(scene)) if name == "scenes" else scene
            pictures.append(Picture(f"{name}-{number:04d}", "test", scene, captions))
    return drawn
