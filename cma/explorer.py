"""Ask pictures and clips in a notebook, models side by side: plain functions, and a widget over them."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
from matplotlib.figure import Figure
from PIL import Image

from . import metrics, plots, previews
from .media import MediaFile
from .search import MediaIndex
from .video import MediaError

Indexes = Mapping[str, MediaIndex]  # of one set of media, by the label of the model: zero-shot, adapted, …

STYLE = """<style>
.cma-sides {display: flex; flex-wrap: wrap; gap: 16px}
.cma-sides section {flex: 1 1 240px; min-width: 0}
.cma-hits {display: grid; grid-template-columns: repeat(auto-fill, minmax(108px, 1fr)); gap: 8px; padding: 0}
.cma-hits figure {margin: 0; padding: 5px; border: 1px solid #9aa0a6; font-size: 12px; line-height: 1.3}
.cma-hits figure.cma-right {border: 3px solid #d9822b; padding: 3px}
.cma-hits img, .cma-hits video {width: 100%; aspect-ratio: 1; object-fit: contain}
.cma-hits figcaption {overflow-wrap: anywhere}
.cma-hits small {display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden}
</style>"""


@dataclass(frozen=True)
class Hit:
    """A result: its rank from 1, its cosine, and whether the query is one of its captions."""

    rank: int
    score: float
    file: MediaFile
    right: bool


@dataclass(frozen=True)
class Answer:
    """The best hits among `items`; `right_rank` of the first right one, None where none is known.

    `cut`: the query was longer than the text tower takes.
    """

    hits: tuple[Hit, ...]
    items: int
    right_rank: int | None
    seconds: float
    cut: bool


@dataclass(frozen=True)
class RankChange:
    """A caption and the ranks that two models give its item."""

    caption: str
    file: MediaFile
    before: int
    after: int


def ask(index: MediaIndex, text: str, k: int = 5) -> Answer:
    """The `k` best of an index for a sentence. Raises ValueError as `MediaIndex.query`."""
    start = time.perf_counter()
    items, scores = index.ranking(text)
    seconds = time.perf_counter() - start
    right = set(index.right(text))
    order = items.tolist()
    hits = tuple(
        Hit(rank, score, index.files[item], item in right)
        for rank, (item, score) in enumerate(zip(order[:k], scores[:k].tolist(), strict=True), start=1)
    )
    first = next((rank for rank, item in enumerate(order, start=1) if item in right), None)
    return Answer(hits, len(index), first, seconds, bool(index.model.cut))


def search_both(indexes: Indexes, text: str, k: int = 5) -> dict[str, Answer]:
    """The answer of every model to one sentence, by its label."""
    return {label: ask(index, text, k) for label, index in indexes.items()}


def rank_changes(before: MediaIndex, after: MediaIndex) -> list[RankChange]:
    """Every caption of the media with its ranks by two models, by the factor won, largest first.

    So the list starts with what `before` misses and `after` finds, and ends with what was lost. Ties count
    against a model, as in `cma.metrics`. Raises ValueError for indexes of different files.
    """
    if [file.key for file in before.files] != [file.key for file in after.files]:
        raise ValueError(
            f"the indexes hold different files ({len(before)} and {len(after)}); build both alike"
        )
    captions, owners = before.captions, before.text_to_item
    ranks = [metrics.ranks(index.scores(captions), owners).tolist() for index in (before, after)]
    changes = [
        RankChange(caption, before.files[item], *pair)
        for caption, item, *pair in zip(captions, owners.tolist(), *ranks, strict=True)
    ]
    return sorted(changes, key=lambda change: math.log(change.after / change.before))


def examples(index: MediaIndex, n: int = 8, seed: int = 0) -> list[str]:
    """Some captions of an index to start from, chosen by `seed`; fewer where there are fewer."""
    firsts = list(dict.fromkeys(file.captions[0] for file in index.files if file.captions))
    return random.Random(seed).sample(firsts, min(n, len(firsts)))


# ---- what is shown


def results_html(indexes: Indexes, answers: Mapping[str, Answer]) -> str:
    """The answers side by side: previews with rank, cosine and captions, the right one marked."""
    sides = "".join(_side_html(label, indexes[label], answer) for label, answer in answers.items())
    return f'{STYLE}<div class="cma-sides">{sides}</div>'


def respond(indexes: Indexes, text: str, k: int = 5) -> str:
    """What the widget shows for a query: results, or what went wrong. Never raises."""
    try:
        return results_html(indexes, search_both(indexes, text, k))
    except Exception as error:  # a widget's callback has nowhere else to show it
        return f'<p role="alert"><b>Not found:</b> {escape(str(error) or type(error).__name__)}</p>'


def results_grid(indexes: Indexes, answers: Mapping[str, Answer]) -> Figure:
    """The answers as a still figure, a row a model, for readers who see the notebook on a page."""
    pictures, captions, marked = [], [], []
    for label, answer in answers.items():
        for hit in answer.hits:
            pictures.append(_still(indexes[label], hit.file))
            captions.append(f"{hit.rank}. {hit.score:.3f}{' ✓' if hit.right else ''} {_title(hit.file)}")
            marked.append(hit.right)
    columns = max(len(answer.hits) for answer in answers.values())
    figure = plots.image_grid(
        pictures, [text.replace("$", r"\$") for text in captions], columns, marked=marked
    )
    for row, label in enumerate(answers):
        figure.axes[row * columns].set_ylabel(label, fontsize=8)
    return figure


class Explorer(widgets.VBox):
    """A query box over several sets of media, each with its models side by side.

    `datasets` gives indexes by dataset and label: {"mini-flickr30k": {"zero-shot": …, "adapted": …}}.
    """

    def __init__(self, datasets: Mapping[str, Indexes], query: str = "", k: int = 5) -> None:
        self.datasets, self.k = datasets, k
        wide = widgets.Layout(width="420px")
        self.dataset = widgets.Dropdown(options=list(datasets), description="dataset")
        self.text = widgets.Text(query, description="query", continuous_update=False, layout=wide)
        self.text.placeholder = "type a few words, then Enter"
        self.button = widgets.Button(description="search", button_style="primary")
        self.example = widgets.Dropdown(description="examples")
        self.results = widgets.HTML()
        self.dataset.observe(self._switch, "value")
        self.text.observe(self._search, "value")
        self.button.on_click(self._search)
        self.example.observe(self._take, "value")
        first = widgets.HBox([self.dataset, self.example])
        super().__init__([first, widgets.HBox([self.text, self.button]), self.results])
        self._switch()

    def __repr__(self) -> str:
        """What is read where no widget can be shown."""
        return f"a query box over {', '.join(self.datasets)}: run the notebook in JupyterLab to use it"

    def _switch(self, _: object = None) -> None:
        """Another dataset: other examples, the same query."""
        zero_shot = next(iter(self.datasets[self.dataset.value].values()))
        self.example.options = [("choose one", ""), *((text, text) for text in examples(zero_shot))]
        self.example.index = 0
        if self.text.value:
            self._search()

    def _take(self, _: object) -> None:
        if self.example.value:
            self.text.value = self.example.value
            self.example.index = 0  # so that it can be chosen again

    def _search(self, _: object = None) -> None:
        self.results.value = "<p>searching …</p>"
        self.results.value = respond(self.datasets[self.dataset.value], self.text.value, self.k)


def _side_html(label: str, index: MediaIndex, answer: Answer) -> str:
    about = [f"<b>{escape(label)}</b>", f"{answer.items:,} items", f"{answer.seconds:.3f} s"]
    if answer.right_rank:
        about.append(f"right answer at rank {answer.right_rank:,}")
    if answer.cut:
        about.append("query cut to the text tower's length")
    hits = "".join(_hit_html(index, hit) for hit in answer.hits)
    content = f'{" · ".join(about)}<div class="cma-hits">{hits}</div>'
    return f'<section aria-label="{escape(label)}">{content}</section>'


def _hit_html(index: MediaIndex, hit: Hit) -> str:
    title, others = escape(_title(hit.file)), escape(" · ".join(hit.file.captions[1:]))
    try:
        source = previews.data_uri(index.path(hit.file), hit.file)
    except MediaError as error:  # it was there when the index was built
        shown = f"<p>{escape(str(error))}</p>"
    else:
        shown = f'<img src="{source}" alt="{title}">'
        if hit.file.kind == "video":
            shown = f'<video src="{source}" aria-label="{title}" autoplay loop muted playsinline></video>'
    mark = "<br><b>✓ right answer</b>" if hit.right else ""
    words = f"<b>{hit.rank}</b> · {hit.score:.3f}{mark}<br>{title}<small>{others}</small>"
    return (
        f'<figure class="{"cma-right" if hit.right else ""}" title="{escape(hit.file.file_name)}">{shown}'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _still(index: MediaIndex, file: MediaFile) -> Image.Image:
    """The picture of a result, grey if its file can no longer be read."""
    try:
        return previews.still(index.path(file), file)
    except MediaError:
        return Image.new("RGB", (previews.SIDE, previews.SIDE), plots.GREY)


def _title(file: MediaFile) -> str:
    """What a result is called: its first caption, or its file name."""
    return file.captions[0] if file.captions else file.file_name
