"""A dress rehearsal: media and annotation files like a benchmark's own, and every step of a run on them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "command": ["STEPS", "add_command", "rehearse"],
        "figures": ["Figure", "figures_of_packages"],
        "likeness": ["LIKENESSES", "expected", "scaled"],
        "source": ["make_source", "read_source"],
        "stages": ["Rehearsal"],
    },
)
