"""Training and evaluating an adapter, and the record that a run leaves.

A run reads from the top of `loop.train`: `choose_splits` opens the data, `Run.epochs` goes through
them, `Run.step` does one update (`train_step`, `batch_gradient`), and `encode` and `evaluate` give
the recalls. What hangs on that from outside has a file of its own: several processes (`devices`),
half precision (`precision`), memory and hours beforehand (`planning`), going on after a stop
(`resume`, `stopping`), and what a run says and draws (`record`, `words`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "splits": ["choose_splits", "describe_epoch", "digest", "epoch_batches", "epoch_size"],
        "reading": ["Batch", "Pixels", "model_frames", "read_batches"],
        "devices": ["choose_device"],
        "optim": ["BertAdam", "parameter_groups", "rate_factor", "set_rate"],
        "precision": ["prepare", "restore"],
        "step": ["NotFinite", "batch_loss", "train_step"],
        "evaluation": [
            "Embeddings",
            "chance_recall",
            "encode",
            "evaluate",
            "evaluate_and_record",
            "query_ranks",
            "recall_ceiling",
        ],
        "planning": ["plan"],
        "record": ["RunRecord", "hardware", "versions"],
        "loop": ["TrainConfig", "train"],
    },
)
