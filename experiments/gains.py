"""README's sentences and tables about what training gains over zero-shot, from the rows of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .published import FULL, ZERO_SHOT, markdown
from .published import PAPER as OURS
from .rows import DIRECTIONS, MethodRow, difference, holm, read_rows, share_of_gain

CLEAR = 0.05  # a difference is clear if its corrected p is below this
NONE, NO_SHARE = "No record yet.", "no share (full fine-tuning gains too little)"
NEEDED = (OURS, FULL, ZERO_SHOT)  # by `share_of_gain`
Tested = dict[str, dict[str, MethodRow]]  # {dataset: {method: row}}
POINTS = {
    "data": "{} of its training items",
    "state": "a backbone of {} steps",
    "steps": "{} × the steps",
}
PICTURE = (
    "![R@1 minus that of zero-shot CLIP, by method, with intervals](notebooks/figures/gains.png)"
)


def compared(tested: dict[str, MethodRow], k: int = 1) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return {(direction, method): (ours − that method, low, high, p)}, with p corrected for all
    (Holm).
    """
    pairs = [(way, m) for way in DIRECTIONS for m in tested if m != OURS and OURS in tested]
    told = {(way, m): difference(tested[OURS], tested[m], way, k) for way, m in pairs}
    adjusted = holm([values[3] for values in told.values()])
    return {key: (*values[:3], p) for (key, values), p in zip(told.items(), adjusted, strict=True)}


def by_dataset(rows: Sequence[MethodRow], needed: Sequence[str] = ()) -> Tested:
    """Return the tested rows, {dataset: {method: row}}, of datasets that have all of the `needed`
    methods.
    """
    tested = [row for row in rows if row.ranks]
    names = dict.fromkeys(row.dataset for row in tested)
    made = {name: {row.method: row for row in tested if row.dataset == name} for name in names}
    return {name: of for name, of in made.items() if of.keys() >= set(needed)}


def read_points(results: Path) -> Tested:
    """Read the tested rows of the curves: {dataset and what is changed: {method: row}}."""
    points = {}
    for changed, words in POINTS.items():
        for place in sorted(results.glob(f"curves/{changed}-*")):
            point = words.format(place.name.removeprefix(f"{changed}-").replace("-", "/"))
            here = by_dataset(read_rows(place), NEEDED)
            points |= {f"{dataset} with {point}": of for dataset, of in here.items()}
    return points


def summary(rows: Sequence[MethodRow], points: Tested | None = None) -> str:
    """Return README's figure and sentences, in Markdown, for datasets with ours, full and
    zero-shot.
    """
    tested = by_dataset(rows, NEEDED)
    said = (
        [_trained(tested), *map(_gained, tested, tested.values()), _clearly(tested)]
        if tested
        else []
    )
    said += [_at_points(points)] if points else []
    return (
        "\n".join([PICTURE, "", *(f"{n}. {line}" for n, line in enumerate(said, 1))])
        if said
        else NONE
    )


def differences(rows: Sequence[MethodRow]) -> str:
    """Return a Markdown table of the adapter minus each other method, in points of R@1, with Holm's
    p.
    """
    lines = []
    for name, of in by_dataset(rows, (OURS,)).items():
        told = {key: f"{_points(gain)}, p {gain[3]:.3f}" for key, gain in compared(of).items()}
        for m in (m for m in of if m != OURS):
            cells = zip(
                ("T2I / T2V", "I2T / V2T"), (told[way, m] for way in DIRECTIONS), strict=True
            )
            lines.append({"dataset": name, "the adapter minus": m} | dict(cells))
    return markdown(lines)


def _points(gain: Sequence[float]) -> str:
    """Return `+1.5 [+0.2, +2.9]`; a value that rounds to 0 has a plus."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(value, 1) + 0.0 for value in gain[:3]))


def _trained(tested: Tested) -> str:
    of = next(iter(tested.values()))
    ours, full = (next(iter(of[m].records.values()))["trained_parameters"] for m in (OURS, FULL))
    return f"The adapter trains {ours:,} numbers, {100 * ours / full:.1f} % of those of full fine-tuning."


def _gained(name: str, of: dict[str, MethodRow]) -> str:
    gains, shares = (
        [],
        " and ".join(f"{_share(of, way)[1]} {said}" for way, said in _ways(of).items()),
    )
    for way, said in _ways(of).items():
        ours, full = (_points(difference(of[m], of[ZERO_SHOT], way)) for m in (OURS, FULL))
        gains.append(f"{said} {ours}, full fine-tuning {full}")
    said = f"On {name} the adapter gains over zero-shot, in points of R@1: {'; '.join(gains)}; "
    return f"{said}that is {shares} of full fine-tuning's gain."


def _share(of: dict[str, MethodRow], way: str, method: str = OURS) -> tuple[tuple[float, ...], str]:
    found = share_of_gain(*(of[m] for m in (method, FULL, ZERO_SHOT)), way)
    return found or (), "{:.0f} % [{:.0f}, {:.0f}]".format(*found) if found else NO_SHARE


def _clearly(tested: Tested) -> str:
    lists, counts = {-1: [], 1: []}, []
    for name, of in tested.items():
        told, ways = compared(of), _ways(of)
        counts.append(str(len(told)))
        for sign, parts in lists.items():  # -1: the other method is better; 1: worse
            found: dict[str, list[str]] = {}
            for (way, method), (gain, *_, p) in told.items():
                if p < CLEAR and gain * sign > 0:
                    found.setdefault(method, []).append(ways[way])
            words = (f"{m} ({'both ways' if len(by) == 2 else by[0]})" for m, by in found.items())
            parts.append(f"{', '.join(words) or 'none'} on {name}")
    said = (
        "Clearly better than the adapter (Holm's rule over {} comparisons): {}. Clearly worse: {}."
    )
    return said.format(" and ".join(counts), *map("; ".join, lists.values()))


def _at_points(points: Tested) -> str:
    way = _ways(next(iter(points.values())))[DIRECTIONS[0]]
    found = sorted((*_share(of, DIRECTIONS[0]), name) for name, of in points.items())
    ends = " to ".join(
        f"{share} ({name})" for _, share, name in dict.fromkeys((found[0], found[-1]))
    )
    said = f"With another backbone, fewer items, or fewer or more steps ({len(found)} trainings)"
    return f"{said}, the adapter's share of full fine-tuning's gain in {way} R@1 goes from {ends}."


def _ways(of: dict[str, MethodRow]) -> dict[str, str]:
    kind = next(iter(of[OURS].records.values()))["kind"]
    return dict(zip(DIRECTIONS, (f"text-to-{kind}", f"{kind}-to-text"), strict=True))
