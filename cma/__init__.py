"""Cross-Modal Adapter: frozen CLIP, 0.3 % trained, for images and videos.

`import cma` is fast: it loads each name and submodule below, and torch, on first use.
"""

import importlib.util
import logging
import pkgutil
import warnings
from importlib import metadata
from typing import TYPE_CHECKING

import lazy_loader


def _installed(name: str) -> str | None:
    """Return the version of a distribution, or None if it is not installed."""
    return next((found.version for found in metadata.distributions(name=name)), None)


def require(extra: str, *modules: str) -> None:
    """Raise ImportError, with the pip command, unless an extra's modules are installed."""
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise ImportError(
            f"{', '.join(missing)}: not installed; run `pip install 'cross-modal-adapter[{extra}]'`"
        )


class _Printing(logging.Handler):
    """Prints each record to the current `sys.stdout`."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record))  # prints nothing without a standard output


def log_to_stdout() -> None:
    """Print the log records of `cma` and `explorer`, from INFO on, to standard output.

    Programs and notebooks call this once; it also hides Pillow's warnings about damaged or very
    large pictures. Without it, your own `logging` and `warnings` decide. `logging.getLogger("cma")
    .setLevel("WARNING")` makes `cma` quiet again.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in (__name__, "explorer"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _Printing) for handler in logger.handlers):
            logger.addHandler(_Printing())
        logger.setLevel(logging.INFO)
        logger.propagate = False  # else a handler of the root prints it again


if other := _installed("cma"):
    raise ImportError(
        f"the CMA-ES optimiser (PyPI's `cma` {other}) is installed beside cross-modal-adapter, and "
        "both import as `cma`. Run `pip uninstall cma`, then `pip install --force-reinstall "
        "--no-deps cross-modal-adapter` (in a clone: `pip install --no-deps -e .`), or give each "
        "its own environment"
    )

# "unknown" in a source tree that is not installed
__version__ = _installed("cross-modal-adapter") or "0+unknown"

if TYPE_CHECKING:  # the lazy names, for type checkers
    from . import adapter as adapter
    from . import backbone as backbone
    from . import checkpoints as checkpoints
    from . import config as config
    from . import data as data
    from . import export as export
    from . import families as families
    from . import files as files
    from . import hub as hub
    from . import losses as losses
    from . import media as media
    from . import method as method
    from . import methods as methods
    from . import metrics as metrics
    from . import model as model
    from . import patching as patching
    from . import recipes as recipes
    from . import similarity as similarity
    from . import training as training
    from .adapter import AdapterConfig as AdapterConfig
    from .adapter import CrossModalAdapters as CrossModalAdapters
    from .backbone import load_backbone as load_backbone
    from .config import ReadConfig as ReadConfig
    from .config import TrainConfig as TrainConfig
    from .data import load_dataset as load_dataset
    from .model import RetrievalModel as RetrievalModel
    from .training import evaluate as evaluate
    from .training import train as train

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={
        "adapter": ["AdapterConfig", "CrossModalAdapters"],
        "backbone": ["load_backbone"],
        "config": ["ReadConfig", "TrainConfig"],
        "data": ["load_dataset"],
        "model": ["RetrievalModel"],
        "training": ["evaluate", "train"],
    },
)
