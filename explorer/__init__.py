"""Search pictures and clips by sentence, picture or clip: index, explanations, widget and page."""

from typing import TYPE_CHECKING

import lazy_loader

from cma import require

if TYPE_CHECKING:  # the lazy names, for type checkers
    from .answers import ask as ask
    from .answers import examples as examples
    from .answers import rank_changes as rank_changes
    from .answers import search_both as search_both
    from .answers import why as why
    from .attention import explain as explain
    from .demo import demo_galleries as demo_galleries
    from .gallery import Gallery as Gallery
    from .gallery import load_first as load_first
    from .gallery import open_galleries as open_galleries
    from .index import IndexConfig as IndexConfig
    from .index import MediaIndex as MediaIndex
    from .pictures import image_grid as image_grid
    from .pictures import results_grid as results_grid
    from .pictures import still as still
    from .pictures import title_of as title_of
    from .pictures import why_figure as why_figure
    from .session import STRENGTHS as STRENGTHS
    from .session import Session as Session
    from .widget import Explorer as Explorer

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["index"],
    submod_attrs={
        "answers": ["ask", "examples", "rank_changes", "search_both", "why"],
        "attention": ["explain"],
        "demo": ["demo_galleries"],
        "index": ["IndexConfig", "MediaIndex"],
        "gallery": ["Gallery", "load_first", "open_galleries"],
        "pictures": ["image_grid", "results_grid", "still", "title_of", "why_figure"],
        "session": ["STRENGTHS", "Session"],
        "widget": ["Explorer"],
    },
)


def __getattr__(name: str) -> object:
    """Load one of the names above at its first use. Raises ImportError if a package is missing.

    The index needs none of these packages.
    """
    if name in __all__ and name not in ("IndexConfig", "MediaIndex", "index"):
        parts = "lancedb", "ipywidgets", "anywidget", "matplotlib", "tornado", "av", "platformdirs"
        require("explorer", *parts)
    return _load(name)
