"""Training and evaluating an adapter, and the record that a run leaves.

A run reads from the top of `loop.train`: `choose_splits` opens the data, `Run.epochs` goes through
them, `Run.step` does one update (`train_step`, `batch_gradient`), and `encode` and `evaluate` give
the recalls. Everything around this core has its own module: several processes (`devices`), memory
and hours beforehand (`planning`), going on after a stop (`resume`, `stopping`), what a run says and
draws (`record`, `words`), and the authors' optimiser and half precision (`authors`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "splits": ["choose_splits", "describe_epoch", "digest", "epoch_batches", "epoch_size"],
        "reading": ["Batch", "Pixels", "model_frames", "read_batches"],
        "devices": ["choose_device"],
        "optim": ["parameter_groups", "prepare", "rate_factor", "restore", "set_rate"],
        "authors": ["BertAdam"],
        "step": ["NotFinite", "batch_loss", "train_step"],
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
