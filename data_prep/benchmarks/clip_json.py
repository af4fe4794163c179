"""Captions by clip in every shape of JSON that circulates, known by what a file holds."""

import re
import reprlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_prep.benchmarks.forms import split_word
from data_prep.media import bare
from data_prep.readers import BadInput, find_known, read_json

ID_FIELDS = ("videoID", "video_id", "videoId", "video", "vid", "id", "image_id")
CAPTION_FIELDS = ("enCap", "desc", "captions", "caption", "sentences", "en")
OTHER_TASKS = re.compile(r"(?<![a-z])(cap|qa|mc)(?![a-z])")  # captioning and questions divide clips otherwise


class Clip(NamedTuple):
    """The captions of one clip, and the split that the file itself says it is in, if it does."""

    captions: list[str]
    split: str | None


def find_clips(
    source: Path, names: tuple[str, ...], known: re.Pattern
) -> tuple[Path, dict[str, list[str]]] | None:
    """The first of `names` under `source` with ids of which one is `known`, and its captions by id, or None.

    Files of other benchmarks have the same names; their ids look different.
    """
    return find_known(source, names, partial(_captions, known=known))


def read_clips(path: Path, known: re.Pattern) -> dict[str, Clip]:
    """The clips of one JSON, none where it holds no captions (a list of ids, durations).

    Known are lists of objects with an id and captions (`videoID` and `enCap`, `video_id` and `desc`, …),
    captions by id, and any of these by split or below "annotations". A clip without captions counts as one
    where its id is `known`.
    """
    content = read_json(path, unique_keys=True)
    groups = {None: content}
    if isinstance(content, dict) and content and all(split_word(key) for key in content):
        groups = content
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        groups = {None: content["annotations"]}
    by_name = None if OTHER_TASKS.search(path.stem.lower()) else split_word(path.stem)
    clips: dict[str, Clip] = {}
    empty: dict[str, Clip] = {}  # clips that are named, but have no captions
    for key, group in groups.items():
        split = split_word(key) if key else by_name
        for number, (id, value) in enumerate(_rows(group)):
            where = f"{path}: {key + ': ' if key else ''}entry {number}"
            has_captions = _add(clips, id, value, split, where)
            if not has_captions and isinstance(id, str) and known.fullmatch(bare(id)):
                empty[id] = Clip([], split)
    return {**empty, **clips} if clips else {}


def _captions(path: Path, known: re.Pattern) -> dict[str, list[str]] | None:
    """The captions by id; None where no id is `known`, a video's extension apart."""
    clips = read_clips(path, known)
    if not any(known.fullmatch(bare(id)) for id in clips):
        return None
    return {id: clip.captions for id, clip in clips.items()}


def _rows(group: object) -> list[tuple[object, object]]:
    """Id and value of each entry, whether they are listed or kept by id."""
    if isinstance(group, dict):
        return list(group.items())
    if isinstance(group, list):
        return [(_first(row, ID_FIELDS), row) for row in group if isinstance(row, dict)]
    return []


def _add(clips: dict[str, Clip], id: object, value: object, split: str | None, where: str) -> bool:
    """Whether `value` (a list, one caption, or an object with either) has captions; `id` gets them."""
    if isinstance(value, dict):
        said = value.get("split", value.get("subset"))
        split = (split_word(said) if isinstance(said, str) else None) or split
        value = _first(value, CAPTION_FIELDS)
    if value is None or isinstance(value, int | float):
        return False  # a clip without captions, or an entry about something else
    if not isinstance(id, str) or not id.strip():
        raise BadInput(f"{where}: expected an id (one of {', '.join(ID_FIELDS)}), found {reprlib.repr(id)}")
    if isinstance(value, str):  # one caption a row
        clips.setdefault(id, Clip([], split)).captions.append(value)
    elif not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise BadInput(f"{where} ({id}): expected a list of captions, found {reprlib.repr(value)}")
    elif id in clips:
        raise BadInput(f"{where}: the id {id} is there more than once; keep one of them")
    else:
        clips[id] = Clip(value, split)
    return True


def _first(row: dict, fields: tuple[str, ...]) -> object:
    return next((row[name] for name in fields if name in row), None)
