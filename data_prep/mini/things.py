"""The things in the scenes: their names, their drawings, and their use in training.

Hashes of the things' codes decide which of them are used in training, so a change of the lexicon
does not affect other things.
"""

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cma.files import read_json
from data_prep.mini.drawings import render, to_svg
from data_prep.mini.emoji import emoji_code
from data_prep.mini.packages import fetch
from data_prep.readers import BadInput

LEXICON = Path(__file__).with_name("things.tsv")
FLAT, CONTRAST, STILL = STYLES = ("flat", "high-contrast", "three-dimensional")
PACKAGES = {
    FLAT: "@iconify-json/fluent-emoji-flat",
    CONTRAST: "@iconify-json/fluent-emoji-high-contrast",
    STILL: "@lobehub/fluent-emoji-3d",
}
NEW_SHARE = 0.2  # share of the things that no training scene shows
PAIR_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # shares of the pairs of things
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
SPRITE = 128  # pixels of a drawing before it is placed


class Name(NamedTuple):
    """A name of a thing: article, singular and plural (`a pair of`, `scissors`, `pairs of
    scissors`).
    """

    article: str
    singular: str
    plural: str

    def one(self, size: str = "", definite: bool = False) -> str:
        """Name one thing: `a fox`, `a big fox`, `the big pair of scissors`."""
        first, *rest = self.article.split()
        first = "the" if definite else "a" if size else first
        return " ".join(word for word in (first, size, *rest, self.singular) if word)

    def counted(self, number: int) -> str:
        """Name a number of things: `one fox`, `one pair of scissors`, `three foxes`."""
        if number > 1:
            return f"{NUMBERS[number]} {self.plural}"
        return " ".join([NUMBERS[1], *self.article.split()[1:], self.singular])


@dataclass(frozen=True)
class Thing:
    """One thing of the lexicon: its emoji's code, its names (the most common one first), and its
    kind.
    """

    code: str
    names: tuple[Name, ...]
    kind: str

    @property
    def is_new(self) -> bool:
        """Whether no training scene shows it."""
        return lot(f"new {self.code}") < NEW_SHARE

    @property
    def held_style(self) -> str:
        """The style kept for val and test; training shows the others."""
        return STYLES[int(lot(f"style {self.code}") * len(STYLES))]

    def styles(self, split: str) -> tuple[str, ...]:
        """Return the styles in which a split shows it; a new thing appears in all styles."""
        if self.is_new:
            return STYLES
        return tuple(style for style in STYLES if (style == self.held_style) == (split != "train"))


@cache
def lot(text: str) -> float:
    """Return a number in [0, 1) that depends only on `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def pair_split(one: str, other: str) -> str:
    """Return the split whose scenes may show these two things together."""
    number = lot("pair " + " ".join(sorted((one, other))))
    for split, share in PAIR_SHARES.items():
        if number < share:
            return split
        number -= share
    return split


def read_things() -> dict[str, Thing]:
    """Read the things of the lexicon, by code."""
    things = {}
    with LEXICON.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            names = [Name(row["article"], row["singular"], row["plural"])]
            names += map(_read_name, filter(None, row["other names"].split("|")))
            things[row["code"]] = Thing(row["code"], tuple(names), row["kind"])
    return things


def _read_name(text: str) -> Name:
    """Parse a name such as `a bike/bikes` or `a pair of specs/pairs of specs`."""
    head, _, plural = text.partition("/")
    words = head.split()
    end = words.index("of") + 1 if "of" in words[:-1] and plural.split()[1:2] == ["of"] else 1
    return Name(" ".join(words[:end]), " ".join(words[end:]), plural.strip())


@cache
def _icons(style: str) -> tuple[dict, dict[str, str]]:
    """The icon set of a style, and the icons' names by code."""
    folder = fetch(PACKAGES[style])
    names = read_json(folder / "chars.json", dict[str, str])
    return read_json(folder / "icons.json", dict), {
        emoji_code(code): name for code, name in names.items()
    }


@cache
def still_files() -> dict[str, Path]:
    """The files of the three-dimensional drawings by code."""
    return {
        emoji_code(path.stem): path
        for path in sorted((fetch(PACKAGES[STILL]) / "assets").glob("*.webp"))
    }


@cache
def drawing(code: str, style: str, ink: str = "#000000") -> Image.Image:
    """Return one drawing as RGBA [128, 128], without empty border. `ink`: colour of high-contrast
    drawings.

    Raises `BadInput` if the packages do not have it.
    """
    try:
        if style == STILL:
            with Image.open(still_files()[code]) as image:
                return cut_out(image.convert("RGBA"))
        icons, names = _icons(style)
        return cut_out(Image.fromarray(render(to_svg(icons, names[code], ink), SPRITE)))
    except (KeyError, OSError, ValueError) as error:
        raise BadInput(
            f"{PACKAGES[style]}: no {style} drawing of {code} ({error!r}); see {LEXICON.name}"
        ) from error


def cut_out(picture: Image.Image, side: int = SPRITE) -> Image.Image:
    """Crop an RGBA picture to what it shows; resize and centre that to fit a square of `side`
    pixels.
    """
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = side / max(picture.size)
    size = [max(1, round(length * scale)) for length in picture.size]
    square = Image.new("RGBA", (side, side))
    square.paste(
        picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC),
        ((side - size[0]) // 2, (side - size[1]) // 2),
    )
    return square
