"""Training and evaluating an adapter, and the record that a run leaves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": [
            "Batch",
            "Pixels",
            "describe_epoch",
            "epoch_batches",
            "epoch_size",
            "model_frames",
            "read_batches",
            "without_padding",
        ],
        "evaluation": [
            "Embeddings",
            "chance_recall",
            "encode",
            "evaluate",
            "evaluate_and_record",
            "query_ranks",
            "recall_ceiling",
            "score",
        ],
        "launch": ["choose_device", "train_on_devices"],
        "loop": ["TrainConfig", "train"],
        "planning": ["plan"],
        "precision": ["prepare", "restore"],
        "optim": ["BertAdam", "parameter_groups", "rate_factor", "set_rate"],
        "record": ["RunRecord", "hardware", "versions"],
        "step": ["NotFinite", "batch_loss", "train_step"],
    },
)
