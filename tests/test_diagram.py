"""README's figure: its numbers are the adapter's, and the committed picture is what the script draws."""

import importlib.util
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


def test_numbers_are_those_of_the_default_adapter_on_vit_b_32(figure):
    config, clip = AdapterConfig(), CLIPConfig()
    towers = {"vision": clip.vision_config, "text": clip.text_config}
    widths = {tower: sizes.hidden_size for tower, sizes in towers.items()}
    layers = {tower: sizes.num_hidden_layers for tower, sizes in towers.items()}
    count = sum(p.numel() for p in CrossModalAdapters(config, widths, layers).parameters())
    words = " | ".join(text.get_text() for text in figure.findobj(Text))
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
