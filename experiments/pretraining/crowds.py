"""Scenes for pre-training: drawings by other artists, composed by the code of the offline benchmarks.

Their captions are like alt text: names, lists, counts, and words that say nothing about the picture. They
never say where something is, or on what ground, and no pair of things of val or test is shown.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_prep.mini.describers import capital
from data_prep.mini.scenes import Scene, draw_scene, ink_on, picture_of
from data_prep.mini.things import Name, Thing

from .augmentation import develop, views

FORMS = ("list", "and", "count", "plain")  # fox, egg · a fox and an egg · one fox and one egg · fox and egg
JOINTS = (" and ", " and ", ", ", " with ", " plus ", " & ")
BEFORE = (
    "an image with ", "image of ", "photo of ", "drawing of ", "a drawing: ", "icon of ", "clip art of ",
    "vector of ", "illustration with ", "sticker: ", "an emoji picture, ", "cartoon with ",
    "a small picture showing ", "my ", "new: ",
)  # fmt: skip
AFTER = (
    " icons", " clip art", ", vector", ", stock image", " drawing", ", flat design", " png",
    " for kids", ", cute", ", isolated", " wallpaper", ", free download", " poster", ", simple", ".",
)  # fmt: skip
MONO = 0.35  # share of the drawings that are of one colour


class Crowds:
    """Random scenes of those things that the corpus has drawings of.

    pixels [N, H, W, 4] uint8 RGBA; drawings: the N `Drawing`s; things: the lexicon.
    """

    def __init__(self, pixels: np.ndarray, drawings: Sequence, things: dict[str, Thing]) -> None:
        self.pixels, self.drawings = pixels, drawings
        self.rows: dict[str, tuple[list[int], list[int]]] = {}  # in colours, in one colour
        for row, drawing in enumerate(drawings):
            if drawing.concept in things:
                self.rows.setdefault(drawing.concept, ([], []))[drawing.group == "mono"].append(row)
        self.things = [thing for code, thing in things.items() if code in self.rows]
        self.names = {thing.code: thing.names for thing in self.things}
        names = [name for thing in self.things for name in thing.names]
        self.words = [text for name in names for text in (name.one(), name.plural)]

    def caption(self, scene: Scene, chance: random.Random) -> str:
        """Return a caption that lists what is there, in random order."""
        form, joint, parts = chance.choice(FORMS), chance.choice(JOINTS), []
        for group in chance.sample(scene.groups, len(scene.groups)):
            name: Name = chance.choice(self.names[group.code])
            if group.count > 1:
                numbered = form in ("and", "count") or chance.random() < 0.5
                parts.append(name.counted(group.count) if numbered else name.plural)
            else:
                parts.append({"and": name.one(), "count": name.counted(1)}.get(form, name.singular))
        said = ", ".join(parts) if form == "list" else joint.join(parts)
        before, after = (chance.choice(words) if chance.random() < 0.35 else "" for words in (BEFORE, AFTER))
        said = f"{before}{said}{after}"
        return capital(said) if chance.random() < 0.3 else said

    def batch(self, count: int, size: int, seed: int) -> tuple[Tensor, list[str], list[str]]:
        """`count` scenes as pictures [count, 3, size, size] (0…1), what each holds, and their captions."""
        chance, generator = random.Random(f"crowds {seed}"), torch.Generator().manual_seed(seed)
        scenes = [draw_scene(chance, self.things, "train") for _ in range(count)]
        rows = [self._row(group.code, chance) for scene in scenes for group in scene.groups]
        sprites = iter(self._sprites(rows, [scene for scene in scenes for _ in scene.groups], generator))
        pictures = []
        for scene in scenes:
            own = {group.code: next(sprites) for group in scene.groups}
            pictures.append(np.asarray(picture_of(scene, size, lambda code, *_, own=own: own[code])))
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        content = [" + ".join(sorted(f"{g.code}*{g.count}" for g in scene.groups)) for scene in scenes]
        return develop(stacked, generator), content, [self.caption(scene, chance) for scene in scenes]

    def _row(self, code: str, chance: random.Random) -> int:
        coloured, mono = self.rows[code]
        return chance.choice(mono if mono and (not coloured or chance.random() < MONO) else coloured)

    def _sprites(self, rows: list[int], scenes: list[Scene], generator: torch.Generator) -> list[Image.Image]:
        """Return the drawings of the rows, slightly varied; one-colour drawings in ink or a random colour."""
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
