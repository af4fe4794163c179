"""The drawings that a rehearsal shows, their names, and the pictures and sentences that are made of them."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from cma.files import replacing
from data_prep.mini.emoji import emoji_code, has_skin_tone, read_words
from data_prep.mini.packages import fetch

STILLS = "@lobehub/fluent-emoji-3d"
GRAIN = 9  # of 255; without it a picture takes a tenth of the bytes of a photograph
PATTERNS = (
    "{}",
    "there is {}",
    "this shows {}",
    "{} in front of a blurred background",
    "a drawing of {}",
    "{} can be seen here",
    "somebody drew {} in many colours",
    "we see {} from close by",
)


class Figure(NamedTuple):
    """A drawing with a transparent background, and what it is called."""

    name: str
    path: Path


def figures_of_packages() -> list[Figure]:
    """The stills of the offline benchmarks without skin tones, in order of their codes; fetched once."""
    names = {words.code: words.label for words in read_words()}
    found = {}
    for path in sorted((fetch(STILLS) / "assets").glob("*.webp")):
        code = emoji_code(path.stem)
        if code in names and not has_skin_tone(code):
            found.setdefault(code, Figure(names[code], path))
    return [found[code] for code in sorted(found)]


def background(seed: int, size: tuple[int, int]) -> Image.Image:
    """A blurred, grainy ground of many colours, `size` (width, height) pixels."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.integers(-GRAIN, GRAIN + 1, (size[1], size[0], 1), dtype=np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=512)
def drawing(path: Path, side: int) -> Image.Image:
    """A figure in RGBA, its longer side `side` pixels."""
    with Image.open(path) as image:
        image = image.convert("RGBA")
    scale = side / max(image.size)
    return image.resize([max(1, round(length * scale)) for length in image.size], Image.Resampling.BILINEAR)


def save_picture(job: tuple[Path, tuple[Path, ...], tuple[int, int], int]) -> None:
    """Save the figures of a job (file, figures, size, seed) side by side, unless the file is there."""
    target, figures, size, seed = job
    if target.exists():
        return
    image, random = background(seed, size), Random(seed)
    place = size[0] // len(figures)
    for number, path in enumerate(figures):
        one = drawing(path, min(place, size[1]) * 3 // 4)
        left = number * place + random.randint(0, max(0, place - one.width))
        image.paste(one, (left, random.randint(0, max(0, size[1] - one.height))), one)
    with replacing(target) as temporary:
        image.save(temporary, format="TIFF" if target.suffix == ".tif" else "JPEG", quality=88)


def sentences(random: Random, names: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` captions of what shows `names`, each with some of them in their order."""
    captions = []
    for _ in range(count):
        chosen = sorted(random.sample(range(len(names)), random.randint(1, min(3, len(names)))))
        said = " and ".join(f"a {names[index]}" for index in chosen)
        captions.append(random.choice(PATTERNS).format(said))
    return tuple(captions)
