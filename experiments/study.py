"""Run every method on one dataset with the same budget: `python -m experiments study --help`.

A method's learning rate is chosen on validation, by runs of half the epochs (rounded up) with two
seeds that are not reported. While a rate at the edge of the grid is the best, its next neighbour is
added. Then the reported seeds are trained at the best rate. The test split and the further test
sets beside the dataset are read once for each seed, at the end. The budget for a dataset is in
`protocol.json` in the folder of results.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor

from cma import RetrievalModel, TrainConfig, data, load_backbone, methods, training
from cma.files import read_json
from cma.recipes import recipe
from cma.training import (
    Embeddings,
    NotFinite,
    RunRecord,
    encode,
    evaluate_and_record,
    query_ranks,
    train,
)

from .probes import twin_hits
from .rows import Budget, MethodRow

ZERO_SHOT = methods.NAMES[0]
# …, 1e-3, 3e-3, 1e-2, …
GRID = [float(f"{digit}e{power}") for power in range(-12, 6) for digit in (1, 3)]
EXTENSIONS = 4  # the most rates that are added to a grid
CHOICE = {"select_on": "val", "select_by": "mR"}
# test sets that may be beside a dataset, as NAME-new
FURTHER = ("new", "whole", "moments", "twins")
PROTOCOL = "protocol.json"
FAILED = -math.inf  # the score of a rate at which training failed: below any recall

AnyMethod = str | type[methods.Method]  # one of `cma.methods.NAMES`, or a class of your own


@dataclass
class Study:
    """Runs methods on the dataset in `folder`; saves a row of each in `results`, runs in
    `config.runs_dir`.

    No run starts after `until` (as in `time.time()`); a run that has started is finished. `choice`:
    the settings that choose a run's epoch.
    """

    clip: CLIPModel
    processor: CLIPProcessor
    folder: Path
    config: TrainConfig
    budget: Budget
    results: Path
    until: float = math.inf
    choice: dict = field(default_factory=lambda: dict(CHOICE))

    @cached_property
    def training(self) -> data.RetrievalDataset:
        """The train split."""
        return data.load(self.folder, "train")

    def row(self, method: AnyMethod) -> MethodRow:
        """Return the row of a method, from its file if any. Raises ValueError as `MethodRow.kept`."""
        name = method if isinstance(method, str) else method.NAME
        budget = asdict(self.budget) | {"precision": self.config.precision}
        row = MethodRow(self.training.name, name, budget)
        return row.kept(self.results, self.clip, training.digest(self.training))

    def run(self, method: AnyMethod) -> MethodRow:
        """Continue a method until its row is complete or time is over. Raises ValueError as
        `cma.train`.
        """
        row = self.row(method)
        if method == ZERO_SHOT:
            if not row.records:
                self._zero_shot(row)
            return row
        with suppress(TimeIsOver):
            if row.lr is None:
                row.lr = self.choose_rate(row, method)
                row.save(self.results)
            for seed in self.budget.seeds:
                if str(seed) not in row.records:
                    self._check_time()
                    self._train(
                        row, method, row.lr, seed, epochs=self.budget.epochs, report_on="test"
                    )
                    row.save(self.results)
        return row

    def run_all(self, names: Sequence[str]) -> None:
        """Continue each method and print a line about it, also if it cannot be used on such a
        dataset.
        """
        items, precision = self.training, self.config.precision
        # before the first run
        reasons = {name: methods.why_not(name, items, precision) for name in names}
        for name, reason in reasons.items():
            if reason:
                print(
                    f"{name}: left out, because it cannot do {items.name} in {precision}: {reason}"
                )
                continue
            row = self.run(name)
            rate = "" if row.lr is None else f", rate {row.lr:g}"
            seeds = 1 if name == ZERO_SHOT else len(self.budget.seeds)
            print(f"{row.name}: {len(row.records)} / {seeds} seeds{rate}", flush=True)

    def choose_rate(self, row: MethodRow, method: AnyMethod) -> float:
        """Return the rate with the best mean of mR on validation; of equally good ones, the
        smallest.

        What is in `row.rates` is not trained again. Raises `TimeIsOver`, and ValueError if training
        fails at every rate.
        """
        scores = {rate: self._score(row, method, rate) for rate in self.budget.rates}
        for added in range(EXTENSIONS + 1):
            best = max(sorted(scores), key=scores.get)  # the rate with the best score
            # the ends of the grid
            if best not in (min(scores), max(scores)) or added == EXTENSIONS:
                break
            new = neighbour(best, up=best == max(scores))
            scores[new] = self._score(row, method, new)
        if scores[best] == FAILED:
            raise ValueError(f"{row.name}: no rate of {self.budget.rates} could be trained")
        return best

    def _score(self, row: MethodRow, method: AnyMethod, rate: float) -> float:
        """Return the mean mR on validation over the rate seeds, or `FAILED` if a training failed."""
        found = []
        for seed in self.budget.rate_seeds:
            entry = next(
                (one for one in row.rates if (one["lr"], one["seed"]) == (rate, seed)), None
            )
            if entry is None:
                self._check_time()
                entry = {"lr": rate, "seed": seed, "mR": None, "R@1": None}
                half = (self.budget.epochs + 1) // 2
                try:
                    recalls = self._train(
                        row, method, rate, seed, epochs=half, report_on="val"
                    ).metrics
                    entry |= {"mR": recalls["mR"], "R@1": recalls["text_to_visual"]["R@1"]}
                except NotFinite as error:
                    print(f"{row.name}, rate {rate:g}, seed {seed}: {error}")
                row.rates.append(entry)
                row.save(self.results)
            if entry["mR"] is None:
                return FAILED
            found.append(entry["mR"])
        return statistics.mean(found)

    def _train(
        self, row: MethodRow, method: AnyMethod, rate: float, seed: int, **own: object
    ) -> RunRecord:
        """Train, or continue an earlier run; a run that reports on test is also entered in the row."""
        model = RetrievalModel(self.clip, self.processor)
        methods.attach(model, method, "method", seed, **methods.options_of(method, self.training))
        name = f"{row.name}-lr{rate:g}-seed{seed}"
        config = self.config.merge(self.choice | own | {"name": name, "lr": rate, "seed": seed})
        try:
            record = train(model, self.training, config)
            if config.report_on == "test":
                row.records[str(seed)] = json.loads(record.to_json())
                self.test(row, model, str(seed), record.encoded)
        finally:
            model.set_adapter(None)
        return record

    def _zero_shot(self, row: MethodRow) -> None:
        model, config = (
            RetrievalModel(self.clip, self.processor),
            replace(self.config, name=row.name),
        )
        record = evaluate_and_record(model, data.load(self.folder, "test"), config)
        row.records["0"] = json.loads(record.to_json())
        self.test(row, model, "0", record.encoded)
        row.save(self.results)

    def test(
        self, row: MethodRow, model: RetrievalModel, seed: str, encoded: Embeddings | None
    ) -> None:
        """Enter a seed's ranks of the right answers on test and further sets; `encoded`: test, if
        encoded.
        """
        test = data.load(self.folder, "test")
        encoded = encoded or encode(model, test, self.config)
        row.text_to_item = encoded.text_to_item.tolist()
        row.ranks[seed], row.further[seed] = query_ranks(encoded, test, self.config), {}
        for kind in FURTHER:
            place = self.folder.with_name(f"{self.folder.name}-{kind}")
            if (place / "dataset.json").exists():
                test = data.load(place, "test")
                told = twin_hits if kind == "twins" else query_ranks
                row.further[seed][place.name] = told(
                    encode(model, test, self.config), test, self.config
                )

    def _check_time(self) -> None:
        if time.time() >= self.until:
            raise TimeIsOver


class TimeIsOver(Exception):
    """Raised when no run may be started any more."""


def budget_of(dataset: str, protocol: Path) -> Budget:
    """Return the budget for a dataset: that in the file `protocol`, or the default if that has
    none.
    """
    budgets = read_json(protocol, dict).get("budgets", {}) if protocol.exists() else {}
    return Budget(**budgets.get(dataset, {}))


def neighbour(rate: float, up: bool) -> float:
    """Return the next rate of `GRID` above or below."""
    return min(one for one in GRID if one > rate) if up else max(one for one in GRID if one < rate)


def add_run_options(parser: argparse.ArgumentParser, results: str, runs: str) -> None:
    """Add the options of a command that trains runs on a dataset for hours and continues after a
    stop.
    """
    parser.add_argument("folder", type=Path, help="a prepared dataset, such as data/mini-flickr30k")
    parser.add_argument("--backbone", default="mini", help="default: mini")
    parser.add_argument("--results", type=Path, default=Path(results), help=f"default: {results}")
    parser.add_argument("--runs", default=runs, help=f"checkpoints; default: {runs}")
    parser.add_argument(
        "--hours", type=float, default=math.inf, help="begin no run after so many hours"
    )
    parser.add_argument("--precision", default="float32", help="of training; default: float32")


def study_of(options: argparse.Namespace, kind: type[Study] = Study) -> Study:
    """Return the study for the options of `add_run_options`, with the dataset's recipe and budget."""
    until, dataset = time.time() + 3600 * options.hours, data.load(options.folder, "train")
    own = {"runs_dir": options.runs, "precision": options.precision}
    config = recipe(dataset.recipe).train_config().merge(own)
    clip, processor = load_backbone(
        options.backbone, device="cuda" if torch.cuda.is_available() else "cpu"
    )
    budget = budget_of(dataset.name, options.results.parent / PROTOCOL)
    return kind(clip, processor, options.folder, config, budget, options.results, until)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments study`."""
    add_run_options(parser, results="results/methods", runs="runs/methods")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", default=methods.NAMES, help="default: all"
    )


def run(options: argparse.Namespace) -> None:
    """Run every method of the paper's tables on a prepared dataset, each with the budget of
    protocol.json.

    What is already done is not done again: start the command again after a stop, or to add hours.
    """
    study_of(options).run_all(options.methods)
