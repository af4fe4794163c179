"""The curve of a run draws what its record holds; pictures are not compared."""

import re
import sys
from types import SimpleNamespace

import matplotlib
import pytest
from PIL import Image

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from cma.training import training_curve, words


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


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


def test_curve_draws_loss_rate_and_recall_and_says_how_it_was_chosen(tmp_path):
    figure = training_curve(record())
    loss, recall, rate = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1.5], [3, 1], [4, 0.5]]
    assert rate.lines[0].get_ydata()[0] == 1e-3
    assert recall.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    assert [text.get_text() for text in recall.get_legend().get_texts()] == [
        "text-to-image",
        "image-to-text",
    ]
    one = record()
    one.folder = tmp_path
    words.draw_curve(one)
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    assert Image.open(tmp_path / "curve.png").size[0] > 300
    assert "(chosen on test, the authors' habit)" in labels(training_curve(record("test")))
    assert "no epoch was validated" in labels(training_curve(record("last")))


def test_without_matplotlib_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    one = record()
    one.folder = tmp_path
    words.draw_curve(one)
    said = (
        r".*: no curve.png is drawn \(matplotlib: not installed; run `pip install .*\[notebooks\].*"
    )
    assert re.fullmatch(said, capsys.readouterr().out.strip()) and not [*tmp_path.iterdir()]
