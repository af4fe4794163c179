"""The adapter with one thing changed at a time, on validation: `python -m experiments ablations --help`.

All points start from one seed, train at the rate that the study chose for their method on the same split, and
are judged after their last epoch: no epoch is chosen, and test is never read. On a share of the training set,
a run has as many **steps** as on all of it, so more epochs: each picture is seen more often.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import CLIPModel, CLIPProcessor

from cma import RetrievalModel, TrainConfig, data, methods
from cma.files import read_json
from cma.training import NotFinite, encode, epoch_size, query_ranks, train

from .points import FULL, GROUPS, OURS, Point, points, start
from .rows import MethodRow
from .sharing import agreement, changed_slices, fixed_batch, modality_gap
from .study import add_run_options, load


@dataclass
class PointRow(MethodRow):
    """A point as it is kept in `results/ablations/`: a row of one seed, with the ranks on validation.

    `budget` holds the point's definition, too. `gap`: the modality gap before and after training. Where the
    shared slice is looked at: `agreement` of the towers, by epoch ("0": before training), kept as it comes;
    `changed`, the ranks with another slice.
    """

    parameters: int = 0  # that act and are trained
    gap: list[float] = field(default_factory=list)
    agreement: dict[str, dict] = field(default_factory=dict)
    changed: dict[str, dict[str, list[int]]] = field(default_factory=dict)


@dataclass
class Ablations:
    """Trains points and keeps a row of each in `results`.

    `config` has epochs, seed, precision and the folder of the runs; `rates` are by method.
    """

    clip: CLIPModel
    processor: CLIPProcessor
    training: data.RetrievalDataset
    validation: data.RetrievalDataset
    config: TrainConfig
    rates: dict[str, float]
    results: Path

    def row(self, point: Point) -> PointRow:
        """The row of a point, from its file if any. Raises ValueError if that has another budget."""
        config, rate = self.config, self.rates[FULL if point.method == FULL else OURS]
        budget = {"epochs": config.epochs, "seed": config.seed, "precision": config.precision, "lr": rate}
        row = PointRow(self.training.name, f"{point.group}-{point.name}", budget | point.definition, lr=rate)
        return row.kept(self.results)

    def run_of(self, point: Point) -> tuple[data.RetrievalDataset, TrainConfig]:
        """The items that a point trains on, and the settings of its run."""
        row, items = self.row(point), max(2, round(point.share * len(self.training)))
        training = self.training if point.share == 1 else self.training.subset(items, self.config.seed)
        epochs = max(1, round(self.steps(self.training, self.config) / epoch_size(training, self.config)[1]))
        own = {"name": row.name, "lr": row.lr, "epochs": epochs, "similarity": point.similarity}
        return training, replace(self.config, select_on="last", report_on="val", **own)

    @staticmethod
    def steps(training: data.RetrievalDataset, config: TrainConfig) -> int:
        """The steps of a run."""
        _, steps_per_epoch = epoch_size(training, config)
        return config.epochs * steps_per_epoch

    def run(self, point: Point) -> PointRow:
        """Train a point and keep its row, unless that is done. Raises ValueError as `row` and `cma.train`."""
        row, (training, config) = self.row(point), self.run_of(point)
        if row.records:
            return row
        seed, model = str(config.seed), RetrievalModel(self.clip, self.processor)
        method = methods.attach(model, point.method, "method", config.seed, **point.options)
        if point.method == OURS:
            start(method, point)
        try:
            batch = fixed_batch(model, self.training, config)
            row.gap = [modality_gap(encode(model, self.validation, config))]

            def measure(epochs: int) -> None:
                if point.shares:
                    row.agreement[str(epochs)] = agreement(model, batch, config)
                    row.save(self.results)

            measure(0)
            record = train(model, training, config, on_epoch=lambda record: measure(len(record.history)))
            acting = 1 if point.sites is None else len(point.sites) / 2 / max(model.layers.values())
            row.parameters = round(acting * record.trained_parameters)
            row.records[seed] = json.loads(record.to_json())
            embeddings = encode(model, self.validation, config)
            row.ranks[seed] = query_ranks(embeddings, self.validation, config)
            row.text_to_item = embeddings.text_to_item.tolist()
            row.gap.append(modality_gap(embeddings))
            for name, copied in changed_slices(method, config.seed) if point.shares else ():
                model.keep(name, copied)
                embeddings = encode(model, self.validation, config)
                row.changed[name] = query_ranks(embeddings, self.validation, config)
        finally:
            model.set_adapter(None)
        row.save(self.results)
        return row


def studied_rate(results: Path, dataset: str, method: str) -> float | None:
    """The rate that the study chose for a method; None if it has not come to that."""
    path = MethodRow(dataset, method, {}).path(results / "methods")
    return read_json(path, MethodRow).lr if path.exists() else None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments ablations`."""
    add_run_options(parser, results="results", runs="runs/ablations")
    parser.add_argument("--only", nargs="+", metavar="GROUP", default=GROUPS, help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rate", type=float, help="of the adapter; default: the study's")
    parser.add_argument("--full-rate", type=float, help="of full fine-tuning; default: the study's")
    parser.add_argument("--epochs", type=int, default=8, help="on all training items; default: 8")


def run(options: argparse.Namespace) -> None:
    """Train the ablations of the adapter on a prepared dataset; they are judged on validation.

    The folder of results has methods/ and gets ablations/. What is done already is not done again: start the
    command again after a stop, or to add hours.
    """
    until = time.time() + 3600 * options.hours
    if unknown := set(options.only) - set(GROUPS):
        raise ValueError(f"unknown group {min(unknown)!r}: expected some of {', '.join(GROUPS)}")
    training, config, clip, processor = load(options)
    config, validation = replace(config, epochs=options.epochs), data.load(options.folder, "val")
    given = {OURS: options.rate, FULL: options.full_rate}
    rates = {m: rate or studied_rate(options.results, training.name, m) for m, rate in given.items()}
    if rates[OURS] is None:
        hint = f"run `python -m experiments study {options.folder}` first, or give --rate"
        raise ValueError(f"{options.results}: no rate of the {OURS} on {training.name} yet; {hint}")
    chosen = points(RetrievalModel(clip, processor), training, config.similarity)
    chosen = [point for point in chosen if point.group in ("default", *options.only)]
    if rates[FULL] is None and any(point.method == FULL for point in chosen):
        print(f"{FULL} is left out: the study has not chosen its rate yet; or give --full-rate")
        chosen = [point for point in chosen if point.method != FULL]
    results = options.results / "ablations"
    ablations = Ablations(clip, processor, training, validation, config, rates, results)
    left = [point for point in chosen if not ablations.row(point).records]
    steps = sum(ablations.steps(*ablations.run_of(point)) for point in left)
    print(f"{len(chosen)} points: {len(left)} to train, {steps:,} steps", flush=True)
    for number, point in enumerate(left, start=1):
        if time.time() >= until:
            break
        try:
            row = ablations.run(point)
            said = f"R@1 {100 * row.hits('text_to_visual').mean():.1f} % on validation"
        except NotFinite as error:
            said = f"left out: {error}"
        print(f"{number}/{len(left)} {point.group}-{point.name}: {said}", flush=True)
