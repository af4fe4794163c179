"""Make small copies of pictures and clips, and figures for printed notebooks."""

import contextlib
import io
import textwrap
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import ExifTags, Image

from cma.files import cache_folder, write_whole
from cma.media import MediaError, frame_at, open_media, read_image, shown_name
from explorer.index import MediaFile

from .answers import Answer, Indexes, Why
from .films import glimpse

SIDE, LARGE = 256, 1024  # longer side in pixels of a preview, and of a picture that is shown large
GREY, ORANGE = "#9aa0a6", "#d9822b"
ROOM = 2**28  # bytes of previews that are kept on disk: about 20,000
EVERY = 60  # seconds between two checks of that


def title_of(file: MediaFile) -> str:
    """Return the title of a result: its first caption, or its file name."""
    return file.captions[0] if file.captions else shown_name(file.file_name)


def copy_of(path: Path, file: MediaFile, side: int = SIDE, at: float | None = None) -> Image.Image:
    """Return a picture, or a clip's frame at the time `at` (seconds; by default the middle one), of
    at most `side` pixels. Raises MediaError.

    A preview of a film shows the nearest key frame instead (see `glimpse`).
    """
    if file.kind == "image":
        picture = read_image(path, side)
    else:
        part = at, file.start, file.end
        picture = side <= SIDE and glimpse(path, *part) or frame_at(path, *part)
    picture.thumbnail((side, side))
    return picture


def still(path: Path, file: MediaFile) -> Image.Image:
    """Return a small copy of a picture or clip, or a grey picture if the file cannot be read."""
    with contextlib.suppress(MediaError, OSError):
        return copy_of(path, file)
    return Image.new("RGB", (SIDE, SIDE), GREY)


def thumbnail(path: Path, file: MediaFile, at: float | None = None) -> bytes:
    """Return a small copy of a picture or clip as a JPEG; frame and errors as in `copy_of`.

    It is kept in the cache folder under the digest of the content, so a changed file gets a new
    one, and a second opening decodes nothing.
    """
    if not file.digest:  # a file that was sent as a query
        return jpeg(copy_of(path, file, SIDE, at))
    name = blake2b(repr((file.digest, file.part, at, SIDE)).encode(), digest_size=16).hexdigest()
    kept = cache_folder() / "previews" / f"{name}.jpg"
    with contextlib.suppress(OSError):
        content = kept.read_bytes()
        with contextlib.suppress(OSError):  # the folder may be read-only
            kept.touch()
        return content
    content = jpeg(copy_of(path, file, SIDE, at))
    with contextlib.suppress(OSError):  # the disk may be full
        kept.parent.mkdir(0o700, parents=True, exist_ok=True)
        write_whole(kept, content)
        make_room(kept.parent, time.monotonic() // EVERY)
    return content


@lru_cache(1)  # so that one number stands for one check
def make_room(folder: Path, number: float) -> None:
    """If the previews take more than `ROOM`, delete those unused for longest until half is free."""
    found = sorted((one.stat().st_mtime, one.stat().st_size, one) for one in folder.glob("*.jpg"))
    total = sum(size for _, size, _ in found)
    kept = ROOM if total <= ROOM else ROOM // 2
    for _, size, path in found:
        if total <= kept:
            return
        path.unlink(missing_ok=True)
        total -= size


@lru_cache(maxsize=65536)
def ratio(path: Path, file: MediaFile) -> float:
    """Return the width / height of a picture or clip as it is shown; 4 / 3 if it is unreadable."""
    # a decoder can raise anything
    with (
        contextlib.suppress(Exception),
        open_media(path) as stream,
        Image.open(stream) as picture,
    ):
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by 90 degrees
        return (picture.height / picture.width) ** (1 if turned else -1)
    # what is left are films, and folders of frames
    with contextlib.suppress(Exception):
        import av

        with open_media(path) as stream, av.open(stream) as film:
            frame = next(film.decode(video=0))
            return (frame.height / frame.width) ** (1 if frame.rotation % 180 else -1)
    return 4 / 3


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a JPEG, without its file's comment."""
    picture.save(buffer := io.BytesIO(), "JPEG", quality=85, comment=b"")
    return buffer.getvalue()


def image_grid(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int = 5,
    size: float = 1.6,
    marked: Sequence[bool] | None = None,
) -> Figure:
    """Draw pictures with captions, each `size` inches wide; the `marked` ones get a frame."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * size * 1.6), squeeze=False
    )
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    pairs = zip(images, captions, strict=True)
    for i, (axis, (image, text)) in enumerate(zip(axes.flat, pairs, strict=False)):
        axis.imshow(image)
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(
            textwrap.fill(text, 20, max_lines=4, placeholder=" …"), fontsize=9, parse_math=False
        )
        for spine in axis.spines.values():
            spine.set(visible=bool(marked and marked[i]), color=ORANGE, linewidth=3)
    figure.tight_layout()
    return figure


def results_grid(indexes: Indexes, answers: Mapping[str, Answer]) -> Figure:
    """Draw the answers as a figure, one row for each model; right answers have a frame."""
    hits = [(indexes[label], hit) for label, answer in answers.items() for hit in answer.hits]
    pictures = [still(index.path(hit.file), hit.file) for index, hit in hits]
    captions = [
        f"{hit.rank}. {hit.score:.3f}{' ✓' * hit.right} {title_of(hit.file)}" for _, hit in hits
    ]
    columns = max(len(answer.hits) for answer in answers.values())
    figure = image_grid(pictures, captions, columns, marked=[hit.right for _, hit in hits])
    for row, label in enumerate(answers):
        figure.axes[row * columns].set_ylabel(label, fontsize=8)
    return figure


def why_figure(reasons: Mapping[str, Why]) -> Figure:
    """Draw explanations with all weights: a row for each model (for a single picture, a column)."""
    columns = max(len(one.frames) for one in reasons.values())
    rows, across = len(reasons), columns
    if columns == 1:
        rows, across = across, rows
    side = min(3.4, 13 / across)  # inches of a frame
    titles = {}
    for label, one in reasons.items():
        words = "  ".join(f"{word}\u00a0{weight:.2f}" for word, weight in one.words)
        title = f"{label}, cosine {one.score:.3f}: {words}"
        titles[label] = textwrap.fill(title, round(13 * side * columns))
    lines = 1 + max((title.count("\n") for title in titles.values()), default=0)
    high = side + 0.3 + 0.16 * lines  # the words need the rest
    figure = plt.figure(figsize=(side * across, high * rows), layout="constrained")
    parts = figure.subfigures(rows, across // columns, squeeze=False).flat
    for part, (label, one) in zip(parts, reasons.items(), strict=True):
        axes = part.subplots(
            1,
            columns,
            squeeze=False,
            subplot_kw={"xticks": [], "yticks": [], "frame_on": False},
        ).flat
        for axis, frame, weight in zip(axes, one.frames, one.weights, strict=False):
            axis.imshow(frame)
            axis.set_xlabel(f"{weight:.0%}" if columns > 1 else "", fontsize=9)
        part.suptitle(titles[label], x=0, fontsize=9, ha="left", parse_math=False)
    return figure
