"""Every figure draws what it is given; pictures are not compared."""

import importlib
import sys
from types import SimpleNamespace

import matplotlib
import pytest
from PIL import Image

matplotlib.use("Agg")

from cma import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plots.plt.close("all")


def record(select_on: str = "val") -> SimpleNamespace:
    """What a figure needs of a run's record of two epochs; "last" has no validation."""
    history = []
    for epoch in (1, 2):
        curve = [[2 * epoch - 1, 3.0 - epoch, 1e-3], [2 * epoch, 2.5 - epoch, 5e-4]]
        recall = {"R@1": 10.0 * epoch}
        validation = {"split": "val", "text_to_visual": recall, "visual_to_text": recall}
        watched = {} if select_on == "last" else {"validation": validation}
        history.append({"epoch": epoch, "curve": curve} | watched)
    label = (
        "(chosen on test, the authors' habit)" if select_on == "test" else "chosen on validation"
    )
    return SimpleNamespace(
        history=history, kind="image", selected_epoch=2, select_on=select_on, label=label
    )


def labels(figure) -> str:
    """All the words of a figure."""
    figure.canvas.draw()
    return " | ".join(
        text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()
    )


def test_grid_shows_every_picture_once_and_marks_the_right_one():
    pictures = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(7)]
    names, marked = [f"number {i}" for i in range(7)], [i == 3 for i in range(7)]
    figure = plots.image_grid(pictures, names, columns=5, marked=marked)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.images[0].get_array()[0, 0, 0] for axis in shown] == list(range(7))
    assert [axis.get_xlabel() for axis in shown] == names
    assert [axis.spines["left"].get_visible() for axis in shown] == marked
    priced = plots.image_grid(pictures[:2], ["$1_of_$2.jpg", "$$.jpg"])
    assert labels(priced) == "$1_of_$2.jpg | $$.jpg"  # not read as mathematics
    with pytest.raises(ValueError, match="shorter"):
        plots.image_grid(pictures, ["one"])


def test_curve_draws_loss_rate_and_recall_and_says_how_it_was_chosen(tmp_path):
    figure = plots.training_curve(record())
    loss, recall, rate = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1.5], [3, 1], [4, 0.5]]
    assert rate.lines[0].get_ydata()[0] == 1e-3
    assert recall.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    assert [text.get_text() for text in recall.get_legend().get_texts()] == [
        "text-to-image",
        "image-to-text",
    ]
    plots.save(figure, tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    assert Image.open(tmp_path / "curve.png").size[0] > 300
    assert "(chosen on test, the authors' habit)" in labels(plots.training_curve(record("test")))
    assert "no epoch was validated" in labels(plots.training_curve(record("last")))


@pytest.mark.parametrize(
    "yours, taken, said",
    [
        (lambda x: None, False, "not filled in yet: going on with cma's own function"),
        (lambda x: x + 1, True, "right, in all 2 cases"),
        (lambda x: x * 2, False, "case 2 of 2 differs, so we go on with cma's own function"),
    ],
)
def test_an_exercise_goes_on_with_what_is_right(yours, taken, said, capsys):
    ours = lambda x: x + 1  # noqa: E731
    assert plots.checked(yours, ours, (1,), (2,)) is (yours if taken else ours)
    assert capsys.readouterr().out.startswith(said)


def test_matplotlib_is_of_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "cma.plots")
    with pytest.raises(
        ImportError, match=r"^matplotlib: not installed; run `pip install .*\[notebooks\]'`$"
    ):
        importlib.import_module("cma.plots")
