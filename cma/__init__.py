"""Cross-Modal Adapter: frozen CLIP, 0.3 % trained, for images and videos.

`import cma` brings the teaching core; the other submodules (data, search, plots, …) load when first used.
"""

import importlib
import importlib.util
import pkgutil
from importlib import metadata


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


_refuse_namesake()

from .adapter import AdapterConfig, CrossModalAdapters  # noqa: E402 (after the check, which needs no torch)
from .model import RetrievalModel, load_backbone  # noqa: E402

try:
    __version__ = metadata.version("cross-modal-adapter")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["AdapterConfig", "CrossModalAdapters", "RetrievalModel", "TrainConfig", "load_backbone", "train"]


def __getattr__(name: str):
    if name in ("train", "TrainConfig"):
        return getattr(importlib.import_module(".training", __name__), name)
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'cma' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} | set(globals()) | set(__all__))
