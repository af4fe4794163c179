"""What every benchmark's reader returns, whatever its files look like."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from data_prep.errors import BadInput

SPLITS = ("train", "val", "test")


class Counts(NamedTuple):
    """How many items and captions a split should have, as published."""

    items: int
    captions: int


class Place(NamedTuple):
    """Where media may lie: `file` is a path or a name, with or without extension; times in seconds."""

    file: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Entry:
    """One item as annotated; `file` names its media: a relative path, or a video's id without extension.

    Where no `file` is found, `instead` says what may be used in its place, with its own start and end.

    An entry may be without captions: such an item is reported as missing, like one without media.
    """

    id: str
    file: str
    captions: tuple[str, ...]
    split: str
    start: float | None = None  # seconds
    end: float | None = None
    instead: Place | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Where its media may lie, the best first."""
        here = Place(self.file, self.start, self.end)
        return (here,) if self.instead is None else (here, self.instead)


@dataclass
class Annotations:
    """A benchmark as read: its entries, how it is evaluated, and what was published about its size."""

    name: str
    kind: Literal["image", "video"]
    protocol: dict[str, str]
    expected: dict[str, Counts]
    entries: list[Entry]
    recipe: str
    files: list[str]  # the annotation files that were used
    notes: list[str] = field(default_factory=list)  # what was cleaned or left out, counted
    exact: bool = False  # `file` of an entry is its very path: one of the same name elsewhere is another
    captioned: bool = True  # False: only to be searched, so that no item needs a caption


def left_out(absent: Mapping[str, str], detail: str = "") -> list[str]:
    """One note on the splits that are left out; `absent` says what each of them lacks."""
    lacks = " and no ".join(absent.values())
    are = "splits are" if len(absent) > 1 else "split is"
    return [f"no {lacks}{detail}: the {' and '.join(absent)} {are} left out"] if absent else []


class CaptionCleaner:
    """Cleans captions and counts what it did: newlines and repeated blanks become one space."""

    def __init__(self) -> None:
        self.cleaned = 0
        self.blank = 0

    def __call__(self, captions: Iterable[object], where: str) -> tuple[str, ...]:
        """The captions of one item without the blank ones; `BadInput` naming `where` if one is no text."""
        kept = []
        for caption in captions:
            if not isinstance(caption, str):
                raise BadInput(f"{where}: expected a caption (text), found {caption!r}")
            text = re.sub(r"\s+", " ", caption.encode(errors="replace").decode()).strip()
            if text:
                self.cleaned += text != caption
                kept.append(text)
            else:
                self.blank += 1
        return tuple(kept)

    def notes(self) -> list[str]:
        """One line for each kind of change, for `Annotations.notes`."""
        counted = {
            "captions cleaned of newlines and stray blanks": self.cleaned,
            "blank captions dropped": self.blank,
        }
        return [f"{count:,} {what}" for what, count in counted.items() if count]
