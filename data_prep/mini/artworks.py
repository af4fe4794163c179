"""What the offline benchmarks hold: every concept that the artist has drawn, and its drawings by split."""

from dataclasses import dataclass
from pathlib import Path

from cma.files import read_json
from data_prep.mini.division import Division, clip_split, divide, still_split
from data_prep.mini.drawings import is_animated, to_svg
from data_prep.mini.emoji import Emoji, emoji_code, has_skin_tone, load_emoji
from data_prep.mini.packages import PINS, fetch

STYLES = {
    "flat": "@iconify-json/fluent-emoji-flat",
    "high-contrast": "@iconify-json/fluent-emoji-high-contrast",
}
STILLS = "@lobehub/fluent-emoji-3d"
CLIPS = tuple(f"@lobehub/fluent-emoji-anim-{number}" for number in (1, 2, 3, 4))
INK = "#000000"  # high-contrast drawings have one colour, which is left to us


@dataclass(frozen=True)
class Concept:
    """One emoji that the artist has drawn in every style: its drawings as SVG by style, and its captions."""

    emoji: Emoji
    icons: dict[str, str]  # names by style
    svgs: dict[str, str]  # texts by style
    division: Division


@dataclass(frozen=True)
class Artwork:
    """One drawing: the file's name, its origin, a webp file or the text of an SVG, its split and captions."""

    name: str
    url: str
    drawing: Path | str
    split: str
    captions: tuple[str, ...]


def load_concepts() -> dict[str, Concept]:
    """The emoji without skin tone of which there are a still and every style, by code, in order of codes."""
    emoji, sets, icons = load_emoji(), {}, {}
    for style, package in STYLES.items():
        folder = fetch(package)
        sets[style] = read_json(folder / "icons.json", dict)
        names = read_json(folder / "chars.json", dict[str, str])
        icons[style] = {emoji_code(code): name for code, name in names.items()}
    codes = set(_files(STILLS)).intersection(emoji, *icons.values())
    chosen = [emoji[code] for code in sorted(codes) if not has_skin_tone(code)]
    divisions, concepts = divide(chosen), {}
    for one in chosen:
        names = {style: icons[style][one.code] for style in STYLES}
        svgs = {style: to_svg(sets[style], name, INK) for style, name in names.items()}
        concepts[one.code] = Concept(one, names, svgs, divisions[one.code])
    return concepts


def _files(package: str) -> dict[str, Path]:
    """The webp files of a package by the code of what they show."""
    return {emoji_code(path.stem): path for path in sorted((fetch(package) / "assets").glob("*.webp"))}


def drawings(concepts: dict[str, Concept]) -> list[Artwork]:
    """The training drawings: one of each concept in each style, with the captions that train."""
    return [
        Artwork(
            f"{code}-{style}",
            f"{_origin(STYLES[style])}/icons.json#{concept.icons[style]}",
            svg,
            "train",
            concept.division.trained,
        )
        for code, concept in concepts.items()
        for style, svg in concept.svgs.items()
    ]


def stills(concepts: dict[str, Concept]) -> list[Artwork]:
    """The stills of all concepts with held-out captions, to validate and to test."""
    splits = {code: still_split(concept.emoji.label) for code, concept in concepts.items()}
    return _evaluated(STILLS, _files(STILLS), concepts, splits)


def clips(concepts: dict[str, Concept]) -> list[Artwork]:
    """The clips that move: those of a few concepts train, the others validate and test."""
    splits, found = {code: clip_split(concept.emoji.label) for code, concept in concepts.items()}, {}
    for package in CLIPS:
        moving = {code: path for code, path in _files(package).items() if code in concepts}
        moving = {code: path for code, path in moving.items() if code not in found and is_animated(path)}
        chosen = _evaluated(package, moving, concepts, splits)
        found |= {artwork.name: artwork for artwork in chosen}
    return [found[code] for code in sorted(found)]


def _evaluated(
    package: str, files: dict[str, Path], concepts: dict[str, Concept], splits: dict[str, str]
) -> list[Artwork]:
    """The files of a package with the captions of their split; what has none is left out."""
    artworks = []
    for code, concept in concepts.items():
        captions = concept.division.trained if splits[code] == "train" else concept.division.held_out
        if code in files and captions:
            url = f"{_origin(package)}/assets/{files[code].name}"
            artworks.append(Artwork(code, url, files[code], splits[code], captions))
    return artworks


def _origin(package: str) -> str:
    return f"{package}@{PINS[package].version}"
