"""Run every method on one dataset with the same budget: `python -m experiments study --help`.

A method's learning rate is chosen on validation. All rates of the grid are scanned, for one epoch
with one seed; the best one and its two neighbours are trained at full length with two seeds. While
a rate at the edge of these is the best, its next neighbour is added, at most twice. Then the
reported seeds are trained at the best rate. None of these runs stops early. The test split and the
further test sets beside the dataset are read once for each seed, at the end. The budget for a
dataset is in `protocol.json` in the folder of results. A row whose rate is still at an edge, or
that loses a seed, is marked (`MethodRow.marks`) and gets no verdict.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
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
    evaluate,
    evaluate_and_record,
    query_ranks,
    train,
)

from .kept import keep_half, load_half
from .probes import twin_hits
from .published import PAPER
from .rows import GRID, Budget, MethodRow, read_rows

ZERO_SHOT = methods.NAMES[0]
EXTENSIONS = 2  # the most rates that are added beside the best one and its neighbours
CHOICE = {"select_on": "val", "select_by": "mR"}
# test sets that may be beside a dataset, as NAME-new
FURTHER = ("new", "other", "whole", "moments", "twins")
PROTOCOL = "protocol.json"
FAILED = -math.inf  # the score of a rate at which training failed: below any recall

AnyMethod = str | type[methods.Method]  # one of `cma.methods.NAMES`, or a class of your own


@dataclass
class Study:
    """Runs methods on the dataset in `folder`; saves a row of each in `results`, runs in
    `config.runs_dir`.

    No run starts after `until` (as in `time.time()`); a run that has started is finished. `choice`:
    the settings that choose a run's epoch. `options`: those of a method that differ from its
    table's. `given`: rates that are not chosen, by method. `keep`: the method whose first reported
    seed is kept in half precision beside its row, and measured from there. `commits`: whether git
    commits each record.
    """

    clip: CLIPModel
    processor: CLIPProcessor
    folder: Path
    config: TrainConfig
    budget: Budget
    results: Path
    until: float = math.inf
    choice: dict = field(default_factory=lambda: dict(CHOICE))
    options: dict[str, dict] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    keep: str = ""
    commits: bool = False

    @cached_property
    def training(self) -> data.RetrievalDataset:
        """The train split."""
        return data.load(self.folder, "train")

    def items(self, seed: int) -> data.RetrievalDataset:
        """The training items of a seed: the train split."""
        return self.training

    def budget_of(self, method: str) -> Budget:
        """The budget of one method."""
        budget = self.budget.of(method)
        if method in self.given:
            return replace(budget, rates=[self.given[method]], scan=False)
        return budget

    def row(self, method: AnyMethod) -> MethodRow:
        """Return the row of a method, from its file if any. Raises as `MethodRow.kept`."""
        name = method if isinstance(method, str) else method.NAME
        budget = self.budget_of(name)
        said = asdict(budget) | {"precision": self.config.precision}
        row = MethodRow(self.training.name, name, said, world=world_of(self.folder))
        digests = {training.digest(self.items(seed)) for seed in budget.seeds}
        return row.kept(self.results, self.clip, digests)

    def run(self, method: AnyMethod) -> MethodRow:
        """Continue a method until its row is complete or time is over.

        A reported seed whose training fails is lost; the row says why. Raises ValueError as
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
                self.save(row)
            for seed in self.budget_of(row.method).seeds:
                if str(seed) in {*row.records, *row.lost}:
                    continue
                self._check_time()
                try:
                    self._train(
                        row, method, row.lr, seed, epochs=self.budget.epochs, report_on="test"
                    )
                except NotFinite as error:
                    row.lost[str(seed)] = str(error)
                self.save(row)
        return row

    def save(self, row: MethodRow) -> None:
        """Save a row, and commit the folder of results if that is wanted."""
        row.save(self.results)
        if self.commits:
            git = ("git", "-C", str(self.results))
            subprocess.run([*git, "add", "."], check=True)
            subprocess.run([*git, "commit", "-qm", f"results: {row.name}", "."], check=True)

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
            seeds = 1 if name == ZERO_SHOT else len(self.budget_of(name).seeds)
            marks = "".join(f"; no verdict: {mark}" for mark in row.marks())
            print(f"{row.name}: {len(row.records)} / {seeds} seeds{rate}{marks}", flush=True)

    def choose_rate(self, row: MethodRow, method: AnyMethod) -> float:
        """Return the rate with the best mean of mR on validation; of equally good ones, the
        smallest.

        What is in `row.rates` is not trained again. Raises `TimeIsOver`, and ValueError if training
        fails at every rate.
        """
        budget = self.budget_of(row.method)
        rates = budget.rates
        if len(rates) == 1:
            return rates[0]
        if budget.scan:
            scanned = {rate: self._score(row, method, rate, 1) for rate in rates}
            best = self._best(row, scanned)
            rates = [neighbour(best, up=False), best, neighbour(best, up=True)]
        scores = {rate: self._score(row, method, rate, budget.epochs) for rate in rates}
        best = self._best(row, scores)
        for _ in range(EXTENSIONS if budget.scan else 0):
            if best not in (min(scores), max(scores)):
                break
            new = neighbour(best, up=best == max(scores))
            scores[new] = self._score(row, method, new, budget.epochs)
            best = self._best(row, scores)
        return best

    def _best(self, row: MethodRow, scores: dict[float, float]) -> float:
        best = max(sorted(scores), key=scores.get)
        if scores[best] == FAILED:
            tried = ", ".join(f"{rate:g}" for rate in sorted(scores))
            raise ValueError(f"{row.name}: no rate of {tried} could be trained")
        return best

    def _score(self, row: MethodRow, method: AnyMethod, rate: float, epochs: int) -> float:
        """Return the mean mR on validation over the rate seeds, or `FAILED` if a training failed.

        A scan, of one epoch where the budget has more, takes the first seed alone.
        """
        budget = self.budget_of(row.method)
        scans = budget.scan and epochs < budget.epochs
        found = []
        for seed in budget.rate_seeds[: 1 if scans else None]:
            known = {"lr": rate, "seed": seed, "epochs": epochs}
            entry = next((one for one in row.rates if known.items() <= one.items()), None)
            if entry is None:
                self._check_time()
                entry = known | {"mR": None, "R@1": None}
                try:
                    record = self._train(row, method, rate, seed, epochs=epochs, report_on="val")
                    recalls = record.metrics
                    entry |= {"mR": recalls["mR"], "R@1": recalls["text_to_visual"]["R@1"]}
                except NotFinite as error:
                    print(f"{row.name}, rate {rate:g}, seed {seed}: {error}")
                row.rates.append(entry)
                self.save(row)
            if entry["mR"] is None:
                return FAILED
            found.append(entry["mR"])
        return statistics.mean(found)

    def _train(
        self, row: MethodRow, method: AnyMethod, rate: float, seed: int, **own: object
    ) -> RunRecord:
        """Train, or continue an earlier run; one that reports on test is entered in the row."""
        model = RetrievalModel(self.clip, self.processor)
        options = methods.options_of(method, self.training) | self.options.get(row.method, {})
        methods.attach(model, method, "method", seed, **options)
        short = "" if own["epochs"] == self.budget.epochs else f"-epochs{own['epochs']}"
        name = f"{row.name}-lr{rate:g}-seed{seed}{short}"
        config = self.config.merge(self.choice | own | {"name": name, "lr": rate, "seed": seed})
        try:
            record = train(model, self.items(seed), config)
            if config.report_on == "test":
                encoded = record.encoded
                if row.method == self.keep and seed == self.budget_of(row.method).seeds[0]:
                    place = self.results / row.name
                    keep_half(model, "method", place)
                    load_half(model, "kept", place)
                    test = data.load(self.folder, "test")
                    encoded = encode(model, test, config)
                    record.metrics = evaluate(model, test, config, encoded=encoded)
                row.records[str(seed)] = json.loads(record.to_json())
                self.test(row, model, str(seed), encoded)
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
        self.save(row)

    def test(
        self, row: MethodRow, model: RetrievalModel, seed: str, encoded: Embeddings | None
    ) -> None:
        """Enter a seed's ranks of the right answers on test and further sets; `encoded`: test, if
        it is encoded.
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


def world_of(folder: Path) -> str:
    """Return the digest of the pixels of an offline benchmark; empty for other datasets."""
    file = folder / "media" / "origin.json"
    return read_json(file, dict).get("pixels", "") if file.exists() else ""


def budget_of(dataset: str, protocol: Path) -> Budget:
    """Return the budget for a dataset: that in the file `protocol`, or else the default."""
    budgets = read_json(protocol, dict).get("budgets", {}) if protocol.exists() else {}
    return Budget(**budgets.get(dataset, {}))


def neighbour(rate: float, up: bool) -> float:
    """Return the next rate of `GRID` above or below."""
    return min(one for one in GRID if one > rate) if up else max(one for one in GRID if one < rate)


def add_run_options(parser: argparse.ArgumentParser, results: str, runs: str) -> None:
    """Add the options of a command that trains for hours and continues after a stop."""
    parser.add_argument("folder", type=Path, help="a prepared dataset, such as data/mini-flickr30k")
    parser.add_argument("--backbone", default="mini", help="default: mini")
    parser.add_argument("--results", type=Path, default=Path(results), help=f"default: {results}")
    parser.add_argument("--runs", default=runs, help=f"checkpoints; default: {runs}")
    parser.add_argument(
        "--hours", type=float, default=math.inf, help="begin no run after so many hours"
    )
    parser.add_argument("--precision", default="float32", help="of training; default: float32")
    parser.add_argument("--commit", action="store_true", help="let git commit each record")


def study_of(options: argparse.Namespace, kind: type[Study] = Study) -> Study:
    """Return the study for the options of `add_run_options`, with recipe and budget."""
    until, dataset = time.time() + 3600 * options.hours, data.load(options.folder, "train")
    own = {"runs_dir": options.runs, "precision": options.precision}
    config = recipe(dataset.recipe).train_config().merge(own)
    clip, processor = load_backbone(
        options.backbone, device="cuda" if torch.cuda.is_available() else "cpu"
    )
    budget = budget_of(dataset.name, options.results.parent / PROTOCOL)
    where = (options.folder, config, budget, options.results, until)
    return kind(clip, processor, *where, commits=options.commit)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments study`."""
    add_run_options(parser, results="results/methods", runs="runs/methods")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", default=methods.NAMES, help="default: all"
    )
    parser.add_argument(
        "--rates-of", type=Path, metavar="ROWS", help="take the rates of another world's rows"
    )


def run(options: argparse.Namespace) -> None:
    """Run every method of the paper's tables on a prepared dataset, as protocol.json says.

    What is already done is not done again: start the command again after a stop, or to add hours.
    """
    study = study_of(options)
    study.keep = PAPER
    if options.rates_of:
        rows = read_rows(options.rates_of)
        own = [row for row in rows if row.dataset == study.training.name and row.lr is not None]
        study.given = {row.method: row.lr for row in own}
    study.run_all(options.methods)
