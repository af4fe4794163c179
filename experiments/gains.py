"""Verdicts of the planned comparisons in a folder of results, and shares of a gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .published import FULL, NOT_MEASURED, ZERO_SHOT
from .published import PAPER as OURS
from .rows import DIRECTIONS, NDCG, MethodRow, difference, holm, read_rows, recall, share_of_gain
from .world import kept_in, protocol_of

CLEAR = 0.05  # a difference is clear if its corrected p is below this
WITHOUT, LORA = "adapter without sharing", "LoRA"
FORWARD = DIRECTIONS[0]
Rows = Mapping[str, MethodRow]  # of one dataset, by method
Tested = dict[str, dict[str, MethodRow]]  # {dataset: {method: row}}
# what a point of the curves changes; other methods keep their usual row
UNCHANGED = {
    "data": (ZERO_SHOT,),
    "pooling": (),
    "size": (ZERO_SHOT, FULL),
    "state": (),
    "steps": (ZERO_SHOT,),
}


class Verdict(NamedTuple):
    """Ours minus another method in points of R@1, interval, corrected p; or why it is blank."""

    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    blank: str = NOT_MEASURED

    @property
    def word(self) -> str:
        """`clearly better`, `clearly worse`, `not clearly different`, or why it is blank."""
        if self.blank:
            return self.blank
        if self.p >= CLEAR:
            return "not clearly different"
        return "clearly better" if self.gain > 0 else "clearly worse"

    @property
    def text(self) -> str:
        """The points with the word, such as `-3.6 [-5.2, -2.1], clearly worse`."""
        return self.blank or f"{points_of(self)}, {self.word}"


@dataclass
class Findings:
    """A folder of results: tested rows, points of the curves, planned comparisons, step costs."""

    results: Path
    tested: Tested
    points: Tested = field(default_factory=dict)
    planned: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    costs: dict = field(default_factory=dict)

    @classmethod
    def read(cls, results: Path) -> Findings:
        """Read a folder of results. Raises ValueError that names a malformed file."""
        tested = by_dataset(read_rows(results / "methods"))
        planned = kept_in(protocol_of(results).parent).get("verdicts", {}).get("families", {})
        costs = kept_in(results, "costs.json").get("methods", {})
        return cls(results, tested, read_points(results, tested), planned, costs)

    @cached_property
    def verdicts(self) -> dict[tuple[str, str, str], Verdict]:
        """Every planned comparison, by (dataset, method, direction). p is corrected by Holm's rule
        over all comparisons that a family plans, both ways, blank or not.

        All methods of a dataset that no family names are a family.
        """
        return self.compared()

    def compared(self, k: int = 1) -> dict[tuple[str, str, str], Verdict]:
        """Return `verdicts` by R@k, or for `NDCG` by nDCG@10, which recorded ranks give for texts
        only.
        """
        named = {dataset for family in self.planned.values() for dataset in family}
        own = [{name: [m for m in of if m != OURS]} for name, of in self.tested.items()]
        verdicts = {}
        for family in [*self.planned.values(), *(of for of in own if not named & of.keys())]:
            pairs = [(name, method) for name, methods in family.items() for method in methods]
            measured = {}
            for name, method in pairs:
                of = self.tested.get(name, {})
                why = blank(of, OURS, method)
                for way in DIRECTIONS if k != NDCG else (FORWARD,):
                    verdicts[name, method, way] = Verdict(blank=why)
                    if not why:
                        measured[name, method, way] = difference(of[OURS], of[method], way, k)
            for key, values in corrected(measured, len(pairs) * len(DIRECTIONS)).items():
                verdicts[key] = Verdict(*values, blank="")
        return verdicts

    def verdict(self, dataset: str, method: str, way: str) -> Verdict:
        """Return one comparison; blank if it was not planned."""
        return self.verdicts.get((dataset, method, way), Verdict())


def blank(of: Rows, *names: str) -> str:
    """Return why methods cannot be compared; empty if they can."""
    for name in names:
        if name not in of:
            return NOT_MEASURED
        marks = of[name].marks()
        if marks:
            return f"no verdict ({name}: {'; '.join(marks)})"
    return ""


def corrected(verdicts: dict[tuple, tuple], planned: int = 0) -> dict[tuple, tuple]:
    """Return differences (gain, low, high, p), with p corrected for all planned ones (Holm)."""
    adjusted = holm([values[3] for values in verdicts.values()], planned)
    return {
        key: (*values[:3], p) for (key, values), p in zip(verdicts.items(), adjusted, strict=True)
    }


def by_dataset(rows: Sequence[MethodRow]) -> Tested:
    """Return the tested rows, {dataset: {method: row}}."""
    made: Tested = {}
    for row in rows:
        if row.ranks:
            made.setdefault(row.dataset, {})[row.method] = row
    return made


def read_points(results: Path, usual: Tested) -> Tested:
    """Return the curves' tested rows, {dataset and change: {method: row}}, if they have a share."""
    points = {}
    for place in sorted(results.glob("curves/*-*")):
        changed, _, value = place.name.partition("-")
        if changed not in UNCHANGED:
            continue
        for dataset, own in by_dataset(read_rows(place)).items():
            rows = usual.get(dataset, {})
            of = {method: rows[method] for method in UNCHANGED[changed] if method in rows} | own
            if has_share(of):
                points[f"{dataset}, {changed} {value.replace('-', '/')}"] = of
    return points


def has_share(of: Rows, method: str = OURS) -> bool:
    """Return whether there are the rows that `share_of_gain` of a method needs."""
    return of.keys() >= {method, OURS, FULL, ZERO_SHOT}


def points_of(gain: Sequence[float]) -> str:
    """Return `+1.5 [+0.2, +2.9]`; a value that rounds to 0 has a plus."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(value, 1) + 0.0 for value in gain[:3]))


def share_of(share: Sequence[float] | None) -> str:
    """Return `68 % [64, 72] of the gain`, or that there is none."""
    if not share:
        return "no share (full fine-tuning gains too little)"
    return "{:.0f} % [{:.0f}, {:.0f}] of the gain".format(*share)


def reached(of: Rows, way: str = FORWARD, method: str = OURS) -> str:
    """Return `68 % [64, 72] of the gain, -11.3 [-12.9, -9.6] points`, or why there is none.

    Both, because a share may rise while the gap grows.
    """
    why = blank(of, method, FULL, ZERO_SHOT)
    if why:
        return why
    full, start = of[FULL], of[ZERO_SHOT]
    share = share_of_gain(of[method], full, start, way)
    text = share_of(share)
    if not share:
        text += f": R@1 {recall(full, way)[0]:.1f} after {recall(start, way)[0]:.1f}"
    return f"{text}, {points_of(difference(of[method], full, way))} points"


def on_further(of: Rows, further: str) -> Rows:
    """Return a dataset's rows that were tested on one of its further test sets."""
    return {method: made for method, row in of.items() if (made := row.on(further))}
