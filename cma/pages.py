"""What the explorer shows: answers and explanations as HTML, and as still figures for a printed page."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from . import plots, previews
from .answers import Answer, Hit, Indexes, Why
from .media import MediaFile
from .pictures import MediaError, shown_name
from .search import MediaIndex

STYLE = """<style>
.cma-sides {display: flex; flex-wrap: wrap; gap: 16px}
.cma-sides section {flex: 1 1 240px; min-width: 0}
.cma-hits {display: grid; grid-template-columns: repeat(auto-fill, minmax(108px, 1fr)); gap: 8px; padding: 0}
.cma-hits figure {margin: 0; padding: 5px; border: 1px solid #9aa0a6; font-size: 12px; line-height: 1.3}
.cma-hits figure.cma-right {border: 3px solid #d9822b; padding: 3px}
.cma-hits img, .cma-hits video {width: 100%; aspect-ratio: 1; object-fit: contain}
.cma-hits figcaption {overflow-wrap: anywhere}
.cma-hits small {display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden}
.cma-bars {display: flex; align-items: flex-end; gap: 1px; height: 18px; border-bottom: 1px solid #9aa0a6}
.cma-bars i {flex: 1; background: #3b6ea5}
.cma-frames {display: flex; flex-wrap: wrap; gap: 6px}
.cma-frames figure {margin: 0; width: 132px; font-size: 12px; line-height: 1.3}
.cma-frames img {width: 100%; display: block}
.cma-frames .cma-bars {height: 40px; margin-top: 2px}
.cma-words {font-size: 16px; line-height: 2}
.cma-asked img, .cma-asked video {height: 64px; vertical-align: middle}
.cma-words mark {padding: 2px 4px; border-radius: 3px; color: inherit}
</style>"""


def results_html(indexes: Indexes, answers: Mapping[str, Answer], play: bool = True) -> str:
    """The answers side by side: previews with rank, cosine and captions, the right one marked.

    Clips play by themselves, or when their controls are used.
    """
    sides = "".join(_side_html(label, indexes[label], answer, play) for label, answer in answers.items())
    return f'{STYLE}<div class="cma-sides">{sides}</div>'


def why_html(label: str, found: Why) -> str:
    """An explanation: the words and the patches that a match rests on, a clip's frames with their weights."""
    words = " ".join(
        f'<mark style="background: rgba(217, 130, 43, {heat:.2f})" title="{heat:.2f}">{escape(word)}</mark>'
        for word, heat in found.words
    )
    title = escape(title_of(found.file))
    rows = list(zip(found.frames, found.weights, found.cosines, strict=True))
    frames = "".join(_frame_html(*row, number, len(rows)) for number, row in enumerate(rows, start=1))
    counted = "frame weights below" if len(rows) > 1 else "one picture"
    return (
        f"{STYLE}<p><b>{escape(label)}</b> · cosine {found.score:.3f} · {title} · {counted}. The brighter a "
        f'patch and the darker a word, the more the match rests on it.</p><p class="cma-words" '
        f'aria-label="weights of the words">{words}</p><div class="cma-frames">{frames}</div>'
    )


def skipped_html(index: MediaIndex) -> str:
    """The files that could not be read, folded up; nothing where all could."""
    if not index.skipped:
        return ""
    rows = "".join(f"<li>{escape(shown_name(name))}: {escape(why)}</li>" for name, why in index.skipped)
    return (
        f"<details><summary>{len(index.skipped):,} files could not be read</summary><ul>{rows}</ul></details>"
    )


def alert_html(error: Exception) -> str:
    """What went wrong, for people."""
    return f'<p role="alert"><b>Not found:</b> {escape(str(error) or type(error).__name__)}</p>'


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


def _side_html(label: str, index: MediaIndex, answer: Answer, play: bool) -> str:
    about = [f"<b>{escape(label)}</b>", f"{answer.items:,} items", f"{answer.seconds:.3f} s"]
    if answer.right_rank:
        about.append(f"right answer at rank {answer.right_rank:,}")
    elif answer.ranked < answer.items:
        about.append(f"the best {answer.ranked:,} ranked")
    if answer.cut:
        about.append("query cut to the text tower's length")
    hits = "".join(_hit_html(index, hit, play) for hit in answer.hits)
    content = f'{" · ".join(about)}<div class="cma-hits">{hits}</div>'
    return f'<section aria-label="{escape(label)}">{content}</section>'


def _hit_html(index: MediaIndex, hit: Hit, play: bool) -> str:
    title, others = escape(title_of(hit.file)), escape(" · ".join(hit.file.captions[1:]))
    name = escape(shown_name(hit.file.file_name))
    try:
        shown = _media_html(index.path(hit.file), hit.file, title, play)
    except MediaError as error:  # it was there when the index was built
        shown = f"<p>{escape(str(error))}</p>"
    if hit.weights is not None:
        shown += _bars_html(hit.weights.tolist(), "weights of its frames: ")
    mark = "<br><b>✓ right answer</b>" if hit.right else ""
    words = f"<b>{hit.rank}</b> · {hit.score:.3f}{mark}<br>{title}<small>{others}</small>"
    return (
        f'<figure class="{"cma-right" if hit.right else ""}" data-file="{name}" title="{name}">{shown}'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _frame_html(frame: Image.Image, weight: float, cosine: float, number: int, of: int) -> str:
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    about = f"frame {number} of {of}, weight {weight:.2f}, cosine {cosine:.3f}" if of > 1 else "the picture"
    bar = f'<div class="cma-bars"><i style="height: {weight:.1%}"></i></div>' if of > 1 else ""
    return f'<figure><img src="{source}" alt="{about}, with the heat of its patches">{bar}{about}</figure>'


def _bars_html(weights: list[float], about: str) -> str:
    """A bar a frame, as high as its weight; the words for those who cannot see it."""
    words = about + ", ".join(f"{weight:.2f}" for weight in weights)
    bars = "".join(f'<i style="height: {weight / max(weights):.1%}"></i>' for weight in weights)
    return f'<div class="cma-bars" role="img" aria-label="{words}" title="{words}">{bars}</div>'


def _still(index: MediaIndex, file: MediaFile) -> Image.Image:
    """The picture of a result, grey if its file can no longer be read."""
    try:
        return previews.still(index.path(file), file)
    except MediaError:
        return Image.new("RGB", (previews.SIDE, previews.SIDE), plots.GREY)


def asked_html(name: str, path: Path, kind: str, play: bool = True) -> str:
    """What was dropped, small, and its name. Raises MediaError."""
    shown = _media_html(path, MediaFile(name, path.name, kind), escape(name), play)
    return f'<div class="cma-asked">{shown} asked by {escape(name)}</div>'


def _media_html(path: Path, file: MediaFile, alt: str, play: bool) -> str:
    """The preview of a picture, or of a clip, which plays by itself or has controls; `alt` is escaped."""
    source = previews.data_uri(path, file)
    if file.kind == "image":
        return f'<img src="{source}" alt="{alt}">'
    how = "autoplay" if play else "controls"
    return f'<video src="{source}" aria-label="{alt}" {how} loop muted playsinline></video>'
