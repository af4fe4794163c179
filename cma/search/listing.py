"""The pictures and clips a source holds, whether they changed since they were read, and their pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from PIL import Image
from torch import Tensor
from transformers import CLIPProcessor

from .. import data
from ..data import RetrievalDataset
from ..files import walk
from ..media import (
    CHANNELS_LAST,
    MediaError,
    central,
    frames_of_folder,
    is_animation,
    read_frames,
    read_image,
    shown_name,
    with_content,
)

ANIMATABLE = (".gif", ".webp", ".png", ".apng")
PICTURES = (".jpg", ".jpeg", ".bmp", ".tif", ".tiff", *ANIMATABLE)
CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".wmv", ".3gp", ".3g2", ".asf",
         ".flv", ".m2ts", ".mts", ".ogv")  # fmt: skip
SUFFIXES = PICTURES + CLIPS

Problem = tuple[str, str]  # a file or folder that cannot be read, and why


@dataclass(frozen=True)
class MediaFile:
    """One picture or clip: `file_name` is what it is called, `media` where it lies below the media root.

    They differ where a name is no UTF-8 text: `file_name` can always be shown. `start` and `end` (seconds)
    cut a part out of a clip. `size` (bytes), `modified` (ns) and `digest` are those of the file when it was
    read.
    """

    file_name: str
    media: str
    kind: str  # "image" | "video"
    id: str = ""
    captions: tuple[str, ...] = ()
    split: str = ""
    start: float | None = None
    end: float | None = None
    size: int = 0
    modified: int = 0
    digest: str = ""

    @property
    def key(self) -> tuple[str, str, float | None, float | None]:
        """What tells it from the others: two parts of one clip have one file."""
        return self.media, self.kind, self.start, self.end


def find(source: RetrievalDataset | str | Path) -> tuple[Path, list[MediaFile], list[Problem]]:
    """(media root, its files, folders that cannot be read): a split, all splits of a dataset folder, or the
    media of any other folder.

    A dataset folder holds `dataset.json` and `metadata.jsonl` (Hugging Face's image folders: the second
    alone). Any other folder is searched with the folders in it and those it links to, each once, in the order
    of its names; hidden files and files that are neither pictures nor clips are left out. An animated gif,
    webp or png is a clip; in a dataset of pictures it is a picture. Raises FileNotFoundError for no such
    folder, ValueError where there is nothing to show.
    """
    if isinstance(source, RetrievalDataset):
        return *_of_datasets([source]), []
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        problem = "a file" if folder.is_file() else "no such folder"
        raise FileNotFoundError(
            f"{folder}: {problem}; expected a dataset folder, or one with pictures or clips"
        )
    if (folder / "dataset.json").is_file() and (folder / "metadata.jsonl").is_file():
        return *_of_datasets([data.load(folder, split) for split in data.splits(folder)]), []
    names, problems = _walk(folder)
    files = []
    for name in names:
        file_name = shown_name(name.as_posix())
        files.append(MediaFile(file_name, name.as_posix(), _kind_of_file(folder / name)))
    if not files:
        why = f"; {len(problems)} folders cannot be read ({problems[0][1]})" if problems else ""
        raise ValueError(f"{folder}: no pictures or clips in it{why}; expected {', '.join(SUFFIXES)}")
    return folder, files, problems


def kind_of(path: Path) -> str | None:
    """image or video, None for neither; a folder counts as the frames of a clip.

    The suffix decides, and of pictures that may be animated, the header.
    """
    return "video" if path.is_dir() else _kind_of_file(path)


def stamp(file: MediaFile, path: Path, old: MediaFile | None = None) -> MediaFile:
    """`file` with its size, time and content hash (`old`'s, if size and time are).

    Raises MediaError for what is missing or empty, OSError for what may not be read.
    """
    if path.is_dir():
        parts = frames_of_folder(path)
    else:
        with_content(path, "a picture" if file.kind == "image" else "a clip")
        parts = [path]
    found = [part.stat() for part in parts]
    size, modified = sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)
    if old and (old.size, old.modified) == (size, modified):
        return replace(file, size=size, modified=modified, digest=old.digest)
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return replace(file, size=size, modified=modified, digest=digest.hexdigest())


def read_pictures(file: MediaFile, path: Path, max_frames: int, fps: float | None) -> list[Image.Image]:
    """The picture, or frames [F] as `cma.media.read_frames` takes them. Raises MediaError naming the path."""
    if file.kind == "image":
        return [read_image(path)]
    return read_frames(path, max_frames, fps, file.start, file.end)


def read_pixels(
    file: MediaFile, path: Path, processor: CLIPProcessor, max_frames: int, fps: float | None
) -> Tensor:
    """CLIP's input [F, 3, H, W] of `read_pictures`. Raises MediaError naming what cannot be read."""
    pictures = read_pictures(file, path, max_frames, fps)
    try:
        pictures = [central(picture) for picture in pictures]
        prepared = processor.image_processor(pictures, input_data_format=CHANNELS_LAST, return_tensors="pt")
        return prepared["pixel_values"]
    except (ValueError, MemoryError) as error:
        size = " x ".join(map(str, pictures[0].size))
        raise MediaError(f"{path}: its {size} pixels cannot be prepared for CLIP ({error})") from error


def _kind_of_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in CLIPS or (suffix in ANIMATABLE and is_animation(path)):
        return "video"
    return "image" if suffix in PICTURES else None


def _walk(folder: Path) -> tuple[list[PurePath], list[Problem]]:
    """The names of the media below `folder`, in order, and the folders that cannot be read."""
    names, problems = [], []

    def failed(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder)
        problems.append((shown_name(name), f"folder cannot be read ({error.strerror})"))

    for here, folders, files in walk(folder, failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = here.relative_to(folder)
        for name in files:
            if not name.startswith(".") and PurePath(name).suffix.lower() in SUFFIXES:
                names.append(below / name)
    return sorted(names), problems


def _of_datasets(splits: Sequence[RetrievalDataset]) -> tuple[Path, list[MediaFile]]:
    """The media root of one or more splits of a folder, and their files."""
    root = splits[0].media_root or splits[0].folder
    files = [
        MediaFile(
            file_name=shown_name(item.file_name),
            media=split.path(item).relative_to(root).as_posix(),
            kind=split.kind,
            id=item.id,
            captions=item.captions,
            split=item.split,
            start=item.start,
            end=item.end,
        )
        for split in splits
        for item in split.items
    ]
    return root.absolute(), files
