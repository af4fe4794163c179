"""Texts beside media: a CSV of `file_name,text`, or a `.txt` or subtitles (`.srt`) of one name."""

import codecs
import csv
import io
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cma.files import escapes_folder, walk

SUFFIXES = ".csv", ".srt", ".txt"
MAX_BYTES = 2**24  # of a file that are read
AROUND, LONGEST = 60, 100  # characters that are shown beside a found word, and of that word
MAX_FILES = 1000  # media that a search finds by their texts
PAUSE, SHARE = 2.0, 20  # seconds between two looks, at least, and times as long as a look takes
WHEN = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})\s*-->")
MARKS = re.compile(r"<[^>]*>|\{\\[^}]*\}")  # of fonts and places in subtitles

Line = tuple[float | None, str]  # a text and its second in the clip, if known
Row = tuple[str, list[Line]]  # the name of a picture or clip, "" for those of the text's own name


class Quote(NamedTuple):
    """What was found in a text: the characters before it, it, those after, and its second."""

    before: str
    found: str
    after: str
    second: float | None


class Texts:
    """The texts beside the media below a folder, as they are when `matching` is asked.

    Files that cannot be read, and rows without a name or a text, count as no text.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, tuple[tuple[int, int], list[Row]]] = {}
        self._texts: list[tuple[str, list[Line]]] = []  # the paths of media, below the root
        self._again = 0.0

    def matching(self, query: str) -> dict[str, Quote]:
        """Return the media of which a text holds all words of a query, ignoring case, with the
        first such place, by path below the root.
        """
        words = query.casefold().split()
        found: dict[str, Quote] = {}
        if not words:
            return found
        self._look()
        for name, lines in self._texts:
            quote = next(filter(None, (_quote(words, *line) for line in lines)), None)
            if quote and len(found) < MAX_FILES:
                found.setdefault(name, quote)
        return found

    def _look(self) -> None:
        """Read what is new or has changed; often only if the folder is small."""
        start = time.monotonic()
        if start < self._again:
            return
        read, self._texts = {}, []
        for here, folders, names in walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = [here / name for name in names if name.lower().endswith(SUFFIXES)]
            below = here.relative_to(self.root)
            beside: dict[str, list[str]] = {}  # media by their names, whole and without suffix
            others = [name for name in names if not name.lower().endswith(SUFFIXES)]
            for name in [*folders, *others] if paths else ():
                for known_as in {name, PurePosixPath(name).stem}:
                    beside.setdefault(known_as, []).append((below / name).as_posix())
            for path in paths:
                with suppress(OSError):
                    now = path.stat()
                    stamp = now.st_size, now.st_mtime_ns
                    known = self._read.get(path)
                    kept = known if known and known[0] == stamp else (stamp, _rows_of(path))
                    read[path] = kept
                    for name, lines in kept[1]:
                        there = [(below / name).as_posix()] if name else beside.get(path.stem, ())
                        self._texts += [(one, lines) for one in there]
        self._read = read
        end = time.monotonic()
        self._again = end + max(PAUSE, SHARE * (end - start))


def _rows_of(path: Path) -> list[Row]:
    """Return the texts of a file by the names of their media. Raises OSError."""
    with path.open("rb") as stream:
        text = decoded(stream.read(MAX_BYTES))
    if path.suffix.lower() == ".csv":
        return [(name, [(None, own)]) for name, own in rows(text) if not escapes_folder(name)]
    return [("", subtitles(text) if path.suffix.lower() == ".srt" else [(None, text)])]


def decoded(content: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 or else Latin-1."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    zeros = content[0::2].count(0), content[1::2].count(0)
    if max(zeros) > len(content) // 8:  # ASCII's zeros
        return content.decode("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le", "replace")
    try:  # a character at the end may be cut in two, or not yet be written
        return codecs.getincrementaldecoder("utf-8-sig")().decode(content)
    except UnicodeDecodeError:
        return content.decode("latin-1")


def rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of a CSV that has these columns, as far as it can be read."""
    table = csv.DictReader(io.StringIO(text.replace("\0", "")))
    try:
        for row in table if {"file_name", "text"} <= {*(table.fieldnames or ())} else ():
            if row["file_name"] and row["text"]:
                yield str(PurePosixPath(row["file_name"].strip())), row["text"]
    except csv.Error:  # e.g. a field of 128 kB
        return


def subtitles(text: str) -> list[Line]:
    """Return the lines of an `.srt` with their seconds, in the order of time."""
    lines: list[tuple[float, str]] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        if times := WHEN.search(block):
            hours, minutes, seconds, rest = times.groups()
            at = 3600 * int(hours) + 60 * int(minutes) + int(seconds) + float(f"0.{rest}")
            words = MARKS.sub("", block[times.end() :].partition("\n")[2])
            lines.append((at, " ".join(words.split())))
    return [*sorted(lines)]


def _quote(words: list[str], second: float | None, text: str) -> Quote | None:
    """Return where all words are found in a text, None if one is missing."""
    folded = text.casefold()
    if not all(word in folded for word in words):
        return None
    # where folding changes the length of a text, the place is right to a few characters
    begin = folded.index(words[0])
    end = begin + min(len(words[0]), LONGEST)
    parts = text[max(0, begin - AROUND) : begin], text[begin:end], text[end : end + AROUND]
    before, found, after = (" ".join(part.splitlines()) for part in parts)
    return Quote(before, found, after, second)
