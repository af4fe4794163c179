"""The captions of an emoji (what people call it), and its twins (emoji that look alike).

All wording comes from `emojibase-data` (CLDR labels, tags, shortcodes of five vendors) and `emojilib`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.mini.packages import fetch

SHORTCODES = ("cldr", "emojibase", "joypixels", "github", "iamcal", "emojibase-legacy")
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
MAX_CAPTIONS = 5
LIST_WORDS = 6  # the most words of a caption that lists tags

TWINS = (  # pattern and replacement, in this order, on a label in lower case
    (r"\b(medium-light|medium-dark|light|medium|dark) skin tone\b", ""),
    (r"\bfacing (left|right)\b", ""),
    (r"^(family|kiss|couple with heart):.*", r"\1"),
    (r"\b(wo)?m[ae]n and (wo)?m[ae]n\b", ""),
    (r"\b(boy|girl)\b", "child"),
    (r"\bmer(man|maid)\b", "merperson"),
    (r"\bprince(ss)?\b", "with crown"),
    (r"\b(santa|mrs\.|mx) claus", "claus"),
    (r"\bolder\b", "old"),
    (r"\b(person|people|adult|(wo)?m[ae]n)\b", ""),
    (r"\b(left|right|up|down|leftwards|rightwards|upwards|downwards|forward|reverse)\b", ""),
)


@dataclass(frozen=True)
class Emoji:
    """One emoji: its code (`emoji_code`), CLDR label, and captions (the label first)."""

    code: str
    label: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """What the two packages call one emoji, in their spelling; `tags` are those of the emoji without tone."""

    code: str
    label: str
    shortcodes: tuple[str, ...]
    tags: tuple[str, ...]
    keywords: tuple[str, ...]


def emoji_code(hexcode: str) -> str:
    """One spelling for all that file names use: `23-FE0F-20E3` and `0023-20e3` are both `0023-20e3`."""
    points = re.split("[-_]", hexcode.lower())
    return "-".join(point.zfill(4) for point in points if point not in ("fe0f", "e007f"))


def has_skin_tone(code: str) -> bool:
    """Whether the code points of `code` hold a skin-tone modifier."""
    return not SKIN_TONES.isdisjoint(code.split("-"))


def read_words(vendors: Iterable[str] = SHORTCODES) -> Iterator[Words]:
    """The words for every emoji in `emojibase-data`; both packages are fetched the first time."""
    english = fetch("emojibase-data") / "en"
    shortcodes = [_read(english / "shortcodes" / f"{vendor}.json") for vendor in vendors]
    keywords = {
        emoji_code("-".join(f"{ord(character):x}" for character in emoji)): words
        for emoji, words in _read(fetch("emojilib") / "dist" / "emoji-en-US.json").items()
    }
    for base in _read(english / "data.json"):
        for entry in (base, *base.get("skins", ())):
            code = emoji_code(entry["hexcode"])
            yield Words(
                code,
                entry["label"],
                tuple(name for vendor in shortcodes for name in _listed(vendor.get(entry["hexcode"]))),
                tuple(base.get("tags", ())),
                tuple(keywords.get(code, ())),
            )


def load_emoji() -> dict[str, Emoji]:
    """Every emoji with its captions, by its code."""
    found = {}
    for words in read_words():
        captions = make_captions(words.label, words.shortcodes, words.tags, words.keywords)
        found[words.code] = Emoji(words.code, words.label, captions)
    return found


def make_captions(
    label: str, shortcodes: Iterable[str], tags: Iterable[str], keywords: Iterable[str]
) -> tuple[str, ...]:
    """Up to five captions: the label, two shortcodes, a list of tags, a list of keywords, then the rest.

    Tags are in alphabetical order, with those that are keywords too before the others.
    """
    tags, keywords = _worded(tags), _worded(keywords)[1:]  # emojilib's first keyword is the label again
    tags = sorted(tags, key=lambda tag: tag not in keywords)
    names = _different([label, *_worded(shortcodes)])[1:]
    tag_lists, keyword_lists = list(_lists(tags)), list(_lists(keywords))
    best = [label, *names[:2], *tag_lists[:1], *keyword_lists[:1]]
    return tuple(_different([*best, *names[2:], *tag_lists[1:], *keyword_lists[1:]])[:MAX_CAPTIONS])


def twin_key(label: str) -> str:
    """A label without skin tone, gender and direction: the same for twins, which look alike."""
    text = label.lower().replace("’", "'")
    for pattern, replacement in TWINS:
        text = re.sub(pattern, replacement, text)
    return " ".join(re.findall(r"[^\s:,-]+", text))


def _read(path: Path) -> dict | list:
    return json.loads(path.read_text(encoding="utf-8"))


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _worded(texts: Iterable[str]) -> list[str]:
    """Texts with single spaces between words, without those that have no three letters in a row (`+1`)."""
    plain = (" ".join(text.replace("_", " ").split()) for text in texts)
    return [text for text in plain if re.search(r"[^\W\d_]{3}", text)]


def _lists(words: list[str]) -> Iterator[str]:
    """Captions that list two to six words each."""
    for start in range(0, len(words), LIST_WORDS):
        chunk = words[start : start + LIST_WORDS]
        if len(chunk) > 1:
            yield ", ".join(chunk)


def _different(texts: Iterable[str]) -> list[str]:
    """The texts in order, one of each spelling (`flag: Åland` is `flag_åland`, `umbrella2` is `umbrella`)."""
    by_letters = {}
    for text in texts:
        by_letters.setdefault(re.sub(r"[\W_]|\d+$", "", text.casefold()) or text, text)
    return list(by_letters.values())
