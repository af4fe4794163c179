"""Search pictures and clips by sentence, picture or clip: the index, answers, explanations, the
widget, its page.
"""

import lazy_loader

from cma import require

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
        parts = "lancedb", "ipywidgets", "anywidget", "matplotlib", "tornado", "av", "decord"
        require("explorer", *parts)
    return _load(name)
