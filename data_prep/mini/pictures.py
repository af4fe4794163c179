"""The pictures of mini-flickr30k, mini-flickr30k-new and mini-flickr30k-twins, as records.

Everything is drawn from one seed, so the records are the same on any machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from data_prep.mini.caption_styles import Caption, describe, describe_contrast
from data_prep.mini.scenes import PAIR_KINDS, Scene, contrast_of, draw_scene
from data_prep.mini.things import Thing

SEED = 42
TRAIN, VAL, TEST, NEW = 7000, 1000, 1000, 1000  # scenes
PAIRS = 300  # contrast pairs of each kind
TRIES = 5  # attempts at captions that are not in `held`, before another scene is drawn
# probability that a training scene is followed by its partner: an eighth of the scenes have one
CONTRAST_CHANCE = 1 / 15


@dataclass(frozen=True)
class Picture:
    """One picture: its id, its split, what it shows, and its captions."""

    id: str
    split: str
    scene: Scene
    captions: tuple[Caption, ...]


def draw_pictures(lexicon: dict[str, Thing], seed: int = SEED) -> dict[str, list[Picture]]:
    """The pictures of `mini-flickr30k`, `mini-flickr30k-new` and `mini-flickr30k-twins`.

    The division of things, pairs and styles does not depend on the seed. No training picture has a
    caption of another split, of the new things or of the contrast pairs.
    """
    known = [thing for thing in lexicon.values() if not thing.is_new]
    new = [thing for thing in lexicon.values() if thing.is_new]
    held: set[str] = set()
    evaluated = {}
    for name, things, split, count in (
        ("test", known, "test", TEST),
        ("val", known, "val", VAL),
        ("new", new, "test", NEW),
    ):
        drawn = described(things, split, lexicon, held, random.Random(f"{seed} {name}"))
        numbered = zip(range(count), drawn, strict=False)
        evaluated[name] = [Picture(f"{name}-{n:04d}", split, *one) for n, one in numbered]
        held |= {caption.text for picture in evaluated[name] for caption in picture.captions}
    contrasts = _draw_pairs(known, lexicon, seed)
    held |= {caption.text for picture in contrasts for caption in picture.captions}
    drawn = described(
        known, "train", lexicon, held, random.Random(f"{seed} train"), CONTRAST_CHANCE
    )
    train = [
        Picture(f"train-{n:04d}", "train", *one)
        for n, one in zip(range(TRAIN), drawn, strict=False)
    ]
    return {
        "mini-flickr30k": [*train, *evaluated["val"], *evaluated["test"]],
        "mini-flickr30k-new": evaluated["new"],
        "mini-flickr30k-twins": contrasts,
    }


def described(
    things: Sequence[Thing],
    split: str,
    lexicon: dict[str, Thing],
    held: Collection[str],
    chance: random.Random,
    contrast_chance: float = 0.0,
    describe: Callable[..., Sequence[Caption]] = describe,
) -> Iterator[tuple[Scene, tuple[Caption, ...]]]:
    """Yield scenes of a split with captions that are not in `held`; some scenes are followed by
    their partner in a contrast pair. `describe` captions a scene.
    """
    while True:
        scenes = [draw_scene(chance, things, split)]
        if chance.random() < contrast_chance:
            contrasts = (
                contrast_of(scenes[0], kind, chance)
                for kind in chance.sample(PAIR_KINDS, len(PAIR_KINDS))
            )
            # every scene has one with another background
            scenes.append(next(filter(None, contrasts)))
        for scene in scenes:
            for _ in range(TRIES):
                captions = tuple(describe(scene, lexicon, chance))
                if not any(caption.text in held for caption in captions):
                    yield scene, captions
                    break


def _draw_pairs(things: Sequence[Thing], lexicon: dict[str, Thing], seed: int) -> list[Picture]:
    """Draw pairs of each kind, such as `places-000-a` and `-b`, and captions that differ."""
    pictures = []
    for kind in PAIR_KINDS:
        chance, number = random.Random(f"{seed} {kind}"), 0
        while number < PAIRS:
            scene = draw_scene(chance, things, "test")
            contrast = contrast_of(scene, kind, chance)
            if contrast is None:
                continue
            pair = [
                (one, describe_contrast(one, kind, lexicon, number)) for one in (scene, contrast)
            ]
            if any(
                caption.is_true_of(other)
                for (_, caption), other in zip(pair, (contrast, scene), strict=True)
            ):
                continue  # such as `a fox`, which is true of two foxes
            for letter, (one, caption) in zip("ab", pair, strict=True):
                pictures.append(Picture(f"{kind}-{number:03d}-{letter}", "test", one, (caption,)))
            number += 1
    return pictures
