"""The adapter with one thing changed at a time, on validation: `python -m cma.training.ablations --help`.

All points start from one seed, train at the rate that the study chose for their method on the same split, and
are judged after their last epoch: no epoch is chosen, and test is never read. On a share of the training set,
a run has as many **steps** as on all of it, so more epochs: each picture is seen more often.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import CLIPModel, CLIPProcessor

from .. import data, methods
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..files import read_json
from ..model import RetrievalModel
from . import Batch, Pixels, epoch_batches, epoch_size, read_batches
from .evaluation import encode, query_ranks
from .loop import train
from .points import FULL, GROUPS, OURS, Point, points, start
from .rows import MethodRow
from .sharing import agreement, changed_slices, modality_gap
from .step import NotFinite
from .study import begin, long_command


@dataclass
class PointRow(MethodRow):
    """A point as it is kept in `results/ablations/`: a row of one seed, with the ranks on validation.

    `gap`: the modality gap before and after training. Where the shared slice is looked at: `agreement` of the
    towers, by epoch ("0": before training), kept as it comes; `changed`, the ranks with another slice.
    """

    settings: dict = field(default_factory=dict)
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
    training: RetrievalDataset
    validation: RetrievalDataset
    config: TrainConfig
    rates: dict[str, float]
    results: Path

    def row(self, point: Point) -> PointRow:
        """The row of a point, from its file if any. Raises ValueError if that has another budget."""
        config, rate = self.config, self.rates[FULL if point.method == FULL else OURS]
        budget = {"epochs": config.epochs, "seed": config.seed, "precision": config.precision, "lr": rate}
        row = PointRow(self.training.name, f"{point.group}-{point.name}", budget, lr=rate)
        row.settings, path = point.settings, row.path(self.results)
        found = read_json(path, PointRow) if path.exists() else row
        if (there := found.budget | found.settings) != (here := budget | row.settings):
            said = f"its budget is {there}, not {here}"
            raise ValueError(f"{path}: {said}; use other folders (--results, --runs), or delete the file")
        return found

    def run_of(self, point: Point) -> tuple[RetrievalDataset, TrainConfig]:
        """The items that a point trains on, and the settings of its run."""
        row, items = self.row(point), max(2, round(point.share * len(self.training)))
        training = self.training if point.share == 1 else self.training.subset(items, self.config.seed)
        steps = self.config.epochs * epoch_size(self.training, self.config)[1]
        epochs = max(1, round(steps / epoch_size(training, self.config)[1]))
        settings = {"name": row.name, "lr": row.lr, "epochs": epochs, "similarity": point.similarity}
        return training, replace(self.config, select_on="last", report_on="val", **settings)

    def run(self, point: Point) -> PointRow:
        """Train a point and keep its row, unless that is done. Raises ValueError as `row` and `cma.train`."""
        row, (training, config) = self.row(point), self.run_of(point)
        if row.records:
            return row
        seed, model = str(config.seed), RetrievalModel(self.clip, self.processor)
        method = methods.attach(model, point.method, "method", config.seed, **point.options)
        if point.method == OURS:
            start(method, point)
        model.set_adapter("method")
        try:
            batch = self.fixed_batch(model, config)
            row.gap = [modality_gap(encode(model, self.validation, config))]

            def measure(epochs: int) -> None:
                if point.shares:
                    row.agreement[str(epochs)] = agreement(model, batch, config)
                    row.save(self.results)

            measure(0)
            record = train(model, training, config, on_epoch=lambda record: measure(len(record.history)))
            acts = 1 if point.sites is None else len(point.sites) / 2 / max(model.layers.values())
            row.parameters = round(acts * record.trained_parameters)
            row.records[seed], found = json.loads(record.to_json()), encode(model, self.validation, config)
            row.ranks[seed] = query_ranks(found, self.validation, config)
            row.text_to_item = found.text_to_item.tolist()
            row.gap.append(modality_gap(found))
            for name, copied in changed_slices(method, config.seed) if point.shares else ():
                model.keep(name, copied)
                model.set_adapter(name)
                found = encode(model, self.validation, config)
                row.changed[name] = query_ranks(found, self.validation, config)
        finally:
            model.set_adapter(None)
        row.save(self.results)
        return row

    def fixed_batch(self, model: RetrievalModel, config: TrainConfig) -> Batch:
        """The training pairs on which the towers' gradients are compared, in an order that no epoch has."""
        chosen = epoch_batches(self.training, config, config.epochs)[:1]
        ids, _ = model.tokenize(self.training.captions, config.max_words)
        read = read_batches(self.training, ids, Pixels(model.processor, config), chosen, workers=0)
        return next(read).to(model.device)


def studied_rate(results: Path, dataset: str, method: str) -> float | None:
    """The rate that the study chose for a method; None if it has not come to that."""
    path = MethodRow(dataset, method, {}).path(results / "methods")
    return read_json(path, MethodRow).lr if path.exists() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the ablations of the adapter on a prepared dataset; they are judged on validation.

    The folder of results has methods/ and gets ablations/. What is done already is not done again: start the
    command again after a stop, or to add hours.
    """
    parser = long_command("ablations", main.__doc__, results="results", runs="runs/ablations")
    parser.add_argument("--only", nargs="+", metavar="GROUP", default=GROUPS, help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rate", type=float, help="of the adapter; default: the study's")
    parser.add_argument("--full-rate", type=float, help="of full fine-tuning; default: the study's")
    parser.add_argument("--epochs", type=int, default=8, help="on all training items; default: 8")
    options = parser.parse_args(arguments)
    until = time.time() + 3600 * options.hours
    try:
        if unknown := set(options.only) - set(GROUPS):
            raise ValueError(f"unknown group {min(unknown)!r}: expected some of {', '.join(GROUPS)}")
        training, config, clip, processor = begin(options)
        config, validation = replace(config, epochs=options.epochs), data.load(options.folder, "val")
        given = {OURS: options.rate, FULL: options.full_rate}
        rates = {m: rate or studied_rate(options.results, training.name, m) for m, rate in given.items()}
        if rates[OURS] is None:
            hint = f"run `python -m cma.training.study {options.folder}` first, or give --rate"
            raise ValueError(f"{options.results}: no rate of the {OURS} on {training.name} yet; {hint}")
        chosen = points(RetrievalModel(clip, processor), training, config.similarity)
        chosen = [point for point in chosen if point.group in ("default", *options.only)]
        if rates[FULL] is None and any(point.method == FULL for point in chosen):
            print(f"{FULL} is left out: the study has not chosen its rate yet; or give --full-rate")
            chosen = [point for point in chosen if point.method != FULL]
        results = options.results / "ablations"
        ablations = Ablations(clip, processor, training, validation, config, rates, results)
        left = [point for point in chosen if not ablations.row(point).records]
        runs = [ablations.run_of(point) for point in left]
        steps = sum(config.epochs * epoch_size(items, config)[1] for items, config in runs)
        print(f"{len(chosen)} points: {len(left)} to train, {steps:,} steps", flush=True)
        for place, point in enumerate(left, start=1):
            if time.time() >= until:
                break
            try:
                row = ablations.run(point)
                said = f"R@1 {100 * row.hits('text_to_visual').mean():.1f} % on validation"
            except NotFinite as error:
                said = f"left out: {error}"
            print(f"{place}/{len(left)} {point.group}-{point.name}: {said}", flush=True)
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
