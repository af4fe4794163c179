"""README's figure: it can be read, it shares what the adapter shares, and its numbers are the adapter's."""

import importlib.util
import itertools
import re
import runpy
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from transformers import CLIPConfig

from cma.adapter import AdapterConfig, CrossModalAdapters
from tests import ROOT

SCRIPT = ROOT / "notebooks" / "figures" / "architecture.py"
spec = importlib.util.spec_from_file_location("architecture", SCRIPT)
diagram = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diagram)


@pytest.fixture(scope="module")
def figure():
    figure = diagram.architecture()
    figure.canvas.draw()
    yield figure
    plt.close(figure)


def texts(figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text()]


def test_no_words_overlap_or_leave_the_picture(figure):
    boxes = {text.get_text() + str(text.get_position()): text.get_window_extent() for text in texts(figure)}
    assert len(boxes) > 40
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, other)
    page = figure.bbox
    for words, box in boxes.items():
        assert page.x0 < box.x0 and box.x1 < page.x1 and page.y0 < box.y0 and box.y1 < page.y1, words


def test_numbers_are_those_of_the_default_adapter_on_vit_b_32(figure):
    config, clip = AdapterConfig(), CLIPConfig()
    towers = {"vision": clip.vision_config, "text": clip.text_config}
    widths = {tower: sizes.hidden_size for tower, sizes in towers.items()}
    layers = {tower: sizes.num_hidden_layers for tower, sizes in towers.items()}
    count = sum(p.numel() for p in CrossModalAdapters(config, widths, layers).parameters())
    words = " | ".join(text.get_text() for text in texts(figure))
    assert f"{count:,} trained parameters" in words and config.activation in words
    assert f"one of {2 * layers['text']} sites" in words and f"× {layers['vision']}" in words
    assert "512 numbers a caption" in words and clip.projection_dim == 512
    size, shared = config.bottleneck_dim, config.shared_dim
    projections = [{f"{width} → {size}", f"{size} → {width - shared}"} for width in widths.values()]
    assert set(re.findall(r"\d+ → \d+", words)) == {f"{size} → {shared}"}.union(*projections)


def test_the_script_writes_a_small_picture_that_looks_like_the_committed_one(tmp_path):
    script = shutil.copy(SCRIPT, tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["architecture.png", "architecture.py"]
    pictures = [folder / "architecture.png" for folder in (tmp_path, SCRIPT.parent)]
    assert max(picture.stat().st_size for picture in pictures) < 150_000
    fresh, committed = (
        np.asarray(Image.open(file).convert("L").resize((50, 33), Image.Resampling.BOX), dtype=float)
        for file in pictures
    )  # coarse: releases of matplotlib set letters differently
    assert np.abs(fresh - committed).mean() < 1, "run python notebooks/figures/architecture.py"
    assert fresh.std() > 10
