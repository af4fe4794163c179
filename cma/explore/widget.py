"""Ask pictures and clips in a notebook: a widget over `answers`, which holds all that is computed."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path

import ipywidgets as widgets

from ..media import MediaError
from ..search import kind_of
from . import answers, page
from .answers import Answer, Indexes
from .dropzone import DropZone
from .gallery import ZERO_SHOT, Gallery, label

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of an adapter: 0 is CLIP, 1 the adapter as trained
NONE = "—"
WRAP = widgets.Layout(flex_flow="row wrap")  # at any width
MOST = 30  # missed captions to choose from


def _shown(callback: Callable) -> Callable:
    """Show in the widget what goes wrong. A callback has no cell to print into, the first build has."""

    @wraps(callback)
    def guarded(self: Explorer, *args: object) -> None:
        try:
            out, err = (io.StringIO(), io.StringIO()) if self._made else (sys.stdout, sys.stderr)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                callback(self, *args)
        except Exception as error:
            self.status.value = page.alert_html(error)

    return guarded


def _dropdown(description: str, options: Sequence, width: str) -> widgets.Dropdown:
    """A dropdown with a layout of its own, so that it can be hidden alone."""
    return widgets.Dropdown(options=options, description=description, layout=widgets.Layout(width=width))


def _show(control: widgets.Widget, shown: bool) -> None:
    """Show a control, or hide it."""
    control.layout.display = None if shown else "none"


class Explorer(widgets.VBox):
    """A query box over galleries by their names: zero-shot, one or two adapters, at any strength.

    Sentences are typed, pictures and clips dropped; `k` results a model. `why` explains one of them.
    Controls without use are hidden: those for adapters where there are none, and so on.
    """

    def __init__(self, galleries: Mapping[str, Gallery], query: str = "", k: int = 5) -> None:
        if not galleries:
            raise ValueError("no galleries were given; expected at least one, by its name")
        self.galleries, self.k = dict(galleries), k
        self._asked: str | Path = query
        self._kept: object = None
        self._indexes: Indexes = {}  # of the columns that are shown, by their labels
        self._quiet, self._made = False, False  # while the widget changes its own controls; once it stands
        self._build(query)
        self._watch()
        model = widgets.HBox([self.dataset, *self.adapters, self.strength, self.backbone], layout=WRAP)
        query = widgets.HBox([self.text, self.button, self.example, self.drop], layout=WRAP)
        closer = widgets.HBox([self.why, self.find, self.missed, self.play], layout=WRAP)
        super().__init__([model, query, self.status, self.results, closer, self.reason])
        self.add_class("cma-explorer")
        _show(self.why, False)  # until there is a result
        self._enter_gallery()
        self._made = True

    def __repr__(self) -> str:
        """What is read where no widget can be shown."""
        return f"a query box over {', '.join(self.galleries)}: run the notebook in JupyterLab to use it"

    @property
    def gallery(self) -> Gallery:
        """The one that is asked now."""
        return self.galleries[self.dataset.value]

    def _columns(self) -> list[str | None]:
        """The adapters side by side: none, and those that are chosen, each once."""
        return list(dict.fromkeys([None, *(control.value for control in self.adapters)]))

    # ---- the controls

    def _build(self, query: str) -> None:
        none, wide, short = [(NONE, None)], "380px", "230px"
        self.dataset = _dropdown("media", list(self.galleries), short)
        self.adapters = [_dropdown(f"adapter {number}", none, short) for number in (1, 2)]
        steps = [(f"{step:g}", step) for step in STRENGTHS]
        self.strength = widgets.SelectionSlider(options=steps, value=1.0, description="strength")
        self.text = widgets.Text(query, description="query", continuous_update=False)
        self.text.layout.width, self.text.placeholder = wide, "type a few words, then Enter"
        self.button = widgets.Button(description="search", button_style="primary")
        self.example = _dropdown("examples", (), short)
        self.drop = DropZone(self._take_file)
        self.backbone, self.status, self.results, self.reason = (widgets.HTML() for _ in range(4))
        self.why, self.missed = _dropdown("why?", none, wide), _dropdown("missed", none, wide)
        self.find = widgets.Button(description="find what CLIP misses", layout=widgets.Layout(width="180px"))
        self.play = widgets.Checkbox(True, description="play clips", indent=False)
        self.play.layout.width = "110px"
        named = {
            "dataset": self.dataset, "adapter-1": self.adapters[0], "adapter-2": self.adapters[1],
            "strength": self.strength, "query": self.text, "search": self.button, "examples": self.example,
            "drop": self.drop, "status": self.status, "results": self.results, "why": self.why,
            "find": self.find, "missed": self.missed, "play": self.play, "reason": self.reason,
            "about": self.backbone,
        }  # fmt: skip
        for name, control in named.items():
            control.add_class(f"cma-{name}")

    def _watch(self) -> None:
        self.dataset.observe(self._enter_gallery, "value")
        for control in (*self.adapters, self.strength, self.play):
            control.observe(self._change, "value")
        self.text.observe(self._ask_text, "value")
        self.button.on_click(self._ask_text)
        self.example.observe(self._take_example, "value")
        self.why.observe(self._explain, "value")
        self.find.on_click(self._find_missed)
        self.missed.observe(self._take_missed, "value")

    def _say(self, message: str, below: str = "") -> None:
        self.status.value = page.status_html(message) + below

    @contextlib.contextmanager
    def _setting(self):
        """The controls are changed by the widget itself: nothing is searched meanwhile."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    # ---- what happens

    @_shown
    def _enter_gallery(self, _: object = None) -> None:
        """Other media: their backbone, adapter and examples, the controls they need, and the same query."""
        self.backbone.value = page.about_html(self.gallery.model.clip.config.name_or_path)
        with self._setting():
            names = [(NONE, None), *((name, name) for name in self.gallery.model.adapters)]
            for control, value in zip(self.adapters, (self.gallery.adapter, None), strict=True):
                control.options, control.index = names, 0  # or the page shows none
                control.value = value
            self.missed.options, self.missed.index = [(NONE, None)], 0
            index = self.gallery.index()
            shown = answers.examples(index)
            self.example.options = [("choose one", ""), *((text, text) for text in shown)]
            self.example.index = 0
        adapters, captions = len(self.gallery.model.adapters), bool(index.captions)
        for number, control in enumerate(self.adapters):
            _show(control, adapters > number)
        _show(self.strength, adapters > 0)
        _show(self.example, captions)
        _show(self.find, captions and adapters > 0)
        _show(self.missed, captions and adapters > 0)
        _show(self.play, any(file.kind == "video" for file in index.files))
        self._search()

    @_shown
    def _change(self, _: object) -> None:
        if self._quiet:
            return
        with self._setting():
            self.missed.options, self.missed.index = [(NONE, None)], 0
        self._search()

    @_shown
    def _ask_text(self, _: object) -> None:
        if not self._quiet:
            if not self.text.value.strip():
                raise ValueError("the query is blank; type a few words")
            self._asked = self.text.value
            self._search()

    @_shown
    def _take_example(self, _: object) -> None:
        if self.example.value and not self._quiet:
            self.text.value = self.example.value
            self.example.value = ""  # so that it can be chosen again

    @_shown
    def _take_file(self, path: Path, name: str) -> None:
        try:
            shown = page.asked_html(name, path, kind_of(path), self.play.value)
        except MediaError as error:
            raise MediaError(str(error).replace(str(path), name)) from error
        self._asked, self._kept = path, self.drop.folder  # the file stays as long as it asks
        with self._setting():
            self.text.value = ""
        self._search()
        self.status.value += shown

    @_shown
    def _find_missed(self, _: object) -> None:
        self._say("ranking every caption …")
        zero_shot, *adapted = self.gallery.indexes(self._columns(), self.strength.value).items()
        if not adapted:
            raise ValueError("choose an adapter first: what CLIP misses is what an adapter finds")
        name, index = adapted[0]
        changes = [c for c in answers.rank_changes(zero_shot[1], index) if c.after < c.before]
        with self._setting():
            named = [(f"{c.before:,} → {c.after:,} {c.caption}", c.caption) for c in changes[:MOST]]
            self.missed.options, self.missed.index = [(NONE, None), *named], 0
        self._say(f"{len(changes):,} captions rank better with {name}; choose one")

    @_shown
    def _take_missed(self, _: object) -> None:
        if self.missed.value and not self._quiet:
            self.text.value = self.missed.value

    @_shown
    def _explain(self, _: object = None) -> None:
        if self._quiet:
            return
        self.reason.value = ""
        if self.why.value is not None:
            column, item = self.why.value
            found = answers.why(self._indexes[column], str(self._asked), item)
            self.reason.value = page.why_html(column, found)

    def _search(self) -> None:
        """Show the answers of all columns; embed the media first where an adapter meets them for once."""
        if not self._asked:
            return
        adapters, scale = self._columns(), self.strength.value
        new = [label(name, scale) for name in adapters if not self.gallery.has(name, scale)]
        if new:
            self._say(f"embedding the media with {', '.join(new)} …")
        started = time.perf_counter()
        self._indexes = self.gallery.indexes(adapters, scale)
        about = f"embedded in {time.perf_counter() - started:.1f} s, now kept · " if new else ""
        found = answers.search_both(self._indexes, self._asked, self.k)
        self.results.value = page.results_html(self._indexes, found, self.play.value)
        self._offer_reasons(found)
        if len(adapters) > 1:
            switched = self.gallery.switching_seconds(adapters) * 1000
            about += f"switching adapters on the one backbone: {switched:.1f} ms"
        self._say(about, page.skipped_html(self._indexes[ZERO_SHOT]))

    def _offer_reasons(self, found: Mapping[str, Answer]) -> None:
        """What can be explained: every result of a sentence."""
        if not isinstance(self._asked, str):
            found = {}  # no words, no reasons
        named = [
            (f"{column}, {hit.rank}: {page.title_of(hit.file)}", (column, hit.item))
            for column, answer in found.items()
            for hit in answer.hits
        ]
        before = self.why.value
        with self._setting():
            self.why.options = [(NONE, None), *named]
            values = [value for _, value in self.why.options]
            self.why.index = values.index(before) if before in values else 0
        _show(self.why, bool(named))
        self._explain()
