"""The adapter with one setting changed at a time, on validation: `python -m experiments ablations
--help`.

All points use one seed and the learning rate that the study chose for the adapter on the same
split. They are evaluated after their last epoch: no epoch is chosen, and test is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import torch

from cma import RetrievalModel, data, methods
from cma.training import NotFinite, encode, epoch_size, query_ranks, train

from .options import GROUPS, LONG
from .published import PAPER as OURS
from .rows import MethodRow, rates_of
from .study import Study, no_rate, study_of, world_of


def points(
    model: RetrievalModel, dataset: data.RetrievalDataset, similarity: str
) -> dict[str, dict]:
    """Return every point for a backbone and a dataset, the default first and each only once.

    {"GROUP-NAME": what is trained}: the `options` of the adapter, the `similarity`, `up_scale`
    (times the initial values of all up-projections; 0 starts at CLIP), and `sites`, where the
    adapter acts, None for everywhere (2i: the attention of layer i, 2i + 1: its MLP).
    """
    options = methods.options_of(OURS, dataset)
    usual = {"options": options, "similarity": similarity, "up_scale": 1.0, "sites": None}
    tried = {"default-adapter": {}}
    narrow = min(model.widths.values())
    for d in (0, min(64, narrow), narrow):
        tried[f"sharing-d{d}"] = {"options": options | {"shared_dim": d}}
    end = 2 * max(model.layers.values())
    if end == 2 * min(model.layers.values()):  # else the towers' sites differ
        tried["where-attention"] = {"sites": [*range(0, end, 2)]}
        tried["where-mlp"] = {"sites": [*range(1, end, 2)]}
        tried["where-last-2"] = {"sites": [*range(end - 4, end)]}
    for r in (2, 32):
        tried[f"bottleneck-r{r}"] = {"options": options | {"bottleneck_dim": r}}
    for scale in (0.0, 10.0):
        tried[f"init-up-{scale:g}"] = {"up_scale": scale}
    if dataset.kind == "video":
        tried["pooling-mean-pooled"] = {"similarity": "mean_pooled"}
        tried["pooling-text-conditioned"] = {"similarity": "text_conditioned"}
    made = {}
    for name, changes in tried.items():
        if usual | changes not in made.values():
            made[name] = usual | changes
    return made


def start(adapters: torch.nn.Module, up_scale: float, sites: list[int] | None) -> None:
    """Give the adapter the point's initial values; outside its `sites` it adds nothing and is not
    trained.
    """
    for name, parameter in adapters.named_parameters():
        if name.endswith(("up_weight", "shared_weight")):
            parameter.data *= up_scale
        if sites is not None and "down" not in name:
            acts = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), device=parameter.device)
            acts[sites] = 1
            parameter.data *= acts
            parameter.register_hook(lambda grad, acts=acts: grad * acts.to(grad))  # 0 elsewhere


class Ablations(Study):
    """A study of points: one run each, with epochs, rate and seed of `config`, evaluated on
    validation.
    """

    def row(self, name: str, point: dict) -> MethodRow:
        """Return the row of a point, from its file if there is one: one seed, with the ranks on
        validation.

        Its `budget` also holds what is trained. Raises ValueError as `MethodRow.kept`.
        """
        budget = {key: getattr(self.config, key) for key in ("epochs", "seed", "precision", "lr")}
        row = MethodRow(self.training.name, name, budget | point, lr=self.config.lr)
        row.world = world_of(self.folder)
        return row.kept(self.results, self.clip)

    def run(self, name: str, point: dict) -> MethodRow:
        """Train a point and save its row, unless that is done. Raises ValueError as `row` and
        `cma.train`.
        """
        row = self.row(name, point)
        if row.records:
            return row
        own = {"name": row.name, "similarity": point["similarity"]}
        config = replace(self.config, **own, select_on="last", report_on="val")
        seed, sites = str(config.seed), point["sites"]
        model = RetrievalModel(self.clip, self.processor)
        method = methods.attach(model, OURS, "method", config.seed, **point["options"])
        start(method, point["up_scale"], sites)
        try:
            record = train(model, self.training, config)
            if sites is not None:
                every = 2 * max(model.layers.values())
                record.trained_parameters = round(record.trained_parameters * len(sites) / every)
            row.records[seed] = json.loads(record.to_json())
            validation = data.load(self.folder, "val")
            embeddings = encode(model, validation, config)
            row.ranks[seed] = query_ranks(embeddings, validation, config)
            row.text_to_item = embeddings.text_to_item.tolist()
        finally:
            model.set_adapter(None)
        row.save(self.results)
        return row


OPTIONS = LONG | {
    "--results": "results/ablations",
    "--runs": "runs/ablations",
    "--only": GROUPS,
}


def run(options: argparse.Namespace) -> None:
    """Train the ablations of the adapter on a prepared dataset; they are evaluated on validation.

    Learning rate and epochs are those of the study, whose methods/ is beside the folder of results.
    What is already done is not done again: start the command again after a stop, or to add hours.
    """
    ablations = study_of(options, Ablations)
    training, epochs = ablations.training, ablations.budget.epochs
    rate = rates_of(options.results.parent / "methods", training.name).get(OURS)
    if rate is None:
        raise no_rate(ablations, OURS)
    ablations.config = replace(ablations.config, epochs=epochs, lr=rate)
    model = RetrievalModel(ablations.clip, ablations.processor)
    every = points(model, training, ablations.config.similarity)
    groups = ("default", *options.only)
    chosen = {name: point for name, point in every.items() if name.split("-")[0] in groups}
    left = [name for name, point in chosen.items() if not ablations.row(name, point).records]
    steps = len(left) * epochs * epoch_size(training, ablations.config)[1]
    print(f"{len(chosen)} points: {len(left)} to train, {steps:,} steps", flush=True)
    for number, name in enumerate(left, start=1):
        if time.time() >= ablations.until:
            break
        try:
            row = ablations.run(name, chosen[name])
            said = f"R@1 {100 * row.hits('text_to_visual').mean():.1f} % on validation"
        except NotFinite as error:
            said = f"left out: {error}"
        print(f"{number}/{len(left)} {name}: {said}", flush=True)
