"""Scenes of one to four things on a background: records drawn from a seed, and pixels composed from
records.

A scene has one to three groups of one to four equal things. The groups stand from left to right or
from top to bottom; a single group stands anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from data_prep.mini.things import Thing, pair_split

MAX_THINGS = 4  # the most things in a scene
# how the groups of a scene stand: from left to right, from top to bottom
ACROSS, DOWN = "across", "down"
CELLS = {
    ACROSS: {2: ("left", "right"), 3: ("left", "middle", "right")},
    DOWN: {2: ("top", "bottom"), 3: ("top", "middle", "bottom")},
}
ALONE = {  # the centre of a group that stands alone
    "left": (0.27, 0.5),
    "right": (0.73, 0.5),
    "top": (0.5, 0.27),
    "bottom": (0.5, 0.73),
    "middle": (0.5, 0.5),
}
SIZES = {"small": 0.6, "": 1.0, "big": 1.5}
PAIR_KINDS = ("places", "count", "ground")  # what differs within a contrast pair


@dataclass(frozen=True)
class Background:
    """What is behind the things: its colour's name, how captions say it, RGB above and below the
    horizon.
    """

    colour: str
    phrases: tuple[str, ...]
    word: str  # its name in a list of what is seen
    above: tuple[int, int, int]
    below: tuple[int, int, int]
    horizon: float = 1.0  # share of the height that is above
    # colour of the dots on it, such as clouds, waves, stars
    dots: tuple[int, int, int] | None = None
    # width and height of a dot, as shares of the picture's side
    dot: tuple[float, float] = (0.012, 0.012)


def _plain(colour: str, red: int, green: int, blue: int) -> Background:
    a = "an" if colour == "orange" else "a"
    phrases = (
        f"on {a} {colour} background",
        f"in front of {a} {colour} wall",
        f"on {colour} paper",
    )
    rgb = (red, green, blue)
    return Background(colour, phrases, f"{colour} background", rgb, rgb)


BACKGROUNDS = {
    "red": _plain("red", 214, 62, 56),
    "orange": _plain("orange", 240, 150, 60),
    "yellow": _plain("yellow", 248, 220, 100),
    "green": _plain("green", 92, 176, 96),
    "blue": _plain("blue", 74, 128, 214),
    "purple": _plain("purple", 142, 92, 184),
    "pink": _plain("pink", 244, 170, 196),
    "brown": _plain("brown", 142, 98, 64),
    "grey": _plain("grey", 150, 150, 154),
    "white": _plain("white", 250, 250, 248),
    "black": _plain("black", 26, 26, 28),
    "sky": Background(
        "blue",
        ("in the sky", "under a blue sky", "among the clouds"),
        "sky",
        (110, 180, 240),
        (176, 216, 248),
        0.5,
        (255, 255, 255),
        (0.16, 0.05),
    ),
    "grass": Background(
        "green",
        ("on the grass", "in a meadow", "on a lawn"),
        "grass",
        (186, 222, 246),
        (104, 178, 74),
        0.3,
        (72, 142, 52),
    ),
    "sea": Background(
        "blue",
        ("at sea", "on the water", "by the sea"),
        "sea",
        (190, 226, 244),
        (36, 112, 176),
        0.3,
        (120, 186, 226),
        (0.08, 0.008),
    ),
    "snow": Background(
        "white",
        ("in the snow", "on a snowy day", "in winter"),
        "snow",
        (186, 200, 216),
        (240, 244, 248),
        0.3,
        (255, 255, 255),
    ),
    "night": Background(
        "black",
        ("at night", "under the stars", "in the dark"),
        "night",
        (16, 20, 52),
        (30, 36, 80),
        0.6,
        (250, 244, 200),
    ),
    "sand": Background(
        "yellow",
        ("on the sand", "in the desert", "on a beach"),
        "sand",
        (214, 234, 246),
        (232, 202, 136),
        0.3,
        (206, 172, 104),
    ),
}
# On these, high-contrast drawings are white.
DARK = {"black", "night", "brown", "purple", "blue", "red", "sea"}


@dataclass(frozen=True)
class Group:
    """Some equal things: the thing's code, the drawing's style, how many, and a size (a key of
    `SIZES`).
    """

    code: str
    style: str
    count: int = 1
    size: str = ""


@dataclass(frozen=True)
class Scene:
    """One scene. `cell`: where its only group stands (a key of `ALONE`); empty if there are
    several.
    """

    ground: str  # its background; the name is a key of records.jsonl
    axis: str
    groups: tuple[Group, ...]
    cell: str = ""
    # of the dots on the background, and of the small shifts of the things from their places
    seed: int = 0

    def cells(self) -> tuple[str, ...]:
        """Where each group stands: left, middle, right, top or bottom."""
        return (self.cell,) if len(self.groups) == 1 else CELLS[self.axis][len(self.groups)]


Placed = tuple[Group, float, float, float]  # a group, the centre of one of its things, and its side


def place(scene: Scene) -> list[Placed]:
    """Return centre and side of each thing, as shares of the picture's side; (0, 0) is the top
    left.
    """
    shift, placed = random.Random(f"shift {scene.seed}"), []
    many = len(scene.groups)
    for number, group in enumerate(scene.groups):
        if many == 1:
            x, y = ALONE[scene.cell]
            side = {1: 0.42, 2: 0.36, 3: 0.28, 4: 0.23}[group.count] * (
                SIZES[group.size] if group.count == 1 else 1
            )
            x = x if group.count == 1 else 0.5
            step = (1 - 0.06) / group.count
            spots = [(x + (copy - (group.count - 1) / 2) * step, y) for copy in range(group.count)]
        else:
            along = (number + 0.5) / many
            side = {2: 0.4, 3: 0.3}[many] * SIZES[group.size]
            side = min(side, 0.94 / group.count, 0.56)
            step = 0.94 / group.count if group.count > 2 else 0.44
            offsets = [0.5 + (copy - (group.count - 1) / 2) * step for copy in range(group.count)]
            spots = [
                (along, offset) if scene.axis == ACROSS else (offset, along) for offset in offsets
            ]
        for x, y in spots:
            room = max(0.0, min(x, 1 - x, y, 1 - y) - side / 2)
            reach = min(0.035 if group.count == 1 else 0.015, room)
            x += shift.uniform(-reach, reach)
            y += shift.uniform(-reach, reach)
            placed.append(
                (
                    group,
                    min(max(x, side / 2), 1 - side / 2),
                    min(max(y, side / 2), 1 - side / 2),
                    side,
                )
            )
    return placed


def paint_background(name: str, seed: int, size: int) -> Image.Image:
    """Paint the background of a scene, RGB [size, size]."""
    background, chance = BACKGROUNDS[name], random.Random(f"ground {seed}")
    pixels = np.empty((size, size, 3), np.int16)
    horizon = round(
        size * (background.horizon + (chance.uniform(-0.06, 0.06) if background.horizon < 1 else 0))
    )
    pixels[:horizon], pixels[horizon:] = background.above, background.below
    pixels += chance.randint(-12, 12)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if background.dots:
        draw, low = ImageDraw.Draw(picture), background.horizon if background.horizon < 0.5 else 0.0
        width, height = background.dot
        for _ in range(14):
            x, y = chance.random(), low + chance.random() * (1 - low)
            box = [round(size * length) for length in (x, y, x + width, y + height)]
            draw.ellipse(box, fill=background.dots)
    return picture


def ink_on(background: str) -> str:
    """The colour of high-contrast drawings on a background."""
    return "#ffffff" if background in DARK else "#202020"


def compose(
    picture: Image.Image, sprites: Sequence[tuple[Image.Image, float, float, float]]
) -> Image.Image:
    """Paste RGBA drawings into a picture, in place; centres and sides are shares of the picture's
    side.
    """
    size = picture.width
    for sprite, x, y, side in sprites:
        pixels = max(1, round(side * size))
        scaled = sprite.resize((pixels, pixels), Image.Resampling.BILINEAR)
        picture.paste(scaled, (round(x * size - pixels / 2), round(y * size - pixels / 2)), scaled)
    return picture


def picture_of(
    scene: Scene, size: int, drawing: Callable[[str, str, str], Image.Image]
) -> Image.Image:
    """Compose a scene as RGB [size, size]; `drawing(code, style, ink)` returns an RGBA drawing."""
    ink = ink_on(scene.ground)
    sprites = [
        (drawing(group.code, group.style, ink), x, y, side) for group, x, y, side in place(scene)
    ]
    return compose(paint_background(scene.ground, scene.seed, size), sprites)


def draw_codes(chance: random.Random, codes: Sequence[str], split: str, count: int) -> list[str]:
    """Draw `count` different codes whose pairs may all be shown in `split`."""
    while True:
        chosen = [chance.choice(codes)]
        for _ in range(200):
            if len(chosen) == count:
                return chosen
            code = chance.choice(codes)
            if code not in chosen and all(pair_split(code, other) == split for other in chosen):
                chosen.append(code)


def draw_scene(chance: random.Random, things: Sequence[Thing], split: str) -> Scene:
    """Draw a scene of `split` from the given things."""
    by_code = {thing.code: thing for thing in things}
    many = chance.choices((1, 2, 3), (25, 55, 20))[0]
    counts, sizes = [1] * many, [""] * many
    if many == 1:
        counts[0] = chance.choices((1, 2, 3, 4), (50, 20, 16, 14))[0]
        sizes[0] = chance.choice(list(SIZES)) if counts[0] == 1 else ""
    elif chance.random() < 0.35:
        counts[chance.randrange(many)] = chance.randint(2, MAX_THINGS + 1 - many)
    elif many == 2 and chance.random() < 0.3:
        sizes = chance.sample(["small", "big"], 2)
    codes = draw_codes(chance, list(by_code), split, many)
    styles = [chance.choice(by_code[code].styles(split)) for code in codes]
    axis = chance.choice((ACROSS, DOWN))
    cell = "" if many > 1 else chance.choice(list(ALONE))
    if counts[0] > 1 and cell in ("left", "right"):
        cell = "middle"  # a row takes the whole width
    if sizes[0] == "big" and many == 1:
        cell = "middle"
    groups = tuple(map(Group, codes, styles, counts, sizes))
    return Scene(chance.choice(list(BACKGROUNDS)), axis, groups, cell, chance.randrange(2**31))


def contrast_of(scene: Scene, kind: str, chance: random.Random) -> Scene | None:
    """Return a scene that differs only in `kind`, one of `PAIR_KINDS`; None if there is no
    such scene.
    """
    groups = scene.groups
    if kind == "places":
        plain = len(groups) == 2 and not any(group.size for group in groups)
        return replace(scene, groups=groups[::-1]) if plain else None
    if kind == "ground":
        others = [
            name
            for name in BACKGROUNDS
            if BACKGROUNDS[name].colour != BACKGROUNDS[scene.ground].colour
        ]
        return replace(scene, ground=chance.choice(others))
    at = chance.randrange(len(groups))
    room = MAX_THINGS - sum(group.count for group in groups) + groups[at].count
    counts = [count for count in range(1, room + 1) if count != groups[at].count]
    if not counts or groups[at].size or (len(groups) == 1 and scene.cell in ("left", "right")):
        return None
    changed = replace(groups[at], count=chance.choice(counts))
    return replace(scene, groups=(*groups[:at], changed, *groups[at + 1 :]))
