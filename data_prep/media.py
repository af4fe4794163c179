"""Where each item's picture or clip lies under the user's folder, and whether it can be read."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import av
from PIL import Image

from data_prep.parallel import parallel
from data_prep.readers import walk

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".3gp", ".wmv", ".mpg", ".m4v"}
VIDEO_SUFFIXES |= {".3g2", ".asf", ".flv", ".m2ts", ".mpeg", ".mts", ".ogv"}


class MediaFiles:
    """Pictures or clips under `source` by path, by name and by name without extension, the top ones first.

    For videos, a folder that holds pictures counts as one clip, its frames in the order of their names.
    """

    def __init__(self, source: Path, kind: str) -> None:
        self.source = source
        suffixes = IMAGE_SUFFIXES if kind == "image" else VIDEO_SUFFIXES
        found = []
        for parent, _, files in walk(source):
            found += [parent / name for name in files if _is_media(name, suffixes)]
            if kind == "video" and any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files):
                found.append(parent)
        self._found = set(found)
        self._by_name: dict[str, Path] = {}
        found.sort(key=lambda path: (len(path.parts), path))
        for path in found:
            for name in (path.relative_to(source).as_posix(), path.name):
                self._by_name.setdefault(name, path)
        for path in found:
            self._by_name.setdefault(stem(path.name), path)
        for path in found:  # transcoded beside its old extension: `a.mov.mp4` is `a` too
            if _is_media(stem(path.name), suffixes):
                self._by_name.setdefault(stem(stem(path.name)), path)

    def at(self, file: str) -> Path | None:
        """The media of that very path below the source, if it is there."""
        return path if (path := self.source / file) in self._found else None

    def locate(self, file: str) -> Path | None:
        """The media of an entry's `file`: by its path, else its name, else its name without extension.

        `a.mov` is thus found as `a.mov`, transcoded as `a.mov.mp4` or as `a.mp4`.
        """
        name = file.rpartition("/")[2]
        return next((found for key in (file, name, stem(name)) if (found := self._by_name.get(key))), None)


def stem(name: str) -> str:
    """A file's name up to its last dot, also where nothing follows the dot (`a.`: DiDeMo has such)."""
    return name.rpartition(".")[0] or name


def _is_media(name: str, suffixes: set[str]) -> bool:
    """Whether the extension says so; a clip's name may also end in a bare dot."""
    end = name[len(stem(name)) :].lower()
    return end in suffixes or (end == "." and suffixes is VIDEO_SUFFIXES)


def problem(path: Path, kind: str) -> str | None:
    """Why the picture or clip cannot be used, or None: pictures are decoded whole, clips at both ends."""
    try:
        if path.is_file() and path.stat().st_size == 0:
            return "empty file"
        if path.is_dir():
            frames = sorted(frame for frame in path.iterdir() if not frame.name.startswith("."))
            problems = ((frame.name, problem(frame, "image")) for frame in frames)
            return next((f"{name}: {why}" for name, why in problems if why), None)
        _decode_image(path) if kind == "image" else _read_ends(path)
    except (OSError, ValueError, SyntaxError, av.FFmpegError, Image.DecompressionBombError) as error:
        return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None


def check(paths: Mapping[str, Path], kind: str, workers: int) -> dict[str, str]:
    """The problem of each id whose media cannot be read, decoded in `workers` processes under a bar."""
    jobs = list(paths.values())
    found = parallel(partial(problem, kind=kind), jobs, workers, f"check {kind}s")
    return {id: why for id, why in zip(paths, found, strict=True) if why}


def _decode_image(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _read_ends(path: Path) -> None:
    """Decode the first frame and read on from the last key frame: a truncated file fails at one of them."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        if next(container.decode(video=0), None) is None:
            raise ValueError("no frame")
        container.seek(container.duration or 0)
        packets = [packet for packet in container.demux(video=0) if packet.size]
        if not packets or any(packet.is_corrupt for packet in packets):
            raise ValueError("its end is missing")
