"""Commands that compare many runs and make `results/`: `python -m experiments --help`. Needs a
clone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["gains", "kept", "pretraining", "probes", "published", "report", "rows"],
    submod_attrs={"rows": ["Budget", "MethodRow"], "study": ["Study"]},
)
