"""Scenes for pre-training: drawings by other artists, composed by the code of the offline
benchmarks.

Their captions are like alt text: names, lists, counts, and words that say nothing about the
picture. A share of them also names the background, as in `fox, egg - snow` or `red background: two
cups`. They never say where something is or how big it is, and no pair of things of val or test is
shown.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_prep.mini.caption_styles import Caption, capital
from data_prep.mini.scenes import BACKGROUNDS, Scene, draw_scene, ink_on, picture_of
from data_prep.mini.things import Name, Thing

from . import icons
from .augmentation import develop, views

WORDS = icons.WORDS["captions"]
BACKGROUND_NAMES, COLOUR_FORMS = WORDS["backgrounds"], WORDS["colour_forms"]
NAMED = 0.7  # how often a background of no plain colour is called by its name; else by its colour
MONO = 0.35  # share of the drawings that are of one colour


class Crowds:
    """Random scenes of the things that the corpus has drawings of.

    pixels [N, H, W, 4] uint8 RGBA; drawings: the N `Drawing`s; things: the lexicon; backgrounds:
    the share of captions that name the background; at_once: how many things the scenes of one batch
    share (None: all), so that one thing alone does not tell which scene a caption is about.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        drawings: Sequence,
        things: dict[str, Thing],
        backgrounds: float = 0.5,
        at_once: int | None = None,
    ) -> None:
        self.pixels, self.drawings = pixels, drawings
        self.backgrounds, self.at_once = backgrounds, at_once
        self.rows: dict[str, tuple[list[int], list[int]]] = {}  # in colours, in one colour
        for row, drawing in enumerate(drawings):
            if drawing.concept in things:
                self.rows.setdefault(drawing.concept, ([], []))[drawing.group == "mono"].append(row)
        self.things = [thing for code, thing in things.items() if code in self.rows]
        self.names = {thing.code: thing.names for thing in self.things}
        names = [name for thing in self.things for name in thing.names]
        self.words = [text for name in names for text in (name.one(), name.plural)]

    def caption(self, scene: Scene, chance: random.Random) -> Caption:
        """Return a caption that lists what is there, in random order, sometimes with the
        background.
        """
        form = chance.choice(WORDS["forms"])
        joint = chance.choice(WORDS["joints"])
        parts, things = [], []
        for group in chance.sample(scene.groups, len(scene.groups)):
            name: Name = chance.choice(self.names[group.code])
            numbered = form == "count"
            if group.count > 1:
                numbered = form in ("and", "count") or chance.random() < 0.5
                parts.append(name.counted(group.count) if numbered else name.plural)
            else:
                parts.append({"and": name.one(), "count": name.counted(1)}.get(form, name.singular))
            things.append((group.code, group.count if numbered else None))
        text = ", ".join(parts) if form == "list" else joint.join(parts)
        backgrounds = frozenset(BACKGROUNDS)
        if chance.random() < self.backgrounds:
            text, backgrounds = with_background(text, scene.ground, chance)
        before, after = (
            chance.choice(words) if chance.random() < 0.35 else ""
            for words in (WORDS["before"], WORDS["after"])
        )
        text = f"{before}{text}{after}"
        text = capital(text) if chance.random() < 0.3 else text
        return Caption(text, tuple(things), backgrounds)

    def batch(self, count: int, size: int, seed: int) -> tuple[Tensor, list[str], Tensor]:
        """Return `count` scenes as pictures [count, 3, size, size] (0…1), their captions, and what
        is right.

        The last is a mask [count, count]: whether the caption of a row is true of the scene of a
        column.
        """
        chance, generator = random.Random(f"crowds {seed}"), torch.Generator().manual_seed(seed)
        things = self.things if self.at_once is None else chance.sample(self.things, self.at_once)
        scenes = [draw_scene(chance, things, "train") for _ in range(count)]
        rows = [self._row(group.code, chance) for scene in scenes for group in scene.groups]
        sprites = iter(
            self._sprites(rows, [scene for scene in scenes for _ in scene.groups], generator)
        )
        pictures = []
        for scene in scenes:
            own = {group.code: next(sprites) for group in scene.groups}
            pictures.append(
                np.asarray(picture_of(scene, size, lambda code, *_, own=own: own[code]))
            )
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        captions = [self.caption(scene, chance) for scene in scenes]
        texts = [caption.text for caption in captions]
        return develop(stacked, generator), texts, truths(captions, scenes)

    def _row(self, code: str, chance: random.Random) -> int:
        coloured, mono = self.rows[code]
        return chance.choice(
            mono if mono and (not coloured or chance.random() < MONO) else coloured
        )

    def _sprites(
        self, rows: list[int], scenes: list[Scene], generator: torch.Generator
    ) -> list[Image.Image]:
        """Return the drawings of the rows, slightly varied; one-colour drawings in ink or a random
        colour.
        """
        rgba = torch.from_numpy(self.pixels[rows]).permute(0, 3, 1, 2).float() / 255
        for number, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
            if self.drawings[row].group == "mono":
                colour = torch.rand(3, generator=generator)
                if torch.rand((), generator=generator) < 0.6:
                    colour = torch.full((3,), float(ink_on(scene.ground) == "#ffffff"))
                rgba[number, :3] = colour[:, None, None]
        seen = views(rgba, rgba.shape[-1], generator, scale=(0.9, 1.1))
        seen[:, :3] /= seen[:, 3:].clamp(min=1e-3)
        arrays = (seen.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return [Image.fromarray(array) for array in arrays]


def with_background(
    text: str, background: str, chance: random.Random
) -> tuple[str, frozenset[str]]:
    """Add the name or the colour of a background to a caption; returns it with the backgrounds of
    which it is true.
    """
    names = BACKGROUND_NAMES.get(background, ())
    if names and chance.random() < NAMED:
        word, backgrounds = chance.choice(names), frozenset([background])
    else:
        colour = BACKGROUNDS[background].colour
        word = chance.choice(COLOUR_FORMS).format(colour)
        backgrounds = frozenset(name for name in BACKGROUNDS if BACKGROUNDS[name].colour == colour)
    if chance.random() < 0.5:
        return chance.choice(WORDS["background_first"]).format(word) + text, backgrounds
    return text + chance.choice(WORDS["background_last"]).format(word), backgrounds


def truths(captions: Sequence[Caption], scenes: Sequence[Scene]) -> Tensor:
    """Return a mask [captions, scenes]: which caption is true of which scene."""
    holders: dict[str, set[int]] = {}
    for column, scene in enumerate(scenes):
        for group in scene.groups:
            holders.setdefault(group.code, set()).add(column)
    right = torch.zeros(len(captions), len(scenes), dtype=torch.bool)
    for row, caption in enumerate(captions):
        for column in set.intersection(*(holders[code] for code, _ in caption.things)):
            right[row, column] = caption.is_true_of(scenes[column])
    return right
