"""When a small adapter comes near full fine-tuning: one of backbone, data and steps changed at a time.

Each point is a study of its own, with a rate of its own: of zero-shot, the cross-modal adapter, LoRA and full
fine-tuning. On a share of the training items a run has as many steps as on all of them, so more epochs. All
are judged after the last epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cma import load_backbone
from cma.training import epoch_size

from .study import PROTOCOL, ZERO_SHOT, Study, add_run_options, budget_of, load

METHODS = (ZERO_SHOT, "cross-modal adapter", "LoRA", "full fine-tuning")
SHARES = (1 / 16, 1 / 4)  # of the training items; the smaller ones lie in the larger ones
FACTORS = (0.5, 2.0)  # of the steps


@dataclass(frozen=True)
class Condition:
    """What one point of the curves changes; `backbone` is a state's folder, or empty for the usual one."""

    name: str
    backbone: str = ""
    share: float = 1.0
    factor: float = 1.0


def conditions(states: list[Path]) -> Iterator[Condition]:
    """The points, the usual one first."""
    yield Condition("usual")
    for folder in states:
        yield Condition(f"state-{folder.name.rpartition('-')[2]}", backbone=str(folder))
    for share in SHARES:
        yield Condition(f"data-1-{1 / share:g}", share=share)
    for factor in FACTORS:
        yield Condition(f"steps-{factor:g}", factor=factor)


def study_of(usual: Study, condition: Condition) -> Study:
    """The study of one point: its backbone, its training items, its epochs and its folders."""
    folders = {"runs_dir": f"{usual.config.runs_dir}/{condition.name}"}
    study = replace(usual, results=usual.results / condition.name, config=usual.config.merge(folders))
    steps = usual.budget.epochs * condition.factor * epoch_size(usual.training, usual.config)[1]
    if condition.share < 1:
        study.training = usual.training.subset(round(condition.share * len(usual.training)), seed=42)
    epochs = max(1, round(steps / epoch_size(study.training, study.config)[1]))
    study.budget = replace(usual.budget, epochs=epochs)
    if condition.backbone:
        study.clip, study.processor = load_backbone(condition.backbone, device=usual.clip.device)
    return study


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments curves`."""
    add_run_options(parser, results="results/curves", runs="runs/curves")
    parser.add_argument(
        "--states", nargs="*", type=Path, default=[], help="folders of CLIPs, as OUT-700 of pretrain"
    )


def run(options: argparse.Namespace) -> None:
    """Train ours, LoRA and full fine-tuning with other backbones, less data, fewer and more steps.

    The folder of results gets a folder for each point. What is done already is not done again: start the
    command again after a stop, or to add hours.
    """
    until = time.time() + 3600 * options.hours
    dataset, config, clip, processor = load(options)
    budget = budget_of(dataset.name, options.results.parent / PROTOCOL)
    chosen = {"select_on": "last"}
    usual = Study(clip, processor, options.folder, config, budget, options.results, until, chosen)
    for condition in conditions(options.states):
        study = study_of(usual, condition)
        for method in METHODS:
            row = study.run(method)
            seeds = 1 if method == ZERO_SHOT else len(budget.seeds)
            print(f"{condition.name}, {row.name}: {len(row.records)} / {seeds} seeds", flush=True)
