"""A run described in a JSON file; the device of a process; several processes started from a notebook."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, field, replace
from pathlib import Path

import torch

from .. import data, methods, recipes, require
from ..backbone import load_backbone
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..files import checked_dataclass, read_json, write_whole
from ..model import RetrievalModel
from .devices import Stopped
from .loop import train
from .record import RunRecord

USED = (
    "a GPU was used before several processes were started, for which torch.cuda.is_available() is enough: "
    "restart the kernel, and load the backbone without a device"
)


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
        model = RetrievalModel(*load_backbone(self.backbone or recipe.backbone, device=device))
        options = methods.options_of(self.method, dataset) | self.adapter
        methods.attach(model, self.method, "adapter", self.init_seed, **options)
        model.set_adapter("adapter")
        return model, dataset, config


def read_description(path: Path | str) -> RunDescription:
    """A `run.json` to start from. Raises FileNotFoundError, or ValueError that names file and key."""
    hint = "; `python -m cma.training --example msrvtt` prints a description to start from"
    try:
        return read_json(path, RunDescription, hint)
    except ValueError as wrong:
        error = wrong
        with suppress(ValueError):
            RunRecord.load(path)
            error = ValueError(f"{path}: the record of a run that is done, not a description{hint}")
        raise error from None


def example(name: str) -> dict:
    """The description of a run on a benchmark, with the settings that are changed most often."""
    recipe = recipes.recipe(name)
    variant = "paper" if recipe.paper else "float32"
    config = asdict(recipe.train_config(variant))
    shown = ("name", "runs_dir", "epochs", "batch_size", "lr", "micro_batch", "workers", "seed")
    return {
        "data": f"data/{name}",
        "backbone": recipe.backbone,
        "recipe": variant,
        "method": "cross-modal adapter",
        "adapter": {"bottleneck_dim": recipe.bottleneck_dim, "shared_dim": recipe.shared_dim},
        "config": {key: config[key] for key in shown},
        "init_seed": 42,
    }


def choose_device() -> torch.device:
    """The GPU of this process, else the CPU; `ACCELERATE_USE_CPU`, as accelerate's `--cpu` sets it, says CPU.

    Raises ValueError if a machine has more processes than GPUs.
    """
    if not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in (
        "1",
        "true",
        "yes",
    ):
        return torch.device("cpu")
    own, here = (int(os.environ.get(name) or 0) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if (found := torch.cuda.device_count()) < (wanted := max(here, own + 1)):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
        remedy = f"start at most {found} here, or show this machine's processes all of its GPUs"
        raise ValueError(
            f"{wanted} processes on this machine, but {found} GPUs are visible{chosen}: {remedy}"
        )
    return torch.device("cuda", own)


def train_on_devices(
    model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig, processes: int | None = None
) -> RunRecord:
    """`cma.train` in several processes of this machine, one for each GPU: from a notebook.

    It starts them by accelerate's `notebook_launcher`, waits, and loads the kept adapter into `model`. The
    processes are forked: `model` must be on the CPU, and nothing may have used a GPU before. Without a GPU
    they share the CPU, one thread each. Raises what `cma.train` raises, ImportError without accelerate, and
    ValueError for a model on a GPU.
    """
    processes = max(1, torch.cuda.device_count()) if processes is None else processes
    if processes > 1:
        require("gpu", "accelerate")
        if model.device.type != "cpu" or torch.cuda.is_initialized():
            raise ValueError(USED)
        from accelerate import notebook_launcher

        with socket.create_server(("127.0.0.1", 0)) as free:  # two launches on one machine need two ports
            port = str(free.getsockname()[1])
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "error"
            try:
                notebook_launcher(_work, (model, dataset, config, note), processes, use_port=port)
            except Exception as error:  # of the launcher, which does not know the processes' own
                raise (pickle.loads(note.read_bytes()) if note.exists() else error) from None
        config = replace(config, if_exists="resume")  # it is finished: only the adapter is loaded
    return train(model.to(choose_device()) if processes == 1 else model, dataset, config)


def _work(model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig, note: Path) -> None:
    """What each forked process does; the one whose error ends all leaves it in the file `note`."""
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        train(model.to(choose_device()), dataset, config)
    except Stopped:  # once a process has ended, the launcher ends the others: the note comes first
        patience = time.monotonic() + 10
        while not note.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        sys.exit(1)
    except Exception as error:
        forked = "forked subprocess" in str(error)  # torch.cuda.is_available() alone uses a GPU
        write_whole(note, pickle.dumps(ValueError(USED) if forked else error))
        sys.exit(1)
