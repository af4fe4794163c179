"""A method's row of the comparison: its budget, rates and seeds, and paired differences between two rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from cma.files import checked_dataclass, read_json, write_whole
from cma.metrics import LEVEL, bootstrap_means

DIRECTIONS = ("text_to_visual", "visual_to_text")


@checked_dataclass
class Budget:
    """What each method gets. `rungs`: epochs after which rates are compared; `keep`: how many of them go on.

    While the first or the last of `rates` is the best at the first rung, the next one of 1e-5, 3e-5, 1e-4, …
    is tried too, `study.EXTENSIONS` more at most. That finds the best rate if recall has one peak over the
    rates. Rates and epochs are chosen by mR on validation, which is less noisy than R@1. Raises ValueError
    for rungs that do not rise or lie after the end.
    """

    epochs: Annotated[int, Field(ge=1)] = 8
    rungs: list[int] = field(default_factory=lambda: [4])
    keep: list[int] = field(default_factory=lambda: [1])
    rates: list[float] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    seeds: list[int] = field(default_factory=lambda: [42, 43, 44])

    def __post_init__(self) -> None:
        rising = self.rungs == sorted({rung for rung in self.rungs if 1 <= rung <= self.epochs})
        if not (rising and self.rungs and len(self.rungs) == len(self.keep) and self.rates):
            given = f"rungs {self.rungs}, keep {self.keep}, {len(self.rates)} rates, {self.epochs} epochs"
            raise ValueError(f"{given}: expected rates, and rising rungs up to the end with a count each")


@dataclass
class MethodRow:
    """One method on one dataset, as it is kept in `results/methods/`.

    `rates`: {"lr", "epochs", "mR", "R@1"} on validation, one for each rung a rate was trained to; null where
    training failed. By seed: `records`, the run's record, and `ranks`, the rank of each query's right answer
    on test, {"text_to_visual": [T], "visual_to_text": [V]}. `text_to_item` [T]: the item of each text.
    """

    dataset: str
    method: str
    budget: dict
    rates: list[dict] = field(default_factory=list)
    lr: float | None = None
    records: dict[str, dict] = field(default_factory=dict)
    ranks: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    text_to_item: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Such as `mini-flickr30k-full-fine-tuning`."""
        return f"{self.dataset}-{self.method.lower().replace(' ', '-')}"

    def path(self, folder: Path) -> Path:
        """The row's file in `folder`."""
        return folder / f"{self.name}.json"

    def kept(self, folder: Path) -> Self:
        """The row's file in `folder`, or the row itself if there is none.

        Raises ValueError if the file has another budget.
        """
        path = self.path(folder)
        there = read_json(path, type(self)) if path.exists() else self
        if there.budget != self.budget:
            said = f"{path}: its budget is {there.budget}, not {self.budget}"
            raise ValueError(f"{said}; use other folders (--results, --runs), or delete the file")
        return there

    def save(self, folder: Path) -> None:
        """Write the row's file, whole or not at all."""
        write_whole(self.path(folder), json.dumps(vars(self), separators=(",", ":")) + "\n")

    def hits(self, direction: str, k: int = 1) -> np.ndarray:
        """How often each query [T] or [V] found its answer among the first k, as a share of the seeds."""
        of_seeds = [ranks[direction] for _, ranks in sorted(self.ranks.items())]
        if not of_seeds:
            raise ValueError(f"{self.name}: no seed has been tested yet")
        return (np.array(of_seeds) <= k).mean(0)

    def items(self, direction: str) -> np.ndarray:
        """The item of each query."""
        owner = np.array(self.text_to_item)
        return owner if direction == "text_to_visual" else np.arange(owner.max() + 1)


def read_rows(folder: Path | str) -> list[MethodRow]:
    """Every row in a folder, in order of file names. Raises ValueError naming a file that is not a row."""
    return [read_json(path, MethodRow) for path in sorted(Path(folder).glob("*.json"))]


def recall(row: MethodRow, direction: str, k: int = 1) -> tuple[float, float, float]:
    """(R@k in %, low, high): mean over seeds, 95 % interval with items drawn with all their queries."""
    hits = row.hits(direction, k)
    return (float(100 * hits.mean()), *interval(bootstrap_means(hits, row.items(direction))))


def difference(one: MethodRow, other: MethodRow, direction: str, k: int = 1) -> tuple[float, ...]:
    """(one − other in points of R@k, low, high, p): hits are averaged over seeds, items drawn for both.

    p is two-sided: twice the share of draws on the rarer side of 0, the observed one counted with them.
    Raises ValueError for rows of different test items.
    """
    if one.text_to_item != other.text_to_item:
        raise ValueError(f"{one.name} and {other.name} were tested on different items; test one again")
    gain = one.hits(direction, k) - other.hits(direction, k)
    draws = bootstrap_means(gain, one.items(direction))
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return (float(100 * gain.mean()), *interval(draws), float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold for all comparisons together (Holm 1979), in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval in % of draws, which are shares."""
    low, high = np.quantile(100 * draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
