"""README's table of what the paper claims and what we find here, from the rows of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .published import FULL, NOT_MEASURED, ZERO_SHOT, markdown
from .published import PAPER as OURS
from .rows import DIRECTIONS, NEAR, MethodRow, difference, holm, read_rows, recall, share_of_gain
from .world import kept_in, protocol_of

CLEAR = 0.05  # a difference is clear if its corrected p is below this
WITHOUT, LORA = "adapter without sharing", "LoRA"
FIRST = (FULL, WITHOUT, LORA)  # the first family
FORWARD = DIRECTIONS[0]
Rows = Mapping[str, MethodRow]  # of one dataset, by method
Tested = dict[str, dict[str, MethodRow]]  # {dataset: {method: row}}
# what a point of the curves changes: the methods that it leaves as they are have the usual row
UNCHANGED = {
    "data": (ZERO_SHOT,),
    "pooling": (),
    "size": (ZERO_SHOT, FULL),
    "state": (),
    "steps": (ZERO_SHOT,),
}
PICTURE = (
    "![R@1 minus that of zero-shot CLIP, by method, with intervals](notebooks/figures/gains.png)"
)
SAID_ONCE = (
    "Each number is a mean over seeds, and its 95 % interval is over test items and seeds, not "
    "corrected. *Clearly* means that p is below 0.05 after Holm's correction for all comparisons "
    "that were planned. So an interval may leave out 0, and the difference is still not clear. N "
    "and the seeds of each row are in [results/README.md](results/README.md)."
)
LITTLE = "less overfitting with little data (here: the gain with few items)"
CANNOT_SAY = (
    "What this cannot say: the scenes are composed, the backbone is small and ours, and so is the "
    "gap between what it knows and what the captions say. How large a gain is on photographs, with "
    "a real CLIP, or for a sentence that a person wrote, is not measured here."
)


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
    def said(self) -> str:
        """The points with the word, such as `-3.6 [-5.2, -2.1], clearly worse`."""
        return self.blank or f"{points_of(self)}, {self.word}"


@dataclass
class Findings:
    """What a folder of results holds: the tested rows, the points of the curves, the comparisons
    that were planned ({family: {dataset: methods}}), and what the steps cost.
    """

    results: Path
    tested: Tested
    points: Tested = field(default_factory=dict)
    planned: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    costs: dict = field(default_factory=dict)

    @classmethod
    def read(cls, results: Path) -> Findings:
        """Read a folder of results. Raises ValueError that names a file that is not as expected."""
        tested = by_dataset(read_rows(results / "methods"))
        planned = kept_in(protocol_of(results).parent).get("verdicts", {}).get("families", {})
        costs = kept_in(results, "costs.json").get("methods", {})
        return cls(results, tested, read_points(results, tested), planned, costs)

    @cached_property
    def verdicts(self) -> dict[tuple[str, str, str], Verdict]:
        """Every planned comparison, by (dataset, method, direction). p is corrected by Holm's rule
        over all comparisons that a family plans, both ways, blank or not.

        A dataset that no family names is a family of its own: all its methods.
        """
        named = {dataset for family in self.planned.values() for dataset in family}
        own = [{name: [m for m in of if m != OURS]} for name, of in self.tested.items()]
        told = {}
        for family in [*self.planned.values(), *(of for of in own if not named & of.keys())]:
            pairs = [(name, method) for name, methods in family.items() for method in methods]
            measured = {}
            for name, method in pairs:
                of = self.tested.get(name, {})
                why = blank(of, OURS, method)
                for way in DIRECTIONS:
                    told[name, method, way] = Verdict(blank=why)
                    if not why:
                        measured[name, method, way] = difference(of[OURS], of[method], way)
            for key, values in corrected(measured, len(pairs) * len(DIRECTIONS)).items():
                told[key] = Verdict(*values, blank="")
        return told

    def verdict(self, dataset: str, method: str, way: str) -> Verdict:
        """One comparison; blank if it was not planned."""
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


def corrected(told: dict[tuple, tuple], planned: int = 0) -> dict[tuple, tuple]:
    """Return differences (gain, low, high, p) with p corrected for all of them, or for as many as
    were planned (Holm).
    """
    adjusted = holm([values[3] for values in told.values()], planned)
    return {key: (*values[:3], p) for (key, values), p in zip(told.items(), adjusted, strict=True)}


def by_dataset(rows: Sequence[MethodRow]) -> Tested:
    """Return the tested rows, {dataset: {method: row}}."""
    made: Tested = {}
    for row in rows:
        if row.ranks:
            made.setdefault(row.dataset, {})[row.method] = row
    return made


def read_points(results: Path, usual: Tested) -> Tested:
    """Read the tested rows of the curves, {dataset and what is changed: {method: row}}, of points
    whose share of the gain can be told.
    """
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
    """Whether there are the rows that `share_of_gain` of a method needs."""
    return of.keys() >= {method, OURS, FULL, ZERO_SHOT}


def summary(found: Findings) -> str:
    """Return README's figure, its table of claims, and sentences, in Markdown."""
    if not any(map(has_share, found.tested.values())):
        return markdown([])
    claims = {
        "near full fine-tuning, or above it": _near(found),
        "sharing weights between the towers helps": _against(found, WITHOUT),
        "better than other adapters, prompts and partial tuning": _others(found),
        "fewer parameters, less time, one backbone": [_costs(found)],
        LITTLE: _little(found),
    }
    lines = [
        {"the paper claims": claim, "we find here": "<br>".join(said)}
        for claim, said in claims.items()
    ]
    lora = "; ".join(_against(found, LORA))
    lora = f"Ours against LoRA, which trains about as many parameters, in points of R@1: {lora}."
    return "\n\n".join([PICTURE, markdown(lines), f"{lora} {SAID_ONCE}", CANNOT_SAY])


def points_of(gain: Sequence[float]) -> str:
    """Return `+1.5 [+0.2, +2.9]`; a value that rounds to 0 has a plus."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(value, 1) + 0.0 for value in gain[:3]))


def share_of(share: Sequence[float] | None) -> str:
    """Return `68 % [64, 72] of the gain`, or that there is none."""
    if not share:
        return "no share (full fine-tuning gains too little)"
    return "{:.0f} % [{:.0f}, {:.0f}] of the gain".format(*share)


def reached(of: Rows, way: str = FORWARD, method: str = OURS) -> str:
    """Return `68 % [64, 72] of the gain, -11.3 [-12.9, -9.6] points`: a share may rise while the
    gap grows. Where a row is missing or marked, return that.
    """
    why = blank(of, method, FULL, ZERO_SHOT)
    if why:
        return why
    full, start = of[FULL], of[ZERO_SHOT]
    share = share_of_gain(of[method], full, start, way)
    said = share_of(share)
    if not share:
        said += f": R@1 {recall(full, way)[0]:.1f} after {recall(start, way)[0]:.1f}"
    return f"{said}, {points_of(difference(of[method], full, way))} points"


def near_full(of: Rows, way: str = FORWARD) -> bool:
    """Whether ours is near full fine-tuning: no mark, and the interval of ours − full is above
    −`NEAR`.
    """
    return not blank(of, OURS, FULL) and difference(of[OURS], of[FULL], way)[1] > -NEAR


def on_further(of: Rows, further: str) -> Rows:
    """Return the rows of a dataset on one of its further test sets, of those tested there."""
    return {method: made for method, row in of.items() if (made := row.on(further))}


def ways_of(of: Rows) -> dict[str, str]:
    """Return {direction: its words}, such as `text-to-image`."""
    row = next(iter(of.values()))
    kind = next(iter(row.records.values()))["kind"]
    return dict(zip(DIRECTIONS, (f"text-to-{kind}", f"{kind}-to-text"), strict=True))


def _near(found: Findings) -> list[str]:
    said = []
    for name, of in found.tested.items():
        ways = ways_of(of).items()
        for way, words in ways:
            told = f"{words} on {name}: {reached(of, way)}"
            if has_share(of):
                near = "near" if near_full(of, way) else "not near"
                verdict = found.verdict(name, FULL, way)
                told += f": {verdict.blank or f'{verdict.word}; {near}'}"
            said.append(told)
        for further in ("new", "words", "scenes"):
            there = on_further(of, further)
            if has_share(there):
                said += [
                    f"{words} on {name}-{further}: {reached(there, way)}" for way, words in ways
                ]
    points = found.points.items()
    near = [point for point, of in points if near_full(of)]
    if points:
        said.append(
            f"other trainings where it is near: {', '.join(near) or 'none'} "
            f"({len(near)} of {len(points)})"
        )
    rule = f"the interval of ours − full lies above −{NEAR:g} points"
    return [*said, f"(*near*, said only of test: {rule})"]


def _against(found: Findings, method: str) -> list[str]:
    """Ours against one method, in plain words, for each dataset and direction."""
    return [
        f"{words} on {name}: {found.verdict(name, method, way).said}"
        for name, of in found.tested.items()
        for way, words in ways_of(of).items()
    ]


def _others(found: Findings) -> list[str]:
    """All other methods by verdict, for each dataset and direction; last those without a row."""
    groups = {}
    for (name, method, way), verdict in found.verdicts.items():
        if name in found.tested and method not in (ZERO_SHOT, FULL, WITHOUT):
            words = ways_of(found.tested[name])[way]
            group = f"{words} on {name}, ours is {verdict.word}"
            if verdict.blank:
                group = f"{verdict.blank} on {name}"
            groups.setdefault(group, {})[method] = None  # each method once, not for each direction
    return [
        f"{group}: {', '.join(groups[group])}"
        for group in sorted(groups, key=lambda group: (NOT_MEASURED in group, group))
    ]


def _costs(found: Findings) -> str:
    of = next(filter(has_share, found.tested.values()))
    ours, full = (next(iter(of[m].records.values()))["trained_parameters"] for m in (OURS, FULL))
    percent = f"{100 * ours / full:.1f} % of those of full fine-tuning"
    said = f"It trains {ours:,} parameters of `mini`, {percent}"
    for kind, costs in found.costs.items():
        if OURS in costs:
            time = f"{100 * costs[OURS]['time']:.0f} % of the time of a step"
            said += f"; {kind}: {time}, {100 * costs[OURS]['memory']:.0f} % of its memory"
    said += " (with `mini` on a CPU; memory beyond the loaded model)"
    return f"{said}. One frozen backbone serves any number of adapters."


def _little(found: Findings) -> list[str]:
    """Ours and LoRA on a part of the training items, and on all of them."""
    few = {point: of for point, of in found.points.items() if ", data " in point}
    # of pictures and of clips, a quarter is one of the points
    whole = {
        f"{name}, all items": of for name, of in found.tested.items() if f"{name}, data 1/4" in few
    }
    return [
        f"{ways_of(of)[FORWARD]}, {name}, {method}: {reached(of, method=method)}"
        for name, of in (few | whole).items()
        for method in (OURS, LORA)
    ] or [NOT_MEASURED]
