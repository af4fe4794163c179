"""VATEX's captions in every shape of JSON that circulates, known by what a file holds."""

import re
from pathlib import Path
from typing import NamedTuple

from data_prep.errors import BadInput
from data_prep.forms import read_start, split_word
from data_prep.readers import read_json, walk

ID = re.compile(
    r"(.+)_(\d{6})_(\d{6})"
)  # the source video, and the seconds between which the clip lies in it
START = 1 << 16  # bytes in which the first id is looked for
ID_FIELDS = ("videoID", "video_id", "videoId", "video", "vid", "id", "image_id")
CAPTION_FIELDS = ("enCap", "desc", "captions", "caption", "sentences", "en")


class Clip(NamedTuple):
    """The captions of one clip, and the split that the file itself says it is in, if it does."""

    captions: list[str]
    split: str | None


def find_clips(source: Path) -> dict[Path, dict[str, Clip]]:
    """The clips, by id, of each JSON under `source` that holds VATEX's captions."""
    files = [parent / name for parent, _, names in walk(source) for name in names if name.endswith(".json")]
    clips = {path: read_clips(path) for path in files if _may_be_vatex(path)}
    return {path: found for path, found in clips.items() if found}


def read_clips(path: Path) -> dict[str, Clip]:
    """The clips of one JSON, none where it holds no captions (a list of ids, durations).

    Known are lists of objects with an id and captions (`videoID` and `enCap`, `video_id` and `desc`, …),
    captions by id, and any of these by split.
    """
    content = read_json(path, unique_keys=True)
    groups = {None: content}
    if isinstance(content, dict) and content and all(split_word(key) for key in content):
        groups = content
    clips: dict[str, Clip] = {}
    bare: dict[str, Clip] = {}  # clips that are named, but have no captions
    for key, group in groups.items():
        split = split_word(key) if key else split_word(path.stem)
        for number, (id, value) in enumerate(_rows(group)):
            _add(clips, bare, id, value, split, f"{path}: {key + ': ' if key else ''}entry {number}")
    return {**bare, **clips} if clips else {}


def _may_be_vatex(path: Path) -> bool:
    start = read_start(path, START)
    return bool(re.search(r'_\d{6}_\d{6}"', start)) or "vatex" in path.name.lower()


def _rows(group: object) -> list[tuple[object, object]]:
    """Id and value of each entry, whether they are listed or kept by id."""
    if isinstance(group, dict):
        return list(group.items())
    if isinstance(group, list):
        return [(_first(row, ID_FIELDS), row) for row in group if isinstance(row, dict)]
    return []


def _add(
    clips: dict[str, Clip], bare: dict[str, Clip], id: object, value: object, split: str | None, where: str
) -> None:
    """Add the captions in `value` (a list, one caption, or an object with either) to the clip `id`.

    A clip without any goes to `bare`, so that it is reported where other clips of the file have captions.
    """
    if isinstance(value, dict):
        said = value.get("split", value.get("subset"))
        split = (split_word(said) if isinstance(said, str) else None) or split
        value = _first(value, CAPTION_FIELDS)
    if value is None or isinstance(value, int | float):
        if isinstance(id, str) and ID.fullmatch(id):
            bare[id] = Clip([], split)
        return  # or an entry about something else
    if not isinstance(id, str) or not id:
        raise BadInput(f"{where}: expected an id (one of {', '.join(ID_FIELDS)}), found {id!r}")
    if isinstance(value, str):  # one caption a row
        clips.setdefault(id, Clip([], split)).captions.append(value)
    elif not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise BadInput(f"{where} ({id}): expected a list of captions, found {value!r}")
    elif id in clips:
        raise BadInput(f"{where}: the id {id} is there more than once; keep one of them")
    else:
        clips[id] = Clip(value, split)


def _first(row: dict, fields: tuple[str, ...]) -> object:
    return next((row[name] for name in fields if name in row), None)
