import argparse

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cma.adapter import AdapterConfig
from cma.checkpoints import from_official, to_official
from cma.model import RetrievalModel
from tests.conftest import build_clip
from tests.parity_model import numbers

KEYS = [
    f"{part}_{kind}"
    for part in (
        "visual_adapter_down",
        "visual_adapter_up_unique",
        "text_adapter_down",
        "text_adapter_up_unique",
        "vt_adapter_up_share",
    )
    for kind in ("weight", "bias")
]


@pytest.fixture(scope="module")
def official():
    """CLIP and adapter, keys without "clip."."""
    return numbers("state_dict")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("prefix", ["", "clip."])
@pytest.mark.parametrize("nested", [False, True])
def test_every_layout_of_a_state_dict(official, prefix, nested):
    state = {prefix + key: value for key, value in official.items()} | {"loss_fct.scale": torch.ones(1)}
    config, adapter = from_official({"model": state, "epoch": 4} if nested else state)
    assert config == AdapterConfig(bottleneck_dim=8, shared_dim=16)
    assert sorted(adapter) == sorted(
        ["shared_bias", "shared_weight"]
        + [
            f"{tower}.{part}_{kind}"
            for tower in ("text", "vision")
            for part in ("down", "up")
            for kind in ("bias", "weight")
        ]
    )
    assert torch.equal(adapter["text.up_weight"], official["text_adapter_up_unique_weight"])


def test_files(official, tmp_path):
    """Their checkpoint.pth also holds the optimiser, the epoch and the parsed arguments."""
    expected = from_official(official)[1]
    state = {f"clip.{key}": value for key, value in official.items()}
    args = argparse.Namespace(lr=1e-5, datatype="msrvtt", adapter=True)
    content = {"model": state, "optimizer": {"state": {}}, "scheduler": None, "epoch": 4, "args": args}
    torch.save(content, tmp_path / "checkpoint.pth")
    save_file(state, tmp_path / "model.safetensors")
    for file in (
        tmp_path / "checkpoint.pth",
        str(tmp_path / "checkpoint.pth"),
        tmp_path / "model.safetensors",
    ):
        config, adapter = from_official(file)
        assert config == AdapterConfig() and same(adapter, expected)


class Dangerous:
    def __reduce__(self):
        return (print, ("code in a checkpoint was run",))


def test_a_checkpoint_with_code_is_not_run(tmp_path, capsys):
    torch.save({"model": {}, "args": Dangerous()}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="nothing in it was run"):
        from_official(tmp_path / "checkpoint.pth")
    assert capsys.readouterr().out == ""


def test_reading_one_lets_torch_load_nothing_more_elsewhere(official, tmp_path):
    content = {"model": dict(official), "args": argparse.Namespace(lr=1e-5)}
    torch.save(content, tmp_path / "checkpoint.pth")
    assert from_official(tmp_path / "checkpoint.pth")[0] == AdapterConfig()
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_round_trip_of_theirs_is_exact(official):
    clip = build_clip()  # widths 48 and 32: resize theirs to it by slicing
    sliced = {key: official[key] for key in KEYS}
    for tower, width in (("visual", 48), ("text", 32)):
        for key, axis, size in (
            (f"{tower}_adapter_down_weight", 2, width),
            (f"{tower}_adapter_up_unique_weight", 1, width - 16),
            (f"{tower}_adapter_up_unique_bias", 1, width - 16),
        ):
            sliced[key] = sliced[key].narrow(axis, 0, size).contiguous()
    model = RetrievalModel(clip)
    model.add_adapter("official", *from_official(sliced))
    back = to_official(model, "official")
    assert same(back, {f"clip.{key}": value for key, value in sliced.items()})
    assert same(from_official(back)[1], from_official(sliced)[1])
    own = {p.data_ptr() for p in model.adapters["official"].parameters()}
    assert not own & {value.data_ptr() for value in back.values()}


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 32))
def test_round_trip_of_ours_is_exact_for_every_size(bottleneck_dim, shared_dim):
    model = RetrievalModel(build_clip())
    config = AdapterConfig(bottleneck_dim, shared_dim)
    state = model.add_adapter("a", config).state_dict()
    theirs = to_official(model, "a")
    left_out = set()
    if shared_dim == 0:  # their code registers no shared tensors then
        left_out = {"vt_adapter_up_share_weight", "vt_adapter_up_share_bias"}
    if shared_dim == 32:  # nor own ones for a text tower that is all shared
        left_out = {"text_adapter_up_unique_weight", "text_adapter_up_unique_bias"}
    assert set(theirs) == {f"clip.{key}" for key in KEYS if key not in left_out}
    again, adapter = from_official(theirs)
    assert again == config and same(adapter, dict(state))
    model.add_adapter("b", again, adapter)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_or_misshaped_key_is_named(official, key):
    state = {name: value for name, value in official.items() if name != key}
    with pytest.raises(ValueError, match=key):
        from_official(state)
    with pytest.raises(ValueError, match=key):
        from_official(state | {key: torch.cat([official[key]] * 9, dim=1)})
    with pytest.raises(ValueError, match=key):
        from_official(state | {key: official[key][None]})
    with pytest.raises(ValueError, match=key):
        from_official(state | {key: official[key].narrow(-1, 0, official[key].shape[-1] - 1)})


def test_what_is_no_adapter_says_so(tmp_path):
    with pytest.raises(ValueError, match="the state dict: visual_adapter_down_weight is missing"):
        from_official({"ln_final.weight": torch.ones(3)})
    torch.save({"model": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: visual_adapter_down_weight is missing"):
        from_official(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        from_official(tmp_path / "nowhere.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    for name in ("tensor.pth", "broken.pth", "broken.safetensors"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            from_official(tmp_path / name)


def test_towers_of_unequal_depth_have_no_official_form():
    model = RetrievalModel(build_clip(vision_layers=4, text_layers=2))
    model.add_adapter("deep", AdapterConfig(2, 4))
    with pytest.raises(ValueError, match="'deep' is for towers of unequal depth"):
        to_official(model, "deep")
    with pytest.raises(ValueError, match="no adapter 'other'"):
        to_official(model, "other")
