"""Tables of `results/README.md` besides those of runs: further test sets, curves, parts, what is
forgotten, and the second world.
"""

from __future__ import annotations

from pathlib import Path

from cma.files import read_json

from . import forgetting, parts
from .gains import (
    LORA,
    NEEDED,
    NOT_MEASURED,
    OURS,
    WITHOUT,
    ZERO_SHOT,
    Findings,
    by_dataset,
    on_further,
    points_of,
    share_and_points,
    verdicts,
    ways_of,
)
from .published import markdown
from .rows import DIRECTIONS, read_rows, recall
from .study import FURTHER

SECOND = "second-world"  # in the folder of results
SETS = ("", "new", "other")  # "": test itself


def further(found: Findings) -> str:
    """R@1 of the methods of the first family on each further test set but the twins."""
    lines = []
    for of in found.tested.values():
        chief = {method: of[method] for method in (*NEEDED, WITHOUT, LORA) if method in of}
        for name in FURTHER:
            for method, row in on_further(chief, name).items() if name != "twins" else ():
                there, back = (
                    "{:.1f} [{:.1f}, {:.1f}]".format(*recall(row, w)) for w in DIRECTIONS
                )
                cells = {"test set": row.dataset, "method": method}
                lines.append(cells | {"T2I / T2V R@1": there, "I2T / V2T R@1": back})
    return markdown(lines)


def curves(found: Findings) -> str:
    """Share of full fine-tuning's gain and points to it, of ours and LoRA, on three test sets."""
    usual = {
        f"{name}, as usual": of for name, of in found.tested.items() if of.keys() >= set(NEEDED)
    }
    lines = []
    for point, of in (usual | found.points).items() if found.points else ():
        for method in (OURS, LORA):
            line = {"training": point, "method": method}
            for name in SETS:
                there = on_further(of, name) if name else of
                title = f"{name or 'test'}, text as the query"
                whole = there.keys() >= {*NEEDED, method}
                line[title] = (
                    share_and_points(there, DIRECTIONS[0], method) if whole else NOT_MEASURED
                )
            lines.append(line)
    return markdown(lines)


def shared_out(results: Path) -> str:
    """The parts of the gain by describer and by number of things, from parts.json."""
    file = results / parts.FILE
    lines = []
    for dataset, found in (read_json(file, dict)["parts"] if file.exists() else {}).items():
        for part, values in found.items():
            share = values["share"]
            said = "{:.0f} % [{:.0f}, {:.0f}]".format(*share) if share else "too little to gain"
            points = points_of(values["points"])
            line = {"test set": dataset, "part": part, "share of the gain": said}
            lines.append(line | {"ours − full fine-tuning": points})
    return markdown(lines)


def forgotten(results: Path) -> str:
    """R@1 on the drawings of pre-training, minus that of zero-shot, from forgetting.json."""
    file = results / forgetting.FILE
    lines = []
    for name, entry in (read_json(file, dict)["rows"] if file.exists() else {}).items():
        line = {"trained": name}
        for title, of in (("at its rate", entry), ("at the gentlest good rate", entry["gentlest"])):
            both = [points_of(of["difference"][way]) for way in DIRECTIONS]
            line[f"{title}: T2I · I2T"] = f"{of['lr']:g}: {both[0]} · {both[1]}"
        lines.append(line)
    return markdown(lines)


def repeated(found: Findings, results: Path) -> str:
    """Which verdicts of the first family repeat in the second world."""
    again = Findings(by_dataset(read_rows(results / SECOND / "methods")))
    again.planned = {"first": found.planned.get("first", {})}
    first, second, lines = verdicts(found), verdicts(again), []
    for (name, method, way), verdict in second.items():
        if name not in again.tested or method == ZERO_SHOT:
            continue
        before = first[name, method, way]
        line = {"ours minus": method, "way": ways_of(again.tested[name])[way]}
        for title, one in (("first world", before), ("second world", verdict)):
            line[title] = one.blank or f"{points_of(one)}, {one.word}"
        lines.append(line | {"repeats": "yes" if before.word == verdict.word else "no"})
    return markdown(lines)
