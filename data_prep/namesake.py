"""PyPI's `cma`, the CMA-ES optimiser, imports under our library's name: notice when it comes first."""

from importlib.util import find_spec
from pathlib import Path


def check_cma() -> None:
    """Raise ImportError if `import cma` would not give this project's library.

    Where ours comes first, importing it says the same by itself; torch is not imported for the check.
    """
    spec = find_spec("cma")
    if spec is None or spec.origin is None:
        raise ImportError(
            "`cma` is not installed: run `pip install cross-modal-adapter`, or `-e .` in a clone"
        )
    if not (Path(spec.origin).parent / "adapter.py").is_file():
        raise ImportError(
            f"`import cma` finds {spec.origin}, which is not cross-modal-adapter's: the CMA-ES optimiser "
            "(PyPI's `cma`) has the same name. Run `pip uninstall cma`, then `pip install --force-reinstall "
            "--no-deps cross-modal-adapter` (in a clone: `-e .`), or give each its own environment"
        )
