"""What compares many runs and makes `results/`: `python -m experiments --help`. It needs a clone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["gains", "pretraining", "probes", "published", "report", "rows"],
    submod_attrs={"rows": ["Budget", "MethodRow"], "study": ["Study"]},
)
