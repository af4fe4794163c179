"""Ask pictures and clips in a notebook: a widget over `answers`, which computes everything."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path

import ipywidgets as widgets

from ..media import MediaError
from ..search import MediaFile, kind_of
from . import answers, page
from .answers import Indexes
from .dropzone import DropZone
from .gallery import ZERO_SHOT, Gallery, backbone_text, label

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of an adapter: 0 is CLIP, 1 the adapter as trained
STEPS = [(f"{strength:g}", strength) for strength in STRENGTHS]
ASK = "type a few words, then Enter"
NONE = ("—", None)  # the option that chooses nothing
WRAP = widgets.Layout(flex_flow="row wrap")  # at any width
MOST = 30  # missed captions to choose from


def _reporting(callback: Callable) -> Callable:
    """Run a callback, unless the widget itself changes the control, and show in the widget what goes wrong.

    Only the first build prints: later there is no cell to print into.
    """

    @wraps(callback)
    def guarded(self: Explorer, *args: object) -> None:
        if self._quiet:
            return
        try:
            out, err = (io.StringIO(), io.StringIO()) if self._made else (sys.stdout, sys.stderr)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                callback(self, *args)
        except Exception as error:
            self.status.value = page.render("alert", str(error) or type(error).__name__)

    return guarded


def _show(shown: bool, *controls: widgets.Widget) -> None:
    """Show some controls, or hide them."""
    for control in controls:
        control.layout.display = None if shown else "none"


class Explorer(widgets.VBox):
    """A query box over galleries by their names: zero-shot CLIP beside one or two adapters, at any strength.

    Sentences are typed, pictures and clips dropped; each model gives `k` results, and `why?` explains one.
    A control that has no use is hidden, such as those for adapters if there are none. Raises ValueError for
    no galleries.
    """

    def __init__(self, galleries: Mapping[str, Gallery], query: str = "", k: int = 5) -> None:
        if not galleries:
            raise ValueError("no galleries were given; expected at least one, by its name")
        self.galleries, self.k = dict(galleries), k
        self._asked: str | Path = query
        self._kept: object = None  # the folder of the file that asks
        self._indexes: Indexes = {}  # of the columns that are shown, by their labels
        self._quiet, self._made = True, False  # while the widget sets its own controls; once it is built
        add, dropdown = self._add, partial(widgets.Dropdown, options=[NONE])
        self.dataset = add("dataset", dropdown(description="media", options=list(galleries)), self._enter)
        numbered = {n: dropdown(description=f"adapter {n}") for n in (1, 2)}
        self.adapters = [add(f"adapter-{n}", control, self._change) for n, control in numbered.items()]
        slider = widgets.SelectionSlider(options=STEPS, value=1.0, description="strength")
        self.strength = add("strength", slider, self._change)
        self.text = add("query", widgets.Text(query, description="query", placeholder=ASK), self._ask_text)
        self.text.continuous_update = False
        button = widgets.Button(description="search", button_style="primary")
        self.button = add("search", button, self._ask_text)
        self.example = add("examples", dropdown(description="examples"), self._take_caption)
        self.drop = add("drop", DropZone(self._take_file))
        self.why = add("why", dropdown(description="why?"), self._explain)
        self.find = add("find", widgets.Button(description="find what CLIP misses"), self._find_missed)
        self.missed = add("missed", dropdown(description="missed"), self._take_caption)
        self.play = add("play", widgets.Checkbox(True, description="play clips", indent=False), self._change)
        shown = ("about", "status", "results", "reason")
        self.backbone, self.status, self.results, self.reason = (add(name, widgets.HTML()) for name in shown)
        model = widgets.HBox([self.dataset, *self.adapters, self.strength, self.backbone], layout=WRAP)
        query = widgets.HBox([self.text, self.button, self.example, self.drop], layout=WRAP)
        closer = widgets.HBox([self.why, self.find, self.missed, self.play], layout=WRAP)
        super().__init__([model, query, self.status, self.results, closer, self.reason])
        self.add_class("cma-explorer")
        self._quiet = False
        _show(False, self.why)  # until there is a result
        self._enter()
        self._made = True

    def __repr__(self) -> str:
        """What is read where no widget can be shown."""
        return f"a query box over {', '.join(self.galleries)}: run the notebook in JupyterLab to use it"

    @property
    def gallery(self) -> Gallery:
        """The gallery that is asked now."""
        return self.galleries[self.dataset.value]

    def _columns(self) -> list[str | None]:
        """The adapters side by side: none, and those that are chosen, each once."""
        return list(dict.fromkeys([None, *(control.value for control in self.adapters)]))

    def _add(self, name: str, control: widgets.Widget, callback: Callable | None = None) -> widgets.Widget:
        """The control, with its name for the style sheet, and what happens when it is used."""
        control.add_class(f"cma-{name}")
        if isinstance(control, widgets.Button):
            control.on_click(callback)
        elif callback:
            control.observe(callback, "value")
        return control

    def _say(self, message: str) -> None:
        self.status.value = page.render("status", message)

    def _offer(self, control: widgets.Dropdown, options: Sequence[tuple], value: object = None) -> None:
        """Let a dropdown offer nothing and `options`, and choose the one of `value`, if it is among them."""
        options = [NONE, *options]
        values = [value for _, value in options]
        self._quiet = True
        control.options, control.index = options, 0  # or the page shows none
        control.index = values.index(value) if value in values else 0
        self._quiet = False

    @_reporting
    def _enter(self, _: object = None) -> None:
        """Other media: their backbone, adapter and examples, the controls they need, and the same query."""
        model = self.gallery.model
        self.backbone.value = page.render("about", backbone_text(model.clip.config.name_or_path))
        for number, control in enumerate(self.adapters):
            self._offer(control, [(n, n) for n in model.adapters], None if number else self.gallery.adapter)
            _show(len(model.adapters) > number, control)
        self._offer(self.missed, [])
        index = self.gallery.index()
        self._offer(self.example, [(text, text) for text in answers.examples(index)])
        adapted, captions = len(model.adapters) > 0, bool(index.captions)
        _show(adapted, self.strength)
        _show(captions, self.example)
        _show(captions and adapted, self.find, self.missed)
        _show(any(file.kind == "video" for file in index.files), self.play)
        self._search()

    @_reporting
    def _change(self, _: object) -> None:
        self._offer(self.missed, [])
        self._search()

    @_reporting
    def _ask_text(self, _: object) -> None:
        if not self.text.value.strip():
            raise ValueError("the query is blank; type a few words")
        self._asked = self.text.value
        self._search()

    @_reporting
    def _take_caption(self, change: dict) -> None:
        """Ask for the caption that was chosen in a list."""
        if change["new"]:
            self.text.value = change["new"]
            change["owner"].value = None  # so that it can be chosen again

    @_reporting
    def _take_file(self, path: Path, name: str) -> None:
        try:
            source = page.data_uri(path, MediaFile(name, path.name, kind_of(path)))
        except MediaError as error:
            raise MediaError(str(error).replace(str(path), name)) from error
        self._asked, self._kept = path, self.drop.folder  # the file stays as long as it asks
        self._quiet = True
        self.text.value = ""
        self._quiet = False
        self._search()
        self.status.value += page.render("asked", source, kind_of(path), name, self.play.value)

    @_reporting
    def _find_missed(self, _: object) -> None:
        self._say("ranking every caption …")
        zero_shot, *adapted = self.gallery.indexes(self._columns(), self.strength.value).items()
        if not adapted:
            raise ValueError("choose an adapter first: what CLIP misses is what an adapter finds")
        name, index = adapted[0]
        changes = [c for c in answers.rank_changes(zero_shot[1], index) if c.after < c.before]
        named = [(f"{c.before:,} → {c.after:,} {c.caption}", c.caption) for c in changes[:MOST]]
        self._offer(self.missed, named)
        self._say(f"{len(changes):,} captions rank better with {name}; choose one")

    @_reporting
    def _explain(self, _: object = None) -> None:
        self.reason.value = ""
        if self.why.value is not None:
            column, item = self.why.value
            explained = answers.why(self._indexes[column], str(self._asked), item)
            self.reason.value = page.render("why", column, explained)

    def _search(self) -> None:
        """Show the answers of all columns; first embed the media with an adapter that is new to them."""
        if not self._asked:
            return
        adapters, scale = self._columns(), self.strength.value
        new = [label(name, scale) for name in adapters if not self.gallery.has(name, scale)]
        if new:
            self._say(f"embedding the media with {', '.join(new)} …")
        started = time.perf_counter()
        self._indexes = self.gallery.indexes(adapters, scale)
        about = f"embedded in {time.perf_counter() - started:.1f} s, now kept · " if new else ""
        both = answers.search_both(self._indexes, self._asked, self.k)
        self.results.value = page.results_html(self._indexes, both, self.play.value)
        reasons = [
            (f"{column}, {hit.rank}: {page.title_of(hit.file)}", (column, hit.item))
            for column, answer in both.items()
            for hit in answer.hits
            if isinstance(self._asked, str)  # a file that asks has no words to explain by
        ]
        self._offer(self.why, reasons, self.why.value)
        _show(bool(reasons), self.why)
        self._explain()
        if len(adapters) > 1:
            switched = self.gallery.switching_seconds(adapters) * 1000
            about += f"switching adapters on the one backbone: {switched:.1f} ms"
        self._say(about)
        self.status.value += page.render("skipped", self._indexes[ZERO_SHOT].skipped)
