"""Words for emoji from `emojibase-data` (CLDR labels, tags, shortcodes of five vendors) and
`emojilib`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.mini.packages import fetch

SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


@dataclass(frozen=True)
class Words:
    """The packages' words for one emoji, unchanged; `tags` are those of the emoji without skin
    tone.
    """

    code: str
    label: str
    shortcodes: tuple[str, ...]
    tags: tuple[str, ...]
    keywords: tuple[str, ...]


def emoji_code(hexcode: str) -> str:
    """Return one spelling of a code from file names: `23-FE0F-20E3` and `0023-20e3` become
    `0023-20e3`.
    """
    points = re.split("[-_]", hexcode.lower())
    return "-".join(point.zfill(4) for point in points if point not in ("fe0f", "e007f"))


def has_skin_tone(code: str) -> bool:
    """Whether the code points of `code` hold a skin-tone modifier."""
    return not SKIN_TONES.isdisjoint(code.split("-"))


def read_words(vendors: Iterable[str]) -> Iterator[Words]:
    """Yield the words for every emoji in `emojibase-data`, with the shortcodes of these vendors."""
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
                tuple(
                    name for vendor in shortcodes for name in _listed(vendor.get(entry["hexcode"]))
                ),
                tuple(base.get("tags", ())),
                tuple(keywords.get(code, ())),
            )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
