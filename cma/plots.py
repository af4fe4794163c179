"""Figures for the notebooks: each function draws one, from plain data, and returns it."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from .model import RetrievalModel

warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a file name may be in any script

BLUE, ORANGE, GREY = "#3b6ea5", "#d9822b", "#9aa0a6"
COLOURS = (GREY, BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b04a4a")


def image_grid(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int = 5,
    size: float = 1.6,
    marked: Sequence[bool] | None = None,
) -> Figure:
    """Pictures with a caption below each; `marked` ones have a frame. `size` in inches a picture."""
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: expected as many of each")
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size * 1.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image, caption) in enumerate(zip(axes.flat, images, captions, strict=False)):
        axis.axis("on")
        axis.imshow(image)
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel("\n".join(textwrap.wrap(caption, 22)[:3]), fontsize=7)
        for spine in axis.spines.values():
            spine.set(visible=bool(marked and marked[i]), color=ORANGE, linewidth=3)
    figure.tight_layout()
    return figure


def training_curve(record: object) -> Figure:
    """Loss and learning rate at each step, and R@1 (%) on the watched split after each epoch.

    record: what `cma.train` returns; its `history`, `selected_epoch`, `select_on` and `label` are used.
    """
    points = [point for entry in record.history for point in entry["curve"]]
    watched = [entry for entry in record.history if "validation" in entry]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    left.plot([p[0] for p in points], [p[1] for p in points], color=BLUE)
    left.set(xlabel="step", ylabel="loss")
    rates = left.twinx()
    rates.plot([p[0] for p in points], [p[2] for p in points], color=GREY, linewidth=1, linestyle=":")
    rates.set_ylabel("rate (dotted)", color=GREY)
    ways = (("text_to_visual", "text → visual", BLUE), ("visual_to_text", "visual → text", ORANGE))
    for direction, label, colour in ways if watched else ():
        epochs = [entry["epoch"] for entry in watched]
        right.plot(
            epochs,
            [entry["validation"][direction]["R@1"] for entry in watched],
            "o-",
            color=colour,
            label=label,
        )
    if watched:
        right.legend(fontsize=8)
        if record.selected_epoch:
            right.axvline(record.selected_epoch, color=GREY, linewidth=1)
    split = watched[0]["validation"]["split"] if watched else "no validation split"
    label = f" {record.label}" if record.select_on == "test" else ""
    right.set(xlabel="epoch (line: kept)", ylabel="R@1 in %")
    right.set_title(split + label, fontsize=8)
    right.xaxis.get_major_locator().set_params(integer=True)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.18, top=0.9, wspace=0.55)
    return figure


def recall_bars(results: Mapping[str, dict], direction: str = "text_to_visual") -> Figure:
    """R@1, R@5 and R@10 in % of several models, from `evaluate`'s dicts by label, with 95 % intervals."""
    keys = ("R@1", "R@5", "R@10")
    width = 0.8 / len(results)
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for i, (label, found) in enumerate(results.items()):
        heights = [found[direction][key] for key in keys]
        places = [x + (i - (len(results) - 1) / 2) * width for x in range(len(keys))]
        bars = axis.bar(places, heights, width, label=label, color=COLOURS[i % len(COLOURS)])
        intervals = found.get("intervals", {}).get(direction)
        if intervals:
            low = [height - intervals[key][0] for key, height in zip(keys, heights, strict=True)]
            high = [intervals[key][1] - height for key, height in zip(keys, heights, strict=True)]
            axis.errorbar(places, heights, [low, high], fmt="none", ecolor="black", capsize=2, linewidth=1)
        axis.bar_label(bars, fmt="%.1f", fontsize=6, label_type="center", color="white")
    axis.set(
        xticks=range(len(keys)), xticklabels=keys, ylabel="recall in %", title=direction.replace("_", " ")
    )
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def parameter_share(model: RetrievalModel) -> Figure:
    """Where the trained parameters sit: the frozen towers against the active adapter, and its parts."""
    adapters = model.adapters[model.active]
    count = {
        "vision tower": _numel(model.clip.vision_model) + _numel(model.clip.visual_projection),
        "text tower": _numel(model.clip.text_model) + _numel(model.clip.text_projection),
    }
    parts = {
        "vision's own": _numel(adapters.vision),
        "text's own": _numel(adapters.text),
        "shared": adapters.shared_weight.numel() + adapters.shared_bias.numel(),
    }
    trained, frozen = sum(parts.values()), _numel(model.clip)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4))
    _bars(left, count | {"adapter": trained}, [GREY, GREY, ORANGE])
    left.set_title(
        f"trained: {trained:,} of {frozen + trained:,} ({100 * trained / (frozen + trained):.3f} %)",
        fontsize=9,
    )
    _bars(right, parts, [BLUE, BLUE, ORANGE])
    right.set_title("inside the adapter", fontsize=9)
    figure.tight_layout()
    return figure


def frame_weights(weights: Sequence[float], frames: Sequence[Image.Image] = (), title: str = "") -> Figure:
    """One query's weight on every frame of a clip (text-conditioned pooling), the frames below if given."""
    rows = 2 if len(frames) else 1
    width = max(4.0, 0.7 * len(weights))
    figure = plt.figure(figsize=(width, 1.6 + 0.9 * (rows - 1)))
    grid = figure.add_gridspec(rows, len(weights), height_ratios=[2, 1][:rows], hspace=0.4)
    axis = figure.add_subplot(grid[0, :])
    axis.bar(range(len(weights)), weights, color=BLUE)
    axis.axhline(1 / len(weights), color=GREY, linewidth=1, linestyle=":")
    axis.set(xlim=(-0.5, len(weights) - 0.5), ylabel="weight")
    axis.set_xticks(range(len(weights)), range(1, len(weights) + 1))  # the first frame is frame 1
    axis.set_title(textwrap.shorten(title, 80), fontsize=9)
    for i, frame in enumerate(frames):
        below = figure.add_subplot(grid[1, i])
        below.imshow(frame)
        below.axis("off")
    return figure


def live_curve() -> Callable[[object], None]:
    """An `on_epoch` for `cma.train` that keeps one training curve up to date below the notebook's cell."""
    from IPython.display import display  # only notebooks have it

    handle = display(display_id=True)

    def show(record: object) -> None:
        figure = training_curve(record)
        handle.update(figure)
        plt.close(figure)

    return show


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and close the figure."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=100)
    temporary.replace(path)
    plt.close(figure)


def _bars(axis: plt.Axes, counts: dict[str, int], colours: list[str]) -> None:
    bars = axis.barh(list(counts), list(counts.values()), color=colours)
    axis.bar_label(bars, [f"{value:,}" for value in counts.values()], fontsize=7, padding=2)
    axis.set_xlim(0, max(counts.values()) * 1.35)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.set_xticks([])


def _numel(module: object) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
