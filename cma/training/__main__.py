"""Run the training that a JSON file describes: `python -m cma.training run.json`.

On several GPUs, use `accelerate launch -m cma.training run.json` (see docs/several-gpus.md).
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import field

import torch

from .. import data, log_to_stdout, methods, recipes
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..files import checked_dataclass, fields_of, printable, read_json
from ..model import RetrievalModel
from . import devices
from .loop import train
from .planning import plan
from .words import sentence

# we print these in one line; any other error keeps its traceback
USER_ERRORS = (
    ValueError,
    OSError,
    ImportError,
    MemoryError,
    torch.OutOfMemoryError,
    devices.Stopped,
)


@checked_dataclass
class RunDescription:
    """The content of `run.json`, for `python -m cma.training`; only `data` has no default.

    `recipe` is a variant of the recipe that the dataset folder names; `few_items` chooses batch,
    rate and epochs for the number of items, as `train_config(items=…)` does. `config` holds fields
    of TrainConfig that differ from the recipe's. `adapter` holds the same for AdapterConfig, or the
    options of another `method` of `cma.methods`. The config's `seed` also decides the initial
    weights.
    """

    data: str  # a dataset folder, as data_prep writes it
    backbone: str = ""  # "mini", an id of the Hugging Face hub, or a folder; empty: the recipe's
    recipe: str = "float32"  # or "bf16", "paper"
    few_items: bool = False
    method: str = "cross-modal adapter"
    adapter: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)

    def build(self, device: torch.device) -> tuple[RetrievalModel, RetrievalDataset, TrainConfig]:
        """Return the arguments of `cma.train`. Raises ValueError or OSError that says what is
        wrong.
        """
        dataset = data.load(self.data, "train")
        recipe = recipes.recipe(dataset)
        items = len(dataset) if self.few_items else None
        config = recipe.train_config(self.recipe, items).merge(self.config)
        model = RetrievalModel.from_pretrained(self.backbone or recipe.backbone, device=device)
        options = methods.options_of(self.method, dataset) | self.adapter
        # else "seed" or "name" would go to `attach`
        methods.class_of(self.method).options_from(options)
        methods.attach(model, self.method, "adapter", config.seed, **options)
        return model, dataset, config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its status: 1 after one of USER_ERRORS, printed in one line."""
    keys, of_config = ("\n  ".join(fields_of(one)) for one in (RunDescription, TrainConfig))
    parser = argparse.ArgumentParser(
        prog="python -m cma.training",
        description=f"{__doc__}\nKeys of run.json, with their defaults:\n  {keys}\n\n"
        "Keys of its `config`, with the defaults of TrainConfig, before the recipe's:\n"
        f"  {of_config}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("description", metavar="run.json", help="what to train, as JSON")
    parser.add_argument("--plan", action="store_true", help="print memory and hours, then stop")
    options = parser.parse_args(arguments)
    log_to_stdout()
    number = os.environ.get("RANK", "0")
    if number != "0":
        warnings.simplefilter("ignore")  # only the first process warns
    try:
        device = devices.choose_device()
        names = ", ".join(fields_of(RunDescription))
        hint = f'; expected a description such as {{"data": "data/msrvtt"}}, with the keys {names}'
        described = read_json(options.description, RunDescription, hint)
        model, dataset, config = described.build(device)
        with devices.joined(device) as team:
            if options.plan:
                team.say(str(plan(model, dataset, config, team)))
            else:
                record = train(model, dataset, config, team=team)
                team.say(
                    f"{sentence(record.metrics, record)}; epoch {record.selected_epoch}, "
                    f"{record.label}; all metrics are in {record.folder}"
                )
    except KeyboardInterrupt:  # a run that had started has said how to continue it
        return 130
    except USER_ERRORS as error:
        which = f"process {number}: " if "WORLD_SIZE" in os.environ else ""
        print(f"error: {which}{printable(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
