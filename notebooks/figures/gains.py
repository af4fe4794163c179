"""README's figure: what each method gains over zero-shot CLIP, from the rows and records in
`results/`.

    python notebooks/figures/gains.py    # writes gains.png beside this file; without a record, removes it

A dataset without rows of the study shows one run of each method, with the interval of its own
recall.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from cma.files import replacing
from cma.training import RunRecord
from experiments import report, rows
from experiments.gains import FIRST, OURS, ZERO_SHOT, by_dataset
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import BLUE, COLOURS, ORANGE

# colours and marks are those of notebook 06
LOOKS = dict(
    zip((OURS, *FIRST), [(BLUE, "o"), ("black", "s"), (COLOURS[3], "^"), (ORANGE, "P")], strict=True)
)
OTHERS = "#70757a", "o"
ROOT = Path(__file__).parents[2]
# points, low and high, for a text and for a picture or clip as the query
Gains = list[tuple[float, ...]]


def panels(studied: Sequence[rows.MethodRow], records: Sequence[RunRecord]) -> dict[str, dict[str, Gains]]:
    """Return {title: {method: gains}}, a panel for each dataset with zero-shot among its rows or
    records.
    """
    made = {}
    for name, tested in by_dataset(studied).items():
        if ZERO_SHOT in tested:
            made[name] = {
                m: [rows.difference(row, tested[ZERO_SHOT], way)[:3] for way in rows.DIRECTIONS]
                for m, row in tested.items()
                if not row.marks()  # results/README.md says which, and why
            }
    runs = {}
    for run in records:
        if run.dataset not in made and run.metrics.get("intervals"):
            runs.setdefault(run.dataset, {}).setdefault(run.method, run)
    for name, of in runs.items():
        if ZERO_SHOT in of:
            base = of[ZERO_SHOT].metrics
            made[f"{name}: one run each,\nwith the interval of its own recall"] = {
                m: [above(run.metrics, base, way) for way in rows.DIRECTIONS] for m, run in of.items()
            }
    return made


def above(metrics: dict, base: dict, way: str) -> tuple[float, ...]:
    """Return R@1 of a run and the ends of its interval, minus R@1 of zero-shot."""
    values = metrics[way]["R@1"], *metrics["intervals"][way]["R@1"]
    return tuple(value - base[way]["R@1"] for value in values)


def gains(shown: dict[str, dict[str, Gains]]) -> Figure:
    """Draw a panel for each dataset, a row for each method that was trained; zero-shot is the line at
    0.
    """
    shown = {title: {m: of[m] for m in of if m != ZERO_SHOT} for title, of in shown.items()}
    size = max(6, 4.4 * len(shown)), 1.2 + 0.28 * max(map(len, shown.values()))
    figure, axes = plt.subplots(1, len(shown), squeeze=False, figsize=size, layout="constrained")
    for axis, (title, of) in zip(axes[0], shown.items(), strict=True):
        order = sorted(of, key=lambda method: of[method][0][0])
        for place, method in enumerate(order):
            colour, mark = LOOKS.get(method, OTHERS)
            for (gain, low, high), shift, face in zip(
                of[method], (0.12, -0.12), (None, "white"), strict=True
            ):
                style = {"color": colour, "markerfacecolor": face, "fmt": mark}
                ends = [[gain - low], [high - gain]]
                axis.errorbar(gain, place + shift, xerr=ends, markersize=5, capsize=2, **style)
        axis.axvline(0, color="black", linewidth=1, linestyle=":")
        axis.set_yticks(range(len(order)), labels=order, fontsize=9)
        axis.set_ylim(-0.6, len(order) - 0.4)
        axis.set_title(title, fontsize=9)
        for tick, method in zip(axis.get_yticklabels(), order, strict=True):
            tick.set(
                color=BLUE if method == OURS else "black",
                weight="bold" if method == OURS else "normal",
            )
    note = "points of R@1 minus zero-shot CLIP\nfilled: a text is the query, hollow: a picture or clip"
    figure.supxlabel(note, fontsize=9)
    return figure


if __name__ == "__main__":
    results = ROOT / "results"
    picture = Path(__file__).with_suffix(".png")
    found = panels(rows.read_rows(results / "methods"), report.read_records(results))
    found = {title: of for title, of in found.items() if len(of) > 1}  # trained ones are there, too
    if found:
        with replacing(picture) as temporary:
            gains(found).savefig(temporary, format="png", dpi=100)
    else:
        picture.unlink(missing_ok=True)
        print("nothing is measured yet: no figure")
