"""The tables of `results/README.md` besides those of runs, and README's first table. Each is made
from the `Findings` of a folder.
"""

from __future__ import annotations

from dataclasses import replace

from . import forgetting, graded, inflation, parts
from .claims import summary
from .fronts import AT_PLACES
from .gains import (
    FORWARD,
    FULL,
    LORA,
    OURS,
    WITHOUT,
    ZERO_SHOT,
    Findings,
    blank,
    by_dataset,
    has_share,
    on_further,
    points_of,
    reached,
    share_of,
)
from .published import NOT_MEASURED, markdown
from .rows import DIRECTIONS, NDCG, difference, read_rows, recall, rows_of
from .study import ALONE
from .world import kept_in

RANKS = (2, 8, 32)  # of the adapter's shared part; 8 is the usual one
SECOND = "second-world"  # in the folder of results
WAYS = dict(zip(DIRECTIONS, ("T2I / T2V", "I2T / V2T"), strict=True))  # names of columns
PICTURES = "mini-flickr30k"
BENCHMARKS = {PICTURES: "finds a picture, %", "mini-msrvtt": "finds a clip, %"}
WITH_INTERVAL = "{:.1f} [{:.1f}, {:.1f}]"  # in %


def first(found: Findings) -> str:
    """Return README's first table: five methods, their trained parameters and R@1 of sentences."""
    lines = []
    for method in (ZERO_SHOT, OURS, WITHOUT, LORA, FULL):
        of_each = {name: of[method] for name, of in found.tested.items() if method in of}
        runs = [run for row in of_each.values() for run in row.records.values()]
        trained = {run["trained_parameters"] for run in runs}
        line = {"method": method, "trained": " · ".join(f"{one:,}" for one in sorted(trained))}
        for name, title in BENCHMARKS.items():
            there = name in of_each
            r1 = WITH_INTERVAL.format(*recall(of_each[name], FORWARD)) if there else NOT_MEASURED
            line[title] = r1
        lines.append(line)
    return markdown(lines)


def differences(found: Findings) -> str:
    """Return the adapter minus each method in points of R@1, with Holm's p, or why it is blank."""
    lines = {}
    for (dataset, method, way), verdict in found.verdicts.items():
        if dataset in found.tested:
            names = {"dataset": dataset, "the adapter minus": method}
            line = lines.setdefault((dataset, method), names)
            line[WAYS[way]] = verdict.blank or f"{points_of(verdict)}, p {verdict.p:.3f}"
    return markdown([*lines.values()])


def ndcg(found: Findings) -> str:
    """Return R@1 and nDCG@10 with a sentence as the query, with each row's place and verdict by
    both.
    """
    by_ndcg, lines = found.compared(NDCG), []
    for dataset, of in found.tested.items():
        for method in of:
            line = {"dataset": dataset, "method": method}
            for title, k in (("R@1", 1), ("nDCG@10", NDCG)):
                values = {name: recall(row, FORWARD, k) for name, row in of.items()}
                place = sorted(values, key=lambda name: -values[name][0]).index(method) + 1
                line[title] = f"{WITH_INTERVAL.format(*values[method])} ({place})"
            key = (dataset, method, FORWARD)
            for title, verdicts in (("R@1", found.verdicts), ("nDCG@10", by_ndcg)):
                line[f"ours minus it, {title}"] = verdicts[key].text if key in verdicts else "–"
            lines.append(line)
    return markdown(lines)


def by_grades(found: Findings) -> str:
    """Return R@1, and nDCG@10 with one right picture for each text and with relevance in grades."""
    lines = []
    for method, row in kept_in(found.results, graded.FILE).get("rows", {}).items():
        line = {"method": method}
        for key, title in (("R@1", "R@1"), ("nDCG@10", "nDCG@10"), ("graded", "nDCG@10, graded")):
            line[title] = WITH_INTERVAL.format(*row[key])
        gain = "{:+.1f} [{:+.1f}, {:+.1f}], p {:.3f}"
        minus = row.get("ours minus it")
        line["ours minus it, graded"] = gain.format(*minus) if minus else "–"
        lines.append(line)
    return markdown(lines)


def further(found: Findings) -> str:
    """Return R@1 of all methods on each further test set except the contrast pairs."""
    lines = []
    for of in found.tested.values():
        for name in ALONE:
            for method, row in on_further(of, name).items():
                line = {"test set": row.dataset, "method": method}
                for way, words in WAYS.items():
                    line[f"{words} R@1"] = WITH_INTERVAL.format(*recall(row, way))
                lines.append(line)
    return markdown(lines)


def curves(found: Findings) -> str:
    """Return the curves: R@1 on test, shares of full fine-tuning's gain, and rates at an edge."""
    usual = {f"{name}, as usual": of for name, of in found.tested.items() if has_share(of)}
    lines = []
    trained = found.points and usual | found.points
    for point, of in trained.items():
        sets = {"test": of} | {name: on_further(of, name) for name in ("new", "words", "scenes")}
        for method in (OURS, LORA):
            r1 = NOT_MEASURED
            if method in of:
                r1 = WITH_INTERVAL.format(*recall(of[method], FORWARD))
            line = {"training": point, "method": method, "R@1 on test": r1}
            tried = [name for name in (method, FULL) if name in of and of[name].at_edge]
            line["rate at an edge"] = ", ".join(tried) or "–"
            for name, there in sets.items():
                line[f"gain on {name}"] = reached(there, method=method) if there else "–"
            lines.append(line)
    return markdown(lines)


def places(found: Findings) -> str:
    """Return ours, LoRA at its places and LoRA at three sizes, and their paired differences."""
    lines = []
    for r in RANKS:
        folder = found.results / ("methods" if r == 8 else f"curves/size-r{r}")
        of = rows_of(folder, PICTURES)
        at = rows_of(found.results / f"curves/places-r{r}", PICTURES).get(LORA)
        of = {name: of[name] for name in (OURS, LORA) if name in of}
        of |= {AT_PLACES: replace(at, method=AT_PLACES)} if at else {}
        line = {"r": f"{r}"}
        for name in (OURS, AT_PLACES, LORA):
            there = name in of
            line[name] = WITH_INTERVAL.format(*recall(of[name], FORWARD)) if there else NOT_MEASURED
        for one, other in ((AT_PLACES, OURS), (LORA, AT_PLACES)):
            why = blank(of, one, other)
            line[f"{one} minus {other}"] = why or points_of(difference(of[one], of[other], FORWARD))
        lines.append(line)
    return markdown(lines)


def shared_out(found: Findings) -> str:
    """Return the shares of the gain by caption style and by number of things, from parts.json."""
    lines = []
    for dataset, methods in kept_in(found.results, parts.FILE).get("parts", {}).items():
        for part in methods[OURS]:
            line = {"test set": dataset, "part": part.replace("describer", "style")}
            for method, of in methods.items():
                values = of[part]
                line[method] = f"{share_of(values['share'])}, {points_of(values['points'])} points"
            lines.append(line)
    return markdown(lines)


def forgotten(found: Findings) -> str:
    """Return R@1 on the pre-training drawings minus zero-shot's, from forgetting.json."""
    lines = []
    for name, entry in kept_in(found.results, forgetting.FILE).get("rows", {}).items():
        line = {"trained": name}
        for title, of in (("at its rate", entry), ("at the gentlest good rate", entry["gentlest"])):
            both = " · ".join(points_of(of["difference"][way]) for way in DIRECTIONS)
            line[f"{title}: T2I · I2T"] = f"{of['lr']:g}: {both}"
        lines.append(line)
    return markdown(lines)


def inflated(found: Findings) -> str:
    """Return R@1 by each practice that raises it, and its effect, from inflation.json."""
    lines = []
    for dataset, of in sorted(kept_in(found.results, inflation.FILE).items()):
        there = f"{dataset}: {of['texts']:,} texts, {of['items']:,} items"
        for row in of["rows"]:
            line = {"test set": there, "model": row["model"], "practice": row["practice"]}
            usual = row["practice"].endswith(inflation.HONEST)
            for way, words in WAYS.items():
                line[f"{words} R@1"] = WITH_INTERVAL.format(*row["R@1"][way])
                line[f"{words}: adds"] = "–" if usual else points_of(row["difference"][way])
            lines.append(line)
        for epochs in inflation.EPOCHS if of["epochs"] else ():
            if not of["epochs"].get(str(epochs)):
                cells = (f"the epoch out of {epochs} chosen on test", *[NOT_MEASURED] * 4)
                keys = [*lines[-1]][2:]
                lines.append(lines[-1] | {"model": OURS} | dict(zip(keys, cells, strict=True)))
    return markdown(lines)


def repeated(found: Findings) -> str:
    """Return which clear differences of the first family repeat in the second world."""
    tested = by_dataset(read_rows(found.results / SECOND / "methods"))
    first = found.planned.get("first", {})
    planned = {name: first[name] for name in tested if name in first}
    again = Findings(found.results, tested, planned={"first": planned})
    lines = []
    for (name, method, way), second in again.verdicts.items():
        before = found.verdict(name, method, way)
        asked = before.word.startswith("clearly") and not second.blank
        same = "yes" if before.word == second.word else "no"
        lines.append(
            {
                "ours minus": method,
                "way": WAYS[way],
                "first world": before.text,
                "second world": second.text,
                "repeats": same if asked else "–",
            }
        )
    return markdown(lines)


MADE = {
    "first": first,
    "summary": summary,
    "differences": differences,
    "ndcg": ndcg,
    "graded": by_grades,
    "further": further,
    "curves": curves,
    "places": places,
    "parts": shared_out,
    "forgotten": forgotten,
    "inflated": inflated,
    "repeated": repeated,
}
