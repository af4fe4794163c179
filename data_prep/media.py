"""Where each item's picture or clip is under the user's folder, and whether it can be read."""

import json
import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from cma import files, require
from cma.files import printable
from cma.media import CLIPS, PICTURES

IMAGE_SUFFIXES, VIDEO_SUFFIXES = set(PICTURES), set(CLIPS)
WORTH_A_PROCESS = 32  # with fewer jobs, starting processes takes longer than they save
Part = tuple[Path, float | None]  # of a clip, from so many seconds on; None: all of it
Job = TypeVar("Job")
Result = TypeVar("Result")


class MediaFiles:
    """Pictures or clips under `source` by path, by name and by name without extension; top folders first.

    For videos, a folder that holds pictures counts as one clip, with its frames in the order of their names.
    `listed` holds the folders below `source` and the names of their files, if they have been listed already.
    """

    def __init__(
        self, source: Path, kind: str, listed: Iterable[tuple[Path, list[str]]] | None = None
    ) -> None:
        self.source = source
        suffixes = IMAGE_SUFFIXES if kind == "image" else VIDEO_SUFFIXES
        found = []
        for parent, names in listed or ((parent, names) for parent, _, names in files.walk(source)):
            found += [parent / name for name in names if _is_media(name, suffixes)]
            if kind == "video" and any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
                found.append(parent)
        self._found = set(found)
        self._by_name: dict[str, Path] = {}
        found.sort(key=lambda path: (len(path.parts), path))
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in found:
            self._named[path.name].append(path)
            for name in (path.relative_to(source).as_posix(), path.name):
                self._by_name.setdefault(name, path)
        for path in found:
            self._by_name.setdefault(stem(path.name), path)
        for path in found:  # transcoded, and the old extension kept: `a.mov.mp4` is `a` too
            if _is_media(stem(path.name), suffixes):
                self._by_name.setdefault(stem(stem(path.name)), path)

    def at(self, file: str) -> Path | None:
        """The media with exactly this path below the source, if it is there."""
        return path if (path := self.source / file) in self._found else None

    def locate(self, file: str) -> Path | None:
        """The media of an entry's `file`: by its path, else its name, else its name without extension.

        So `a.mov` is found as `a.mov`, or transcoded as `a.mov.mp4` or `a.mp4`.
        """
        name = file.rpartition("/")[2]
        return next((found for key in (file, name, stem(name)) if (found := self._by_name.get(key))), None)

    def is_doubtful(self, file: str, path: Path) -> bool:
        """Whether `path`, which is used for `file`, may be another picture or clip than the one meant.

        It may be a picture with another extension, such as a mask. Or another file has its name, and another
        size: files of one size are taken for copies.
        """
        if path == self.at(file) or path.is_dir():
            return False
        kind = path.suffix.lower()
        sizes = {one.stat().st_size for one in self._named[path.name]}
        return len(sizes) > 1 or (kind in IMAGE_SUFFIXES and kind != PurePosixPath(file).suffix.lower())


def stem(name: str) -> str:
    """A file's name up to its last dot, even if nothing follows the dot (`a.`: DiDeMo has such names)."""
    return name.rpartition(".")[0] or name


def bare(id: str) -> str:
    """A clip's id without the extension of a video, if it has one."""
    name = stem(id)
    return name if id[len(name) :].lower() in VIDEO_SUFFIXES else id


def _is_media(name: str, suffixes: set[str]) -> bool:
    """Whether the extension says so; a clip's name may also end in a dot without an extension."""
    end = name[len(stem(name)) :].lower()
    return end in suffixes or (end == "." and suffixes is VIDEO_SUFFIXES)


def check(parts: Mapping[str, Part], kind: str, workers: int, kept: Path) -> dict[str, str]:
    """The `problem` of each id whose media cannot be used, found by `workers` processes.

    `kept` is a JSON file with the results of earlier checks: only files that are new or have changed are
    decoded, and a part that several ids share is decoded once. It is written after Ctrl-C too, with what was
    found until then. ImportError for clips without the extra `video`.
    """
    if kind == "video":
        require("video", "av", "decord")
    try:
        before = files.read_json(kept, dict[str, tuple[str | None, str | None]])
    except (OSError, ValueError):
        before = {}
    names = {part: f"{part[0]}" + (f" from {part[1]} s" if part[1] else "") for part in parts.values()}
    marks = {part: mark_of(part[0]) for part in names}
    known = {part for part, mark in marks.items() if mark and before.get(names[part], ("",))[0] == mark}
    left = [part for part in marks if part not in known]
    reasons = one_by_one(partial(problem, kind=kind), left, workers, f"check {kind}s")
    results = {names[part]: before[names[part]] for part in known}
    try:
        for part, why in zip(left, reasons, strict=True):
            results[names[part]] = (marks[part], why)
    finally:
        if left:
            files.write_whole(kept, json.dumps(dict(sorted(results.items())), indent=0) + "\n")
    return {id: why for id, part in parts.items() if (why := results[names[part]][1])}


def mark_of(path: Path) -> str | None:
    """What changes if a file, or a frame in a folder, changes: sizes and times; None if it is not there."""
    try:
        parts = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [part.stat() for part in parts]
    except OSError:
        return None
    sizes, latest = sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
    return f"{len(stats)} files, {sizes} bytes, {latest} ns"


def problem(part: Part, kind: str) -> str | None:
    """Why it cannot be used, or None: pictures are read as later on, clips at both ends and at the start."""
    from cma.media import MediaError, read_frames, read_image  # here, because it loads numpy

    path, start = part
    try:
        if path.is_file() and path.stat().st_size == 0:
            return "empty file"
        if path.is_dir() and kind == "video":
            frames = sorted(frame for frame in path.iterdir() if not frame.name.startswith("."))
            problems = ((frame.name, problem((frame, None), "image")) for frame in frames)
            return next((f"{name}: {why}" for name, why in problems if why), None)
        read_image(path) if kind == "image" else _read_ends(path)
        if start:
            read_frames(path, 1, start=start)
    except MediaError as error:
        return str(error).removeprefix(printable(f"{path}: "))
    except (OSError, ValueError) as error:
        return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    return None


def _read_ends(path: Path) -> None:
    """Decode the first frame and read on from the last key frame: a truncated file fails at one of them."""
    import av

    try:
        with av.open(str(path.absolute())) as container:
            if not container.streams.video or next(container.decode(video=0), None) is None:
                raise ValueError("no frame of a video in it")
            container.seek(container.duration or 0)
            packets = [packet for packet in container.demux(video=0) if packet.size]
            if not packets or any(packet.is_corrupt for packet in packets):
                raise ValueError("its end is missing")
    except av.FFmpegError as error:
        raise ValueError(str(error)) from error


def one_by_one(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, title: str
) -> Iterator[Result]:
    """`map(function, jobs)` with a progress bar, by `workers` processes; few jobs are done in this one."""
    if workers < 2 or len(jobs) < WORTH_A_PROCESS:
        yield from map(function, tqdm(jobs, desc=title, disable=not jobs))
        return
    chunk = max(1, min(16, len(jobs) // (8 * workers)))  # after Ctrl-C, those begun are waited for
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        # The processes are started by `map`, and inherit that Ctrl-C is not for them: this one answers it.
        usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            results = pool.map(function, jobs, chunksize=chunk)
        finally:
            signal.signal(signal.SIGINT, usual)
        yield from tqdm(results, total=len(jobs), desc=title)
