"""The adapter with one setting changed at a time, on validation: `python -m experiments ablations
--help`.

All points use one seed and the learning rate that the study chose for the adapter on the same
split. They are evaluated after their last epoch: no epoch is chosen, and test is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace

import torch

from cma import RetrievalModel, data, methods
from cma.files import read_json
from cma.training import NotFinite, encode, epoch_size, query_ranks, train

from .published import PAPER as OURS
from .rows import MethodRow
from .study import Study, add_run_options, study_of, world_of

GROUPS = ("sharing", "where", "bottleneck", "init", "pooling")  # besides "default"


@dataclass(frozen=True)
class Point:
    """One setting of the adapter that is trained and compared.

    `sites`: where the adapter acts, None for everywhere (2i: the attention of layer i, 2i + 1: its
    MLP).
    """

    group: str
    name: str
    options: dict
    similarity: str
    up_scale: float = 1.0
    sites: list[int] | None = None

    @property
    def definition(self) -> dict:
        """What is trained and how, without the point's names. Points with equal definitions are the
        same.
        """
        return {key: value for key, value in asdict(self).items() if key not in ("group", "name")}


def points(model: RetrievalModel, dataset: data.RetrievalDataset, similarity: str) -> list[Point]:
    """Return every point for a backbone and a dataset, the default first and each only once."""
    usual, narrow = methods.options_of(OURS, dataset), min(model.widths.values())
    made = [default := Point("default", "adapter", usual, similarity)]

    def add(group: str, name: str, **changes: object) -> None:
        point = replace(default, group=group, name=name, **changes)
        if all(point.definition != earlier.definition for earlier in made):
            made.append(point)

    for d in [*(d for d in (0, 64) if d < narrow), narrow]:
        add("sharing", f"d{d}", options=usual | {"shared_dim": d})
    end = 2 * max(model.layers.values())
    where = {"attention": range(0, end, 2), "mlp": range(1, end, 2), "last-2": range(end - 4, end)}
    # else sites differ
    for name, sites in where.items() if len({*model.layers.values()}) == 1 else ():
        add("where", name, sites=list(sites))
    for r in (2, 32):
        add("bottleneck", f"r{r}", options=usual | {"bottleneck_dim": r})
    for scale in (0.0, 10.0):  # times the initial values of all up-projections; 0 starts at CLIP
        add("init", f"up-{scale:g}", up_scale=scale)
    for pooling in ("mean_pooled", "text_conditioned") if dataset.kind == "video" else ():
        add("pooling", pooling.replace("_", "-"), similarity=pooling)
    return made


def start(adapters: torch.nn.Module, point: Point) -> None:
    """Give the adapter the point's initial values; outside its `sites` it adds nothing and is not
    trained.
    """
    for name, parameter in adapters.named_parameters():
        if name.endswith(("up_weight", "shared_weight")):
            parameter.data *= point.up_scale
        if point.sites is not None and "down" not in name:
            acts = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), device=parameter.device)
            acts[point.sites] = 1
            parameter.data *= acts
            parameter.register_hook(lambda grad, acts=acts: grad * acts.to(grad))  # 0 elsewhere


class Ablations(Study):
    """A study of points: one run each, with epochs, rate and seed of `config`, evaluated on
    validation.
    """

    def row(self, point: Point) -> MethodRow:
        """Return the row of a point, from its file if there is one: one seed, with the ranks on
        validation.

        Its `budget` also holds the point's definition. Raises ValueError as `MethodRow.kept`.
        """
        budget = {
            name: getattr(self.config, name) for name in ("epochs", "seed", "precision", "lr")
        }
        name, own = f"{point.group}-{point.name}", budget | point.definition
        row = MethodRow(self.training.name, name, own, lr=self.config.lr)
        row.world = world_of(self.folder)
        return row.kept(self.results, self.clip)

    def run(self, point: Point) -> MethodRow:
        """Train a point and save its row, unless that is done. Raises ValueError as `row` and
        `cma.train`.
        """
        row = self.row(point)
        if row.records:
            return row
        own = {
            "name": row.name,
            "similarity": point.similarity,
            "select_on": "last",
            "report_on": "val",
        }
        config, validation = replace(self.config, **own), data.load(self.folder, "val")
        seed, model = str(config.seed), RetrievalModel(self.clip, self.processor)
        method = methods.attach(model, OURS, "method", config.seed, **point.options)
        start(method, point)
        try:
            record = train(model, self.training, config)
            acting = 1 if point.sites is None else len(point.sites) / 2 / max(model.layers.values())
            record.trained_parameters = round(acting * record.trained_parameters)
            row.records[seed] = json.loads(record.to_json())
            embeddings = encode(model, validation, config)
            row.ranks[seed] = query_ranks(embeddings, validation, config)
            row.text_to_item = embeddings.text_to_item.tolist()
        finally:
            model.set_adapter(None)
        row.save(self.results)
        return row


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments ablations`."""
    add_run_options(parser, results="results/ablations", runs="runs/ablations")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="default: all")


def run(options: argparse.Namespace) -> None:
    """Train the ablations of the adapter on a prepared dataset; they are evaluated on validation.

    Learning rate and epochs are those of the study, whose methods/ is beside the folder of results.
    What is already done is not done again: start the command again after a stop, or to add hours.
    """
    ablations = study_of(options, Ablations)
    training, model = ablations.training, RetrievalModel(ablations.clip, ablations.processor)
    studied = MethodRow(training.name, OURS, {}).path(options.results.parent / "methods")
    hint = f"; run `python -m experiments study {options.folder}` until it has chosen a rate"
    rate, epochs = read_json(studied, MethodRow, hint).lr, ablations.budget.epochs
    if rate is None:
        raise ValueError(f"{studied}: no rate yet{hint}")
    ablations.config = replace(ablations.config, epochs=epochs, lr=rate)
    chosen = points(model, training, ablations.config.similarity)
    chosen = [point for point in chosen if point.group in ("default", *options.only)]
    left = [point for point in chosen if not ablations.row(point).records]
    steps = len(left) * epochs * epoch_size(training, ablations.config)[1]
    print(f"{len(chosen)} points: {len(left)} to train, {steps:,} steps", flush=True)
    for number, point in enumerate(left, start=1):
        if time.time() >= ablations.until:
            break
        try:
            row = ablations.run(point)
            said = f"R@1 {100 * row.hits('text_to_visual').mean():.1f} % on validation"
        except NotFinite as error:
            said = f"left out: {error}"
        print(f"{number}/{len(left)} {point.group}-{point.name}: {said}", flush=True)
