"""The numbers in README's figure are the adapter's."""

import re
import runpy

import matplotlib.pyplot as plt
from matplotlib.text import Text
from transformers import CLIPConfig

from cma.adapter import AdapterConfig, CrossModalAdapters
from tests import ROOT


def test_numbers_are_those_of_the_default_adapter_on_vit_b_32():
    figure = runpy.run_path(str(ROOT / "notebooks" / "figures" / "architecture.py"))[
        "architecture"
    ]()
    config, clip = AdapterConfig(), CLIPConfig()
    towers = {"vision": clip.vision_config, "text": clip.text_config}
    widths = {tower: sizes.hidden_size for tower, sizes in towers.items()}
    layers = {tower: sizes.num_hidden_layers for tower, sizes in towers.items()}
    count = sum(p.numel() for p in CrossModalAdapters(config, widths, layers).parameters())
    words = " | ".join(text.get_text() for text in figure.findobj(Text))
    plt.close(figure)
    assert f"{count:,} trained parameters" in words and config.activation in words
    assert f"one of {2 * layers['text']} sites" in words and f"× {layers['vision']}" in words
    assert "512 numbers a caption" in words and clip.projection_dim == 512
    size, shared = config.bottleneck_dim, config.shared_dim
    projections = [{f"{width} → {size}", f"{size} → {width - shared}"} for width in widths.values()]
    assert set(re.findall(r"\d+ → \d+", words)) == {f"{size} → {shared}"}.union(*projections)
