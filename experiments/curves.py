"""When a small adapter comes near full fine-tuning: `python -m experiments curves --help`.

One of backbone, data and steps is changed at a time. Each point is a study that chooses its own
learning rates and evaluates its runs after their last epoch. The unchanged point is the row of the
usual study.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cma import load_backbone
from cma.training import epoch_size

from .study import ZERO_SHOT, Study, add_run_options, study_of

METHODS = (ZERO_SHOT, "cross-modal adapter", "LoRA", "full fine-tuning")


def points(usual: Study, states: list[Path]) -> Iterator[Study]:
    """Yield the study of each point. A share of the items has as many steps as all, so more epochs."""

    def point(name: str, share: float = 1, factor: float = 1, **changes: object) -> Study:
        training, config = (
            usual.training,
            usual.config.merge({"runs_dir": Path(usual.config.runs_dir, name)}),
        )
        part = training.subset(round(share * len(training)), seed=42) if share < 1 else training
        # steps per epoch
        whole, length = (epoch_size(items, config)[1] for items in (training, part))
        budget = replace(
            usual.budget, epochs=max(1, round(factor * usual.budget.epochs * whole / length))
        )
        changes |= {"config": config, "budget": budget, "results": usual.results / name}
        study = replace(usual, choice={"select_on": "last"}, **changes)
        study.training = part
        return study

    for folder in states:
        clip, processor = load_backbone(str(folder), device=usual.clip.device)
        clip.config.name_or_path = str(folder)  # as typed: records name no place on this machine
        yield point(f"state-{folder.name.rpartition('-')[2]}", clip=clip, processor=processor)
    # one in the other
    yield from (point(f"data-1-{1 / share:g}", share=share) for share in (1 / 16, 1 / 4))
    yield from (point(f"steps-{factor:g}", factor=factor) for factor in (0.5, 2.0))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments curves`."""
    add_run_options(parser, results="results/curves", runs="runs/curves")
    parser.add_argument(
        "--states", nargs="*", type=Path, default=[], help="folders OUT-700 of pretrain"
    )
    parser.add_argument(
        "--points", nargs="+", metavar="NAME", help="such as data-1-16; default: all"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", default=METHODS, help="default: all four"
    )


def run(options: argparse.Namespace) -> None:
    """Compare zero-shot, ours, LoRA and full fine-tuning on other backbones, less data, fewer and
    more steps.

    Each point has its own folder of results. What is done is not done again: start it again after a
    stop.
    """
    studies = {study.results.name: study for study in points(study_of(options), options.states)}
    for name in options.points or studies:
        if name not in studies:
            raise ValueError(f"no point {name!r}: expected some of {', '.join(studies)}")
        print(f"{studies[name].results}:", flush=True)
        studies[name].run_all(options.methods)
