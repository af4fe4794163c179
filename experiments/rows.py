"""A method's row of the comparison: its budget, rates and seeds, and paired differences between two
rows.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
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

LEAST_GAIN = 5.0  # points of recall
DIRECTIONS = ("text_to_visual", "visual_to_text")


@checked_dataclass
class Budget:
    """The budget of each method, the same for all. Seeds that choose the learning rate are not
    reported.

    Each of `rates` is trained with each of `rate_seeds` for half of `epochs`, rounded up, and
    scored by the mean of mR on validation, which is less noisy than R@1. While the lowest or the
    highest rate is the best, the next of 1e-5, 3e-5, 1e-4, … is tried too, at most
    `study.EXTENSIONS` more: this finds the best rate if recall has one peak over the rates. Raises
    ValueError for no rate, no seed, or a seed in both lists.
    """

    epochs: Annotated[int, Field(ge=1)] = 4
    rates: list[float] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    rate_seeds: list[int] = field(default_factory=lambda: [1, 2])
    seeds: list[int] = field(default_factory=lambda: [42, 43, 44])

    def __post_init__(self) -> None:
        if not (self.rates and self.rate_seeds and self.seeds) or {*self.rate_seeds} & {
            *self.seeds
        }:
            given = f"rates {self.rates}, rate_seeds {self.rate_seeds}, seeds {self.seeds}"
            raise ValueError(f"{given}: expected some of each, and no seed in both lists")


@dataclass
class MethodRow:
    """The results of one method on one dataset, as saved in `results/methods/`.

    `rates`: {"lr", "seed", "mR", "R@1"} on validation, null where training failed. By seed:
    `records`, the run's record; `ranks`, the rank of each query's right answer on test,
    {"text_to_visual": [T], "visual_to_text": [V]}; `further`, the ranks on each further test set,
    or which of its twins are told apart, {kind: {"text" | "image" | "group": [P]}}. `text_to_item`
    [T]: the item of each text.
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

    @property
    def name(self) -> str:
        """The row's name, such as `mini-flickr30k-full-fine-tuning`."""
        return f"{self.dataset}-{self.method.lower().replace(' ', '-')}"

    def path(self, folder: Path) -> Path:
        """Return the path of the row's file in `folder`."""
        return folder / f"{self.name}.json"

    def kept(self, folder: Path, clip: PreTrainedModel, data: str = "") -> Self:
        """Return the row from its file in `folder`, or this row if there is no file.

        Raises ValueError if the file has another budget, backbone (`known_by`) or training `data`
        (a digest).
        """
        there = read_json(path, type(self)) if (path := self.path(folder)).exists() else self
        runs = there.records.values()
        here = known_by(identity(clip))
        made = {there.backbone, *(known_by(run["backbone"]) for run in runs)}
        seen = {run.get("data_digest", "") for run in runs if not run.get("held_out_items")} - {
            "",
            data,
        }
        if there.budget != self.budget or made - {None, here} or (data and seen):
            said = f"its budget is {there.budget}, not {self.budget}, or its backbone is not {here}"
            said = "it was trained on other data" if data and seen else said
            raise ValueError(
                f"{path}: {said}; use other folders (--results, --runs), or delete the file"
            )
        return replace(there, backbone=here)

    def save(self, folder: Path) -> None:
        """Write the row's file, whole or not at all."""
        write_whole(self.path(folder), json.dumps(vars(self), separators=(",", ":")) + "\n")

    def hits(self, direction: str, k: int = 1) -> np.ndarray:
        """Whether each query found its answer among the first k, for each seed: [seeds, T] or
        [seeds, V].
        """
        of_seeds = [ranks[direction] for _, ranks in sorted(self.ranks.items())]
        if not of_seeds:
            raise ValueError(f"{self.name}: no seed has been tested yet")
        return np.array(of_seeds) <= k

    def items(self, direction: str) -> np.ndarray:
        """Return the item of each query: [T] or [V]."""
        owner = np.array(self.text_to_item)
        return owner if direction == "text_to_visual" else np.arange(owner.max() + 1)


def read_rows(folder: Path | str) -> list[MethodRow]:
    """Read every row in a folder, in order of file names. Raises ValueError for a file that is not
    a row.
    """
    return [read_json(path, MethodRow) for path in sorted(Path(folder).glob("*.json"))]


def recall(row: MethodRow, direction: str, k: int = 1) -> tuple[float, float, float]:
    """Return (R@k in %, low, high): the mean over seeds, with a 95 % interval over items and seeds."""
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
    return _drawn(name, hits.astype(bool).tobytes(), len(hits), owner.astype(np.int64).tobytes())


@lru_cache(maxsize=1024)  # a notebook compares one row with many others
def _drawn(name: str, hits: bytes, seeds: int, owner: bytes) -> np.ndarray:
    of_seeds = bootstrap_means(
        np.frombuffer(hits, bool).reshape(seeds, -1), np.frombuffer(owner, np.int64)
    )
    chosen = np.random.default_rng(zlib.crc32(name.encode())).integers(seeds, size=of_seeds.shape)
    return 100 * np.take_along_axis(of_seeds, chosen, axis=0).mean(0)


def difference(one: MethodRow, other: MethodRow, direction: str, k: int = 1) -> tuple[float, ...]:
    """Return (one − other in points of R@k, low, high, p) of the means over seeds; low, high, p by
    `drawn`.

    p is two-sided: twice the share of draws on the rarer side of 0, where the observed one counts
    as a draw. Raises ValueError for rows of different test items.
    """
    if one.text_to_item != other.text_to_item:
        raise ValueError(
            f"{one.name} and {other.name} were tested on different items; test one again"
        )
    gain = 100 * float(one.hits(direction, k).mean() - other.hits(direction, k).mean())
    draws = drawn(one, direction, k) - drawn(other, direction, k)
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return (gain, *interval(draws), float(p))


def share_of_gain(
    ours: MethodRow, full: MethodRow, start: MethodRow, direction: str, k: int = 1
) -> tuple[float, float, float] | None:
    """Return (ours − start) ÷ (full − start) in %, with its 95 % interval over items and seeds.

    None if the lower bound of the gain of `full` is below LEAST_GAIN points, because a share of a
    small gain says nothing. Raises ValueError as `difference`.
    """
    whole = difference(full, start, direction, k)
    if whole[1] < LEAST_GAIN:
        return None
    part = difference(ours, start, direction, k)[0]
    of_ours, of_full, of_start = (drawn(row, direction, k) for row in (ours, full, start))
    return (100 * part / whole[0], *interval(100 * (of_ours - of_start) / (of_full - of_start)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for all comparisons together (Holm 1979), in the order given."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)  # n for the smallest p, 1 for the largest
    adjusted = np.maximum.accumulate(factors * np.array(p_values)[order]).clip(max=1)
    return adjusted[np.argsort(order)].tolist()
