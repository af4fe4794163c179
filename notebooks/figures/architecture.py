"""The figure of README and of notebook 02: where the adapter sits in CLIP, and what is shared.

    python notebooks/figures/architecture.py    # writes architecture.png beside this file

Places and sizes are in pixels of a picture that is 800 wide; the file has twice as many pixels each
way.
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from cma import files
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import BLUE

WIDTH, HEIGHT = 800, 528
INCH = 50  # pixels
POINT = INCH / 72  # pixels
TEXT, SMALL = 12.5 / POINT, 11.5 / POINT
DARK, BROWN = "#33383d", "#8a4a0c"
FROZEN = {"facecolor": "#f1f2f3", "edgecolor": "#7a8087", "linewidth": 1.6}
OWN = {"facecolor": "#c5dcf3", "edgecolor": BLUE, "linewidth": 2.6}
# visible in grey too
SHARED = {"facecolor": "#f6bf83", "edgecolor": BROWN, "linewidth": 2.6, "hatch": "//"}
PLAIN = {"facecolor": "white", "edgecolor": DARK, "linewidth": 1.6}
EQUATION = r"$z + [\;own(h) \;\|\; shared(h)\;], \quad h = act(down(z))$"


def architecture() -> Figure:
    """Draw two frozen encoders, a layer of each with its adapters, and one adapter enlarged (paper,
    Fig. 2).

    Sizes are those of CLIP ViT-B/32 and of the default `AdapterConfig`.
    """
    figure = plt.figure(figsize=(WIDTH / INCH, HEIGHT / INCH))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axis.axis("off")
    _encoder(axis, 95, -1, "vision encoder", "image or frame, in patches")
    _encoder(axis, 705, 1, "text encoder", "caption, in tokens")
    axis.add_patch(Rectangle((190, 66), 420, 384, facecolor="white", edgecolor=DARK, linewidth=1.6))
    _text(axis, 400, 430, "the adapter, at one of 24 sites", weight="bold")
    _text(axis, 400, 402, EQUATION)
    _bottleneck(axis, 284, -1, 768)
    _bottleneck(axis, 516, 1, 512)
    _shared_slice(axis)
    _cosine(axis)
    _legend(axis)
    return figure


def _encoder(axis: Axes, x: float, side: int, title: str, entry: str) -> None:
    """Draw a tower, bottom to top: a layer with two adapters, CLIP's projection; `side` points
    outwards.
    """
    _text(axis, x, 22, title, weight="bold")
    _text(axis, x, 44, entry, SMALL)
    axis.add_patch(
        FancyBboxPatch((x - 83, 66), 166, 306, "round,pad=0,rounding_size=8", **PLAIN | {"linestyle": "--"})
    )
    _text(axis, x - side * 56, 357, "× 12")
    adapter = x - side * 56  # the inner edge of the first adapter: the enlargement starts here
    corners = [(adapter, 156), (adapter, 182), (400 + side * 210, 450), (400 + side * 210, 66)]
    axis.add_patch(Polygon(corners, facecolor="#d3e3f4", alpha=0.45, edgecolor="none"))
    for y, sublayer in ((78, "attention"), (222, "MLP")):
        _arrow(axis, (x, y - 22), (x, y))
        _box(axis, x, y + 11, 112, 22, "LN", FROZEN)
        _arrow(axis, (x, y + 22), (x, y + 36))
        _box(axis, x, y + 49, 112, 26, sublayer, FROZEN)
        _arrow(axis, (x, y + 62), (x, y + 78))
        _box(axis, x, y + 91, 112, 26, "adapter", OWN)
        _arrow(axis, (x, y + 104), (x, y + 114))
        _arrow(
            axis,
            (x, y - 7),
            (x + side * 72, y - 7),
            (x + side * 72, y + 122),
            (x + side * 8, y + 122),
        )
        _plus(axis, x, y + 122)
    _arrow(axis, (x, 352), (x, 394))
    _box(axis, x, 407, 112, 26, "projection", FROZEN)


def _bottleneck(axis: Axes, x: float, side: int, width: int) -> None:
    """Draw an encoder's adapter, bottom to top: z, down, activation, h, its own up, and z added
    again.
    """
    _box(axis, x, 92, 112, 22, f"z   {width}", PLAIN)
    _arrow(axis, (x, 103), (x, 120))
    _trapezoid(axis, x, 120, 112, 74, f"down\n{width} → 8", OWN)
    _arrow(axis, (x, 160), (x, 176))
    _box(axis, x, 187, 94, 22, "quick_gelu", PLAIN)
    _arrow(axis, (x, 198), (x, 214))
    _box(axis, x, 225, 46, 22, "h   8", PLAIN)
    _arrow(axis, (x, 236), (x, 258))
    _trapezoid(axis, x, 258, 74, 112, f"own up\n8 → {width - 16}", OWN)
    _box(axis, x - 15, 335, 82, 22, f"{width - 16}", OWN)
    _box(axis, x + 41, 335, 30, 22, "16", SHARED)
    _arrow(axis, (x - 15, 298), (x - 15, 324))
    outside = x + side * 76
    _arrow(axis, (x + side * 56, 92), (outside, 92), (outside, 327))
    _arrow(axis, (x + side * 56, 335), (outside - side * 8, 335))
    _arrow(axis, (outside, 343), (outside, 380))
    _plus(axis, outside, 335)


def _shared_slice(axis: Axes) -> None:
    """Draw the one up-projection that both encoders use, with arrows from and to both."""
    _arrow(axis, (307, 225), (388, 225), (388, 258), color=BROWN)
    _arrow(axis, (493, 225), (412, 225), (412, 258), color=BROWN)
    _trapezoid(axis, 400, 258, 68, 92, "shared up\n8 → 16", SHARED)
    _arrow(axis, (388, 298), (388, 364), (325, 364), (325, 346), color=BROWN)
    _arrow(axis, (412, 298), (412, 364), (557, 364), (557, 346), color=BROWN)
    _text(axis, 400, 150, "the same weights,\ntrained by both;\nno data crosses", SMALL)


def _cosine(axis: Axes) -> None:
    """Draw the cosine, the only place where the two streams meet."""
    _box(axis, 400, 494, 92, 32, "cosine", PLAIN)
    for x, edge, words in (
        (95, 354, "512 numbers an image or frame"),
        (705, 446, "512 numbers a caption"),
    ):
        _arrow(axis, (x, 420), (x, 494), (edge, 494))
        _text(axis, (x + edge) / 2, 507, words, SMALL)


def _legend(axis: Axes) -> None:
    for x, style, words in (
        (208, FROZEN, "frozen CLIP"),
        (330, OWN, "trained, own"),
        (452, SHARED, "trained, shared by both"),
    ):
        _box(axis, x, 44, 20, 14, "", style)
        axis.text(x + 16, 44, words, ha="left", va="center", fontsize=SMALL)
    _text(axis, 400, 20, "519,168 trained parameters, 0.34 % of CLIP ViT-B/32", SMALL)


def _box(axis: Axes, x: float, y: float, width: float, height: float, words: str, style: dict) -> None:
    axis.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, **style))
    _label(axis, x, y, words, style)


def _trapezoid(axis: Axes, x: float, y: float, low: float, high: float, words: str, style: dict) -> None:
    """Draw a projection, 40 high with its base at `y`; its sides show how the width changes."""
    corners = [(x - low / 2, y), (x + low / 2, y), (x + high / 2, y + 40), (x - high / 2, y + 40)]
    axis.add_patch(Polygon(corners, **style))
    _label(axis, x, y + 20, words, style)


def _label(axis: Axes, x: float, y: float, words: str, style: dict) -> None:
    """Write words inside a shape, on a plain background if the shape is hatched."""
    ground = {"facecolor": style["facecolor"], "edgecolor": "none", "pad": 1.5} if "hatch" in style else None
    axis.text(x, y, words, ha="center", va="center", fontsize=SMALL, linespacing=1.15, bbox=ground)


def _text(axis: Axes, x: float, y: float, words: str, size: float = TEXT, weight: str = "normal") -> None:
    axis.text(x, y, words, ha="center", va="center", fontsize=size, weight=weight)


def _plus(axis: Axes, x: float, y: float) -> None:
    axis.add_patch(Circle((x, y), 8, zorder=3, **PLAIN))
    for across, along in (((x - 5, x + 5), (y, y)), ((x, x), (y - 5, y + 5))):
        axis.plot(across, along, color=DARK, linewidth=1.6, zorder=4)


def _arrow(axis: Axes, *points: tuple[float, float], color: str = DARK) -> None:
    """Draw a line through `points` with an arrowhead at the last one."""
    axis.plot(*zip(*points, strict=True), color=color, linewidth=2, solid_joinstyle="miter")
    style = {"arrowstyle": "-|>,head_length=0.5,head_width=0.25", "color": color, "linewidth": 2}
    axis.annotate("", points[-1], points[-2], arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def write(figure: Figure, path: Path) -> None:
    """Write a PNG of 64 colours, which takes a third of the bytes, and close the figure."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    plt.close(figure)
    with files.replacing(path) as temporary:
        Image.open(drawn).convert("RGB").quantize(64).save(temporary, format="png", optimize=True)


if __name__ == "__main__":
    write(architecture(), Path(__file__).with_suffix(".png"))
