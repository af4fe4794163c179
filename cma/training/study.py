"""Every method on one dataset, with one budget: `python -m cma.training.study --help`.

A method's rate is chosen on validation by successive halving: each rate of the grid is trained for the first
rung of epochs, the best go on to the next rung if there is one, and the best of all to the end. While a rate
at the edge is the best, the grid grows by its neighbour. All follow the schedule of the whole run. Then
the other seeds are trained at that rate. The test split is read once a seed, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor

from .. import data, methods
from ..backbone import load_backbone
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..files import read_json
from ..model import RetrievalModel
from ..recipes import recipe
from .evaluation import encode, evaluate_and_record, query_ranks
from .loop import train
from .record import RunRecord
from .rows import Budget, MethodRow
from .step import NotFinite

ZERO_SHOT = methods.NAMES[0]
EXTENSIONS = 4  # the most rates that are added to a grid


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
    method: str | type[methods.Method] = ZERO_SHOT  # the one that is run

    @cached_property
    def training(self) -> RetrievalDataset:
        """The train split."""
        return data.load(self.folder, "train")

    def row(self, method: str | type[methods.Method]) -> MethodRow:
        """The row of a method, from its file if any. Raises ValueError if that has another budget."""
        name = method if isinstance(method, str) else method.NAME
        row = MethodRow(self.training.name, name, asdict(self.budget) | {"precision": self.config.precision})
        path = row.path(self.results)
        found = read_json(path, MethodRow) if path.exists() else row
        if found.budget != row.budget:
            raise ValueError(f"{path}: its budget is {found.budget}, not {row.budget}; use another folder")
        return found

    def run(self, method: str | type[methods.Method]) -> MethodRow:
        """Go on with a method until its row is whole, or time is over. Raises ValueError as `cma.train`."""
        row, self.method = self.row(method), method
        if method == ZERO_SHOT:
            if not row.records:
                self._zero_shot(row)
            return row
        if row.lr is None:
            row.lr = self.choose_rate(row)
            row.save(self.results)
        for seed in self.budget.seeds if row.lr else ():
            if str(seed) not in row.records and time.time() < self.until:
                self._train(row, row.lr, seed)
                row.save(self.results)
        return row

    def choose_rate(self, row: MethodRow) -> float | None:
        """The best rate on validation by successive halving; None if time is over before that is known.

        What is in `row.rates` is not trained again. Raises ValueError if no rate can be trained.
        """
        rates, budget = sorted(self.budget.rates), self.budget
        for place, (rung, keep) in enumerate(zip(budget.rungs, budget.keep, strict=True)):
            scores: dict[float, float] = {}
            waiting = list(rates)
            while waiting:
                rate = waiting.pop(0)
                if (found := self._score(row, rate, rung)) is None:
                    return None
                scores[rate] = found
                best = max(scores, key=scores.get)
                room = place == 0 and len(scores) < len(rates) + EXTENSIONS
                if not waiting and room and best in (min(scores), max(scores)):
                    waiting.append(neighbour(best, up=best == max(scores)))
            rates = sorted(sorted(scores), key=scores.get, reverse=True)[:keep]
        if scores[rates[0]] < 0:
            raise ValueError(f"{row.name}: no rate of {budget.rates} could be trained")
        return rates[0]

    def _score(self, row: MethodRow, rate: float, rung: int) -> float | None:
        """mR on validation after `rung` epochs at a rate, −1 if training failed; None if time is over."""
        for entry in row.rates:
            if (entry["lr"], entry["epochs"]) == (rate, rung):
                return -1.0 if entry["mR"] is None else entry["mR"]
        if time.time() >= self.until:
            return None
        entry = {"lr": rate, "epochs": rung, "mR": None, "R@1": None}
        try:
            history = self._train(row, rate, self.budget.seeds[0], rung).history[:rung]
            best = max((one["validation"] for one in history), key=lambda found: found["mR"])
            entry |= {"mR": round(best["mR"], 3), "R@1": round(best["text_to_visual"]["R@1"], 3)}
        except NotFinite as error:
            print(f"{row.name}, rate {rate:g}: {error}")
        row.rates.append(entry)
        row.save(self.results)
        return self._score(row, rate, rung)

    def _train(self, row: MethodRow, rate: float, seed: int, rung: int | None = None) -> RunRecord:
        """Train to a rung, or to the end and put record and ranks into the row; an earlier run goes on."""
        model = RetrievalModel(self.clip, self.processor)
        methods.attach(model, self.method, "method", seed, **methods.options_of(self.method, self.training))
        model.set_adapter("method")
        config = replace(self.config, lr=rate, seed=seed, epochs=self.budget.epochs)
        config = replace(config, name=f"{row.name}-lr{rate:g}-seed{seed}", report_on="test")
        config = replace(config, select_on="val", select_by="mR")
        reached: list[RunRecord] = []

        def stop(record: RunRecord) -> None:
            if rung is not None and len(record.history) >= rung:
                reached.append(record)
                raise _Reached

        try:
            record = train(model, self.training, config, on_epoch=stop)
            if rung is None:
                row.records[str(seed)] = json.loads(record.to_json())
                self.rank(row, model, config, str(seed))
        except _Reached:
            (record,) = reached
        finally:
            model.set_adapter(None)
        return record

    def _zero_shot(self, row: MethodRow) -> None:
        model, config = RetrievalModel(self.clip, self.processor), replace(self.config, name=row.name)
        record = evaluate_and_record(model, data.load(self.folder, "test"), config)
        row.records["0"] = json.loads(record.to_json())
        self.rank(row, model, config, "0")
        row.save(self.results)

    def rank(self, row: MethodRow, model: RetrievalModel, config: TrainConfig, seed: str) -> None:
        """Enter a seed's ranks on test into the row."""
        test = data.load(self.folder, "test")
        found = encode(model, test, config)
        row.ranks[seed] = query_ranks(found, test, config)
        row.text_to_item = found.text_to_item.tolist()


class _Reached(Exception):
    """A run has come to its rung."""


def neighbour(rate: float, up: bool) -> float:
    """The next rate of 1e-5, 3e-5, 1e-4, 3e-4, … above or below."""
    exponent = math.floor(math.log10(rate) + 1e-9)
    leading = round(rate / 10**exponent)
    steps = {(1, True): (3, 0), (3, True): (1, 1), (1, False): (3, -1), (3, False): (1, 0)}
    leading, shift = steps[leading if leading in (1, 3) else 1, up]
    return float(f"{leading}e{exponent + shift}")


def long_command(name: str, description: str, results: str, runs: str) -> argparse.ArgumentParser:
    """The arguments of a command that trains many runs on a dataset, for hours, and goes on after a stop."""
    parser = argparse.ArgumentParser(prog=f"python -m cma.training.{name}", description=description)
    add = partial(parser.add_argument, help="default: %(default)s")
    parser.add_argument("folder", type=Path, help="a prepared dataset, such as data/mini-flickr30k")
    add("--backbone", default="mini")
    add("--results", type=Path, default=Path(results))
    parser.add_argument("--runs", default=runs, help="checkpoints; default: %(default)s")
    parser.add_argument("--hours", type=float, default=math.inf, help="begin no run after so many hours")
    parser.add_argument("--precision", default="float32", help="of training and testing; default: float32")
    return parser


def begin(options: argparse.Namespace) -> tuple[RetrievalDataset, TrainConfig, CLIPModel, CLIPProcessor]:
    """(train split, settings of its recipe, backbone, processor) of a `long_command`."""
    dataset = data.load(options.folder, "train")
    config = recipe(dataset.recipe).train_config()
    config = replace(config, runs_dir=options.runs, precision=options.precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return dataset, config, *load_backbone(options.backbone, device=device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every method of the paper's tables on a prepared dataset, each with the same budget.

    What is done already is not done again: start the command again after a stop, or to add hours.
    """
    parser = long_command("study", main.__doc__, results="results/methods", runs="runs/methods")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default: {', '.join(methods.NAMES)}")
    parser.add_argument("--budget", type=json.loads, default={}, help="JSON, such as '{\"epochs\": 8}'")
    options = parser.parse_args(arguments)
    try:
        dataset, config, clip, processor = begin(options)
        until = time.time() + 3600 * options.hours
        budget = Budget(**options.budget)
        study = Study(clip, processor, options.folder, config, budget, options.results, until)
        for method in options.methods or methods.NAMES:
            if reason := methods.why_not(method, dataset):
                print(f"{method}: left out, because it cannot do {dataset.name}: {reason}")
                continue
            row = study.run(method)
            rate = "" if row.lr is None else f", rate {row.lr:g}"
            seeds = 1 if method == ZERO_SHOT else len(budget.seeds)
            print(f"{row.name}: {len(row.records)} / {seeds} seeds{rate}", flush=True)
    except (OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
