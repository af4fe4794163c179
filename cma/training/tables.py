"""The lines of the results tables: runs grouped by seed, as Markdown, beside published numbers, as CSV."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Sequence

from ..config import NO_EFFECT
from ..recipes import VARIANTS
from . import published
from .record import RunRecord
from .rows import DIRECTIONS

RECALLS = ("R@1", "R@5", "R@10")
HEADER = (
    "dataset", "method", "trained", f"T2I / T2V {' · '.join(RECALLS)}", f"I2T / V2T {' · '.join(RECALLS)}",
    "N", "epoch kept", "recipe", "seed", "seconds", "hardware", "commit",
)  # fmt: skip
Group = list[RunRecord]  # runs that differ in their seed alone


def table(records: Sequence[RunRecord]) -> str:
    """A markdown table: recalls in % with their 95 % interval, and how each was made.

    Runs that differ in their seed alone are one line: their mean, with the mean of their intervals, which is
    an interval over items; seeds are not drawn again. Raises ValueError that names a record whose metrics or
    config are not those of a run.
    """
    lines = [HEADER, ["---"] * len(HEADER), *(_named(_row, group) for group in by_seed(records))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside_published(records: Sequence[RunRecord], rows: Sequence[published.PublishedRow]) -> str:
    """A markdown table of published rows, with our results beside them; see `published.beside`."""
    ours: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for group in by_seed(records):
        cells = _named(_row, group)
        how = f"{cells[1]}: {cells[2]} trained; {'; '.join(cells[5:])}"
        ours.setdefault((group[0].dataset, group[0].method.lower()), []).append((cells[3], cells[4], how))
    return published.beside(rows, ours)


def by_seed(records: Sequence[RunRecord]) -> list[Group]:
    """Runs of one method on one dataset with the same settings, whatever their seeds, in the given order."""
    groups: dict[str, Group] = {}
    for record in records:
        settings = {key: value for key, value in record.config.items() if key not in (*NO_EFFECT, "seed")}
        same = [getattr(record, name) for name in ("dataset", "method", "backbone", "adapter", "select_on")]
        counts = [record.metrics.get(name) for name in ("split", "texts", "items")]
        key = json.dumps([settings, same, counts, _other_settings(record)], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def recipe_of(record: RunRecord) -> str:
    """Whose arithmetic, optimiser and choice of epoch a run has (of `VARIANTS`); untrained: its precision."""
    names = ("paper", "bf16") if record.selected_epoch else ()
    fits = (name for name in names if VARIANTS[name].items() <= record.config.items())
    return next(fits, record.config.get("precision", "float32"))


def as_csv(records: Sequence[RunRecord], rows: Sequence[published.PublishedRow]) -> str:
    """Every number: a line for each run, for each mean over seeds, and for what was published."""
    lines: list[dict] = []
    for group in by_seed(records):
        lines += [_named(_flat, [record]) for record in group]
        lines += [_named(_flat, group)] if len(group) > 1 else []
    lines += [row.flat() for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().replace("\r\n", "\n")


def _named(make: Callable, group: Group):
    """make(group), with the name of the record in the error if its metrics or config are not a run's."""
    try:
        return make(group)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        record = group[0]
        raise ValueError(f"{record.folder}: {record.name}: no metrics of a run ({error!r})") from error


def _row(group: Group) -> list[str]:
    record, found = group[0], group[0].metrics
    expected = found.get("expected_items")
    items = f"{found['items']:,}" + (f" of {expected:,}" if expected not in (None, found["items"]) else "")
    split = "" if found["split"] == "test" else f" on {found['split']}"
    others = _other_settings(record)
    how = (f" ({others})" if others else "") + (f" {record.label}" if record.select_on == "test" else "")
    share = f" ({record.trained_percent:.2f} %)" if record.trained_parameters else ""
    epochs = ", ".join(str(run.selected_epoch) for run in group)
    gpus = [run.hardware.get("gpu") or f"{run.hardware.get('threads', '?')} CPU threads" for run in group]
    seconds = statistics.mean(run.seconds for run in group)
    return [
        record.dataset,
        f"{record.method}{split}{how}",
        f"{record.trained_parameters:,}{share}",
        *(_recalls(group, way) for way in DIRECTIONS),
        f"{found['texts']:,} texts, {items} items",
        f"{epochs} of {record.config['epochs']}, {record.label}" if record.selected_epoch else "–",
        recipe_of(record),
        ", ".join(str(run.seed) for run in group),
        f"{seconds:,.0f}" if seconds else "–",
        ", ".join(dict.fromkeys(gpus)),
        ", ".join(dict.fromkeys(run.commit or "–" for run in group)),
    ]


def _recalls(group: Group, way: str) -> str:
    """`23.7 [20.1, 27.3] · 45.0 [..] · 66.6 [..]`."""
    parts = []
    for key in RECALLS:
        ends = _interval(group, way, key)
        between = f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""
        parts.append(f"{statistics.mean(run.metrics[way][key] for run in group):.1f}{between}")
    return " · ".join(parts)


def _interval(group: Group, way: str, key: str) -> list[float]:
    ends = [run.metrics.get("intervals", {}).get(way, {}).get(key) for run in group]
    return [statistics.mean(side) for side in zip(*ends, strict=True)] if all(ends) else []


def _flat(group: Group) -> dict:
    """The cells of a line of the CSV."""
    record, cells = group[0], _row(group)
    line = {"whose": "ours", "dataset": record.dataset, "method": record.method}
    line |= {"backbone": record.backbone.get("name"), "settings": _other_settings(record)}
    line |= {"seed": cells[8], "runs": len(group), "trained_millions": record.trained_parameters / 1e6}
    line["mR"] = round(statistics.mean(run.metrics["mR"] for run in group), 4)
    for way in DIRECTIONS:
        for key in (*RECALLS, "MdR", "MnR"):
            line[f"{way} {key}"] = round(statistics.mean(run.metrics[way][key] for run in group), 4)
            for end, value in zip(("low", "high"), _interval(group, way, key), strict=False):
                line[f"{way} {key} {end}"] = round(value, 4)
    line |= {name: record.metrics.get(name) for name in ("split", "texts", "items", "expected_items")}
    line |= {"epoch kept": cells[6], "recipe": cells[7], "seconds": cells[9], "hardware": cells[10]}
    return line | {"peak_memory_gib": record.peak_memory_gib, "commit": cells[11]}


def _other_settings(record: RunRecord) -> str:
    """The settings in a run's name that are not its recipe's; the seed has a column of its own."""
    given = record.name.partition(",")[2].split(",")
    usual = {f"{key}={value}" for key, value in VARIANTS.get(recipe_of(record), {}).items()}
    return ",".join(part for part in given if part not in usual and not part.startswith("seed="))
