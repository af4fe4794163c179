"""The pictures and clips a source holds, whether they changed since they were read, and their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import CLIPProcessor

from . import data
from .data import RetrievalDataset
from .video import MediaError, read_frames, read_image

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".wmv", ".3gp")
SUFFIXES = PICTURES + CLIPS


@dataclass(frozen=True)
class MediaFile:
    """One picture or clip: `file_name` is what it is called, `media` where it lies below the media root.

    `start` and `end` (seconds) cut a part out of a clip. `size` (bytes), `modified` (ns) and `digest` are
    those of the file when it was read.
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
    def key(self) -> tuple[str, float | None, float | None]:
        """What tells it from the others: two parts of one clip have one file."""
        return self.media, self.start, self.end


def find(source: RetrievalDataset | str | Path) -> tuple[Path, list[MediaFile]]:
    """(media root, its files): a split, all splits of a dataset folder, or the media of any other folder.

    A folder is searched with the folders in it, in the order of its names; hidden files and files that are
    neither pictures nor clips are left out. Raises FileNotFoundError for no such folder, ValueError where
    there is nothing to show.
    """
    if isinstance(source, RetrievalDataset):
        return _of_datasets([source])
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        problem = "a file" if folder.is_file() else "no such folder"
        raise FileNotFoundError(
            f"{folder}: {problem}; expected a dataset folder, or one with pictures or clips"
        )
    if (folder / "metadata.jsonl").is_file():
        return _of_datasets([data.load(folder, split) for split in data.splits(folder)])
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        kind = kind_of(path)
        if kind and path.is_file() and not any(part.startswith(".") for part in name.parts):
            files.append(MediaFile(name.as_posix(), name.as_posix(), kind))
    if not files:
        raise ValueError(f"{folder}: no pictures or clips in it; expected {', '.join(SUFFIXES)}")
    return folder, files


def kind_of(path: Path) -> str | None:
    """image or video by the suffix, None for neither; a folder counts as the frames of a clip."""
    if path.is_dir() or path.suffix.lower() in CLIPS:
        return "video"
    return "image" if path.suffix.lower() in PICTURES else None


def stamp(file: MediaFile, path: Path, old: MediaFile | None = None) -> MediaFile:
    """`file` with its size, time and content hash (`old`'s, if size and time are). Raises OSError."""
    parts = _parts(path)
    size, modified = sum(p.stat().st_size for p in parts), max(p.stat().st_mtime_ns for p in parts)
    if old and (old.size, old.modified) == (size, modified):
        return replace(file, size=size, modified=modified, digest=old.digest)
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return replace(file, size=size, modified=modified, digest=digest.hexdigest())


def read_pixels(
    file: MediaFile, path: Path, processor: CLIPProcessor, max_frames: int, fps: float | None
) -> Tensor:
    """CLIP's input [F, 3, H, W]: a picture, or frames as `cma.video.read_frames` takes them.

    Raises MediaError naming what cannot be read.
    """
    if file.kind == "image":
        pictures = [read_image(path)]
    else:
        pictures = read_frames(path, max_frames, fps, file.start, file.end)
    try:
        return processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    except (ValueError, MemoryError) as error:
        size = " x ".join(map(str, pictures[0].size))
        raise MediaError(f"{path}: its {size} pixels cannot be prepared for CLIP ({error})") from error


def _of_datasets(splits: Sequence[RetrievalDataset]) -> tuple[Path, list[MediaFile]]:
    """The media root of one or more splits of a folder, and their files."""
    root = splits[0].media_root or splits[0].folder
    files = [
        MediaFile(
            file_name=item.file_name,
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


def _parts(path: Path) -> list[Path]:
    """The files of a media file: itself, or the frames in a folder."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    if not found:
        raise MediaError(f"{path}: empty folder; expected the frames of a clip")
    return found
