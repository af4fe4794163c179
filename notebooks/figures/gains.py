"""README's figure: recall against trained parameters, and gain against what is kept.

    python notebooks/figures/gains.py    # writes gains.png beside this file; without rows, removes it

Pictures, a sentence as the query. Left: our adapter and LoRA at three sizes, with bands for
zero-shot and full fine-tuning. Right: methods as trained, as points, and the fronts, each one method
at several strengths, as lines; a ring marks the strength that the rule of the protocol chooses.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from cma.files import replacing
from experiments import rows
from experiments.claims import PICTURES
from experiments.forgetting import FILE as FORGETTING
from experiments.fronts import AT_PLACES, STRENGTHS, Front, read_fronts
from experiments.gains import FORWARD, FULL, LORA, OURS, ZERO_SHOT
from experiments.rows import MethodRow, difference, recall
from experiments.world import kept_in
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import BLUE, COLOURS, GREY, ORANGE

ROOT = Path(__file__).parents[2]
LOOKS = {OURS: (BLUE, "o"), LORA: (ORANGE, "P"), AT_PLACES: (COLOURS[3], "^"), FULL: ("black", "s")}
LOOKS |= {"AdaptFormer": (COLOURS[4], "o"), "MV-Adapter tying": (COLOURS[5], "o")}
POINTS = ("curves/size-r2", "methods", "curves/size-r32")  # where a method has another size
# where a name stands, in points beside its mark, if not to its right
NAMES = {"Adapter-ATTN": (-6, -3), "adapter without sharing": (-4, 6)}
NAMES |= {"MaPLe": (6, 3), "VL-Prompt": (6, -8), "partial": (2, -10)}
LEFT = ("adapter without sharing", "Adapter-ATTN")  # whose names stand to the left
Rows = Mapping[str, MethodRow]


def sizes(results: Path) -> dict[str, list[MethodRow]]:
    """Return the rows of our adapter and of LoRA at each size that is recorded."""
    found: dict[str, list[MethodRow]] = {OURS: [], LORA: [], AT_PLACES: []}
    for place in POINTS:
        of = rows.rows_of(results / place, PICTURES)
        for method in (OURS, LORA):
            found[method] += [of[method]] if method in of else []
    for place in results.glob("curves/places-r*"):
        found[AT_PLACES] += list(rows.rows_of(place, PICTURES).values())
    return {method: of for method, of in found.items() if any(row.ranks for row in of)}


def trained(row: MethodRow) -> int:
    """Return how many parameters the runs of a row train."""
    return next(iter(row.records.values()))["trained_parameters"]


def draw_sizes(axis: Axes, found: Mapping[str, list[MethodRow]], tested: Rows) -> None:
    """Draw R@1 against trained parameters."""
    for method, of in found.items():
        colour, mark = LOOKS[method]
        points = sorted((trained(row), *recall(row, FORWARD)) for row in of if row.ranks)
        numbers, values, low, high = map(list, zip(*points, strict=True))
        ends = [[v - one for v, one in zip(values, low, strict=True)]]
        ends += [[one - v for v, one in zip(values, high, strict=True)]]
        style = {"color": colour, "fmt": mark, "markersize": 5, "capsize": 2}
        axis.errorbar(numbers, values, yerr=ends, label=method, **style)
    for method, colour in ((ZERO_SHOT, GREY), (FULL, "black")):
        value, low, high = recall(tested[method], FORWARD)
        axis.axhspan(low, high, color=colour, alpha=0.15, linewidth=0)
        axis.axhline(value, color=colour, linewidth=1)
        axis.text(0.02, high + 0.4, method, fontsize=8, transform=axis.get_yaxis_transform())
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g} k")
    axis.xaxis.set_minor_formatter(lambda value, _: "")
    axis.set_xticks([20_000, 50_000, 100_000, 200_000, 400_000])
    axis.set_ylim(0, 56)
    axis.set_xlabel("trained parameters", fontsize=9)
    axis.set_ylabel("R@1 on test, %", fontsize=9)
    axis.legend(fontsize=8, loc="center right")


def draw_kept(axis: Axes, tested: Rows, forgotten: Mapping, fronts: Mapping[str, Front]) -> None:
    """Draw the gain in R@1 on test against the change of R@1 on the drawings of pre-training."""
    for method, row in tested.items():
        entry = forgotten.get(row.name)
        if entry and not row.marks() and method not in (ZERO_SHOT, *fronts):
            kept = entry["difference"][FORWARD][0]
            gain = difference(row, tested[ZERO_SHOT], FORWARD)[0]
            colour, mark = LOOKS.get(method, (GREY, "o"))
            axis.plot(kept, gain, mark, color=colour, markersize=5)
            beside = {"xytext": NAMES.get(method, (6, -3)), "textcoords": "offset points", "zorder": 4}
            beside["path_effects"] = [withStroke(linewidth=3, foreground="white")]  # over the lines
            side = "right" if method in LEFT else "left"
            axis.annotate(method, (kept, gain), fontsize=7, ha=side, **beside)
    for method, front in fronts.items():
        if method != ZERO_SHOT:
            draw_front(axis, method, front)
    axis.plot(0, 0, "x", color="black")
    axis.annotate(ZERO_SHOT, (0, 0), (-6, 6), textcoords="offset points", fontsize=7, ha="right")
    axis.set_xlabel("R@1 on drawings of pre-training, minus zero-shot", fontsize=9)
    axis.set_ylabel("R@1 on test, minus zero-shot", fontsize=9)
    axis.margins(y=0.1)  # room for the highest name
    if len(fronts) > 1:
        axis.legend(fontsize=7, loc="lower left")
    else:
        axis.set_title("strengths: not measured yet", fontsize=8)


def draw_front(axis: Axes, method: str, front: Front) -> None:
    """Draw one method at every strength, with a ring at the chosen one."""
    places = {}
    for strength in (0.0, *STRENGTHS):
        places[strength] = [
            difference(front.at(short, strength), front.at(short, 0.0), FORWARD)[0]
            for short in ("drawings", "test")
        ]
    colour, mark = LOOKS.get(method, (GREY, "o"))
    line = {"color": colour, "linewidth": 1}
    axis.plot(*zip(*places.values(), strict=True), ".-", markersize=3, **line)
    axis.plot(*places[1.0], f"{mark}-", markersize=5, label=method, **line)  # as trained
    ring = {"markersize": 10, "markerfacecolor": "none", "color": colour}
    axis.plot(*places[front.strength], "o", **ring)


def gains(results: Path) -> Figure | None:
    """Return the figure of a folder of results; None if full fine-tuning has no row there."""
    tested = {m: row for m, row in rows.rows_of(results / "methods", PICTURES).items() if row.ranks}
    if not {ZERO_SHOT, OURS, FULL} <= tested.keys():
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
    draw_sizes(left, sizes(results), tested)
    forgotten = kept_in(results, FORGETTING).get("rows", {})
    draw_kept(right, tested, forgotten, read_fronts(results, PICTURES))
    return figure


if __name__ == "__main__":
    picture = Path(__file__).with_suffix(".png")
    figure = gains(ROOT / "results")
    if figure:
        with replacing(picture) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    else:
        picture.unlink(missing_ok=True)
        print("nothing is measured yet: no figure")
