"""When a small adapter comes near full fine-tuning: `python -m experiments curves --help`.

One thing is changed at a time: what the backbone knows, how many items are trained on, the size of
what is trained, for how many steps, or how frames are pooled. A point tries the rate of the
method's usual row and both neighbours, with one seed; other numbers of steps keep the row's rate.
Its runs are evaluated after their last epoch. The unchanged point is the row of the usual study.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cma import RetrievalModel, data, load_backbone, methods
from cma.files import read_json
from cma.training import epoch_size

from .published import FULL
from .published import PAPER as OURS
from .rows import Budget, read_rows
from .study import PROTOCOL, ZERO_SHOT, Study, add_run_options, neighbour, study_of

LORA = "LoRA"
METHODS = (ZERO_SHOT, OURS, LORA, FULL)
SIZES = (2, 32)  # r of the points of size; 8 is the usual one


@dataclass
class PointStudy(Study):
    """A study of one point of a curve.

    given: the rates of the usual rows, by method. tries: whether both neighbours of these are
    tried. share: of the training items; each seed draws its own. able: the methods that the point
    changes; the others have their usual row.
    """

    share: float = 1.0
    tries: bool = True
    able: tuple[str, ...] = METHODS

    def items(self, seed: int) -> data.RetrievalDataset:
        """The training items of a seed: its own draw of the share."""
        if self.share == 1:
            return self.training
        return self.training.subset(round(self.share * len(self.training)), seed=seed)

    def budget_of(self, method: str) -> Budget:
        """The budget of one method at this point. Raises ValueError if its row has no rate yet."""
        seeds = self.budget.rate_seeds[:1]
        budget = replace(self.budget, rate_seeds=seeds, seeds_of={}, scan=False)
        if method == ZERO_SHOT:
            return budget
        if method not in self.given:
            hint = f"run `python -m experiments study {self.folder}` until it has one"
            raise ValueError(f"{self.training.name}, {method}: its row has no rate yet; {hint}")
        rate = self.given[method]
        near = [neighbour(rate, up=False), rate, neighbour(rate, up=True)]
        return replace(budget, rates=near if self.tries else [rate])


def points(usual: Study, states: list[Path], rates: dict[str, float]) -> Iterator[PointStudy]:
    """Yield the study of each point. A share of the items has as many steps as all, so more epochs.

    rates: those of the usual rows, by method. Raises ValueError for a state whose weights are not
    those that protocol.json names.
    """
    whole = epoch_size(usual.training, usual.config)[1]  # steps per epoch
    own = {name: getattr(usual, name) for name in ("processor", "folder", "until", "commits")}

    def point(name: str, factor: float = 1, **changes: object) -> PointStudy:
        runs = Path(usual.config.runs_dir, name)
        config = usual.config.merge({"runs_dir": runs} | changes.pop("reading", {}))
        share = changes.get("share", 1)
        part = usual.training.subset(round(share * len(usual.training)))
        length = epoch_size(part, config)[1]
        epochs = max(1, round(factor * usual.budget.epochs * whole / length))
        made = own | {"clip": usual.clip, "config": config, "results": usual.results / name}
        made |= {"budget": replace(usual.budget, epochs=epochs), "choice": {"select_on": "last"}}
        return PointStudy(**(made | {"given": rates} | changes))

    for folder in states:
        check_state(folder, usual.results.parent / PROTOCOL)
        clip, processor = load_backbone(folder, device=usual.clip.device)
        clip.config.name_or_path = str(folder)  # as typed: records name no place on this machine
        yield point(f"state-{state_of(folder)}", clip=clip, processor=processor)
    trained = METHODS[1:]
    for parts in (16, 4) if usual.training.kind == "image" else (4,):
        yield point(f"data-1-{parts}", share=1 / parts, able=trained)
    if usual.training.kind == "video":
        yield point("pooling-mean", reading={"similarity": "mean_pooled"})
        return
    for factor in (0.5, 2.0):
        yield point(f"steps-{factor:g}", factor, tries=False, able=trained)
    for r in SIZES:
        options = sizes(usual, r)
        yield point(f"size-r{r}", options=options, able=(OURS, LORA))


def sizes(usual: Study, r: int) -> dict[str, dict]:
    """Return the options of ours with a bottleneck of r, and of LoRA with as many numbers."""
    model = RetrievalModel(usual.clip, usual.processor)

    def numbers(method: str, **options: object) -> int:
        methods.attach(model, method, "counted", **options)
        count = sum(part.numel() for part in model.trainable_parameters())
        model.remove_adapter("counted")
        return count

    ours = methods.options_of(OURS, usual.training) | {"bottleneck_dim": r}
    rank = max(1, round(numbers(OURS, **ours) / numbers(LORA, rank=1)))
    # alpha / rank is how much is added; it stays as it is
    return {OURS: {"bottleneck_dim": r}, LORA: {"rank": rank, "alpha": 2.0 * rank}}


def state_of(folder: Path) -> str:
    """The name of a state of the backbone: what follows the last dash, such as `700`."""
    return folder.name.rpartition("-")[2]


def check_state(folder: Path, protocol: Path) -> None:
    """Raise ValueError unless a state's weights are those that protocol.json names."""
    frozen = read_json(protocol, dict).get("frozen", {}).get("states", {})
    name, weights = state_of(folder), folder / "model.safetensors"
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    expected = frozen.get(name)
    if found != expected:
        there = f"its digest is {found[:12]}, {protocol} has {expected and expected[:12]}"
        raise ValueError(f"{weights}: not the state {name!r} that was frozen: {there}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments curves`."""
    add_run_options(parser, results="results/curves", runs="runs/curves")
    parser.add_argument(
        "--states", nargs="*", type=Path, default=[], help="folders such as OUT-700 of pretrain"
    )
    parser.add_argument(
        "--points", nargs="+", metavar="NAME", help="such as data-1-16; default: all"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", default=METHODS, help="default: all four"
    )


def run(options: argparse.Namespace) -> None:
    """Compare ours, LoRA and full fine-tuning on other backbones, items, sizes, steps and poolings.

    Each point has its own folder of results. What is done is not done again: start it again after a
    stop. The usual rows, in methods/ beside the folder of results, must have their rates.
    """
    usual = study_of(options)
    own = [row for row in read_rows(options.results.parent / "methods") if row.lr is not None]
    rates = {row.method: row.lr for row in own if row.dataset == usual.training.name}
    studies = {study.results.name: study for study in points(usual, options.states, rates)}
    for name in options.points or studies:
        if name not in studies:
            raise ValueError(f"no point {name!r}: expected some of {', '.join(studies)}")
        print(f"{studies[name].results}:", flush=True)
        able = studies[name].able
        studies[name].run_all([method for method in options.methods if method in able])
