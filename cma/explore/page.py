"""What the explorer shows: answers and explanations as HTML, and as still figures for a printed page."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from matplotlib.figure import Figure
from PIL import Image

from .. import plots
from ..media import MediaError, shown_name
from ..search import MediaFile, MediaIndex
from . import previews
from .answers import Answer, Indexes, Why

STATIC = Path(__file__).parent / "static"


def results_html(indexes: Indexes, answers: Mapping[str, Answer], play: bool = True) -> str:
    """The answers of each model in a row: previews with rank, cosine and captions, the right one marked.

    Clips play by themselves, or when their controls are used. Like `why_html`, it is laid out by the style
    sheet that `about_html` brings.
    """
    sides = [
        (label, answer, [(hit, *_preview(indexes[label], hit.file)) for hit in answer.hits])
        for label, answer in answers.items()
    ]
    return str(_page().results(sides, play))


def why_html(label: str, found: Why) -> str:
    """An explanation: the words and the patches that a match rests on, a clip's frames with their weights."""
    return str(_page().why(label, found))


def about_html(name: str) -> str:
    """The style sheet of the page, and the `backbone_text` of the backbone called `name`."""
    return str(_page().about(backbone_text(name)))


def status_html(message: str) -> str:
    """What the page does or has done."""
    return str(_page().status(message))


def alert_html(error: Exception) -> str:
    """What went wrong, for people."""
    return str(_page().alert(str(error) or type(error).__name__))


def skipped_html(index: MediaIndex) -> str:
    """The files that could not be read, folded up; nothing where all could."""
    return str(_page().skipped(index.skipped)) if index.skipped else ""


def asked_html(name: str, path: Path, kind: str, play: bool = True) -> str:
    """What was dropped, small, and its name. Raises MediaError."""
    source = previews.data_uri(path, MediaFile(name, path.name, kind))
    return str(_page().asked(source, kind, name, play))


def backbone_text(name: str) -> str:
    """The name of a backbone, of a folder only its last part, and what it knows where that is known."""
    if name == "mini":
        return "mini: knows drawings, not photographs"
    if name and Path(name).expanduser().is_dir():
        return Path(name).name
    return f"{name}: knows photographs" if name.startswith("openai/clip-vit-") else name or "CLIP"


def results_grid(indexes: Indexes, answers: Mapping[str, Answer]) -> Figure:
    """The answers as a still figure, a row a model, for readers who see the notebook on a page."""
    pictures, captions, marked = [], [], []
    columns = max(len(answer.hits) for answer in answers.values())
    for label, answer in answers.items():
        for hit in answer.hits:
            pictures.append(_still(indexes[label], hit.file))
            captions.append(f"{hit.rank}. {hit.score:.3f}{' ✓' if hit.right else ''} {title_of(hit.file)}")
            marked.append(hit.right)
    figure = plots.image_grid(
        pictures, [text.replace("$", r"\$") for text in captions], columns, marked=marked
    )
    for row, label in enumerate(answers):
        figure.axes[row * columns].set_ylabel(label, fontsize=8)
    return figure


def why_figure(found: Mapping[str, Why]) -> Figure:
    """Explanations as a still figure, a row a model, of single pictures a column: with all weights."""
    columns = max(len(one.frames) for one in found.values())
    shape = (len(found), columns) if columns > 1 else (1, len(found))  # pictures stand side by side
    figure, axes = plt.subplots(
        *shape, figsize=(max(6, min(1.5 * columns, 11)), 2.1 * shape[0]), squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    rows = axes if columns > 1 else axes.T
    for row, (label, one) in zip(rows, found.items(), strict=True):
        for axis, frame, weight in zip(row, one.frames, one.weights, strict=False):
            axis.imshow(frame)
            axis.set_xlabel(f"{weight:.0%}" if len(one.frames) > 1 else "", fontsize=7)
        words = "  ".join(f"{word} {weight:.2f}" for word, weight in one.words).replace("$", r"\$")
        title = f"{label}, cosine {one.score:.3f}: {words}"
        row[0].set_title("\n".join(textwrap.wrap(title, 28 * columns)), fontsize=8, loc="left")
    figure.tight_layout()
    return figure


def title_of(file: MediaFile) -> str:
    """What a result is called: its first caption, or its file name."""
    return file.captions[0] if file.captions else shown_name(file.file_name)


def _preview(index: MediaIndex, file: MediaFile) -> tuple[str, str]:
    """The address of a result's preview, or "" and what is wrong with the file."""
    try:
        return previews.data_uri(index.path(file), file), ""
    except MediaError as error:  # it was there when the index was built
        return "", str(error)


def _still(index: MediaIndex, file: MediaFile) -> Image.Image:
    """The picture of a result, grey if its file can no longer be read."""
    try:
        return previews.still(index.path(file), file)
    except MediaError:
        return Image.new("RGB", (previews.SIDE, previews.SIDE), plots.GREY)


def _jpeg(frame: Image.Image) -> str:
    """A picture as a `data:` address."""
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def _page() -> TemplateModule:
    """The macros of the page; they escape all that they are given."""
    environment = Environment(
        loader=FileSystemLoader(STATIC),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"title_of": title_of, "shown_name": shown_name, "jpeg": _jpeg, "number": format}
    return environment.get_template("explorer.html").module
