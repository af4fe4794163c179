"""The offline benchmarks, and the drawings that the bundled CLIP was trained on: both of open packages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["icons", "pretraining"], submod_attrs={"build": ["add_command", "build_minis"]}
)
