"""The offline benchmarks, made from open packages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["add_command", "build_minis"],
    },
)
