"""Scenes by other rules: things of any size at free places, in relation, in front of patterns.

The scenes of `data_prep.mini.scenes` stand on a grid of left, middle and right. Here one to six
things are scattered, stand in a row, form a ring, or cover each other, and they may be tilted.
Whether a relation holds is read from the places, not from how the scene was drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_prep.mini.scenes import Group, compose, draw_codes
from data_prep.mini.things import Thing

MOST = 6  # the most things in a scene
NEXT_TO, BEHIND, AROUND = "next to", "behind", "around"  # how two kinds of things may stand
LIGHT = {
    "white": (246, 244, 238),
    "yellow": (250, 226, 120),
    "pink": (250, 186, 206),
    "orange": (248, 168, 84),
    "grey": (186, 188, 192),
    "green": (134, 204, 132),
}
DARK = {
    "black": (34, 34, 38),
    "brown": (116, 76, 48),
    "purple": (112, 66, 152),
    "blue": (44, 92, 176),
    "red": (178, 40, 44),
}
PATTERNS = ("stripes", "checks", "dots", "gradient", "halves", "bricks")
# what a scene may show, with how often
LAYOUTS = {"alone": 12, "many": 14, "mixed": 20, "row": 20, "cover": 20, "ring": 14}
SPREAD = 0.47  # two things of sides a and b are apart if their centres are SPREAD (a + b) apart


@dataclass(frozen=True)
class Spot:
    """One thing of a scene: its code and style, its centre and side (shares of the picture's side),
    and its turn in degrees.
    """

    code: str
    style: str
    x: float
    y: float
    side: float
    turn: int = 0


@dataclass(frozen=True)
class FreeScene:
    """One scene. The spots are painted in their order, so a later one may cover an earlier one.

    pattern: one of `PATTERNS`, in two `colours`. seed: of the pattern's size and direction.
    """

    pattern: str
    colours: tuple[str, str]
    spots: tuple[Spot, ...]
    seed: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """The equal things of the scene, counted."""
        found: dict[str, list[Spot]] = {}
        for spot in self.spots:
            found.setdefault(spot.code, []).append(spot)
        return tuple(Group(code, own[0].style, len(own)) for code, own in found.items())

    def relations(self) -> list[tuple[str, str, str]]:
        """Every (code, relation, code) that holds, such as (fox, behind, egg), in a fixed order."""
        codes = [group.code for group in self.groups]
        pairs = [(one, other) for one in codes for other in codes if one != other]
        return [
            (one, relation, other)
            for one, other in pairs
            for relation, holds in RELATIONS.items()
            if holds(self.spots, one, other)
        ]


def _next_to(spots: Sequence[Spot], one: str, other: str) -> bool:
    """Whether the things of two codes form one row, those of each code side by side."""
    row = sorted((spot for spot in spots if spot.code in (one, other)), key=lambda spot: spot.x)
    for left, right in zip(row, row[1:], strict=False):
        gap = right.x - left.x - (left.side + right.side) / 2
        level = abs(right.y - left.y) <= 0.3 * max(left.side, right.side)
        if not (level and -0.06 <= gap <= 0.1):
            return False
    return sum(a.code != b.code for a, b in zip(row, row[1:], strict=False)) == 1


def _behind(spots: Sequence[Spot], one: str, other: str) -> bool:
    """Whether the only thing of code `one` is partly covered by each thing of code `other`."""
    backs = [(at, spot) for at, spot in enumerate(spots) if spot.code == one]
    fronts = [(at, spot) for at, spot in enumerate(spots) if spot.code == other]
    if len(backs) != 1:
        return False
    below, back = backs[0]
    covered = [_shared(back, front) for _, front in fronts]
    painted_later = all(at > below for at, _ in fronts)
    return painted_later and min(covered) >= 0.08 and sum(covered) <= 0.6


def _shared(back: Spot, front: Spot) -> float:
    """The share of the inner 80 % of one thing's box that is in the inner 80 % of the other's."""
    reach = 0.4 * (back.side + front.side)
    most = 0.8 * min(back.side, front.side)
    wide = min(most, max(0.0, reach - abs(back.x - front.x)))
    high = min(most, max(0.0, reach - abs(back.y - front.y)))
    return wide * high / (0.8 * back.side) ** 2


def _around(spots: Sequence[Spot], one: str, other: str) -> bool:
    """Whether three or more things of code `one` stand on all sides of the only one of `other`."""
    ring = [spot for spot in spots if spot.code == one]
    centres = [spot for spot in spots if spot.code == other]
    if len(ring) < 3 or len(centres) != 1:
        return False
    middle = centres[0]
    for spot in ring:
        between = math.hypot(spot.x - middle.x, spot.y - middle.y) - (spot.side + middle.side) / 2
        if not -0.1 <= between <= 0.25:
            return False
    angles = sorted(math.atan2(spot.y - middle.y, spot.x - middle.x) for spot in ring)
    following = [*angles[1:], angles[0] + 2 * math.pi]
    return max(b - a for a, b in zip(angles, following, strict=True)) <= math.radians(150)


RELATIONS: dict[str, Callable[[Sequence[Spot], str, str], bool]]
RELATIONS = {NEXT_TO: _next_to, BEHIND: _behind, AROUND: _around}


def paint_pattern(scene: FreeScene, size: int) -> Image.Image:
    """Paint the pattern of a scene, RGB [size, size]."""
    chance = random.Random(f"pattern {scene.seed}")
    first, second = (np.array((LIGHT | DARK)[name]) for name in scene.colours)
    down, across = np.mgrid[:size, :size]
    if chance.random() < 0.5:
        down, across = across, down
    width = round(size * chance.uniform(0.07, 0.16))
    if scene.pattern == "stripes":
        along = across + down if chance.random() < 0.4 else across
        amount = along // width % 2
    elif scene.pattern == "checks":
        amount = (across // width + down // width) % 2
    elif scene.pattern == "dots":
        shifted = across + (down // width % 2) * (width // 2)
        from_centre = (shifted % width - width // 2) ** 2 + (down % width - width // 2) ** 2
        amount = from_centre < (0.3 * width) ** 2
    elif scene.pattern == "gradient":
        amount = across / (size - 1)
    elif scene.pattern == "halves":
        amount = across >= size * chance.uniform(0.35, 0.65)
    else:  # bricks lie, whatever was drawn
        down, across = np.mgrid[:size, :size]
        joint = max(1, size // 64)
        shifted = across + (down // width % 2) * width
        amount = (down % width < joint) | (shifted % (2 * width) < joint)
    mixed = first + (second - first) * amount[..., None].astype(float)
    mixed += chance.randint(-8, 8)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))


def free_picture(
    scene: FreeScene, size: int, drawing: Callable[[str, str, str], Image.Image]
) -> Image.Image:
    """Compose a scene as RGB [size, size]; `drawing(code, style, ink)` returns an RGBA drawing."""
    ink = "#202020" if scene.colours[0] in LIGHT else "#ffffff"
    sprites = []
    for spot in scene.spots:
        sprite = drawing(spot.code, spot.style, ink)
        turned = sprite.rotate(spot.turn, Image.Resampling.BILINEAR, expand=True)
        sprites.append((turned, spot.x, spot.y, spot.side * turned.width / sprite.width))
    return compose(paint_pattern(scene, size), sprites)


def draw_free_scene(chance: random.Random, things: Sequence[Thing], split: str) -> FreeScene:
    """Draw a scene of `split` from the given things: pairs and styles are those of the split."""
    by_code = {thing.code: thing for thing in things}
    pattern = chance.choice(PATTERNS)
    colours = chance.sample(list(chance.choice((LIGHT, DARK))), 2)
    while True:
        layout = chance.choices(list(LAYOUTS), list(LAYOUTS.values()))[0]
        counts = _draw_counts(layout, chance)
        codes = draw_codes(chance, list(by_code), split, len(counts))
        placed = _place(layout, counts, chance)
        if placed:
            break
    styles = [chance.choice(by_code[code].styles(split)) for code in codes]
    spots = []
    for kind, x, y, side in placed:
        turn = chance.randint(-25, 25) if chance.random() < 0.5 else 0
        spots.append(
            Spot(codes[kind], styles[kind], round(x, 4), round(y, 4), round(side, 4), turn)
        )
    return FreeScene(pattern, (colours[0], colours[1]), tuple(spots), chance.randrange(2**31))


def _draw_counts(layout: str, chance: random.Random) -> list[int]:
    """Draw how many things of each kind a layout has, those of its relation first."""
    if layout == "alone":
        return [1]
    if layout == "many":
        return [chance.randint(2, MOST)]
    if layout == "ring":
        return [chance.randint(3, MOST - 1), 1]
    if layout == "mixed":
        kinds = chance.choice((2, 2, 3))
        counts = [1] * kinds
        for _ in range(chance.randint(0, MOST - kinds)):
            counts[chance.randrange(kinds)] += 1
        return counts
    if layout == "row":
        counts = [chance.choices((1, 2, 3), (60, 25, 15))[0], 1]
    else:  # cover: the thing behind, and those before it
        counts = [1, chance.choices((1, 2), (75, 25))[0]]
    if chance.random() < 0.3:
        counts.append(1)  # one more thing, anywhere
    return counts


Placed = list[tuple[int, float, float, float]]  # (kind, x, y, side), in the order of painting


def _place(layout: str, counts: Sequence[int], chance: random.Random) -> Placed:
    """Draw places for a layout; empty if there was no room."""
    if layout == "alone":
        side = chance.uniform(0.2, 0.85)
        return _scatter([], [0], (side, side), chance)
    if layout in ("many", "mixed"):
        kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
        widest = 0.44 if len(kinds) < 4 else 0.32
        return _scatter([], kinds, (0.16, widest), chance)
    if layout == "ring":
        placed = _ring(counts[0], chance)
    elif layout == "row":
        placed = _row(counts[0], chance)
    else:
        placed = _cover(counts[1], chance)
    return _scatter(placed, range(2, len(counts)), (0.16, 0.3), chance)


def _scatter(
    placed: Placed, kinds: Sequence[int], sides: tuple[float, float], chance: random.Random
) -> Placed:
    """Add things where there is room; empty if there is none."""
    placed = list(placed)
    for kind in kinds:
        for _ in range(60):
            side = chance.uniform(*sides)
            x, y = (chance.uniform(side / 2, 1 - side / 2) for _ in "xy")
            apart = (
                max(abs(x - a), abs(y - b)) > SPREAD * (side + other) for _, a, b, other in placed
            )
            if all(apart):
                placed.append((kind, x, y, side))
                break
        else:
            return []
    return placed


def _row(count: int, chance: random.Random) -> Placed:
    """Place `count` things of kind 0 and one of kind 1 beside them, in one row."""
    kinds = [0] * count + [1]
    if chance.random() < 0.5:
        kinds.reverse()
    sides = {kind: chance.uniform(0.5, 1.0) for kind in kinds}
    width = sum(sides[kind] for kind in kinds)
    room = chance.uniform(0.55, 0.95)
    scale = min(room / width, 0.5)
    x = chance.uniform(0, 1 - width * scale)
    tallest = max(sides.values()) * scale
    y = chance.uniform(tallest / 2, 1 - tallest / 2)
    placed = []
    for kind in kinds:
        side = sides[kind] * scale
        level = y + (tallest - side) / 2 * chance.uniform(0.3, 0.5)
        placed.append((kind, x + side / 2, level, side))
        x += side
    return placed


def _cover(count: int, chance: random.Random) -> Placed:
    """Place one thing of kind 0, and `count` of kind 1 that cover its lower corners."""
    side = chance.uniform(0.45, 0.65)
    x = chance.uniform(0.5 - 0.15, 0.5 + 0.15)
    y = chance.uniform(side / 2, 0.6)
    placed = [(0, x, y, side)]
    front = side * chance.uniform(0.5, 0.7)
    if count == 2:
        front = side * chance.uniform(0.4, 0.5)
    shift = side * chance.uniform(0.32, 0.42)
    direction = chance.choice((-1, 1))
    for number in range(count):
        to_side = direction * (-1) ** number * shift
        inside = min(max(x + to_side, front / 2), 1 - front / 2)
        placed.append((1, inside, min(y + side * 0.32, 1 - front / 2), front))
    return placed


def _ring(count: int, chance: random.Random) -> Placed:
    """Place `count` things of kind 0 around one of kind 1."""
    middle = chance.uniform(0.26, 0.36)
    side = chance.uniform(0.16, 0.22)
    x, y = (chance.uniform(0.46, 0.54) for _ in "xy")
    reach = (middle + side) / 2 + 0.06
    start = chance.uniform(0, 2 * math.pi)
    placed = [(1, x, y, middle)]
    for number in range(count):
        angle = start + 2 * math.pi * number / count + chance.uniform(-0.12, 0.12)
        placed.append((0, x + reach * math.cos(angle), y + reach * math.sin(angle), side))
    return placed
