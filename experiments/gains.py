"""README's table of what the paper claims and what we find here, from the rows of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cma.files import read_json

from .published import FULL, ZERO_SHOT, markdown
from .published import PAPER as OURS
from .rows import DIRECTIONS, NEAR, MethodRow, difference, holm, near_full, read_rows, share_of_gain

BREAK = "<br>"  # a new line in a cell
CLEAR = 0.05  # a difference is clear if its corrected p is below this
NONE, NO_SHARE = "No record yet.", "no share (full fine-tuning gains too little)"
NOT_MEASURED = "not measured yet"
NEEDED = (OURS, FULL, ZERO_SHOT)  # by `share_of_gain`
WITHOUT, LORA = "adapter without sharing", "LoRA"
FIRST = (FULL, WITHOUT, LORA)  # the first family, for datasets that the protocol does not name
Tested = dict[str, dict[str, MethodRow]]  # {dataset: {method: row}}
POINTS = {
    "data": "{} of its training items",
    "state": "the backbone's state {}",
    "steps": "{} × the steps",
    "size": "{}",
    "pooling": "frames pooled by the {}",
}
# what a point does not change has the usual row
UNCHANGED = {"data": (ZERO_SHOT,), "steps": (ZERO_SHOT,), "size": (ZERO_SHOT, FULL)}
PICTURE = (
    "![R@1 minus that of zero-shot CLIP, by method, with intervals](notebooks/figures/gains.png)"
)
AGAINST_LORA = "Ours against LoRA, which trains about as many numbers, in points of R@1"
CANNOT_SAY = (
    "What this cannot say: the scenes are composed, the backbone is small and ours, and so is the "
    "gap between what it knows and what the captions say. How large a gain is on photographs, with "
    "a real CLIP, or for a sentence that a person wrote, is not measured here."
)


@dataclass
class Findings:
    """What a folder of results holds: the tested rows, the points of the curves, the comparisons
    that were planned ({family: {dataset: methods}}), and what the steps cost.
    """

    tested: Tested
    points: Tested = field(default_factory=dict)
    planned: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    costs: dict = field(default_factory=dict)

    @classmethod
    def read(cls, results: Path) -> Findings:
        """Read a folder of results. Raises ValueError that names a file that is not as expected."""
        kept = {}
        for name in ("protocol.json", "costs.json"):
            file = results / name
            kept[name] = read_json(file, dict) if file.exists() else {}
        return cls(
            by_dataset(read_rows(results / "methods")),
            read_points(results),
            kept["protocol.json"].get("verdicts", {}).get("families", {}),
            kept["costs.json"].get("methods", {}),
        )


class Verdict(NamedTuple):
    """Ours minus another method in points of R@1, interval, corrected p; or why it is blank."""

    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    blank: str = ""

    @property
    def word(self) -> str:
        """`clearly better`, `clearly worse`, `not clearly different`, or why it is blank."""
        if self.blank:
            return self.blank
        if self.p >= CLEAR:
            return "not clearly different"
        return "clearly better" if self.gain > 0 else "clearly worse"


Verdicts = dict[tuple[str, str, str], Verdict]  # by (dataset, method, direction)


def verdicts(found: Findings) -> Verdicts:
    """Return every planned comparison. p is corrected by Holm's rule over all comparisons that a
    family plans, both ways, blank or not.

    A dataset that no family names is a family of its own: all its methods.
    """
    families = [list(of.items()) for of in found.planned.values()]
    named = {dataset for of in families for dataset, _ in of}
    for dataset, of in found.tested.items():
        if dataset not in named and OURS in of:
            families.append([(dataset, [method for method in of if method != OURS])])
    told: Verdicts = {}
    for family in families:
        keys = [(name, m, way) for name, methods in family for m in methods for way in DIRECTIONS]
        made = {key: _difference(found.tested.get(key[0], {}), *key[1:]) for key in keys}
        whole = [key for key in keys if not made[key].blank]
        adjusted = holm([made[key].p for key in whole], planned=len(keys))
        made |= {key: made[key]._replace(p=p) for key, p in zip(whole, adjusted, strict=True)}
        told |= made
    return told


def _difference(of: Mapping[str, MethodRow], method: str, way: str) -> Verdict:
    for name in (OURS, method):
        if name not in of:
            return Verdict(blank=NOT_MEASURED)
        if marks := of[name].marks():
            return Verdict(blank=f"no verdict ({name}: {'; '.join(marks)})")
    return Verdict(*difference(of[OURS], of[method], way))


def compared(tested: dict[str, MethodRow], k: int = 1) -> dict[tuple[str, str], tuple[float, ...]]:
    """Return {(direction, method): (ours − that method, low, high, p)} of one dataset, with p
    corrected for all of these (Holm).

    This is no verdict: those are of the families that were planned, see `verdicts`.
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
    usual = by_dataset(read_rows(results / "methods"))
    points = {}
    for changed, words in POINTS.items():
        for place in sorted(results.glob(f"curves/{changed}-*")):
            value = place.name.removeprefix(f"{changed}-").replace("-", "/")
            for dataset, own in by_dataset(read_rows(place)).items():
                rows = usual.get(dataset, {})
                same = {m: rows[m] for m in UNCHANGED.get(changed, ()) if m in rows}
                of = same | own
                if of.keys() >= set(NEEDED):
                    points[f"{dataset} with {words.format(value)}"] = of
    return points


def summary(found: Findings) -> str:
    """Return README's figure, its table of claims, and sentences, in Markdown."""
    if not by_dataset([row for of in found.tested.values() for row in of.values()], NEEDED):
        return NONE
    told = verdicts(found)
    claims = {
        "near full fine-tuning, or above it": _near(found, told),
        "sharing weights between the towers helps": BREAK.join(_against(found, told, WITHOUT)),
        "better than other adapters": _others(found, told),
        "fewer parameters, less time, one backbone": _costs(found),
        "less overfitting with little data": _little(found),
    }
    lines = [{"the paper claims": claim, "we find here": said} for claim, said in claims.items()]
    lora = f"{AGAINST_LORA}: {'; '.join(_against(found, told, LORA))}."
    return "\n\n".join([PICTURE, markdown(lines), lora, CANNOT_SAY])


def differences(found: Findings) -> str:
    """Return a Markdown table of the adapter minus each other method, in points of R@1, with Holm's
    p; a blank cell says why.
    """
    told, lines = verdicts(found), []
    for dataset, method in dict.fromkeys(key[:2] for key in told):
        if dataset not in found.tested:
            continue
        line = {"dataset": dataset, "the adapter minus": method}
        for column, way in zip(("T2I / T2V", "I2T / V2T"), DIRECTIONS, strict=True):
            verdict = told[dataset, method, way]
            line[column] = verdict.blank or f"{points_of(verdict)}, p {verdict.p:.3f}"
        lines.append(line)
    return markdown(lines)


def points_of(gain: Sequence[float]) -> str:
    """Return `+1.5 [+0.2, +2.9]`; a value that rounds to 0 has a plus."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(value, 1) + 0.0 for value in gain[:3]))


def share_and_points(of: Mapping[str, MethodRow], way: str, method: str = OURS) -> str:
    """Return `68 % [64, 72] of the gain, -11.3 [-12.9, -9.6] points`: a share may rise while the
    gap grows.
    """
    share = share_of_gain(of[method], of[FULL], of[ZERO_SHOT], way)
    said = NO_SHARE
    if share:
        said = "{:.0f} % [{:.0f}, {:.0f}] of the gain".format(*share)
    return f"{said}, {points_of(difference(of[method], of[FULL], way))} points"


def on_further(of: Mapping[str, MethodRow], further: str) -> dict[str, MethodRow]:
    """Return the rows of a dataset on one of its further test sets, of those tested there."""
    made = {method: row.on(further) for method, row in of.items()}
    return {method: row for method, row in made.items() if row}


def ways_of(of: Mapping[str, MethodRow]) -> dict[str, str]:
    """Return {direction: its words}, such as `text-to-image`."""
    row = next(iter(of.values()))
    kind = next(iter(row.records.values()))["kind"]
    return dict(zip(DIRECTIONS, (f"text-to-{kind}", f"{kind}-to-text"), strict=True))


def _near(found: Findings, told: Verdicts) -> str:
    said = []
    for name, of in found.tested.items():
        if not of.keys() >= set(NEEDED):
            said.append(f"{name}: {NOT_MEASURED}")
            continue
        for way, words in ways_of(of).items():
            verdict = told.get((name, FULL, way), Verdict(blank=NOT_MEASURED))
            near = "; near" if near_full(of[OURS], of[FULL], way) else "; not near"
            word = verdict.blank or f"{verdict.word}{near}"
            said.append(f"{name}, {words}: {share_and_points(of, way)}: {word}")
        for further in ("new", "other"):
            there = on_further(of, further)
            if there.keys() >= set(NEEDED):
                said.append(f"on {name}-{further}: {share_and_points(there, DIRECTIONS[0])}")
    near = [
        point for point, of in found.points.items() if near_full(of[OURS], of[FULL], DIRECTIONS[0])
    ]
    if found.points:
        said.append(f"of {len(found.points)} other trainings near: {', '.join(near) or 'none'}")
    said.append(f"(*near*: the interval of ours − full lies above −{NEAR:g} points)")
    return BREAK.join(said)


def _against(found: Findings, told: Verdicts, method: str) -> list[str]:
    """Ours against one method, in plain words, for each dataset and direction."""
    said = []
    for name, of in found.tested.items():
        for way, words in ways_of(of).items():
            verdict = told.get((name, method, way), Verdict(blank=NOT_MEASURED))
            start = f"{words} on {name}"
            if verdict.blank:
                said.append(f"{start}: {verdict.blank}")
                continue
            joint = "from" if verdict.p >= CLEAR else "than"
            points = points_of(verdict)
            said.append(f"{start} ours is {verdict.word} {joint} {method} ({points})")
    return said


def _others(found: Findings, told: Verdicts) -> str:
    """All other methods by verdict: `clearly better than A (both ways), ...`, for each dataset."""
    said = []
    for name, of in found.tested.items():
        ways, groups = ways_of(of), {}
        for (dataset, method, way), verdict in told.items():
            if dataset == name and method not in (ZERO_SHOT, FULL, WITHOUT):
                word = NOT_MEASURED if verdict.blank == NOT_MEASURED else verdict.word
                word = "no verdict" if word.startswith("no verdict") else word
                groups.setdefault(word, {}).setdefault(method, []).append(ways[way])
        for word, methods in groups.items():
            each = (f"{m} ({by[0] if len(by) == 1 else 'both ways'})" for m, by in methods.items())
            said.append(f"{name}: ours is {word}: {', '.join(each)}")
    return BREAK.join(said) or NOT_MEASURED


def _costs(found: Findings) -> str:
    of = next(of for of in found.tested.values() if of.keys() >= set(NEEDED))
    ours, full = (next(iter(of[m].records.values()))["trained_parameters"] for m in (OURS, FULL))
    said = f"It trains {ours:,} numbers, {100 * ours / full:.1f} % of those of full fine-tuning"
    for kind, costs in found.costs.items():
        if OURS in costs:
            time = f"{100 * costs[OURS]['time']:.0f} % of the time of a step"
            said += f"; {kind}: {time}, {100 * costs[OURS]['memory']:.0f} % of the memory"
    return f"{said}. One frozen backbone serves any number of adapters."


def _little(found: Findings) -> str:
    way = DIRECTIONS[0]
    said = []
    for point, of in found.points.items():
        if POINTS["data"].format("") in point:
            said.append(f"{point}: {share_and_points(of, way)}")
            if LORA in of:
                said.append(f"LoRA there: {share_and_points(of, way, LORA)}")
    usual = [
        f"{name} with all: {share_and_points(of, way)}"
        for name, of in found.tested.items()
        if of.keys() >= set(NEEDED)
    ]
    return BREAK.join([*said, *usual]) if said else NOT_MEASURED
