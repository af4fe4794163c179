"""Turn a benchmark's files into a dataset folder: `python -m data_prep NAME --source … --out …`."""

import cma

if not hasattr(cma, "require"):
    raise ImportError(
        f"`import cma` finds {cma.__file__}, which is not cross-modal-adapter's: the CMA-ES "
        "optimiser (PyPI's `cma`) has the same name. Run `pip uninstall cma`, then `pip install "
        "--force-reinstall "
        "--no-deps cross-modal-adapter` (in a clone: `-e .`), or give each its own environment"
    )
