import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel
from transformers.activations import ACT2FN

from cma.adapter import AdapterConfig, CrossModalAdapters, shared_slices
from cma.model import RetrievalModel


def build(config: AdapterConfig, layers=(2, 2)) -> CrossModalAdapters:
    """Adapters of random weights and biases, so that nothing cancels."""
    widths = {"vision": 12, "text": 10}
    adapters = CrossModalAdapters(
        config, widths, dict(zip(("vision", "text"), layers, strict=True))
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return adapters


@pytest.mark.parametrize("patch_size", [32, 16])
@pytest.mark.parametrize(
    ("bottleneck_dim", "shared_dim", "count"),
    [
        (8, 16, 519_168),
        (8, 0, 522_624),
        (8, 32, 515_712),
        (8, 512, 412_032),
        (16, 16, 1_008_000),
        (16, 64, 988_416),
        (16, 512, 805_632),
    ],
)
def test_parameter_counts_of_the_paper(patch_size, bottleneck_dim, shared_dim, count):
    with torch.device("meta"):
        model = RetrievalModel(CLIPModel(CLIPConfig(vision_config={"patch_size": patch_size})))
    assert (model.widths, model.layers) == (
        {"vision": 768, "text": 512},
        {"vision": 12, "text": 12},
    )
    model.add_adapter("paper", AdapterConfig(bottleneck_dim, shared_dim))
    assert sum(p.numel() for p in model.trainable_parameters()) == count
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    if count == 519_168:
        share = 100 * count / sum(p.numel() for p in model.parameters())
        assert round(share, 3) == {32: 0.342, 16: 0.346}[patch_size]


@given(
    bottleneck_dim=st.integers(1, 5),
    shared_dim=st.integers(0, 10),
    layers=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    activation=st.sampled_from(["quick_gelu", "gelu", "relu"]),
    data=st.data(),
)
def test_forward_is_two_projections_side_by_side(
    bottleneck_dim, shared_dim, layers, activation, data
):
    adapters = build(AdapterConfig(bottleneck_dim, shared_dim, activation), layers=layers)
    tower = data.draw(st.sampled_from(["vision", "text"]))
    site = data.draw(st.integers(0, 2 * adapters.layers[tower] - 1))
    z = torch.randn(3, 5, adapters.widths[tower])
    act = ACT2FN[activation]  # quick_gelu too is CLIP's own
    layer, deepest = site // 2, max(layers)
    # design: pairing by depth
    shared = 2 * ((layer + 1) * deepest // adapters.layers[tower] - 1) + site % 2
    own = getattr(adapters, tower)
    h = act(z @ own.down_weight[site].T + own.down_bias[site])
    u_own = h @ own.up_weight[site].T + own.up_bias[site]
    u_shared = h @ adapters.shared_weight[shared].T + adapters.shared_bias[shared]
    torch.testing.assert_close(adapters(tower, site, z), torch.cat([u_own, u_shared], dim=-1))


@given(st.integers(1, 40), st.integers(1, 40))
def test_shared_slices_spread_over_the_deeper_tower(a, b):
    layers, deepest = sorted((a, b))
    slices = shared_slices(layers, deepest)
    assert len(slices) == layers and slices[-1] == deepest - 1 and slices[0] >= 0
    assert all(later > earlier for earlier, later in zip(slices, slices[1:], strict=False))
    assert shared_slices(deepest, deepest) == list(range(deepest))
    assert shared_slices(12, 24) == list(range(1, 24, 2))  # ViT-L


WRONG = {
    "bottleneck_dim": [0, 2.0, True],
    "shared_dim": [-1],
    "activation": ["swish"],
    "dropout": [1.0, -0.1, "none"],
    "init_std": [-1.0, 0, None, float("nan"), float("inf")],
}


@pytest.mark.parametrize("field", WRONG)
def test_config_names_the_wrong_field(field):
    for value in WRONG[field]:
        with pytest.raises(ValueError, match=f"^{field}=.*: expected .*$"):
            AdapterConfig(**{field: value})
