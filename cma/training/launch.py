"""A run described in a JSON file: `python -m cma.training run.json`."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

import torch

from .. import data, methods, recipes
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..files import checked_dataclass, read_json
from ..model import RetrievalModel


@checked_dataclass
class RunDescription:
    """What `python -m cma.training run.json` trains; each field but `data` has a default.

    `recipe` is a variant of the recipe that the dataset folder names; `config` holds fields of TrainConfig
    that shall be other than the recipe's, and `adapter` such fields of AdapterConfig, or the options of
    another `method` of `cma.methods`. The same `init_seed` gives the same initial weights.
    """

    data: str  # a dataset folder, as data_prep writes it
    backbone: str = ""  # "mini", an id of the Hugging Face hub, or a folder; empty: the recipe's
    recipe: str = "float32"  # or "bf16", "paper"
    method: str = "cross-modal adapter"
    adapter: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    init_seed: int = 42

    def build(self, device: torch.device) -> tuple[RetrievalModel, RetrievalDataset, TrainConfig]:
        """What `cma.train` takes. Raises ValueError or OSError that says what is wrong."""
        dataset = data.load(self.data, "train")
        recipe = recipes.recipe(dataset.recipe)
        config = recipe.train_config(self.recipe).merge(self.config)
        model = RetrievalModel.from_pretrained(self.backbone or recipe.backbone, device=device)
        options = methods.options_of(self.method, dataset) | self.adapter
        methods.attach(model, self.method, "adapter", self.init_seed, **options)
        return model, dataset, config


def read_description(path: Path | str) -> RunDescription:
    """A `run.json`. Raises FileNotFoundError, or ValueError that names file and key."""
    return read_json(path, RunDescription, '; expected a description such as {"data": "data/msrvtt"}')
