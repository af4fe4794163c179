"""The adapter with one thing changed at a time, on validation: `python -m experiments ablations --help`.

All points start from one seed, train at the rate that the study chose for the adapter on the same split, and
are judged after their last epoch: no epoch is chosen, and test is never read.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

from cma import RetrievalModel, data, methods
from cma.files import read_json
from cma.training import NotFinite, encode, epoch_size, query_ranks, train

from .points import GROUPS, OURS, Point, points, start
from .rows import MethodRow
from .study import Study, add_run_options, study_of


class Ablations(Study):
    """A study of points: one run each, with epochs, rate and seed of `config`, and tested on validation."""

    def row(self, point: Point) -> MethodRow:
        """The row of a point, from its file if any: one seed, the ranks on validation.

        `budget` holds the point's definition, too. Raises ValueError as `MethodRow.kept`.
        """
        budget = {name: getattr(self.config, name) for name in ("epochs", "seed", "precision", "lr")}
        name, own = f"{point.group}-{point.name}", budget | point.definition
        return MethodRow(self.training.name, name, own, lr=self.config.lr).kept(self.results, self.clip)

    def run(self, point: Point) -> MethodRow:
        """Train a point and keep its row, unless that is done. Raises ValueError as `row` and `cma.train`."""
        row = self.row(point)
        if row.records:
            return row
        own = {"name": row.name, "similarity": point.similarity, "select_on": "last", "report_on": "val"}
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
    """The options of `python -m experiments ablations`."""
    add_run_options(parser, results="results/ablations", runs="runs/ablations")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="default: all")
    parser.add_argument("--rate", type=float, help="of the adapter; default: the study's")
    parser.add_argument("--epochs", type=int, help="default: the study's")


def run(options: argparse.Namespace) -> None:
    """Train the ablations of the adapter on a prepared dataset; they are judged on validation.

    The rate is that of the study, whose methods/ is beside the folder of results. What is done already is not
    done again: start the command again after a stop, or to add hours.
    """
    ablations = study_of(options, Ablations)
    training, model = ablations.training, RetrievalModel(ablations.clip, ablations.processor)
    studied = MethodRow(training.name, OURS, {}).path(options.results.parent / "methods")
    rate = options.rate or (read_json(studied, MethodRow).lr if studied.exists() else None)
    if rate is None:
        hint = f"run `python -m experiments study {options.folder}` first, or give --rate"
        raise ValueError(f"{options.results}: no rate of the {OURS} on {training.name} yet; {hint}")
    epochs = options.epochs or ablations.budget.epochs
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
