"""Train and evaluate an adapter, and record the run.

To follow a run, start at `loop.train`: `choose_splits` opens the data, `Run.epochs` goes through
them, `Run.step` does one update (`train_step`, `batch_gradient`), and `encode` and `evaluate` give
the recalls. Everything around this core has its own module: several processes (`devices`), memory
and hours beforehand (`planning`), continuing after a stop (`resume`, `stopping`), the record,
messages and curve of a run (`record`, `words`), and the authors' optimiser and half precision
(`authors`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
