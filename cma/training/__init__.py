"""Train and evaluate an adapter, and record the run.

To follow a run, start at `loop.train`: `choose_splits` opens the data, `Run.epochs` goes through
them, `Run.step` does one update (`train_step`, `batch_gradient`), and `encode` and `evaluate` give
the recalls. Everything around this core has its own module: several processes (`devices`), memory
and hours beforehand (`planning`), continuing after a stop (`resume`, `stopping`), the record,
messages and curve of a run (`record`, `words`), batches in less memory (`grad_cache`), and the
authors' optimiser and half precision (`authors`).
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the lazy names, for type checkers
    from .authors import BertAdam as BertAdam
    from .devices import choose_device as choose_device
    from .evaluation import Embeddings as Embeddings
    from .evaluation import encode as encode
    from .evaluation import evaluate as evaluate
    from .evaluation import evaluate_and_record as evaluate_and_record
    from .evaluation import query_ranks as query_ranks
    from .loop import TrainConfig as TrainConfig
    from .loop import train as train
    from .optim import parameter_groups as parameter_groups
    from .optim import prepare as prepare
    from .optim import rate_factor as rate_factor
    from .optim import restore as restore
    from .optim import set_rate as set_rate
    from .planning import plan as plan
    from .reading import Batch as Batch
    from .reading import Pixels as Pixels
    from .reading import model_frames as model_frames
    from .reading import read_batches as read_batches
    from .record import RunRecord as RunRecord
    from .record import hardware as hardware
    from .record import versions as versions
    from .splits import choose_splits as choose_splits
    from .splits import describe_epoch as describe_epoch
    from .splits import digest as digest
    from .splits import epoch_batches as epoch_batches
    from .splits import epoch_size as epoch_size
    from .step import NotFinite as NotFinite
    from .step import train_step as train_step
    from .words import training_curve as training_curve

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "splits": ["choose_splits", "describe_epoch", "digest", "epoch_batches", "epoch_size"],
        "reading": ["Batch", "Pixels", "model_frames", "read_batches"],
        "devices": ["choose_device"],
        "optim": ["parameter_groups", "prepare", "rate_factor", "restore", "set_rate"],
        "authors": ["BertAdam"],
        "step": ["NotFinite", "train_step"],
        "evaluation": [
            "Embeddings",
            "encode",
            "evaluate",
            "evaluate_and_record",
            "query_ranks",
        ],
        "planning": ["plan"],
        "record": ["RunRecord", "hardware", "versions"],
        "words": ["training_curve"],
        "loop": ["TrainConfig", "train"],
    },
)
