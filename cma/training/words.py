"""The lines that a run prints, and the curve of its record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import require
from ..files import replacing
from ..metrics import verdict
from .record import RunRecord
from .splits import FEW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 100  # every curve in results/curves has more
HARDLY = 0.9  # a loss above this share of the first one has hardly fallen
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


def helped(record: RunRecord) -> str:
    """Return one line: zero-shot R@1, the adapter's gain and, without one, a likely reason."""
    found = record.metrics["text_to_visual"]["R@1"]
    before = found - record.gain[0]
    result = f"zero-shot {before:.1f}, with the adapter {found:.1f}: {verdict(record.gain)}"
    line = f"{record.metrics['split']} text-to-{record.kind} R@1 in %: {result}"
    if record.gain[1] > 0:
        return line
    return f"{line}; not clearly better than without: {likely_cause(record)}"


def likely_cause(record: RunRecord) -> str:
    """Return why a run may have gained nothing, and what to try."""
    losses = [loss for entry in record.history for _, loss, _ in entry["curve"]]
    fitted = losses[-1] / losses[0] if losses else 1.0
    few = f"cma.recipes.recipe(dataset).train_config(items={record.train_items})"
    if record.gain[2] < 0 and fitted > 1:
        return f"the loss rose, so the rate ({record.config['lr']:g}) is too high"
    if record.total_steps < STEPS:
        return (
            f"only {record.total_steps:,} steps of {record.config['batch_size']} pairs at most; "
            f"{few} gives more"
        )
    if fitted > HARDLY:
        rate = record.config["lr"]
        return f"the loss hardly fell ({losses[0]:.2f} to {losses[-1]:.2f}), so lr={rate:g} is low"
    if record.metrics["items"] < FEW:
        return (
            f"{record.metrics['items']} {record.metrics['split']} items are too few to tell; "
            f"expected {FEW} or more"
        )
    return (
        f"it fits its own {record.train_items:,} items (loss {losses[-1]:.2f}), but not others: "
        "more captioned items might help; docs/own-captions.md says what 100 to 2,000 gained"
    )


def training_curve(record: RunRecord) -> Figure:
    """Plot loss and rate by step, and R@1 (%) by epoch, of a run.

    Raises ImportError without matplotlib.
    """
    require("notebooks", "matplotlib")
    import matplotlib.pyplot as plt

    points = [point for entry in record.history for point in entry["curve"]]
    steps, losses, rates = zip(*points, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    left.plot(steps, losses)
    left.set(xlabel="step", ylabel="loss")
    second = left.twinx()
    second.plot(steps, rates, color="grey", linestyle=":")
    second.set_ylabel("rate (dotted)")
    watched = [entry for entry in record.history if "validation" in entry]
    epochs = [entry["epoch"] for entry in watched]
    for direction in ("text_to_visual", "visual_to_text") if watched else ():
        recalls = [entry["validation"][direction]["R@1"] for entry in watched]
        label = direction.replace("visual", record.kind).replace("_", "-")
        right.plot(epochs, recalls, "o-", label=label)
    if watched:
        right.legend()
        right.axvline(record.selected_epoch, color="grey")
    split = watched[0]["validation"]["split"] if watched else "no epoch was validated"
    title = f"{split} {record.label}" if record.select_on == "test" else split
    right.set(xlabel="epoch (line: kept)", ylabel="R@1 in %", title=title)
    right.locator_params(axis="x", integer=True)
    return figure


def draw_curve(record: RunRecord) -> None:
    """Write `curve.png` into the record's folder; without matplotlib log one line instead."""
    try:
        figure = training_curve(record)
    except ImportError as error:
        logger.info(f"{record.folder}: no curve.png is drawn ({error})")
        return
    from matplotlib.pyplot import close

    with replacing(record.folder / "curve.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    close(figure)
