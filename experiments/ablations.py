"""Change one setting of the adapter at a time: `python -m experiments ablations --help`.

All points use one seed and the learning rate that the study chose for the adapter on the same
split. They are evaluated on validation after their last epoch: no epoch is chosen, and test is
never read. Other bottlenecks and pooling by the mean are points of the curves.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

from cma import RetrievalModel, methods
from cma.training import RunRecord

from .options import LONG
from .published import PAPER as OURS
from .rows import Budget, MethodRow, rates_of
from .study import Study, chosen, no_rate, study_of


@dataclass
class Ablation(Study):
    """A study of one point; its row has the point's name.

    up_scale: a factor on the initial values of all up-projections; 0 starts at CLIP. sites: where
    the adapter acts, None for everywhere (2i: the attention of layer i, 2i + 1: its MLP).
    """

    up_scale: float = 1.0
    sites: list[int] | None = None

    def attach(self, model: RetrievalModel, method: str, seed: int) -> methods.Method:
        """Add the adapter of the point, with its initial values."""
        adapter = super().attach(model, OURS, seed)
        start(adapter, self.up_scale, self.sites)
        return adapter

    def enter(self, row: MethodRow, model: RetrievalModel, seed: int, record: RunRecord) -> None:
        """Enter the record of a run; only parameters at the point's sites count as trained."""
        if self.sites is not None:
            share = len(self.sites) / (2 * max(model.layers.values()))
            record.trained_parameters = round(record.trained_parameters * share)
        super().enter(row, model, seed, record)


def start(adapters: torch.nn.Module, up_scale: float, sites: list[int] | None) -> None:
    """Give an adapter its initial values; outside its `sites` it adds nothing and never trains."""
    for name, parameter in adapters.named_parameters():
        if name.endswith(("up_weight", "shared_weight")):
            parameter.data *= up_scale
        if sites is not None and "down" not in name:
            acts = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), device=parameter.device)
            acts[sites] = 1
            parameter.data *= acts
            parameter.register_hook(lambda grad, acts=acts: grad * acts.to(grad))  # 0 elsewhere


def points(usual: Study, rate: float) -> dict[str, Ablation]:
    """Return the study of each point, {"GROUP-NAME": study}: one run, at this rate."""
    budget = Budget(usual.budget.epochs, [rate], seeds=[usual.config.seed], scan=False)
    own = {"budget": budget, "choice": {"select_on": "last"}, "split": "val"}
    options = methods.options_of(OURS, usual.training)
    model = RetrievalModel(usual.clip, usual.processor)
    narrow = min(model.widths.values())
    end = 2 * max(model.layers.values())
    changes = {"default-adapter": {}}
    for d in sorted({0, min(64, narrow), narrow} - {options["shared_dim"]}):
        changes[f"sharing-d{d}"] = {"options": {OURS: {"shared_dim": d}}}
    if end == 2 * min(model.layers.values()):  # else the towers' sites differ
        changes["where-attention"] = {"sites": [*range(0, end, 2)]}
        changes["where-mlp"] = {"sites": [*range(1, end, 2)]}
        changes["where-last-2"] = {"sites": [*range(end - 4, end)]}
    for scale in (0.0, 10.0):
        changes[f"init-up-{scale:g}"] = {"up_scale": scale}
    return {name: usual.changed(Ablation, **own | change) for name, change in changes.items()}


OPTIONS = LONG | {"--results": "results/ablations", "--runs": "runs/ablations", "--points": None}


def run(options: argparse.Namespace) -> None:
    """Train the ablations of the adapter on a prepared dataset; they are evaluated on validation.

    Learning rate and epochs are the study's; its methods/ is beside the folder of results. Finished
    work is kept: after a stop, run the command again.
    """
    usual = study_of(options)
    rates = rates_of(options.results.parent / "methods", usual.training.name, usual.clip)
    if OURS not in rates:
        raise no_rate(usual, OURS)
    for name, study in chosen(points(usual, rates[OURS]), options.points).items():
        study.report(study.run(name))
