"""Invented drawings and the settings of a pre-training run that takes a moment."""

from dataclasses import dataclass

import numpy as np

from experiments.pretraining import ClipShape, PretrainConfig
from experiments.pretraining.small_clip import build_tokenizer

CONFIG = PretrainConfig(
    steps=4,
    batch_size=8,
    warmup=1,
    scenes=0.0,
    mix=(("emoji", 0.5), ("mono", 0.5)),
    shape=ClipShape(
        image_size=24,
        patch_size=8,
        vision_width=128,
        text_width=64,
        layers=1,
        projection=32,
        vocabulary=600,
        context=16,
    ),
)


@dataclass(frozen=True)
class Drawing:
    concept: str
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    group: str


def corpus():
    words = "red fox, blue fox, old house, new house, sun, moon, tree, boat, car, café"
    names = words.split(", ")
    rows = [Drawing(name, (name, f"a {name}"), ("one", "two", "three"), "emoji") for name in names]
    rows += [Drawing(name, (name,), (), "mono") for name in names]
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), 24, 24, 4), dtype=np.uint8)
    return pixels, rows


TOKENS = build_tokenizer([text for row in corpus()[1] for text in row.captions], CONFIG.shape)
