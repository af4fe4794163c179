"""The things of the small world: what they are called, how they are drawn, and which of them train.

What trains is decided by lot, each lot a hash of the thing's code, so that a change of the lexicon moves
nothing else.
"""

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
COLUMNS = ("code", "article", "singular", "plural", "other names", "kind")
FLAT, CONTRAST, STILL = STYLES = ("flat", "high-contrast", "three-dimensional")
PACKAGES = {
    FLAT: "@iconify-json/fluent-emoji-flat",
    CONTRAST: "@iconify-json/fluent-emoji-high-contrast",
    STILL: "@lobehub/fluent-emoji-3d",
}
NEW_SHARE = 0.2  # of the things, which no training scene shows
PAIR_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the pairs of things
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
SPRITE = 128  # pixels of a drawing before it is placed


class Name(NamedTuple):
    """A name of a thing, such as `a pair of` + `scissors`, `pairs of scissors`."""

    article: str
    singular: str
    plural: str

    def one(self, size: str = "", definite: bool = False) -> str:
        """`a fox`, `a big fox`, `the big pair of scissors`."""
        first, *rest = self.article.split()
        first = "the" if definite else "a" if size else first
        return " ".join(word for word in (first, size, *rest, self.singular) if word)

    def counted(self, number: int) -> str:
        """`one fox`, `one pair of scissors`, `three foxes`."""
        if number > 1:
            return f"{NUMBERS[number]} {self.plural}"
        return " ".join([NUMBERS[1], *self.article.split()[1:], self.singular])


@dataclass(frozen=True)
class Thing:
    """One thing of the lexicon: its emoji's code, its names, the first one the commonest, and its kind."""

    code: str
    names: tuple[Name, ...]
    kind: str

    @property
    def is_new(self) -> bool:
        """Whether no training scene shows it."""
        return lot(f"new {self.code}") < NEW_SHARE

    @property
    def held_style(self) -> str:
        """The style of the drawing that is kept for val and test; the others train."""
        return STYLES[int(lot(f"style {self.code}") * len(STYLES))]

    def styles(self, split: str) -> tuple[str, ...]:
        """The styles in which the scenes of a split show it; the new things are shown in all of them."""
        if self.is_new:
            return STYLES
        return tuple(style for style in STYLES if (style == self.held_style) == (split != "train"))


@cache
def lot(text: str) -> float:
    """A number from 0 (included) to 1 (excluded) that only `text` decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def pair_split(one: str, other: str) -> str:
    """The split whose scenes may show these two things together."""
    number = lot("pair " + " ".join(sorted((one, other))))
    for split, share in PAIR_SHARES.items():
        if number < share:
            return split
        number -= share
    return split


def read_things(path: Path = LEXICON) -> dict[str, Thing]:
    """The things of a lexicon by code.

    `BadInput` names file and line: of a line that is not as expected, and of a name that two things have.
    """
    things, owners = {}, {}
    lines = path.read_text(encoding="utf-8").splitlines()
    if (header := "".join(lines[:1])).split("\t") != list(COLUMNS):
        raise BadInput(f"{path}, line 1: expected the columns {', '.join(COLUMNS)}, found {header!r}")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or not all(cells[:4]):
            raise BadInput(
                f"{path}, line {number}: expected {', '.join(COLUMNS)} between tabs, found {line!r}"
            )
        code, article, singular, plural, others, kind = cells
        names = [Name(article, singular, plural)]
        for other in filter(None, others.split("|")):
            names.append(_read_name(other, f"{path}, line {number}"))
        for form in (form for name in names for form in name[1:]):
            if owners.setdefault(form, code) != code:
                raise BadInput(
                    f"{path}, line {number}: {owners[form]} is called {form!r}, too; choose another name"
                )
        if code in things:
            raise BadInput(f"{path}, line {number}: {code} has a line already")
        things[code] = Thing(code, tuple(names), kind)
    return things


def _read_name(text: str, where: str) -> Name:
    """`a bike/bikes` or `a pair of specs/pairs of specs` as a name."""
    head, slash, plural = text.partition("/")
    words = head.split()
    end = words.index("of") + 1 if "of" in words[:-1] and plural.split()[1:2] == ["of"] else 1
    if not slash or len(words) < 2 or not plural.strip():
        raise BadInput(f"{where}: expected other names such as 'a bike/bikes', found {text!r}")
    return Name(" ".join(words[:end]), " ".join(words[end:]), plural.strip())


@cache
def _icons(style: str) -> tuple[dict, dict[str, str]]:
    """The icon set of a style, and the icons' names by code."""
    folder = fetch(PACKAGES[style])
    names = read_json(folder / "chars.json", dict[str, str])
    return read_json(folder / "icons.json", dict), {emoji_code(code): name for code, name in names.items()}


@cache
def still_files() -> dict[str, Path]:
    """The files of the three-dimensional drawings by code."""
    return {
        emoji_code(path.stem): path for path in sorted((fetch(PACKAGES[STILL]) / "assets").glob("*.webp"))
    }


@cache
def drawing(code: str, style: str, ink: str = "#000000") -> Image.Image:
    """One drawing as RGBA [128, 128], cut to what it shows. `ink`: the colour of high-contrast drawings.

    `BadInput` if the packages do not have it.
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
    """What an RGBA picture shows, without its empty border, in the middle of a square of `side` pixels."""
    picture = picture.crop(picture.getchannel("A").getbbox())
    scale = side / max(picture.size)
    size = [max(1, round(length * scale)) for length in picture.size]
    square = Image.new("RGBA", (side, side))
    square.paste(
        picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC),
        ((side - size[0]) // 2, (side - size[1]) // 2),
    )
    return square
