"""Read captions of clips from every JSON layout in circulation, recognised by the content."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cma.files import short
from data_prep.benchmarks.downloads import Downloads, split_word
from data_prep.containers import PARQUET, columns_of, rows
from data_prep.media import bare
from data_prep.readers import BadInput, read_json

ID_FIELDS = ("videoID", "video_id", "videoId", "video", "vid", "id", "image_id")
CAPTION_FIELDS = ("enCap", "desc", "captions", "caption", "sentences", "en")
# tasks that use other splits of the clips
OTHER_TASKS = re.compile(r"(?<![a-z])(cap|qa|mc)(?![a-z])")


class CaptionedClip(NamedTuple):
    """The captions of one clip, and the split that its file names for it, if any."""

    captions: list[str]
    split: str | None


class ClipRow(NamedTuple):
    """A clip of a split: its id, where its captions are (for error messages), and its captions."""

    id: str
    where: str
    captions: Sequence[object]


class SplitRows(NamedTuple):
    """The clips of one split, their files (the one with captions first), and notes on them."""

    files: Sequence[Path]
    rows: list[ClipRow]
    notes: Sequence[str] = ()


def find_clips(downloads: Downloads, names: Sequence[str], known: re.Pattern) -> SplitRows | None:
    """Read the clips of the first file of `names` with an id that matches `known`, or return None.

    Other benchmarks may have files of the same name; their ids look different.
    """
    found = downloads.known(names, partial(_captions, known=known))
    if found is None:
        return None
    path, clips = found
    return SplitRows(
        [path], [ClipRow(id, f"{path}: {id}", captions) for id, captions in clips.items()]
    )


def read_clips(path: Path, known: re.Pattern) -> dict[str, CaptionedClip]:
    """Read the clips of one JSON file by id; {} if it holds no captions (a list of ids, durations).

    It may be a list of objects with an id and captions (`videoID` and `enCap`, `video_id` and
    `desc`, …), captions by id, or either of these by split or under "annotations". A clip without
    captions is returned if `known` matches its id. Raises `BadInput` if ids or captions are not as
    expected.
    """
    content = _content(path)
    groups = {None: content}
    if isinstance(content, dict) and content and all(split_word(key) for key in content):
        groups = content
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        groups = {None: content["annotations"]}
    by_name = None if OTHER_TASKS.search(path.stem.lower()) else split_word(path.stem)
    clips: dict[str, CaptionedClip] = {}
    empty: dict[str, CaptionedClip] = {}  # clips named without captions
    for key, group in groups.items():
        split = split_word(key) if key else by_name
        for number, (id, value) in enumerate(_rows(group)):
            where = f"{path}: {key + ': ' if key else ''}entry {number}"
            has_captions = _add(clips, id, value, split, where)
            if not has_captions and isinstance(id, str) and known.fullmatch(bare(id)):
                empty[id] = CaptionedClip([], split)
    return {**empty, **clips} if clips else {}


def _content(path: Path) -> object:
    """Return the content of a JSON file, or the rows of a parquet file."""
    if path.suffix.lower() != PARQUET:
        return read_json(path, unique_keys=True)
    known = (*ID_FIELDS, *CAPTION_FIELDS, "split")
    return list(rows(path, [name for name in columns_of(path) if name in known]))


def _captions(path: Path, known: re.Pattern) -> dict[str, list[str]] | None:
    """Read captions by id; None if no id, without folder and video extension, matches `known`."""
    captions: dict[str, list[str]] = {}
    for file, clip in read_clips(path, known).items():
        id = file.rpartition("/")[2]
        if id in captions:
            raise BadInput(f"{path}: the clip {id} is there in two folders; keep one of them")
        captions[id] = clip.captions
    return captions if any(known.fullmatch(bare(id)) for id in captions) else None


def _rows(group: object) -> list[tuple[object, object]]:
    """Return the id and the value of each entry of a list or an object."""
    if isinstance(group, dict):
        return list(group.items())
    if isinstance(group, list):
        return [(_first(row, ID_FIELDS), row) for row in group if isinstance(row, dict)]
    return []


def _add(
    clips: dict[str, CaptionedClip], id: object, value: object, split: str | None, where: str
) -> bool:
    """Add the captions in `value` (one, a list, or an object with either); False if none."""
    if isinstance(value, dict):
        own_split = value.get("split", value.get("subset"))
        split = (split_word(own_split) if isinstance(own_split, str) else None) or split
        value = _first(value, CAPTION_FIELDS)
    if value is None or isinstance(value, int | float):
        return False  # a clip without captions, or an entry about something else
    if not isinstance(id, str) or not id.strip():
        raise BadInput(
            f"{where}: expected an id (one of {', '.join(ID_FIELDS)}), found {short(id)}"
        )
    if isinstance(value, str):  # one caption a row
        clips.setdefault(id, CaptionedClip([], split)).captions.append(value)
    elif not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise BadInput(f"{where} ({id}): expected a list of captions, found {short(value)}")
    elif id in clips:
        raise BadInput(f"{where}: the id {id} occurs more than once; keep one of them")
    else:
        clips[id] = CaptionedClip(value, split)
    return True


def _first(row: dict, fields: tuple[str, ...]) -> object:
    return next((row[name] for name in fields if name in row), None)
