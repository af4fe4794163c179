from types import SimpleNamespace

import pytest
import torch

from cma.adapter import AdapterConfig
from cma.method import CrossModalAdapter
from cma.patching import activate, deactivate, encoder_layers
from tests.methods.conftest import FRAMES, token_ids


@pytest.fixture
def inputs():
    return {"input_ids": token_ids()[:3], "pixel_values": FRAMES[:2, 0]}


def adapters_of(clip) -> CrossModalAdapter:
    torch.manual_seed(0)
    layers = {tower: len(encoder_layers(clip, tower)) for tower in ("vision", "text")}
    sizes = SimpleNamespace(widths={"vision": 48, "text": 32}, layers=layers)
    return CrossModalAdapter(sizes, AdapterConfig(4, 6, init_std=0.3))


def test_scale_multiplies_what_is_added(toy_clip, inputs):
    layer = encoder_layers(toy_clip, "text")[1]
    z = torch.randn(3, 64)
    plain = layer.mlp.fc2(z)
    adapters = adapters_of(toy_clip)
    for scale in (0.0, 0.25, 1.0, -2.0):
        activate(toy_clip, adapters, scale)
        torch.testing.assert_close(layer.mlp.fc2(z), plain + scale * adapters("text", 3, plain))
    deactivate(toy_clip)
    logits = toy_clip(**inputs).logits_per_image
    activate(toy_clip, adapters, 0.0)
    assert torch.equal(toy_clip(**inputs).logits_per_image, logits)
