"""Training and evaluating an adapter, and the record that a run leaves."""

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
