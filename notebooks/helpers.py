"""Figures and exercises for the notebooks, from plain data; needs the extra `notebooks`."""

import logging
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from . import require
from .files import replacing

require("notebooks", "matplotlib")
import matplotlib.pyplot as plt  # noqa: E402 (after the check)
from matplotlib.figure import Figure  # noqa: E402

log = logging.getLogger(__name__)
BLUE = "#3b6ea5"
ORANGE = "#d9822b"
GREY = "#9aa0a6"
COLOURS = (GREY, BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b04a4a")


def image_grid(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int = 5,
    size: float = 1.6,
    marked: Sequence[bool] | None = None,
) -> Figure:
    """Draw pictures with captions, `marked` ones framed; size: of one, in inches."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * size * 1.6), squeeze=False
    )
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    pairs = zip(images, captions, strict=True)
    for i, (axis, (image, text)) in enumerate(zip(axes.flat, pairs, strict=False)):
        axis.imshow(image)
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(
            textwrap.fill(text, 20, max_lines=4, placeholder=" …"), fontsize=9, parse_math=False
        )
        for spine in axis.spines.values():
            spine.set(visible=bool(marked and marked[i]), color=ORANGE, linewidth=3)
    figure.tight_layout()
    return figure


def training_curve(record: object) -> Figure:
    """Plot loss and rate by step, and R@1 (%) by epoch, of a `cma.training.RunRecord`."""
    points = [point for entry in record.history for point in entry["curve"]]
    steps, losses, rates = zip(*points, strict=True) if points else ((), (), ())
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    left.plot(steps, losses, color=BLUE)
    left.set(xlabel="step", ylabel="loss")
    second = left.twinx()
    second.plot(steps, rates, color=GREY, linewidth=1, linestyle=":")
    second.set_ylabel("rate (dotted)", color=GREY)
    watched = {
        entry["epoch"]: entry["validation"] for entry in record.history if "validation" in entry
    }
    if watched:
        for direction, colour in (("text_to_visual", BLUE), ("visual_to_text", ORANGE)):
            recalls = [result[direction]["R@1"] for result in watched.values()]
            label = direction.replace("visual", record.kind).replace("_", "-")
            right.plot(list(watched), recalls, "o-", color=colour, label=label)
        right.legend(fontsize=9)
        if record.selected_epoch:
            right.axvline(record.selected_epoch, color=GREY, linewidth=1)
    split = next((result["split"] for result in watched.values()), "no epoch was validated")
    right.set(xlabel="epoch (line: kept)", ylabel="R@1 in %")
    right.set_title(f"{split} {record.label}" if record.select_on == "test" else split, fontsize=9)
    right.xaxis.get_major_locator().set_params(integer=True)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.18, top=0.9, wspace=0.55)
    return figure


def folded(answer: str) -> object:
    """Return an answer in Markdown that a notebook shows only after a click."""
    from IPython.display import Markdown  # only notebooks have it

    return Markdown(f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>")


def checked(yours: Callable, ours: Callable, *cases: tuple) -> Callable:
    """Return the function that an exercise goes on with: `yours` if it is right, else `ours`.

    It is right if it gives the same for every case, a tuple of arguments. Says which, and why.
    """
    import torch

    for number, case in enumerate(cases, start=1):
        result = yours(*case)
        wanted = ours(*case)
        if result is None or result is ...:
            log.info("not filled in yet: going on with cma's own function")
            return ours
        try:
            torch.testing.assert_close(
                torch.as_tensor(result), torch.as_tensor(wanted), check_dtype=False
            )
        except AssertionError as error:
            said = f"case {number} of {len(cases)} differs"
            log.info(f"{said}, so we go on with cma's own function: {error}")
            return ours
    log.info(f"right, in all {len(cases)} cases")
    return yours


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all, and close the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
