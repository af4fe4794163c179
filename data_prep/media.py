"""Find each item's picture or clip in the user's folder, and check that it can be read."""

import json
import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from cma import files, require
from cma.files import printable
from cma.media import CLIPS, PICTURES, MediaError, exists, open_media, stamp
from data_prep.containers import member_paths

IMAGE_SUFFIXES = set(PICTURES)
VIDEO_SUFFIXES = set(CLIPS)
WORTH_A_PROCESS = 32  # for fewer jobs, starting processes costs more time than it saves
Part = tuple[Path, float | None]  # a file, and the second from which to read; None: all of it
Job = TypeVar("Job")
Result = TypeVar("Result")


class MediaFiles:
    """Finds pictures or clips under `source` and in its shards by path or name, top folders first.

    For videos, a folder of pictures counts as a clip, unless a file has its name; frames are sorted
    by name. `listed` holds the folders below `source` and the names of their files, if they are
    already known.
    """

    def __init__(
        self, source: Path, kind: str, listed: Iterable[tuple[Path, list[str]]] | None = None
    ) -> None:
        self.source = source
        suffixes = IMAGE_SUFFIXES if kind == "image" else VIDEO_SUFFIXES
        found = []
        framed = []
        for parent, names in listed or ((parent, names) for parent, _, names in files.walk(source)):
            inside = member_paths(parent, names)
            found += [parent / name for name in names if _is_media(name, suffixes)]
            found += [path for path in inside if _is_media(path.name, suffixes)]
            if kind == "video" and any(_is_media(name, IMAGE_SUFFIXES) for name in names):
                framed.append(parent)
        self._found = {*found, *framed}
        self._by_name: dict[str, Path] = {}
        self._named: dict[str, list[Path]] = defaultdict(list)
        for paths in (found, framed):
            paths.sort(key=lambda path: (len(path.parts), path))
            for path in paths:
                self._named[path.name].append(path)
                for name in (path.relative_to(source).as_posix(), path.name):
                    self._by_name.setdefault(name, path)
            for path in paths:
                self._by_name.setdefault(stem(path.name), path)
        for path in found:  # transcoded with the old extension kept: `a.mov.mp4` is `a` too
            if _is_media(stem(path.name), suffixes):
                self._by_name.setdefault(stem(stem(path.name)), path)

    def at(self, file: str) -> Path | None:
        """Return the media file with exactly this path below the source, or None."""
        return path if (path := self.source / file) in self._found else None

    def locate(self, file: str) -> Path | None:
        """Return the media of an entry's `file`, or None: by path, else name, else name without
        extension.

        So `a.mov` is found as `a.mov`, and also if it was transcoded to `a.mov.mp4` or `a.mp4`.
        """
        name = file.rpartition("/")[2]
        return next(
            (found for key in (file, name, stem(name)) if (found := self._by_name.get(key))), None
        )

    def is_doubtful(self, file: str, path: Path) -> bool:
        """Whether `path`, which was found for `file`, may be the wrong picture or clip.

        It may be wrong if it is a picture with another extension (such as a mask), or if another
        file has the same name and another size. We regard files of the same size as copies.
        """
        if path == self.at(file) or path.is_dir():
            return False
        kind = path.suffix.lower()
        sizes = {stamp(one).size for one in self._named[path.name] if exists(one)}
        return len(sizes) > 1 or (
            kind in IMAGE_SUFFIXES and kind != PurePosixPath(file).suffix.lower()
        )


def stem(name: str) -> str:
    """Return a file's name up to its last dot, even if nothing follows the dot (DiDeMo has names
    such as `a.`).
    """
    return name.rpartition(".")[0] or name


def bare(id: str) -> str:
    """A clip's id without its video extension, if it has one."""
    name = stem(id)
    return name if id[len(name) :].lower() in VIDEO_SUFFIXES else id


def _is_media(name: str, suffixes: set[str]) -> bool:
    """Whether a name has one of the extensions `suffixes`; names of DiDeMo's clips also end in a
    dot alone, or in `.null`.
    """
    end = name[len(stem(name)) :].lower()
    return end in suffixes or (end in (".", ".null") and suffixes is VIDEO_SUFFIXES)


def check(parts: Mapping[str, Part], kind: str, workers: int, kept: Path) -> dict[str, str]:
    """Check media with `workers` processes; return {id: its `problem`} for the media that cannot be
    used.

    `kept` is a JSON file with the results of earlier checks: only new or changed files are decoded,
    and a part that several ids share is decoded once. Even after Ctrl-C it is written, with the
    results so far. Raises ImportError for clips if packages of the extra `video` are missing.
    """
    try:
        before = files.read_json(kept, dict[str, tuple[str | None, str | None]])
    except (OSError, ValueError):
        before = {}
    names = {
        part: f"{part[0]}" + (f" from {part[1]} s" if part[1] else "") for part in parts.values()
    }
    marks = {part: mark_of(part[0]) for part in names}
    known = {
        part for part, mark in marks.items() if mark and before.get(names[part], ("",))[0] == mark
    }
    left = [part for part in marks if part not in known]
    if kind == "video" and not all(path.is_dir() for path, _ in left):
        require("video", "av", "decord")
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
    """Return sizes and times that tell whether a file, a shard member or a folder of frames has
    changed; None if it is absent.
    """
    try:
        parts = sorted(path.iterdir()) if path.is_dir() else [path]
        stamps = [stamp(part) for part in parts]
    except (OSError, MediaError):
        return None
    size = sum(one.size for one in stamps)
    latest = max((one.modified for one in stamps), default=0)
    return f"{len(stamps)} files, {size} bytes, {latest} ns"


def problem(part: Part, kind: str) -> str | None:
    """Read a picture, or a clip at both ends and its start time; return why it cannot be used, or
    None.
    """
    from cma.media import FrameFolder, read_frames, read_image  # here, because it loads numpy

    path, start = part
    try:
        if path.is_file() and path.stat().st_size == 0:
            return "empty file"
        if path.is_dir() and kind == "video":
            frames = FrameFolder(path).files
            problems = ((frame.name, problem((frame, None), "image")) for frame in frames)
            return next((f"{name}: {why}" for name, why in problems if why), None)
        read_image(path) if kind == "image" else _read_ends(path)
        if start:
            read_frames(path, 1, start=start)
    except MediaError as error:
        return str(error).removeprefix(printable(f"{path}: "))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"cannot be decoded ({reason})"
    return None


def _read_ends(path: Path) -> None:
    """Decode the first frame and read from the last key frame on: one of them fails for a truncated
    file.
    """
    import av

    try:
        place = str(path.absolute()) if path.exists() else open_media(path)
        with av.open(place) as container:
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
    """Yield `map(function, jobs)` with a progress bar, by `workers` processes; few jobs run in this
    one.
    """
    if workers < 2 or len(jobs) < WORTH_A_PROCESS:
        yield from map(function, tqdm(jobs, desc=title, disable=not jobs))
        return
    # not large: Ctrl-C waits for chunks that have begun
    chunk = max(1, min(16, len(jobs) // (8 * workers)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        # `map` starts the processes, which inherit that Ctrl-C is ignored. Only this process reacts
        # to it.
        usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            results = pool.map(function, jobs, chunksize=chunk)
        finally:
            signal.signal(signal.SIGINT, usual)
        try:
            yield from tqdm(results, total=len(jobs), desc=title)
        except BrokenProcessPool as error:
            reason = "a process died: a file crashes the decoder, or memory ran out"
            raise OSError(f"{title}: {reason}; try fewer --workers") from error
