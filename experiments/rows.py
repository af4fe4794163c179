"""A method's row of the comparison: its budget, rates and seeds, and paired differences between two rows."""

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
    """What each method gets, the same for all. No seed that chooses a rate is reported.

    Each of `rates` is trained with each of `rate_seeds` for half of `epochs`, and judged by the mean of mR on
    validation, which is less noisy than R@1. While the first or the last one is the best, the next of 1e-5,
    3e-5, 1e-4, … is tried too, `study.EXTENSIONS` more at most: that finds the best rate if recall has one
    peak over the rates. Raises ValueError if there is no rate or no seed, or a seed stands in both lists.
    """

    epochs: Annotated[int, Field(ge=1)] = 4
    rates: list[float] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    rate_seeds: list[int] = field(default_factory=lambda: [1, 2])
    seeds: list[int] = field(default_factory=lambda: [42, 43, 44])

    def __post_init__(self) -> None:
        if not (self.rates and self.rate_seeds and self.seeds) or {*self.rate_seeds} & {*self.seeds}:
            given = f"rates {self.rates}, rate_seeds {self.rate_seeds}, seeds {self.seeds}"
            raise ValueError(f"{given}: expected some of each, and no seed in both lists")


@dataclass
class MethodRow:
    """One method on one dataset, as it is kept in `results/methods/`.

    `rates`: {"lr", "seed", "mR", "R@1"} on validation, null where training failed. By seed: `records`, the
    run's record; `ranks`, the rank of each query's right answer on test, {"text_to_visual":
    [T], "visual_to_text": [V]}; `further`, the ranks on each further test set, or which of its twins are
    told apart, {kind: {"text" | "image" | "group": [P]}}. `text_to_item` [T]: the item of each text.
    """

    dataset: str
    method: str
    budget: dict
    backbone: str | None = None  # that of `kept`
    rates: list[dict] = field(default_factory=list)
    lr: float | None = None
    records: dict[str, dict] = field(default_factory=dict)
    ranks: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    text_to_item: list[int] = field(default_factory=list)
    further: dict[str, dict[str, dict]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as `mini-flickr30k-full-fine-tuning`."""
        return f"{self.dataset}-{self.method.lower().replace(' ', '-')}"

    def path(self, folder: Path) -> Path:
        """The row's file in `folder`."""
        return folder / f"{self.name}.json"

    def kept(self, folder: Path, clip: PreTrainedModel) -> Self:
        """The row's file in `folder`, or the row itself if there is none.

        Raises ValueError if the file has another budget or backbone (`cma.backbone.known_by`).
        """
        path = self.path(folder)
        there = read_json(path, type(self)) if path.exists() else self
        here = known_by(identity(clip))
        made = {there.backbone, *(known_by(record["backbone"]) for record in there.records.values())}
        if there.budget != self.budget or made - {None, here}:
            said = f"{path}: its budget is {there.budget}, not {self.budget}, or its backbone is not {here}"
            raise ValueError(f"{said}; use other folders (--results, --runs), or delete the file")
        return replace(there, backbone=here)

    def save(self, folder: Path) -> None:
        """Write the row's file, whole or not at all."""
        write_whole(self.path(folder), json.dumps(vars(self), separators=(",", ":")) + "\n")

    def hits(self, direction: str, k: int = 1) -> np.ndarray:
        """Whether each query found its answer among the first k, for each seed: [seeds, T] or [seeds, V]."""
        of_seeds = [ranks[direction] for _, ranks in sorted(self.ranks.items())]
        if not of_seeds:
            raise ValueError(f"{self.name}: no seed has been tested yet")
        return np.array(of_seeds) <= k

    def items(self, direction: str) -> np.ndarray:
        """The item of each query."""
        owner = np.array(self.text_to_item)
        return owner if direction == "text_to_visual" else np.arange(owner.max() + 1)


def read_rows(folder: Path | str) -> list[MethodRow]:
    """Every row in a folder, in order of file names. Raises ValueError naming a file that is not a row."""
    return [read_json(path, MethodRow) for path in sorted(Path(folder).glob("*.json"))]


def recall(row: MethodRow, direction: str, k: int = 1) -> tuple[float, float, float]:
    """(R@k in %, low, high): mean over seeds, 95 % interval over items and seeds."""
    return (float(100 * row.hits(direction, k).mean()), *interval(drawn(row, direction, k)))


def drawn(row: MethodRow, direction: str, k: int = 1) -> np.ndarray:
    """R@k in % in each of 10,000 draws of items, with all their queries, and of seeds.

    All rows of a dataset see the same draws of items, so the draws of two rows may be subtracted. Seeds are
    drawn for each row on its own: a seed of one method has nothing to do with that of another. Of few seeds
    the spread comes out too small, of three by a third of its variance.
    """
    return drawn_means(row.name, row.hits(direction, k), row.items(direction))


def drawn_means(name: str, hits: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The same of any hits [seeds, Q] of queries that belong to the items `owner` [Q]; `name` draws seeds."""
    return _drawn(name, hits.astype(bool).tobytes(), len(hits), owner.astype(np.int64).tobytes())


@lru_cache(maxsize=1024)  # a notebook compares one row with many others
def _drawn(name: str, hits: bytes, seeds: int, owner: bytes) -> np.ndarray:
    of_seeds = bootstrap_means(np.frombuffer(hits, bool).reshape(seeds, -1), np.frombuffer(owner, np.int64))
    chosen = np.random.default_rng(zlib.crc32(name.encode())).integers(seeds, size=of_seeds.shape)
    return 100 * np.take_along_axis(of_seeds, chosen, axis=0).mean(0)


def difference(one: MethodRow, other: MethodRow, direction: str, k: int = 1) -> tuple[float, ...]:
    """(one − other in points of R@k, low, high, p): means over seeds, with items and seeds drawn.

    p is two-sided: twice the share of draws on the rarer side of 0, the observed one counted with them.
    Raises ValueError for rows of different test items.
    """
    if one.text_to_item != other.text_to_item:
        raise ValueError(f"{one.name} and {other.name} were tested on different items; test one again")
    gain = 100 * float(one.hits(direction, k).mean() - other.hits(direction, k).mean())
    draws = drawn(one, direction, k) - drawn(other, direction, k)
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return (gain, *interval(draws), float(p))


def share_of_gain(
    ours: MethodRow, full: MethodRow, start: MethodRow, direction: str, k: int = 1
) -> tuple[float, float, float] | None:
    """(ours − start) ÷ (full − start) in %, with its 95 % interval over items and seeds.

    None where the gain of `full` is below LEAST_GAIN points at its lower bound: a share of little says
    nothing. Raises ValueError as `difference`.
    """
    whole = difference(full, start, direction, k)
    if whole[1] < LEAST_GAIN:
        return None
    part = difference(ours, start, direction, k)[0]
    of_ours, of_full, of_start = (drawn(row, direction, k) for row in (ours, full, start))
    return (100 * part / whole[0], *interval(100 * (of_ours - of_start) / (of_full - of_start)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold for all comparisons together (Holm 1979), in the order given."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)  # of the smallest p: how many there are
    adjusted = np.maximum.accumulate(factors * np.array(p_values)[order]).clip(max=1)
    return adjusted[np.argsort(order)].tolist()
