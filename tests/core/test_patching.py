from types import SimpleNamespace

import pytest
import torch

from cma.adapter import AdapterConfig
from cma.method import CrossModalAdapter
from cma.patching import activate, deactivate, encoder_layers, patch_of
from tests.methods.conftest import FRAMES, token_ids


@pytest.fixture
def inputs():
    return {"input_ids": token_ids()[:3], "pixel_values": FRAMES[:2, 0]}


def adapters_of(clip) -> CrossModalAdapter:
    torch.manual_seed(0)
    layers = {tower: len(encoder_layers(clip, tower)) for tower in ("vision", "text")}
    sizes = SimpleNamespace(widths={"vision": 48, "text": 32}, layers=layers)
    return CrossModalAdapter(sizes, AdapterConfig(4, 6, init_std=0.3))


def hook_count(clip) -> int:
    return sum(len(module._forward_hooks) for module in clip.modules())


def test_adapters_hang_on_hooks_alone_and_leave_clip_bitwise_as_it_was(toy_clip, inputs):
    """One hook a site: tests/core/test_families.py."""
    keys, attributes = list(toy_clip.state_dict()), {*vars(toy_clip)}
    before, modules = toy_clip(**inputs).logits_per_image, len(list(toy_clip.modules()))

    activate(toy_clip, adapters_of(toy_clip))
    assert hook_count(toy_clip) == 12
    assert list(toy_clip.state_dict()) == keys and len(list(toy_clip.modules())) == modules
    assert {*vars(toy_clip)} - attributes == {"cma"} and patch_of(toy_clip) is toy_clip.cma

    seen = []  # a hook of another survives
    encoder_layers(toy_clip, "text")[0].mlp.fc2.register_forward_hook(lambda *_: seen.append(1))
    deactivate(toy_clip)
    assert torch.equal(toy_clip(**inputs).logits_per_image, before)
    assert hook_count(toy_clip) == len(seen) == 1 and patch_of(toy_clip).method is None


def test_a_method_that_fails_half_way_leaves_nothing_behind(toy_clip, inputs):
    before, adapters = toy_clip(**inputs).logits_per_image, adapters_of(toy_clip)

    def half(clip, scale, whole=adapters.install):
        handles = whole(clip, scale)
        yield next(handles)
        raise ValueError("no more")

    adapters.install = half
    activate(toy_clip, adapters_of(toy_clip))
    with pytest.raises(ValueError, match="no more"):
        activate(toy_clip, adapters)
    assert torch.equal(toy_clip(**inputs).logits_per_image, before)
    assert hook_count(toy_clip) == 0 and patch_of(toy_clip).method is None


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
