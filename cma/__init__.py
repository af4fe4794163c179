"""Cross-Modal Adapter: frozen CLIP, 0.3 % trained, for images and videos.

`import cma` takes a moment: each name and submodule below loads when it is first used, and torch with it.
"""

import importlib.util
from importlib import metadata

import lazy_loader


def _refuse_namesake() -> None:
    """PyPI's `cma`, the CMA-ES optimiser, fills the same folder: with both installed, either is broken."""
    try:
        version = metadata.version("cma")
    except metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"the CMA-ES optimiser (PyPI's `cma` {version}) is installed beside cross-modal-adapter, and both "
        "import as `cma`. Run `pip uninstall cma`, then `pip install --force-reinstall --no-deps "
        "cross-modal-adapter` (in a clone: `pip install --no-deps -e .`), or give each its own environment"
    )


def require(extra: str, *modules: str) -> None:
    """Raise ImportError, in one line with the pip command, unless the modules of an extra are installed."""
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise ImportError(
            f"{', '.join(missing)}: not installed; run `pip install 'cross-modal-adapter[{extra}]'`"
        )


_refuse_namesake()

try:
    __version__ = metadata.version("cross-modal-adapter")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        *("adapter", "patching", "backbone", "model", "checkpoints", "similarity", "losses", "metrics"),
        *("data", "config", "recipes", "plots", "files"),
        *("media", "training", "search", "explore", "pretraining"),
    ],
    submod_attrs={
        "adapter": ["AdapterConfig", "CrossModalAdapters"],
        "backbone": ["load_backbone"],
        "config": ["TrainConfig"],
        "model": ["RetrievalModel"],
        "training": ["train"],
    },
)
