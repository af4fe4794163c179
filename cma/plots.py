"""Figures for the notebooks, each from plain data; they need matplotlib, of the extra `notebooks`."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from . import require
from .files import replacing
from .model import RetrievalModel

require("notebooks", "matplotlib")
import matplotlib.pyplot as plt  # noqa: E402 (after the check)
from matplotlib.figure import Figure  # noqa: E402

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
    """Pictures with a caption below each; `marked` ones have a frame. size: of a picture, in inches."""
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: expected one for each")
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size * 1.3), squeeze=False)
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    for i, (axis, image, caption) in enumerate(zip(axes.flat, images, captions, strict=False)):
        axis.imshow(image)
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel("\n".join(textwrap.wrap(caption, 22)[:3]), fontsize=7)
        for spine in axis.spines.values():
            spine.set(visible=bool(marked and marked[i]), color=ORANGE, linewidth=3)
    figure.tight_layout()
    return figure


def training_curve(record: object) -> Figure:
    """Loss and learning rate by step, and R@1 (%) by epoch, of a run's `cma.training.RunRecord`."""
    points = [point for entry in record.history for point in entry["curve"]]
    steps, losses, rates = zip(*points, strict=True) if points else ((), (), ())
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    left.plot(steps, losses, color=BLUE)
    left.set(xlabel="step", ylabel="loss")
    second = left.twinx()
    second.plot(steps, rates, color=GREY, linewidth=1, linestyle=":")
    second.set_ylabel("rate (dotted)", color=GREY)
    watched = {entry["epoch"]: entry["validation"] for entry in record.history if "validation" in entry}
    if watched:
        for (direction, label), colour in zip(_directions(record.kind).items(), (BLUE, ORANGE), strict=True):
            recalls = [result[direction]["R@1"] for result in watched.values()]
            right.plot(list(watched), recalls, "o-", color=colour, label=label)
        right.legend(fontsize=8)
        if record.selected_epoch:
            right.axvline(record.selected_epoch, color=GREY, linewidth=1)
    split = next((result["split"] for result in watched.values()), "no validation split")
    right.set(xlabel="epoch (line: kept)", ylabel="R@1 in %")
    right.set_title(f"{split} {record.label}" if record.select_on == "test" else split, fontsize=8)
    right.xaxis.get_major_locator().set_params(integer=True)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.18, top=0.9, wspace=0.55)
    return figure


def recall_bars(
    results: Mapping[str, dict], direction: str = "text_to_visual", kind: str = "visual"
) -> Figure:
    """R@1, R@5 and R@10 in % of several models, from `evaluate`'s dicts by label, with 95 % intervals.

    direction: "text_to_visual" or "visual_to_text"; kind: "image" or "video", for the title.
    """
    keys, width = ("R@1", "R@5", "R@10"), 0.8 / len(results)
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    for i, (label, result) in enumerate(results.items()):
        heights = [result[direction][key] for key in keys]
        places = [x + (i - (len(results) - 1) / 2) * width for x in range(len(keys))]
        bars = axis.bar(places, heights, width, label=label, color=COLOURS[i % len(COLOURS)])
        if intervals := result.get("intervals", {}).get(direction):
            ends = [(h - intervals[k][0], intervals[k][1] - h) for k, h in zip(keys, heights, strict=True)]
            errors = list(zip(*ends, strict=True))
            axis.errorbar(places, heights, errors, fmt="none", ecolor="black", capsize=2, linewidth=1)
        axis.bar_label(bars, fmt="%.1f", fontsize=6, label_type="center", color="white")
    axis.set(xticks=range(len(keys)), xticklabels=keys, ylabel="recall in %")
    axis.set_title(_directions(kind)[direction])
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def parameter_share(model: RetrievalModel) -> Figure:
    """How many parameters the frozen towers and the active adapter have, and each part of the adapter."""
    adapters, clip = model.get_adapter(model.active), model.clip
    trained = _numel(adapters)
    parts = {"vision's own": _numel(adapters.vision), "text's own": _numel(adapters.text)}
    parts["shared"] = trained - sum(parts.values())
    towers = {
        "vision tower": _numel(clip.vision_model) + _numel(clip.visual_projection),
        "text tower": _numel(clip.text_model) + _numel(clip.text_projection),
        "adapter": trained,
    }
    total = _numel(clip) + trained
    title = f"trained: {trained:,} of {total:,} ({100 * trained / total:.3f} %)"
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4))
    panels = ((left, towers, GREY, title), (right, parts, BLUE, "inside the adapter"))
    for axis, counts, colour, said in panels:
        bars = axis.barh(list(counts), list(counts.values()), color=[colour, colour, ORANGE])
        axis.bar_label(bars, [f"{value:,}" for value in counts.values()], fontsize=7, padding=2)
        axis.set(xlim=(0, max(counts.values()) * 1.35), xticks=[])
        axis.set_title(said, fontsize=9)
        axis.invert_yaxis()
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    return figure


def frame_weights(weights: Sequence[float], frames: Sequence[Image.Image] = (), title: str = "") -> Figure:
    """The weight that a text gives to every frame of a clip, with the frames below if they are given."""
    count, numbers = len(weights), range(1, len(weights) + 1)
    rows = [["weights"] * count, [*numbers]] if len(frames) else [["weights"] * count]
    size, ratios = (max(4.0, 0.7 * count), 0.7 + 0.9 * len(rows)), [2, 1][: len(rows)]
    figure, axes = plt.subplot_mosaic(rows, figsize=size, height_ratios=ratios, gridspec_kw={"hspace": 0.4})
    axis = axes["weights"]
    axis.bar(numbers, weights, color=BLUE)
    axis.axhline(1 / count, color=GREY, linewidth=1, linestyle=":")
    axis.set(xlim=(0.5, count + 0.5), xticks=numbers, ylabel="weight")
    axis.set_title(textwrap.shorten(title, 80), fontsize=9)
    for number, frame in zip(numbers, frames, strict=False):
        axes[number].imshow(frame)
        axes[number].axis("off")
    return figure


def folded(answer: str) -> object:
    """An answer in Markdown that a notebook shows at a click, for "predict first"."""
    from IPython.display import Markdown  # only notebooks have it

    return Markdown(f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and close the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


def _directions(kind: str) -> dict[str, str]:
    return {"text_to_visual": f"text-to-{kind}", "visual_to_text": f"{kind}-to-text"}


def _numel(module: object) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
