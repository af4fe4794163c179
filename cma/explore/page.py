"""What the explorer shows: parts of `static/explorer.html`, and figures for readers of a printed notebook.

Pictures and clips appear as small previews, made from the decoded media and never the source file.
"""

import base64
import io
import textwrap
from collections.abc import Mapping
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import av
import matplotlib.pyplot as plt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from matplotlib.figure import Figure
from PIL import Image

from .. import plots
from ..media import MediaError, read_image, seconds, shown_name, stream_frames
from ..search import MediaFile, MediaIndex
from .answers import Answer, Indexes, Why

STATIC = Path(__file__).parent / "static"
SIDE = 256  # pixels of a preview's longer side, at most
FPS, MOST = 12, 60  # of a clip's preview: frames a second, and frames at most; longer clips play faster


def render(part: str, *values: object) -> str:
    """A part of `static/explorer.html` as HTML, by the name of its macro. All `values` are escaped."""
    return str(getattr(_page(), part)(*values))


def results_html(indexes: Indexes, answers: Mapping[str, Answer], play: bool = True) -> str:
    """The answers of each model in a row: previews with rank, cosine and captions, the right one marked.

    Clips start by themselves, or with `play` False by their controls.
    """
    sides = [
        (label, answer, [(hit, *_preview(indexes[label], hit.file)) for hit in answer.hits])
        for label, answer in answers.items()
    ]
    return render("results", sides, play)


def title_of(file: MediaFile) -> str:
    """What a result is called: its first caption, or its file name."""
    return file.captions[0] if file.captions else shown_name(file.file_name)


def results_grid(indexes: Indexes, answers: Mapping[str, Answer]) -> Figure:
    """The answers as a figure, one row for each model; right answers have a frame."""
    hits = [(indexes[label], hit) for label, answer in answers.items() for hit in answer.hits]
    pictures = [still(index.path(hit.file), hit.file) for index, hit in hits]
    captions = [f"{hit.rank}. {hit.score:.3f}{' ✓' * hit.right} {title_of(hit.file)}" for _, hit in hits]
    captions = [caption.replace("$", r"\$") for caption in captions]
    columns = max(len(answer.hits) for answer in answers.values())
    figure = plots.image_grid(pictures, captions, columns, marked=[hit.right for _, hit in hits])
    for row, label in enumerate(answers):
        figure.axes[row * columns].set_ylabel(label, fontsize=8)
    return figure


def why_figure(reasons: Mapping[str, Why]) -> Figure:
    """Explanations as a figure with all weights: one row for each model, for a single picture one column."""
    columns = max(len(one.frames) for one in reasons.values())
    rows, across = (len(reasons), columns) if columns > 1 else (1, len(reasons))
    side = min(3.4, 13 / across)  # inches of a frame, with 0.65 above for the words and 0.25 below
    height = (side + 0.9) * rows
    figure, axes = plt.subplots(rows, across, figsize=(side * across, height), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for row, (label, one) in zip(axes.reshape(len(reasons), columns), reasons.items(), strict=True):
        for axis, frame, weight in zip(row, one.frames, one.weights, strict=False):
            axis.imshow(frame)
            axis.set_xlabel(f"{weight:.0%}" if len(one.frames) > 1 else "", fontsize=8)
        words = "  ".join(f"{word} {weight:.2f}" for word, weight in one.words).replace("$", r"\$")
        title = textwrap.fill(f"{label}, cosine {one.score:.3f}: {words}", round(13 * side * columns))
        row[0].set_title(title, fontsize=9, loc="left")
    figure.subplots_adjust(0.01, 0.25 / height, 0.99, 1 - 0.65 / height, wspace=0.05, hspace=0.9 / side)
    return figure


@lru_cache(maxsize=512)  # `file` holds the digest of what was read: another content has another preview
def data_uri(path: Path, file: MediaFile) -> str:
    """The preview as a `data:` address: a JPEG of a picture, an H.264 mp4 of a clip. Raises MediaError."""
    frames = _small_frames(path, file, MOST, FPS)
    if file.kind == "image":
        return _jpeg(frames[0])
    return _uri("video/mp4", _mp4(frames, _rate(path, file, len(frames))))


def still(path: Path, file: MediaFile) -> Image.Image:
    """The small picture, or the middle frame of a clip; grey if the file cannot be read."""
    try:
        frames = _small_frames(path, file, 3)
    except MediaError:
        return Image.new("RGB", (SIDE, SIDE), plots.GREY)
    return frames[len(frames) // 2]


def _preview(index: MediaIndex, file: MediaFile) -> tuple[str, str]:
    """The address of a result's preview, or "" and what is wrong with the file."""
    try:
        return data_uri(index.path(file), file), ""
    except MediaError as error:  # the file changed since the index was built
        return "", str(error)


def _small_frames(path: Path, file: MediaFile, most: int, fps: float | None = None) -> list[Image.Image]:
    """The picture, or at most `most` frames of a clip, `fps` a second or spread over all of it."""
    image = file.kind == "image"
    shown = [read_image(path)] if image else stream_frames(path, most, fps, file.start, file.end)
    frames = []
    for frame in shown:  # one at a time: frames of a folder or an animation may be large
        frame.thumbnail((SIDE, SIDE))
        frames.append(frame)
    return frames


def _rate(path: Path, file: MediaFile, count: int) -> Fraction:
    """Frames a second at which `count` of a clip are shown: `FPS`, or fewer where it has fewer."""
    whole = seconds(path)
    if whole is None or count == MOST:
        return Fraction(FPS)
    length = (whole if file.end is None else min(file.end, whole)) - (file.start or 0.0)
    return min(Fraction(FPS), Fraction(count / max(length, 0.01)).limit_denominator(1000))


def _mp4(frames: list[Image.Image], rate: Fraction) -> bytes:
    width, height = (max(2, side // 2 * 2) for side in frames[0].size)  # H.264 needs even sides
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "26", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_image(picture.resize((width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> str:
    """A picture as a `data:` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@cache
def _page() -> TemplateModule:
    """The macros of the page; they escape all that they are given."""
    environment = Environment(loader=FileSystemLoader(STATIC), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"title_of": title_of, "shown_name": shown_name, "jpeg": _jpeg, "number": format}
    return environment.get_template("explorer.html").module
