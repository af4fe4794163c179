"""What training gains over zero-shot, from the rows of a study: README's sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cma.training import RunRecord

from .published import FULL, ZERO_SHOT
from .published import PAPER as OURS
from .rows import DIRECTIONS, MethodRow, difference, holm, read_rows, share_of_gain

CLEAR = 0.05  # a difference is clear if its corrected p is below
NONE = "No record yet."
Rows = Sequence[MethodRow]
POINTS = {"data": "{} of its training items", "state": "a backbone of {} steps", "steps": "{} × the steps"}
PICTURE = "![R@1 minus that of zero-shot CLIP, by method, with intervals](notebooks/figures/gains.png)"


def compared(tested: dict[str, MethodRow], k: int = 1) -> dict[tuple[str, str], tuple[float, ...]]:
    """{(direction, method): (ours − that method, low, high, p)}; p holds for all of them together (Holm)."""
    pairs = [(way, m) for way in DIRECTIONS for m in tested if m != OURS and OURS in tested]
    told = {(way, m): difference(tested[OURS], tested[m], way, k) for way, m in pairs}
    adjusted = holm([values[3] for values in told.values()])
    return {key: (*values[:3], p) for (key, values), p in zip(told.items(), adjusted, strict=True)}


def by_dataset(rows: Rows) -> dict[str, dict[str, MethodRow]]:
    """The rows that have been tested: {dataset: {method: row}}."""
    tested = [row for row in rows if row.ranks]
    names = dict.fromkeys(row.dataset for row in tested)
    return {name: {row.method: row for row in tested if row.dataset == name} for name in names}


def read_points(results: Path) -> list[MethodRow]:
    """The rows of the curves; their datasets are named after what is changed."""
    rows = []
    for changed, words in POINTS.items():
        for place in sorted(results.glob(f"curves/{changed}-*")):
            point = words.format(place.name.removeprefix(f"{changed}-").replace("-", "/"))
            rows += [replace(row, dataset=f"{row.dataset} with {point}") for row in read_rows(place)]
    return rows


def summary(rows: Rows, records: Sequence[RunRecord] = (), points: Rows = ()) -> str:
    """README's figure and sentences, in Markdown: of rows of ours, full and zero-shot, or of single runs."""
    needed, said = {OURS, FULL, ZERO_SHOT}, []
    for name, tested in by_dataset(rows).items():
        if needed <= tested.keys():
            said += [] if said else [_trained(tested)]
            said += [_gained(name, tested), _clearly(name, tested)]
    said += [_gained(*point) for point in by_dataset(points).items() if needed <= point[1].keys()]
    for run in () if said else [run for run in records if run.metrics["split"] == "test"]:
        ends = [(run.metrics[way]["R@1"], *run.metrics["intervals"][way]["R@1"]) for way in DIRECTIONS]
        texts, visuals = ("{:.1f} % [{:.1f}, {:.1f}]".format(*values) for values in ends)
        said.append(f"{run.dataset}, {run.method}, one run: R@1 {texts} by text, {visuals} by {run.kind}.")
    numbered = [f"{number}. {line}" for number, line in enumerate(said, start=1)]
    return "\n".join([PICTURE, "", *numbered]) if said else NONE


def _trained(tested: dict[str, MethodRow]) -> str:
    ours, full = (next(iter(tested[m].records.values()))["trained_parameters"] for m in (OURS, FULL))
    return f"The adapter trains {ours:,} numbers, {100 * ours / full:.1f} % of those of full fine-tuning."


def _gained(name: str, tested: dict[str, MethodRow]) -> str:
    words, shares = {}, {}
    for way, said in _ways(tested).items():
        gain = {m: difference(tested[m], tested[ZERO_SHOT], way) for m in (OURS, FULL)}
        words[said] = f"{said} {_shown(gain[OURS])}, full fine-tuning {_shown(gain[FULL])}"
        if found := share_of_gain(*(tested[m] for m in (OURS, FULL, ZERO_SHOT)), way):
            shares[said] = "{:.0f} % [{:.0f}, {:.0f}] ".format(*found) + said
    part = f"that is {' and '.join(shares.values())} of full fine-tuning's gain" if shares else ""
    part = part or "full fine-tuning gains too little for a share"
    return (
        f"On {name} the adapter gains over zero-shot, in points of R@1: {'; '.join(words.values())}; {part}."
    )


def _clearly(name: str, tested: dict[str, MethodRow]) -> str:
    told, ways, lists = compared(tested), _ways(tested), []
    for sign in (-1, 1):  # the other method is better, worse
        found: dict[str, list[str]] = {}
        for (way, method), (gain, *_, p) in told.items():
            if p < CLEAR and gain * sign > 0:
                found.setdefault(method, []).append(ways[way])
        words = {m: "both ways" if len(of) == 2 else of[0] for m, of in found.items()}
        lists.append(", ".join(f"{m} ({of})" for m, of in words.items()) or "none")
    rule = f"Holm's rule over {len(told)} comparisons"
    return f"Clearly better than the adapter on {name} ({rule}): {lists[0]}; clearly worse: {lists[1]}."


def _ways(tested: dict[str, MethodRow]) -> dict[str, str]:
    kind = next(iter(tested[OURS].records.values()))["kind"]
    return dict(zip(DIRECTIONS, (f"text-to-{kind}", f"{kind}-to-text"), strict=True))


def _shown(values: Sequence[float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(value, 1) + 0.0 for value in values[:3]))
