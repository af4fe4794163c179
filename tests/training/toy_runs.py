"""Models, settings and batches of toy runs, alike in every process that imports this module."""

from pathlib import Path

import torch

from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.training import Batch
from tests.conftest import EOS, SOS, build_clip, build_processor

PAIRS = 7


def build(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> RetrievalModel:
    torch.manual_seed(0)
    model = RetrievalModel(build_clip().to(dtype))
    config = AdapterConfig(bottleneck_dim=4, shared_dim=8, init_std=0.3, dropout=dropout)
    model.add_adapter("a", config)
    model.adapters["a"].to(dtype)
    return model.train()


def a_batch(dtype: torch.dtype = torch.float64, pairs: int = PAIRS) -> Batch:
    chance = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 400, (pairs, 6), generator=chance)
    ids[:, 0], ids[:, -1] = SOS, EOS
    frames = torch.randn(pairs, 3, 3, 32, 32, generator=chance, dtype=dtype)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])[torch.arange(pairs) % 2]
    return Batch(ids, frames, mask, torch.arange(pairs) // 2)


def model_of(seed: int = 0, dropout: float = 0.0) -> RetrievalModel:
    torch.manual_seed(seed)
    model = RetrievalModel(build_clip(), build_processor())
    model.add_adapter(
        "a", AdapterConfig(bottleneck_dim=4, shared_dim=8, dropout=dropout, init_std=0.1)
    )
    return model


def config_of(folder: Path, **settings) -> TrainConfig:
    usual = {
        "name": "r",
        "epochs": 2,
        "batch_size": 7,
        "lr": 1e-2,
        "max_frames": 1,
        "select_on": "last",
    }
    usual |= {"runs_dir": folder, "cache": True, "epoch_unit": "items", "eval_items": 10}
    return TrainConfig(**usual | settings)
