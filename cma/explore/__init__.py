"""Asking pictures and clips by sentence, picture or clip: answers, reasons, the widget and its page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answers": ["ask", "examples", "rank_changes", "search_both", "why"],
        "attention": ["explain"],
        "gallery": ["Gallery"],
        "page": ["results_grid", "title_of", "why_figure"],
        "previews": ["still"],
        "widget": ["Explorer", "STRENGTHS"],
    },
)
