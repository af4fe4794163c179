"""A method's row in the comparison (budget, rates, seeds), and paired differences of two rows."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field
from transformers import PreTrainedModel

from cma.backbone import identity, known_by
from cma.files import checked_dataclass, read_json, write_whole
from cma.metrics import bootstrap_means, interval

# …, 1e-3, 3e-3, 1e-2, …
GRID = [float(f"{digit}e{power}") for power in range(-12, 6) for digit in (1, 3)]
SCANNED = [rate for rate in GRID if 3e-5 <= rate <= 1]
LEAST_GAIN = 5.0  # points of recall
KEPT = 0.7  # a seed is lost if its mR on validation is below this share of the method's best
DIRECTIONS = ("text_to_visual", "visual_to_text")
NDCG = 0  # instead of k: nDCG@10 of a query with one right answer


@checked_dataclass
class Budget:
    """The budget of each method, by one rule. Seeds that choose the learning rate are not reported.

    With `scan`, each of `rates` is first trained for one epoch with the first of `rate_seeds`; the
    best one and its two neighbours go on. These (without `scan`: all `rates`) are trained for all
    `epochs` with each of `rate_seeds`, and scored by the mean of mR on validation, which is less
    noisy than R@1. A single rate needs no search. `seeds_of`: methods that report other seeds.
    Raises ValueError for no rate, no seed, or a seed in both lists.
    """

    epochs: Annotated[int, Field(ge=1)] = 4
    rates: list[float] = field(default_factory=SCANNED.copy)
    rate_seeds: list[int] = field(default_factory=lambda: [1, 2])
    seeds: list[int] = field(default_factory=lambda: [42, 43, 44])
    seeds_of: dict[str, list[int]] = field(default_factory=dict)
    scan: bool = True

    def __post_init__(self) -> None:
        reported = {*self.seeds}.union(*self.seeds_of.values())
        complete = self.rates and self.rate_seeds and self.seeds
        if not complete or {*self.rate_seeds} & reported:
            given = f"rates {self.rates}, rate_seeds {self.rate_seeds}, seeds {sorted(reported)}"
            raise ValueError(f"{given}: expected some of each, and no seed in both lists")

    def of(self, method: str) -> Self:
        """Return the budget of one method, with the seeds that it reports."""
        return replace(self, seeds=self.seeds_of.get(method, self.seeds), seeds_of={})


@dataclass
class MethodRow:
    """The results of one method on one dataset, as saved in `results/methods/`.

    `rates`: {"lr", "seed", "epochs", "mR", "R@1"} on validation, null where training failed. By
    seed: `records`, the run's record; `ranks`, the rank of each query's right answer on test,
    {"text_to_visual": [T], "visual_to_text": [V]}; `further`, the ranks on each further test set,
    or which of its contrast pairs are told apart, {kind: {"text" | "image" | "group": [P]}};
    `lost`, why a seed could not be trained. `text_to_item` [T]: the item of each text. `world`: the
    digest of the pixels of an offline benchmark.
    """

    dataset: str
    method: str
    budget: dict
    backbone: str | None = None  # set by `kept`
    rates: list[dict] = field(default_factory=list)
    lr: float | None = None
    records: dict[str, dict] = field(default_factory=dict)
    ranks: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    text_to_item: list[int] = field(default_factory=list)
    further: dict[str, dict[str, dict]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    world: str = ""

    @property
    def name(self) -> str:
        """The row's name, such as `mini-flickr30k-full-fine-tuning`."""
        return f"{self.dataset}-{self.method.lower().replace(' ', '-')}"

    @property
    def finished(self) -> dict[str, str]:
        """When each seed's run was finished."""
        return {seed: run["finished"] for seed, run in self.records.items()}

    def path(self, folder: Path) -> Path:
        """Return the path of the row's file in `folder`."""
        return folder / f"{self.name}.json"

    def kept(self, folder: Path, clip: PreTrainedModel, data: Collection[str] = ()) -> Self:
        """Return the row from its file in `folder`, or this row if there is no file.

        Raises ValueError, which says which, if the file is of another budget, backbone
        (`known_by`), world or training `data` (digests, one for each draw of items).
        """
        path = self.path(folder)
        there = read_json(path, type(self)) if path.exists() else self
        runs = [run for run in there.records.values() if not run.get("held_out_items")]
        seen = {run.get("data_digest", "") for run in runs} - {"", *data}
        reasons = [there.other_backbone(clip)]
        if there.world not in ("", self.world):
            reasons.append(f"its world has the pixels {there.world[:12]}, not {self.world[:12]}")
        if data and seen:
            reasons.append("it was trained on other data")
        if there.budget != self.budget:
            reasons.append(f"its budget is {there.budget}, not {self.budget}")
        if any(reasons):
            raise ValueError(
                f"{path}: {'; '.join(filter(None, reasons))}; "
                "use other folders (--results, --runs), or delete the file"
            )
        return replace(there, backbone=known_by(identity(clip)), world=self.world)

    def other_backbone(self, clip: PreTrainedModel) -> str:
        """Return, in words, why the row is of another backbone; empty if it is not."""
        here = known_by(identity(clip))
        there = {known_by(run["backbone"]) for run in self.records.values()} | {self.backbone}
        others = there - {None, here}
        return f"its backbone is {min(others)}, not {here}" if others else ""

    def check_backbone(self, clip: PreTrainedModel) -> None:
        """Raise ValueError if the row is of another backbone."""
        other = self.other_backbone(clip)
        if other:
            raise ValueError(f"{self.name}: {other}")

    def marks(self) -> list[str]:
        """Return, in words, why the row gets no verdict; empty if it gets one.

        The reasons: its rate is the lowest or highest trained at full length; a seed is not trained
        yet; or a seed is lost, because it could not be trained, or its mR on validation is below
        `KEPT` of the best.
        """
        reasons = [f"seed {seed} could not be trained" for seed in self.lost]
        missing = {*map(str, self.budget.get("seeds", []))} - {*self.records, *self.lost}
        if self.lr and missing:
            reasons.append(f"seeds not trained yet: {', '.join(sorted(missing))}")
        full = [one for one in self.rates if one.get("epochs", 0) == self.budget.get("epochs")]
        if self.budget.get("scan") and self.at_edge:
            reasons.append(f"its best rate, {self.lr:g}, is at the edge of the tried rates")
        reached = {}
        for seed, run in self.records.items():
            watched = [one["validation"]["mR"] for one in run["history"] if "validation" in one]
            if watched:
                reached[seed] = max(watched)
        best = max([*reached.values(), *(one["mR"] or 0 for one in full)], default=0)
        fell = [seed for seed, value in reached.items() if value < KEPT * best]
        return reasons + [f"seed {seed} fell below {KEPT:.0%} of its best" for seed in fell]

    @property
    def at_edge(self) -> bool:
        """Whether its rate is the lowest or highest that was trained at full length."""
        full = [one for one in self.rates if one.get("epochs", 0) == self.budget.get("epochs")]
        tried = sorted({one["lr"] for one in full})
        return bool(tried) and self.lr in (tried[0], tried[-1])

    def on(self, further: str) -> Self | None:
        """Return the row on a further test set, such as "new"; None if it was not tested there.

        Raises ValueError if its texts are not the same number for each item, one item's after the
        other's.
        """
        name = f"{self.dataset}-{further}"
        ranks = {seed: of[name] for seed, of in self.further.items() if name in of}
        if not ranks:
            return None
        texts, items = (len(next(iter(ranks.values()))[way]) for way in DIRECTIONS)
        if texts % items:
            raise ValueError(f"{self.name}: {name} has {texts} texts of {items} items")
        owner = np.repeat(np.arange(items), texts // items).tolist()
        return replace(self, dataset=name, ranks=ranks, text_to_item=owner, further={})

    def save(self, folder: Path) -> None:
        """Write the row's file, whole or not at all."""
        write_whole(self.path(folder), json.dumps(vars(self), separators=(",", ":")) + "\n")

    def hits(self, direction: str, k: int = 1) -> np.ndarray:
        """Whether each query found its answer among the first k, for each seed: [seeds, T] or
        [seeds, V]. With `NDCG`, what a query gains: 1 / log2(1 + rank), and nothing after rank 10.
        """
        of_seeds = [ranks[direction] for _, ranks in sorted(self.ranks.items())]
        if not of_seeds:
            raise ValueError(f"{self.name}: no seed has been tested yet")
        ranks = np.array(of_seeds)
        return (ranks <= 10) / np.log2(1 + ranks) if k == NDCG else ranks <= k

    def items(self, direction: str) -> np.ndarray:
        """Return the item of each query: [T] or [V]."""
        owner = np.array(self.text_to_item)
        return owner if direction == "text_to_visual" else np.arange(owner.max() + 1)


def neighbours(rate: float) -> list[float]:
    """Return a rate with its neighbours on `GRID`: the next lower, itself, the next higher."""
    return [max(one for one in GRID if one < rate), rate, min(one for one in GRID if one > rate)]


def read_rows(folder: Path) -> list[MethodRow]:
    """Read every row in a folder, in order of file names. Raises ValueError for a file that is not
    a row.
    """
    return [read_json(path, MethodRow) for path in sorted(Path(folder).glob("*.json"))]


def rows_of(folder: Path, dataset: str) -> dict[str, MethodRow]:
    """Read the rows of one dataset in a folder, by method. Raises as `read_rows`."""
    return {row.method: row for row in read_rows(folder) if row.dataset == dataset}


def rates_of(folder: Path, dataset: str, clip: PreTrainedModel) -> dict[str, float]:
    """Read the rates that the rows of a dataset have chosen, by method.

    Raises ValueError as `read_rows`, and for a row of another backbone.
    """
    rows = rows_of(folder, dataset)
    for row in rows.values():
        row.check_backbone(clip)
    return {method: row.lr for method, row in rows.items() if row.lr is not None}


def recall(row: MethodRow, direction: str, k: int = 1) -> tuple[float, float, float]:
    """Return (R@k in %, low, high): the mean over seeds, its interval over items and seeds."""
    return (float(100 * row.hits(direction, k).mean()), *interval(drawn(row, direction, k)))


def drawn(row: MethodRow, direction: str, k: int = 1) -> np.ndarray:
    """Return R@k in % in each of 10,000 bootstrap draws of items (with all their queries) and of
    seeds.

    All rows of a dataset get the same draws of items, so the draws of two rows may be subtracted.
    Seeds are drawn for each row separately, because the seeds of two methods are unrelated. With
    few seeds their spread is underestimated: with three, its variance is a third too small.
    """
    return drawn_means(row.name, row.hits(direction, k), row.items(direction))


def drawn_means(name: str, hits: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return draws like `drawn` for hits [seeds, Q]; `owner` [Q]: each query's item; `name` fixes
    seeds.
    """
    return _drawn(name, tuple(map(tuple, hits.tolist())), tuple(owner.tolist()))


@lru_cache(maxsize=256)  # a notebook compares one row with many others
def _drawn(name: str, hits: tuple[tuple[bool, ...], ...], owner: tuple[int, ...]) -> np.ndarray:
    of_seeds = bootstrap_means(hits, owner)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    chosen = random.integers(len(hits), size=of_seeds.shape)
    return 100 * np.take_along_axis(of_seeds, chosen, axis=0).mean(0)


def difference(one: MethodRow, other: MethodRow, direction: str, k: int = 1) -> tuple[float, ...]:
    """Return (one − other in points of R@k, low, high, p) of the means over seeds; low, high, p by
    `drawn`.

    p is two-sided: twice the share of draws on the rarer side of 0, where the observed one counts
    as a draw. Raises ValueError for rows of different test items, worlds or backbones.
    """
    these, those = ((row.text_to_item, row.world, row.backbone) for row in (one, other))
    if these != those:
        raise ValueError(
            f"{one.name} and {other.name} were tested on different items or worlds, or have "
            "different backbones; test one again"
        )
    gain = 100 * float(one.hits(direction, k).mean() - other.hits(direction, k).mean())
    draws = drawn(one, direction, k) - drawn(other, direction, k)
    return (gain, *interval(draws), two_sided(draws))


def two_sided(draws: np.ndarray) -> float:
    """Return the p of a difference from its draws, as `difference` says."""
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(draws) + 1)))


def share_of_gain(
    ours: MethodRow, full: MethodRow, start: MethodRow, direction: str, k: int = 1
) -> tuple[float, float, float] | None:
    """Return (ours − start) ÷ (full − start) in %, with its 95 % interval over items and seeds.

    A share may rise while the points between the two grow, so always report both. None if the lower
    bound of the gain of `full` is below LEAST_GAIN points, because a share of a small gain says
    nothing. Raises ValueError as `difference`.
    """
    whole = difference(full, start, direction, k)
    if whole[1] < LEAST_GAIN:
        return None
    part = difference(ours, start, direction, k)[0]
    of_ours, of_full, of_start = (drawn(row, direction, k) for row in (ours, full, start))
    return (100 * part / whole[0], *interval(100 * (of_ours - of_start) / (of_full - of_start)))


def holm(p_values: Sequence[float], planned: int = 0) -> list[float]:
    """Return p-values corrected for all comparisons together (Holm 1979), in the order given.

    planned: how many comparisons were planned, if some of them are blank.
    """
    order = np.argsort(p_values)
    count = max(planned, len(order))
    factors = count - np.arange(len(order))  # n for the smallest p
    adjusted = np.maximum.accumulate(factors * np.array(p_values)[order]).clip(max=1)
    return adjusted[np.argsort(order)].tolist()
