"""Measure when a small adapter comes near full fine-tuning: `python -m experiments curves --help`.

Each point changes one thing: the number of training items, the size of the adapter, the number of
steps, the layers of LoRA, or the pooling of frames. It tries the rate of the method's usual row and
both neighbours, with one seed; points with other numbers of steps keep the row's rate, and LoRA at
the adapter's places searches its rate by the rule of the rows. Runs are evaluated after their last
epoch. The unchanged point is the row of the usual study. The points `state-…`, on earlier states of
the backbone, are records: the states are not kept (see pretraining/README.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cma import RetrievalModel, data, methods
from cma.training import RunRecord, choose_splits, epoch_size, evaluate

from .gains import FULL, LORA, OURS, ZERO_SHOT
from .options import LONG
from .rows import Budget, MethodRow, neighbours, rates_of
from .study import Study, chosen, no_rate, study_of

METHODS = (ZERO_SHOT, OURS, LORA, FULL)
SIZES = (2, 32)  # r of the points of size; 8 is the usual one
PLACES = ("out_proj", "fc2")  # the linear layers after which our adapter acts


@dataclass
class PointStudy(Study):
    """A study of one point of a curve.

    given: the usual rows' rates, by method. tries: whether to try both neighbours of these.
    searches: whether to search the rate as for a row. share: the share of the training items; each
    seed draws its own. able: the methods that the point changes; the others keep their usual row.
    """

    share: float = 1.0
    tries: bool = True
    searches: bool = False
    able: tuple[str, ...] = METHODS

    def items(self, seed: int) -> data.RetrievalDataset:
        """Return the training items of a seed, its own draw of the share."""
        if self.share == 1:
            return self.training
        return self.training.subset(round(self.share * len(self.training)), seed=seed)

    def budget_of(self, method: str) -> Budget:
        """Return a method's budget at this point. Raises ValueError if its row has no rate yet."""
        if self.searches:
            return self.budget.of(method)
        seeds = self.budget.rate_seeds[:1]
        budget = replace(self.budget, rate_seeds=seeds, seeds_of={}, scan=False)
        if method == ZERO_SHOT:
            return budget
        if method not in self.given:
            raise no_rate(self, method)
        rate = self.given[method]
        return replace(budget, rates=neighbours(rate) if self.tries else [rate])

    def enter(self, row: MethodRow, model: RetrievalModel, seed: int, record: RunRecord) -> None:
        """Enter the record of a run, evaluated on validation, too, which shows whether a seed is
        lost.
        """
        if record.history:
            watched = choose_splits(self.training, self.config).watched
            record.history[-1]["validation"] = evaluate(model, watched, self.config, samples=0)
        super().enter(row, model, seed, record)


def points(usual: Study, rates: dict[str, float]) -> Iterator[PointStudy]:
    """Yield the study of each point. A share of the items has as many steps as all, so more epochs.

    rates: those of the usual rows, by method.
    """
    training = usual.training
    whole = epoch_size(training, usual.config)[1]  # steps per epoch

    def point(name: str, factor: float = 1, share: float = 1, **changes: object) -> PointStudy:
        config = usual.config.merge({"runs_dir": Path(usual.config.runs_dir, name)})
        length = epoch_size(training.subset(round(share * len(training))), config)[1]
        epochs = max(1, round(factor * usual.budget.epochs * whole / length))
        own = {"config": config, "results": usual.results / name, "given": rates, "share": share}
        own |= {"budget": replace(usual.budget, epochs=epochs), "choice": {"select_on": "last"}}
        return usual.changed(PointStudy, **own | changes)

    trained = METHODS[1:]
    shares = (16, 4) if training.kind == "image" else (4,)
    for parts in shares:
        yield point(f"data-1-{parts}", share=1 / parts, able=trained)
    if training.kind == "video":
        pooled = point("pooling-mean")
        yield replace(pooled, config=pooled.config.merge({"similarity": "mean_pooled"}))
        return
    for factor in (0.5, 2.0):
        yield point(f"steps-{factor:g}", factor, tries=False, able=trained)
    for r in SIZES:
        yield point(f"size-r{r}", options=sizes(usual, r), able=(OURS, LORA))
    for r in (2, 8, 32):
        at_places = {"options": sizes(usual, r, PLACES), "able": (LORA,), "searches": True}
        if r != 8:  # which alone has as many seeds as the row of LoRA
            at_places["budget"] = replace(usual.budget, seeds_of={})
        yield point(f"places-r{r}", choice=usual.choice, **at_places)


def sizes(usual: Study, r: int, targets: Sequence[str] = ()) -> dict[str, dict]:
    """Return the options of ours with a bottleneck of r, and of LoRA with as many parameters.

    targets: the linear layers of LoRA; without any, its usual ones.
    """
    lora = {"targets": list(targets)} if targets else {}
    model = RetrievalModel(usual.clip, usual.processor)

    def numbers(method: str, **options: object) -> int:
        kind = methods.class_of(method)
        shapes = kind.shapes(model, kind.options_from(options))
        return sum(map(Tensor.numel, shapes.values()))

    ours = methods.options_of(OURS, usual.training) | {"bottleneck_dim": r}
    rank = max(1, round(numbers(OURS, **ours) / numbers(LORA, rank=1, **lora)))
    # alpha / rank, the strength, stays the same
    return {OURS: {"bottleneck_dim": r}, LORA: {"rank": rank, "alpha": 2.0 * rank} | lora}


OPTIONS = LONG | {
    "--methods": None,
    "--results": "results/curves",
    "--runs": "runs/curves",
    "--points": None,
}


def run(options: argparse.Namespace) -> None:
    """Compare ours, LoRA and full fine-tuning on other items, sizes, steps, places and poolings.

    Each point has its own folder of results. Finished work is kept: after a stop, run the command
    again. The usual rows, in methods/ beside the folder of results, must have their rates.
    """
    names = chosen(dict.fromkeys(METHODS), options.methods)
    usual = study_of(options)
    rates = rates_of(options.results.parent / "methods", usual.training.name, usual.clip)
    studies = {study.results.name: study for study in points(usual, rates)}
    for study in chosen(studies, options.points).values():
        print(f"{study.results}:", flush=True)
        study.run_all([m for m in names if m in study.able])
