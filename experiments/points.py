"""The points of the ablations: the default adapter, and what is trained in its place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from cma import RetrievalModel, methods
from cma.data import RetrievalDataset

OURS = "cross-modal adapter"
GROUPS = ("sharing", "where", "bottleneck", "init", "pooling")  # after "default"
SHARED_DIMS = (0, 64)  # and the whole width of the narrower tower
LAST_LAYERS = 2
BOTTLENECK_DIMS = (2, 32)
UP_SCALES = (0.0, 10.0)  # of the initial values of all up-projections; 0 starts at CLIP
POOLINGS = ("mean_pooled", "text_conditioned")


@dataclass(frozen=True)
class Point:
    """The adapter with its options.

    `sites`: where the adapter acts, None for everywhere (2i: the attention of layer i, 2i + 1: its MLP).
    """

    group: str
    name: str
    options: dict
    similarity: str
    up_scale: float = 1.0
    sites: list[int] | None = None

    @property
    def definition(self) -> dict:
        """What is trained and how, without the point's names: equal definitions are one point."""
        return {key: value for key, value in asdict(self).items() if key not in ("group", "name")}


def points(model: RetrievalModel, dataset: RetrievalDataset, similarity: str) -> list[Point]:
    """Every point for a backbone and a dataset, the default first; equal points are there once."""
    usual, narrow = methods.options_of(OURS, dataset), min(model.widths.values())
    made = [default := Point("default", "adapter", usual, similarity)]

    def add(group: str, name: str, **changes: object) -> None:
        point = replace(default, group=group, name=name, **changes)
        if all(point.definition != earlier.definition for earlier in made):
            made.append(point)

    for d in [*(d for d in SHARED_DIMS if d < narrow), narrow]:
        add("sharing", f"d{d}", options=usual | {"shared_dim": d})
    end = 2 * min(model.layers.values())
    where = {"attention": range(0, end, 2), "mlp": range(1, end, 2)}
    where[f"last-{LAST_LAYERS}"] = range(end - 2 * LAST_LAYERS, end)
    for name, sites in where.items():
        add("where", name, sites=list(sites))
    for r in BOTTLENECK_DIMS:
        add("bottleneck", f"r{r}", options=usual | {"bottleneck_dim": r})
    for scale in UP_SCALES:
        add("init", f"up-{scale:g}", up_scale=scale)
    for pooling in POOLINGS if dataset.kind == "video" else ():
        add("pooling", pooling.replace("_", "-"), similarity=pooling)
    return made


def start(adapters: nn.Module, point: Point) -> None:
    """Give the adapter the point's initial values; beside its `sites` it adds nothing and never trains."""
    for name, parameter in adapters.named_parameters():
        if name.endswith(("up_weight", "shared_weight")):
            parameter.data *= point.up_scale
        if point.sites is not None and "down" not in name:
            acts = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), device=parameter.device)
            acts[point.sites] = 1
            parameter.data *= acts
            parameter.register_hook(acts.mul)  # of its gradient
