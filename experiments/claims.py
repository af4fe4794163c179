"""Make README's table of the paper's claims and our results, and the findings below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .forgetting import FILE as FORGETTING
from .fronts import KEEPS, Front, read_fronts
from .gains import (
    FORWARD,
    FULL,
    LORA,
    NOT_MEASURED,
    OURS,
    WITHOUT,
    ZERO_SHOT,
    Findings,
    Rows,
    Verdict,
    corrected,
    has_share,
    points_of,
)
from .published import markdown
from .rows import MethodRow, difference, share_of_gain
from .world import kept_in

PICTURES, CLIPS = "mini-flickr30k", "mini-msrvtt"
PROMPTS = ("CoOp", "VPT", "VL-Prompt", "MaPLe")
ADAPTERS = ("Adapter-ATTN", "AdaptFormer", "ST-Adapter", "MV-Adapter tying")
CLEAR_MARK = " ●"
SAME_TIME = 0.02  # steps whose times differ by a smaller share of full fine-tuning's cost the same
PICTURE = (
    "![Left: R@1 against trained parameters. Right: gain against R@1 kept on the drawings of "
    "pre-training](notebooks/figures/gains.png)"
)
NOTE = (
    "Numbers are our adapter minus the other method, in points of R@1 with a sentence as the "
    "query: means over seeds, with 95 % intervals over test items and seeds. ● is clear: p < 0.05 "
    "after Holm's correction over all planned comparisons. N, seeds and the other direction are in "
    "[results/README.md](results/README.md)."
)
CANNOT_SAY = (
    "What this cannot say: the scenes are composed, and the backbone is small and ours. How large "
    "a gain is on photographs, with a real CLIP, or for a sentence that a person wrote, is not "
    "measured here."
)


def summary(found: Findings) -> str:
    """Return README's figure, table and findings, in Markdown."""
    if not any(map(has_share, found.tested.values())):
        return markdown([])
    lines = [_full(found), _sharing(found), _others(found, "better than prompts", PROMPTS)]
    lines += [_others(found, "better than other adapters", ADAPTERS), _lora(found)]
    lines += [_costs(found), _little(found)]
    names = ("the paper says", "pictures", "clips", "here")
    table = markdown([dict(zip(names, line, strict=True)) for line in lines])
    listed = "\n".join(f"- {one}" for one in findings(found))
    return "\n\n".join([PICTURE, table, NOTE, listed, CANNOT_SAY])


def cell(verdict: Verdict) -> str:
    """Return the points of one comparison, marked if they are clear; or why there are none."""
    if verdict.blank:
        return "no verdict" if verdict.blank != NOT_MEASURED else NOT_MEASURED
    return points_of(verdict) + (CLEAR_MARK if verdict.word.startswith("clearly") else "")


def both(found: Findings, method: str) -> list[Verdict]:
    """Return ours minus one method, on pictures and on clips."""
    return [found.verdict(name, method, FORWARD) for name in (PICTURES, CLIPS)]


def where(verdicts: Sequence[Verdict], word: str) -> str:
    """Return the data on which the verdict is `word`, such as `pictures and clips`."""
    pairs = zip(("pictures", "clips"), verdicts, strict=True)
    return " and ".join(name for name, verdict in pairs if verdict.word == word)


def _full(found: Findings) -> list[str]:
    verdicts = both(found, FULL)
    shares = []
    for name in (PICTURES, CLIPS):
        of = found.tested.get(name, {})
        share = has_share(of) and share_of_gain(of[OURS], of[FULL], of[ZERO_SHOT], FORWARD)
        shares += [f"{share[0]:.0f} %"] if share else []
    behind = where(verdicts, "clearly worse")
    here = f"**no**: {' and '.join(shares)} of its gain" if behind else "**no clear difference**"
    return ["near full fine-tuning, or above it", *map(cell, verdicts), here]


def _sharing(found: Findings) -> list[str]:
    verdicts = both(found, WITHOUT)
    seen = where(verdicts, "clearly better")
    return [
        "sharing helps",
        *map(cell, verdicts),
        f"**yes**, on {seen}" if seen else "**not seen**",
    ]


def _lora(found: Findings) -> list[str]:
    verdicts = both(found, LORA)
    behind, ahead = (where(verdicts, f"clearly {word}") for word in ("worse", "better"))
    sides = [f"behind on {behind}"] * bool(behind) + [f"ahead on {ahead}"] * bool(ahead)
    here = ", ".join(sides) or "no clear difference"
    return ["(LoRA, not in the paper)", *map(cell, verdicts), f"**{here}**"]


def _others(found: Findings, claim: str, methods: Sequence[str]) -> list[str]:
    """Return the line of a group of methods: the range of the gains, and which are clear."""
    cells, better, blank, unclear = [], set(), [], False
    for name, words in ((PICTURES, "pictures"), (CLIPS, "clips")):
        planned = [m for m in methods if (name, m, FORWARD) in found.verdicts]
        verdicts = {m: found.verdict(name, m, FORWARD) for m in planned}
        verdicts = {m: verdict for m, verdict in verdicts.items() if not verdict.blank}
        clear = {m for m, verdict in verdicts.items() if verdict.word == "clearly better"}
        cells.append(_range(verdicts, clear) if verdicts else NOT_MEASURED)
        blank += [f"{m} on {words}: no verdict" for m in planned if m not in verdicts]
        better |= clear
        unclear |= verdicts.keys() != clear
    here = f"only better than {', '.join(sorted(better))}" if unclear else "yes"
    here = f"**{here}**" if better else "**not seen**"
    return [claim, *cells, here + (f" ({'; '.join(blank)})" if blank else "")]


def _range(verdicts: dict[str, Verdict], clear: set[str]) -> str:
    """Return the range of the gains; if only some are clear, name those one by one."""
    whole = not clear or clear == verdicts.keys()
    gains = [verdict.gain for m, verdict in verdicts.items() if whole or m not in clear]
    ranges = [f"{min(gains):+.1f} to {max(gains):+.1f}" + CLEAR_MARK * (clear == verdicts.keys())]
    if not whole:
        ranges += [f"{m} {verdicts[m].gain:+.1f}{CLEAR_MARK}" for m in sorted(clear)]
    return "; ".join(ranges)


def _costs(found: Findings) -> list[str]:
    of = next(filter(has_share, found.tested.values()))
    ours, full = (next(iter(of[m].records.values()))["trained_parameters"] for m in (OURS, FULL))
    times = {
        kind: {m: cost["time"] for m, cost in costs.items()} for kind, costs in found.costs.items()
    }
    spent = [f"{100 * times[k][OURS]:.0f} % of the time" for k in ("image", "video") if k in times]
    spent = spent + [NOT_MEASURED] * (2 - len(spent))
    here = ""
    if LORA in times.get("image", {}):
        gap = times["image"][LORA] - times["image"][OURS]
        here = "costs the same" if abs(gap) <= SAME_TIME else "costs less" if gap < 0 else ""
        here = f"; LoRA {here or 'costs more'}"
    cells = [f"{100 * ours / full:.1f} % of the parameters, {spent[0]}", spent[1]]
    return ["cheaper than full fine-tuning", *cells, f"**yes**{here}"]


def _little(found: Findings) -> list[str]:
    """Return the line of ours minus full fine-tuning on a quarter of the training items."""
    cells, behind, edges = [], [], False
    for name in (PICTURES, CLIPS):
        of = found.points.get(f"{name}, data 1/4")
        cells.append(NOT_MEASURED)
        if of:
            gap = difference(of[OURS], of[FULL], FORWARD)
            cells[-1] = points_of(gap)
            behind.append(gap[2] < 0)
            edges |= any(of[method].at_edge for method in (OURS, FULL))
    here = "**still behind**" if behind and all(behind) else "**no clear difference**"
    edge = "; a learning rate is at the edge of its search" if edges else ""
    claim = "better with little data (a quarter, minus full fine-tuning)"
    return [claim, *cells, (here if behind else NOT_MEASURED) + edge]


def findings(found: Findings) -> list[str]:
    """Return at most five findings, each a sentence with its numbers, however they turn out."""
    fronts, on_clips = (read_fronts(found.results, name) for name in (PICTURES, CLIPS))
    of_fronts = [_at_kept_knowledge(fronts, on_clips), _other_hand(fronts)]
    return [*of_fronts, _forgotten(found, fronts), _fit(found), _pooling(found)]


def planned(fronts: dict[str, Front]) -> dict[tuple[str, str], Verdict]:
    """Return the four planned comparisons of the fronts, by (method, "gain" | "kept"): the method
    minus full fine-tuning, R@1 on test at the chosen strength of each, and on the drawings at
    strength 1. p is corrected for all four (Holm); a comparison that is not measured yet is blank.
    """
    keys = [(method, what) for method in (OURS, LORA) for what in ("gain", "kept")]
    measured = {}
    for method, what in keys:
        if {method, FULL} <= fronts.keys():
            sides = (fronts[method], fronts[FULL])
            short = "test" if what == "gain" else "drawings"
            at = [one.at(short, one.strength if what == "gain" else 1.0) for one in sides]
            measured[method, what] = difference(*at, FORWARD)
    adjusted = corrected(measured, len(keys))
    verdicts = {key: Verdict(*values, blank="") for key, values in adjusted.items()}
    return {key: Verdict() for key in keys} | verdicts


def _at_kept_knowledge(fronts: dict[str, Front], on_clips: dict[str, Front]) -> str:
    loss = f"at most {KEEPS:g} points on the drawings"
    rule = f"With each method at the largest strength that loses {loss}"
    verdict = planned(fronts)[OURS, "gain"]
    if verdict.blank:
        return f"{rule}, its gain in R@1 on test: {NOT_MEASURED}."
    gained = f"{_gained(fronts)}; ours − full {cell(verdict)}"
    clips = _gained(on_clips) or NOT_MEASURED
    return f"{rule}, its gain in R@1 on test: {gained}. On clips (not planned): {clips}."


def _gained(fronts: dict[str, Front]) -> str:
    """Return the gain of each front at its chosen strength, the largest first."""
    gained = []
    for name, front in fronts.items():
        if name != ZERO_SHOT:
            start, end = (front.at("test", s) for s in (0.0, front.strength))
            gain = difference(end, start, FORWARD)[0] if front.strength else 0.0
            gained.append((gain, f"{name} {gain:+.1f} at {front.strength:g}"))
    return ", ".join(text for _, text in sorted(gained, reverse=True))


def _forgotten(found: Findings, fronts: dict[str, Front]) -> str:
    rows = kept_in(found.results, FORGETTING).get("rows", {})
    losses = []
    for method in (FULL, OURS, LORA, "AdaptFormer"):
        name = MethodRow(PICTURES, method, {}).name
        if name in rows:
            losses.append(f"{method} {rows[name]['difference'][FORWARD][0]:+.1f}")
    start = "While a method is active, R@1 on the drawings of pre-training changes"
    verdict = planned(fronts)[OURS, "kept"]
    ends = f"; ours − full {cell(verdict)}" if not verdict.blank else ""
    return f"{start}: {', '.join(losses) or NOT_MEASURED}{ends}."


def _other_hand(fronts: dict[str, Front]) -> str:
    start = "How much the adapter's gain in R@1 depends on our own scenes and captions"
    if OURS not in fronts:
        return f"{start}: {NOT_MEASURED}."
    ours = fronts[OURS]
    names = {"test": "on test", "words": "in other words", "scenes": "on other scenes"}
    gains = [
        f"{name} {points_of(difference(ours.at(short, 1.0), ours.at(short, 0.0), FORWARD))}"
        for short, name in names.items()
    ]
    return f"{start}: {', '.join(gains)} points."


def fit(of: Sequence[Rows]) -> tuple[float, int]:
    """Return (correlation of the last training loss with R@1 on test, number of configurations)."""
    losses, recalls = [], []
    for row in (row for rows in of for row in rows.values() if row.lr is not None and row.ranks):
        losses.append(np.mean([run["history"][-1]["loss"] for run in row.records.values()]))
        recalls.append(row.hits(FORWARD).mean())
    return float(np.corrcoef(losses, recalls)[0, 1]), len(losses)


def _fit(found: Findings) -> str:
    of = [found.tested.get(PICTURES, {})]
    # another backbone or fewer items change the loss itself
    for point, rows in found.points.items():
        if point.startswith(f"{PICTURES}, s") and "state" not in point:
            known = {id(row) for rows in of for row in rows.values()}
            of.append({m: row for m, row in rows.items() if id(row) not in known})
    correlation, count = fit(of)
    start = "What fits the training data better finds more: training loss predicts R@1 on test"
    return f"{start} (correlation {correlation:.2f} over {count} configurations; not planned)."


def _pooling(found: Findings) -> str:
    usual, mean = found.tested.get(CLIPS, {}), found.points.get(f"{CLIPS}, pooling mean", {})
    start = "On clips, our adapter with mean pooling, minus it with text-conditioned pooling"
    if OURS not in usual or OURS not in mean:
        return f"{start}: {NOT_MEASURED}."
    # its own name, because its seeds are drawn apart from those of the usual row
    gap = difference(replace(mean[OURS], method="mean"), usual[OURS], FORWARD)
    return f"{start}: {points_of(gap)} points of R@1 (not planned)."
