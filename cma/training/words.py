"""What a run says and draws: its lines for people, and the curve of its record."""

from __future__ import annotations

import logging

from .record import RunRecord

logger = logging.getLogger(__name__)


def found(record: RunRecord, expected: int | None) -> str:
    """Return two lines: the items of the train split, and what an epoch counts."""
    published = "" if expected is None else f" / {expected:,} expected"
    items = record.train_items + record.held_out_items
    return (
        f"{record.dataset} train: {items:,} items found{published}, "
        f"{record.held_out_items:,} held out\n{record.epoch_counts}"
    )


def sentence(metrics: dict, record: RunRecord) -> str:
    """Return one line about an evaluation: R@1 both ways, with intervals if there are any."""
    recalls = []
    names = {"text_to_visual": f"text-to-{record.kind}", "visual_to_text": f"{record.kind}-to-text"}
    for direction, name in names.items():
        drawn = metrics["intervals"].get(direction)
        interval = " [{:.1f}, {:.1f}]".format(*drawn["R@1"]) if drawn else ""
        recalls.append(f"{name} {metrics[direction]['R@1']:.1f}{interval}")
    split = metrics["split"] + (f" {record.label}" if record.select_on == "test" else "")
    counts = f"({metrics['texts']:,} texts, {metrics['items']:,} items)"
    return f"{split} R@1 in %: {', '.join(recalls)} {counts}"


def draw_curve(record: RunRecord) -> None:
    """Write `curve.png` into the record's folder; without matplotlib log one line instead."""
    try:
        from ..plots import save, training_curve
    except ImportError as error:
        logger.info(f"{record.folder}: no curve.png is drawn ({error})")
    else:
        save(training_curve(record), record.folder / "curve.png")
