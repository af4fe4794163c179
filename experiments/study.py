"""Run every method on one dataset with the same budget: `python -m experiments study --help`. A
method's learning rate is chosen on validation. All rates of the grid are scanned, for one epoch
with one seed; the best one and its two neighbours are trained at full length with two seeds. While
a rate at the edge of these is the best, its next neighbour is added, at most twice. Then the
reported seeds are trained at the best rate. None of these runs stops early. The test split and the
further test sets beside the dataset are read once for each seed, at the end. The budget for a
dataset is in the nearest `protocol.json` above the rows. A row whose rate is still at an edge, or
that loses a seed, is marked (`MethodRow.marks`) and gets no verdict.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor

from cma import RetrievalModel, TrainConfig, data, load_backbone, methods, training
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
from data_prep.mini.build import ORIGIN

from .kept import save_half
from .options import LONG
from .probes import contrast_hits
from .published import PAPER
from .rows import Budget, MethodRow, neighbours, rates_of
from .world import kept_in, protocol_of

ZERO_SHOT = methods.NAMES[0]
EXTENSIONS = 2  # the most rates that are added beside the best one and its neighbours
CHOICE = {"select_on": "val", "select_by": "mR"}
# test sets that may be beside a dataset, as NAME-new: of single items, and of pairs
ALONE = ("new", "words", "scenes", "whole", "moments")
FURTHER = (*ALONE, "twins")
FAILED = -math.inf  # the score of a rate at which training failed: below any recall

AnyMethod = str | type[methods.Method]  # one of `cma.methods.NAMES`, or a class of your own


@dataclass
class Study:
    """Runs methods on the dataset in `folder`; saves a row of each in `results`, runs in
    `config.runs_dir`.

    `choice`: the settings that choose a run's epoch. `options`: a method's options that differ from
    its table's. `given`: rates that need no search, by method. `keep`: the method whose first
    reported seed is saved beside its row in half precision, and tested from there. `split`: the
    split on which the reported seeds are tested.
    """

    clip: CLIPModel
    processor: CLIPProcessor
    folder: Path
    config: TrainConfig
    budget: Budget
    results: Path
    choice: dict = field(default_factory=CHOICE.copy)
    options: dict[str, dict] = field(default_factory=dict)
    given: dict[str, float] = field(default_factory=dict)
    keep: str = ""
    split: str = "test"

    def changed(self, kind: type[Study], **changes: object) -> Study:
        """Return a study of another kind with the fields of this one, except for the changes."""
        own = {one.name: getattr(self, one.name) for one in fields(Study)}
        return kind(**own | changes)

    @cached_property
    def training(self) -> data.RetrievalDataset:
        """Return the train split."""
        return data.load(self.folder, "train")

    def items(self, seed: int) -> data.RetrievalDataset:
        """Return the training items of a seed: the train split."""
        return self.training

    def budget_of(self, method: str) -> Budget:
        """Return the budget of one method."""
        budget = self.budget.of(method)
        if method in self.given:
            return replace(budget, rates=[self.given[method]], scan=False)
        return budget

    def row(self, method: AnyMethod) -> MethodRow:
        """Return the row of a method, from its file if any. Raises as `MethodRow.kept`."""
        name = method if isinstance(method, str) else method.NAME
        budget = self.budget_of(name)
        settings = asdict(budget) | {"precision": self.config.precision}
        row = MethodRow(self.training.name, name, settings, world=world_of(self.folder))
        digests = {training.digest(self.items(seed)) for seed in budget.seeds}
        return row.kept(self.results, self.clip, digests)

    def run(self, method: AnyMethod) -> MethodRow:
        """Continue a method until its row is complete.

        A reported seed whose training fails is lost; the row says why. Raises ValueError like
        `cma.train`.
        """
        row = self.row(method)
        if method == ZERO_SHOT:
            if not row.records:
                self._zero_shot(row)
            return row
        if row.lr is None:
            row.lr = self.choose_rate(row, method)
            row.save(self.results)
        seeds = self.budget_of(row.method).seeds
        for seed in seeds:
            if str(seed) in {*row.records, *row.lost}:
                continue
            training = self.trained(row, method, row.lr, seed, self.budget.epochs, self.split)
            try:
                with training as (model, record):
                    if row.method == self.keep and seed == seeds[0]:
                        self._keep(row, model, record)
                    self.enter(row, model, seed, record)
            except NotFinite as error:
                row.lost[str(seed)] = str(error)
            row.save(self.results)
        return row

    def run_all(self, names: Sequence[str]) -> None:
        """Continue each method and print a line about it, even about one that cannot use this
        dataset.
        """
        items = self.training
        precision = self.config.precision
        # before the first run
        reasons = {name: why_not(name, items.kind, precision) for name in names}
        for name, reason in reasons.items():
            if reason:
                print(
                    f"{name}: left out, because it cannot do {items.name} in {precision}: {reason}"
                )
                continue
            self.report(self.run(name))

    def report(self, row: MethodRow) -> None:
        """Print a line about a row."""
        seeds = 1 if row.method == ZERO_SHOT else len(self.budget_of(row.method).seeds)
        rate = "" if row.lr is None else f", rate {row.lr:g}"
        marks = "".join(f"; no verdict: {mark}" for mark in row.marks())
        print(f"{row.name}: {len(row.records)} / {seeds} seeds{rate}{marks}", flush=True)

    def choose_rate(self, row: MethodRow, method: AnyMethod) -> float:
        """Return the rate with the best mean mR on validation; the smallest if several are equal.

        It does not train again what is in `row.rates`. Raises ValueError if training fails at every
        rate.
        """
        budget = self.budget_of(row.method)
        rates = budget.rates
        if len(rates) == 1:
            return rates[0]
        if budget.scan:
            rates = neighbours(self._best(row, method, rates, 1))
        best = self._best(row, method, rates, budget.epochs)
        for _ in range(EXTENSIONS if budget.scan else 0):
            if best in (min(rates), max(rates)):
                rates = sorted({*rates, *neighbours(best)})
                best = self._best(row, method, rates, budget.epochs)
        return best

    def _best(self, row: MethodRow, method: AnyMethod, rates: list[float], epochs: int) -> float:
        """Return the rate with the best score; the smallest if several are equal."""
        scores = {rate: self._score(row, method, rate, epochs) for rate in sorted(rates)}
        best = max(scores, key=scores.get)
        if scores[best] == FAILED:
            tried = ", ".join(f"{rate:g}" for rate in scores)
            raise ValueError(f"{row.name}: no rate of {tried} could be trained")
        return best

    def _score(self, row: MethodRow, method: AnyMethod, rate: float, epochs: int) -> float:
        """Return the mean mR on validation over the rate seeds, or `FAILED` if a training failed.

        A scan (one epoch where the budget has more) uses only the first seed.
        """
        budget = self.budget_of(row.method)
        scans = budget.scan and epochs < budget.epochs
        found = []
        for seed in budget.rate_seeds[: 1 if scans else None]:
            known = {"lr": rate, "seed": seed, "epochs": epochs}
            entry = next((one for one in row.rates if known.items() <= one.items()), None)
            if entry is None:
                entry = known | {"mR": None, "R@1": None}
                try:
                    with self.trained(row, method, rate, seed, epochs, "val") as (_, record):
                        entry["mR"] = record.metrics["mR"]
                        entry["R@1"] = record.metrics["text_to_visual"]["R@1"]
                except NotFinite as error:
                    print(f"{row.name}, rate {rate:g}, seed {seed}: {error}")
                row.rates.append(entry)
                row.save(self.results)
            if entry["mR"] is None:
                return FAILED
            found.append(entry["mR"])
        return statistics.mean(found)

    @contextmanager
    def trained(
        self, row: MethodRow, method: AnyMethod, rate: float, seed: int, epochs: int, split: str
    ) -> Iterator[tuple[RetrievalModel, RunRecord]]:
        """Train, or continue an earlier run; inside the context, the model has the method."""
        model = RetrievalModel(self.clip, self.processor)
        self.attach(model, method, seed)
        short = "" if epochs == self.budget.epochs else f"-epochs{epochs}"
        own = {
            "name": f"{row.name}-lr{rate:g}-seed{seed}{short}",
            "lr": rate,
            "seed": seed,
            "epochs": epochs,
            "report_on": split,
        }
        config = self.config.merge(self.choice | own)
        # a training that collapses produces denormal numbers, which make a CPU six times as slow
        torch.set_flush_denormal(True)
        try:
            yield model, train(model, self.items(seed), config)
        finally:
            torch.set_flush_denormal(False)
            model.set_adapter(None)

    def attach(self, model: RetrievalModel, method: AnyMethod, seed: int) -> methods.Method:
        """Add a method to a model, with the options for this dataset; activate and return it."""
        options = methods.options_of(method, self.training) | self.options.get(method, {})
        return methods.attach(model, method, "method", seed, **options)

    def _keep(self, row: MethodRow, model: RetrievalModel, record: RunRecord) -> None:
        """Save the adapter beside its row; the record's numbers become those of the saved file."""
        place = self.results / row.name
        save_half(model, "method", place)
        model.load_adapter(place, "kept")  # and activates it
        test = data.load(self.folder, self.split)
        record.encoded = encode(model, test, self.config)
        record.metrics = evaluate(model, test, self.config, encoded=record.encoded)

    def _zero_shot(self, row: MethodRow) -> None:
        model = RetrievalModel(self.clip, self.processor)
        test = data.load(self.folder, "test")
        record = evaluate_and_record(model, test, replace(self.config, name=row.name))
        self.enter(row, model, 0, record)
        row.save(self.results)

    def enter(self, row: MethodRow, model: RetrievalModel, seed: int, record: RunRecord) -> None:
        """Enter the record of a seed's run in a row, with its ranks."""
        row.records[str(seed)] = json.loads(record.to_json())
        self.test(row, model, str(seed), record.encoded)

    def test(
        self, row: MethodRow, model: RetrievalModel, seed: str, encoded: Embeddings | None
    ) -> None:
        """Enter a seed's ranks of the right answers on `split`, and for test also on the further
        sets.
        """
        test, config = data.load(self.folder, self.split), self.config
        encoded = encoded or encode(model, test, config)
        row.text_to_item = encoded.text_to_item.tolist()
        row.ranks[seed] = query_ranks(encoded, test, config)
        row.further[seed] = {}
        for kind in FURTHER if self.split == "test" else ():
            place = self.folder.with_name(f"{self.folder.name}-{kind}")
            if (place / "dataset.json").exists():
                measure = contrast_hits if kind == "twins" else query_ranks
                test = data.load(place, "test")
                row.further[seed][place.name] = measure(encode(model, test, config), test, config)


def world_of(folder: Path) -> str:
    """Return the digest of the pixels of an offline benchmark; empty for other datasets."""
    return kept_in(folder / "media", ORIGIN).get("pixels", "")


def budget_of(dataset: str, protocol: Path) -> Budget:
    """Return the budget for a dataset from the file `protocol`, or else the default."""
    budgets = kept_in(protocol.parent, protocol.name).get("budgets", {})
    return Budget(**budgets.get(dataset, {}))


def why_not(method: str, kind: str, precision: str = "float32") -> str:
    """Return why a method does not work on data of a kind or in a precision; "" if it works."""
    method_class = methods.class_of(method)
    works = kind in method_class.kinds and (method_class.halves or precision != "fp16")
    return "" if works else method_class.why_not


def defined(method: str) -> str:
    """Return a method's name. That of your own class is `FILE.py:NAME`; the file is imported."""
    file, _, name = method.rpartition(":")
    if file:
        sys.path.insert(0, str(Path(file).resolve().parent))
        importlib.import_module(Path(file).stem)
    return name


def no_rate(study: Study, method: str) -> ValueError:
    """Return the error for a row without a rate, with the command that finds one."""
    hint = f"run `python -m experiments study {study.folder}` until it has one"
    return ValueError(f"{study.training.name}, {method}: its row has no rate yet; {hint}")


def chosen(there: dict, names: Sequence[str] | None) -> dict:
    """Return the entries with these names; None: all. Raises ValueError for an unknown name."""
    unknown = {*(names or ())} - there.keys()
    if unknown:
        raise ValueError(f"no {min(unknown)!r} here: expected some of {', '.join(there)}")
    return {name: there[name] for name in names or there}


def backbone_of(name: str | Path) -> tuple[CLIPModel, CLIPProcessor]:
    """Load a backbone, on the GPU if there is one.

    Records identify a backbone from a folder by its weights' digest, wherever the folder is.
    """
    clip, processor = load_backbone(name, device="cuda" if torch.cuda.is_available() else "cpu")
    if Path(clip.config.name_or_path).is_absolute():
        clip.config.name_or_path = ""
    return clip, processor


def study_of(options: argparse.Namespace, kind: type[Study] = Study) -> Study:
    """Return the study for the options of `LONG`, with recipe and budget."""
    dataset = data.load(options.folder, "train")
    own = {"runs_dir": options.runs, "precision": options.precision}
    return kind(
        *backbone_of(options.backbone),
        options.folder,
        recipe(dataset.recipe).train_config().merge(own),
        budget_of(dataset.name, protocol_of(options.results)),
        options.results,
    )


OPTIONS = LONG | {
    "--methods": None,
    "--results": "results/methods",
    "--runs": "runs/methods",
    "--rates-of": None,
}


def run(options: argparse.Namespace) -> None:
    """Run every method of the paper's tables on a prepared dataset, as protocol.json says.

    A method of your own is `--methods FILE.py:NAME`. Finished work is kept: after a stop, run the
    command again.
    """
    names = [defined(method) for method in options.methods or methods.NAMES]
    study = study_of(options)
    study.keep = PAPER
    if options.rates_of:
        study.keep = ""
        study.given = rates_of(options.rates_of, study.training.name, study.clip)
        study.budget = replace(study.budget, seeds_of={})  # in another world all have three seeds
        names = [*chosen(dict.fromkeys((ZERO_SHOT, *study.given)), options.methods and names)]
    study.run_all(names)
