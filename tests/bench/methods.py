"""One training step of each method against full fine-tuning, on the bundled backbone: time and
memory.
"""

from functools import cache

import torch

from cma import RetrievalModel, TrainConfig, load_backbone
from cma.methods import METHODS, NAMES, attach
from cma.training import Batch, parameter_groups, train_step
from tests.bench.measure import peak_gib, ratio

FULL = "full fine-tuning"
PAIRS = 4
# the offline benchmarks'
BATCHES = {"image": (128, 1, "mean_pooled"), "video": (32, 6, "text_conditioned")}


def figures(quick: bool) -> dict:
    """By kind of data and method: time of a step and peak above the loaded model ÷ full
    fine-tuning's.

    The quick ones are of the adapter on pictures alone.
    """
    if quick:
        return {"image": {NAMES[-1]: one("image", NAMES[-1], 1)}}
    return {kind: {name: one(kind, name, PAIRS) for name in names(kind)} for kind in BATCHES}


def names(kind: str) -> list[str]:
    """What trains on such data."""
    return [name for name in NAMES[1:] if name not in METHODS or kind in METHODS[name].kinds]


def one(kind: str, name: str, pairs: int) -> dict[str, float | int]:
    """The figures of one method."""
    took = ratio(step(kind, name), step(kind, FULL), pairs)
    above = [peak(kind, method) for method in (name, FULL)]
    times = {"time": took["median"], "low": took["min"], "high": took["max"], "pairs": pairs}
    return times | {"seconds": took["seconds"][0], "memory": round(above[0] / above[1], 3)}


@cache
def peak(kind: str, name: str) -> float:
    """GiB that a method's steps need beyond the loaded model."""
    return peak_gib("methods.step", kind, name, times=2).above


def step(kind: str, name: str):
    """A function that takes one step of a method; the method acts on a backbone of its own."""
    torch.manual_seed(0)
    size, frames, similarity = BATCHES[kind]
    model = RetrievalModel(*load_backbone("mini"))
    attach(
        model,
        name,
        "method",
        **(METHODS[name].pictures if kind == "image" and name in METHODS else {}),
    )
    model.train()
    groups = parameter_groups(model, model.trainable_parameters(), 0.2)
    optimizer = torch.optim.AdamW(groups, lr=1e-5, fused=True)
    ids, _ = model.tokenize([f"a picture of thing {number}" for number in range(size)])
    shape = size, frames, 3, *([model.clip.config.vision_config.image_size] * 2)
    batch = Batch(ids, torch.rand(shape), torch.ones(size, frames), torch.arange(size))
    config = TrainConfig(similarity=similarity, batch_size=size, max_frames=frames)
    return lambda: train_step(model, optimizer, batch, 1e-5, config)
