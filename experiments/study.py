"""Every method on one dataset, with one budget: `python -m experiments study --help`.

A method's rate is chosen on validation by successive halving: each rate of the grid is trained for the first
rung of epochs, the best go on to the next rung if there is one, and the best of all to the end. While a rate
at the edge is the best, the grid grows by its neighbour. All follow the schedule of the whole run. Then
the other seeds are trained at that rate. The test split is read once a seed, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor

from cma import RetrievalModel, TrainConfig, data, load_backbone, methods
from cma.files import parse_json
from cma.recipes import recipe
from cma.training import NotFinite, RunRecord, encode, evaluate_and_record, query_ranks, train

from .rows import Budget, MethodRow

ZERO_SHOT = methods.NAMES[0]
GRID = [float(f"{digit}e{power}") for power in range(-12, 6) for digit in (1, 3)]  # …, 1e-3, 3e-3, 1e-2, …
EXTENSIONS = 4  # the most rates that are added to a grid
CHOICE = {"select_on": "val", "select_by": "mR", "report_on": "test"}
FAILED = -math.inf  # the score of a rate at which training failed: below any recall

AnyMethod = str | type[methods.Method]  # one of `cma.methods.NAMES`, or a class of your own


@dataclass
class Study:
    """Runs methods on the dataset in `folder`, keeps a row of each in `results`, runs in `config.runs_dir`.

    No run is begun after `until` (of `time.time()`); one that was begun is finished.
    """

    clip: CLIPModel
    processor: CLIPProcessor
    folder: Path
    config: TrainConfig
    budget: Budget
    results: Path
    until: float = math.inf

    @cached_property
    def training(self) -> data.RetrievalDataset:
        """The train split."""
        return data.load(self.folder, "train")

    def row(self, method: AnyMethod) -> MethodRow:
        """The row of a method, from its file if any. Raises ValueError if that has another budget."""
        name = method if isinstance(method, str) else method.NAME
        budget = asdict(self.budget) | {"precision": self.config.precision}
        return MethodRow(self.training.name, name, budget).kept(self.results)

    def run(self, method: AnyMethod) -> MethodRow:
        """Go on with a method until its row is whole, or time is over. Raises ValueError as `cma.train`."""
        row = self.row(method)
        if method == ZERO_SHOT:
            if not row.records:
                self._zero_shot(row)
            return row
        try:
            if row.lr is None:
                row.lr = self.choose_rate(row, method)
                row.save(self.results)
            for seed in self.budget.seeds:
                if str(seed) not in row.records:
                    self._check_time()
                    self._train(row, method, row.lr, seed)
                    row.save(self.results)
        except TimeIsOver:
            pass
        return row

    def choose_rate(self, row: MethodRow, method: AnyMethod) -> float:
        """The best rate on validation by successive halving; of equally good ones, the smaller.

        What is in `row.rates` is not trained again. Raises `TimeIsOver`, and ValueError if training fails at
        every rate.
        """
        rates, extensions = sorted(self.budget.rates), EXTENSIONS
        for rung, keep in zip(self.budget.rungs, self.budget.keep, strict=True):
            scores = {rate: self._score(row, method, rate, rung) for rate in rates}
            for _ in range(extensions):
                lowest, highest = min(scores), max(scores)  # rates
                best = max(scores, key=scores.get)  # the rate with the best score
                if best not in (lowest, highest):
                    break
                new = neighbour(best, up=best == highest)
                scores[new] = self._score(row, method, new, rung)
            extensions = 0  # the grid grows at the first rung alone
            best_first = sorted(sorted(scores), key=scores.get, reverse=True)
            rates = best_first[:keep]
        if scores[rates[0]] == FAILED:
            raise ValueError(f"{row.name}: no rate of {self.budget.rates} could be trained")
        return rates[0]

    def _score(self, row: MethodRow, method: AnyMethod, rate: float, rung: int) -> float:
        """mR on validation after `rung` epochs at a rate, `FAILED` where training failed."""
        entry = next((e for e in row.rates if (e["lr"], e["epochs"]) == (rate, rung)), None)
        if entry is None:
            self._check_time()
            entry = {"lr": rate, "epochs": rung, "mR": None, "R@1": None}
            try:
                history = self._train(row, method, rate, self.budget.seeds[0], rung).history[:rung]
                best = max((epoch["validation"] for epoch in history), key=lambda recalls: recalls["mR"])
                entry |= {"mR": round(best["mR"], 3), "R@1": round(best["text_to_visual"]["R@1"], 3)}
            except NotFinite as error:
                print(f"{row.name}, rate {rate:g}: {error}")
            row.rates.append(entry)
            row.save(self.results)
        return FAILED if entry["mR"] is None else entry["mR"]

    def _train(
        self, row: MethodRow, method: AnyMethod, rate: float, seed: int, rung: int | None = None
    ) -> RunRecord:
        """Train to a rung, or to the end and put record and ranks into the row; an earlier run goes on."""
        model = RetrievalModel(self.clip, self.processor)
        methods.attach(model, method, "method", seed, **methods.options_of(method, self.training))
        own = {"name": f"{row.name}-lr{rate:g}-seed{seed}", "lr": rate, "seed": seed}
        config = self.config.merge(own | {"epochs": self.budget.epochs, **CHOICE})

        def stop(record: RunRecord) -> None:
            if rung is not None and len(record.history) >= rung:
                raise _Reached(record)

        try:
            record = train(model, self.training, config, on_epoch=stop)
            if rung is None:
                row.records[str(seed)] = json.loads(record.to_json())
                self.test(row, model, config, str(seed))
        except _Reached as reached:
            (record,) = reached.args
        finally:
            model.set_adapter(None)
        return record

    def _zero_shot(self, row: MethodRow) -> None:
        model, config = RetrievalModel(self.clip, self.processor), replace(self.config, name=row.name)
        record = evaluate_and_record(model, data.load(self.folder, "test"), config)
        row.records["0"] = json.loads(record.to_json())
        self.test(row, model, config, "0")
        row.save(self.results)

    def test(self, row: MethodRow, model: RetrievalModel, config: TrainConfig, seed: str) -> None:
        """Enter into the row, for a seed, which rank each query's right answer has on the test split."""
        test = data.load(self.folder, "test")
        embeddings = encode(model, test, config)
        row.ranks[seed] = query_ranks(embeddings, test, config)
        row.text_to_item = embeddings.text_to_item.tolist()

    def _check_time(self) -> None:
        if time.time() >= self.until:
            raise TimeIsOver


class TimeIsOver(Exception):
    """The time for beginning a run is over."""


class _Reached(Exception):
    """A run has come to its rung; its argument is the record."""


def neighbour(rate: float, up: bool) -> float:
    """The next rate of `GRID` above or below."""
    return min(one for one in GRID if one > rate) if up else max(one for one in GRID if one < rate)


def add_run_options(parser: argparse.ArgumentParser, results: str, runs: str) -> None:
    """The options of a command that trains many runs on a dataset, for hours, and goes on after a stop."""
    parser.add_argument("folder", type=Path, help="a prepared dataset, such as data/mini-flickr30k")
    parser.add_argument("--backbone", default="mini", help="default: mini")
    parser.add_argument("--results", type=Path, default=Path(results), help=f"default: {results}")
    parser.add_argument("--runs", default=runs, help=f"checkpoints; default: {runs}")
    parser.add_argument("--hours", type=float, default=math.inf, help="begin no run after so many hours")
    parser.add_argument("--precision", default="float32", help="of training and testing; default: float32")


def load(options: argparse.Namespace) -> tuple[data.RetrievalDataset, TrainConfig, CLIPModel, CLIPProcessor]:
    """What the options of `add_run_options` name: train split, its recipe's settings, backbone, processor."""
    dataset = data.load(options.folder, "train")
    config = recipe(dataset.recipe).train_config()
    config = replace(config, runs_dir=options.runs, precision=options.precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clip, processor = load_backbone(options.backbone, device=device)
    return dataset, config, clip, processor


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments study`."""
    add_run_options(parser, results="results/methods", runs="runs/methods")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default: {', '.join(methods.NAMES)}")
    parser.add_argument("--budget", default="{}", help="JSON, such as '{\"epochs\": 8}'")


def run(options: argparse.Namespace) -> None:
    """Run every method of the paper's tables on a prepared dataset, each with the same budget.

    What is done already is not done again: start the command again after a stop, or to add hours.
    """
    until = time.time() + 3600 * options.hours
    budget = parse_json(options.budget, Budget, "--budget")
    dataset, config, clip, processor = load(options)
    study = Study(clip, processor, options.folder, config, budget, options.results, until)
    for method in options.methods or methods.NAMES:
        if reason := methods.why_not(method, dataset):
            print(f"{method}: left out, because it cannot do {dataset.name}: {reason}")
            continue
        row = study.run(method)
        rate = "" if row.lr is None else f", rate {row.lr:g}"
        seeds = 1 if method == ZERO_SHOT else len(budget.seeds)
        print(f"{row.name}: {len(row.records)} / {seeds} seeds{rate}", flush=True)
