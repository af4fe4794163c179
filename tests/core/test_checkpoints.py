"""An adapter that was saved is loaded as it was, in both formats; whatever else lies there is
named.
"""

import argparse
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cma.adapter import AdapterConfig
from cma.backbone import load_backbone
from cma.checkpoints import OFFICIAL, _digest, from_official, read_adapter, read_config, to_official
from cma.config import ReadConfig
from cma.methods import attach
from cma.model import RetrievalModel
from tests.any_json import any_json
from tests.conftest import ADAPTER, build_clip, change_json, one_line, same_state
from tests.parity_model import numbers, parity_model

WIDTHS, LAYERS = {"vision": 48, "text": 32}, {"vision": 3, "text": 3}
# of the toy CLIP, for methods that need no more
SIZES = SimpleNamespace(widths=WIDTHS, layers=LAYERS)


# ---- our own format


@pytest.mark.parametrize("shared_dim", [8, 0])
def test_a_saved_adapter_loads_as_it_was_and_acts(model, tmp_path, shared_dim):
    model.clip.config.name_or_path = "some/clip"
    model.add_adapter("one", AdapterConfig(4, shared_dim))
    folder = tmp_path / "new" / "folder"
    for _ in range(2):  # an existing folder is overwritten
        model.save_adapter(folder, "one")
    names = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert {file.name for file in folder.iterdir()} == names
    options = {
        "bottleneck_dim": 4,
        "shared_dim": shared_dim,
        "activation": "quick_gelu",
        "dropout": 0.0,
    }
    assert json.loads((folder / "adapter_config.json").read_text()) == {
        "method": "cross-modal adapter" if shared_dim else "adapter without sharing",
        "options": options | {"init_std": 0.01},
        "widths": WIDTHS,
        "layers": LAYERS,
        "backbone": {"name": "some/clip", "revision": None},
    }
    other = RetrievalModel(build_clip())
    with pytest.warns(UserWarning, match="trained on .*some/clip"):
        again = other.load_adapter(folder, "again")
    assert other.active == "again" and again.config == AdapterConfig(4, shared_dim)
    assert same_state(again.state_dict(), model.adapters["one"].state_dict())


def test_the_reading_and_the_strength_go_with_the_adapter_and_old_files_lack_them(model, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    model.save_adapter(old, "a")
    method = model.get_adapter("a")
    method.reading = ReadConfig(max_words=9, fps=2.0)
    model.save_adapter(new, "a", strength=0.5)
    contents = [json.loads((folder / "adapter_config.json").read_text()) for folder in (old, new)]
    assert set(contents[1]) - set(contents[0]) == {"reading", "strength"}
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (old, new)]
    assert weights[0] == weights[1], "an older version of this package reads them, too"
    other = RetrievalModel(build_clip())
    known = [other.load_adapter(folder, folder.name) for folder in (old, new)]
    assert [one.reading for one in known] == [None, method.reading]
    assert [one.strength for one in known] == [None, 0.5]
    assert "recommended strength | 0.5" in (new / "README.md").read_text("utf-8")
    assert "| reads | similarity text_conditioned," in (new / "README.md").read_text("utf-8")
    assert other.scale == 1.0, "a recommendation is not applied"
    with pytest.raises(ValueError, match=r"strength=-1\.0"):
        model.save_adapter(new, "a", strength=-1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": -1.0}, "strength.*expected greater than or equal to 0"),
        ({"reading": {"max_words": 1}}, "reading.max_words.*expected greater than"),
        ({"widths": {"vision": 768, "text": 512}}, r"widths .*768.* do not fit .*48"),
        ({"layers": {"vision": 12, "text": 12}}, r"layers .*12.* do not fit .*3"),
        ({"options": {"bottleneck_dim": 4}}, "shared_dim"),
        ({"options": {**vars(ADAPTER), "activation": "swish"}}, "'swish'"),
        ({"options": {**vars(ADAPTER), "x" * 10**5: 4}}, "options are bottleneck_dim, .*, not xxx"),
        ({"method": "x" * 10**6}, "'method': expected at most"),
    ],
)
def test_config_that_does_not_fit_names_file_and_key(model, tmp_path, changes, message):
    model.save_adapter(tmp_path, "a")
    change_json(tmp_path / "adapter_config.json", **changes)
    with one_line(ValueError, message) as error:
        model.load_adapter(tmp_path, "c")
    assert str(tmp_path / "adapter_config.json") in str(error.value)
    assert len(str(error.value)) <= 1000


def test_weights_that_do_not_fit_name_file_and_key(model, tmp_path):
    model.save_adapter(tmp_path, "a")
    file = tmp_path / "adapter_model.safetensors"
    state = load_file(file)
    spoilt = state["text.down_bias"].clone()
    spoilt[2, 1] = torch.nan
    for wrong, message in (
        ({key: value for key, value in state.items() if key != "shared_weight"}, "shared_weight"),
        (state | {"vision.gate": torch.zeros(2)}, "vision.gate"),
        (state | {"text.down_bias": torch.zeros(6, 5)}, "text.down_bias"),
        (state | {"text.down_bias": spoilt}, "text.down_bias holds numbers that are not finite"),
    ):
        save_file(wrong, file, {"digest": _digest(wrong, read_config(tmp_path))})
        with one_line(ValueError, message) as error:
            model.load_adapter(tmp_path, "c")
        assert str(file) in str(error.value)
    assert "c" not in model.adapters


def test_files_missing_or_damaged(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="adapter_config.json: no such file"):
        model.load_adapter(tmp_path, "c")
    model.save_adapter(tmp_path, "a")
    file = tmp_path / "adapter_model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole + b"x", b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="safetensors: damaged, .*; save the adapter again"):
            model.load_adapter(tmp_path, "c")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors: no such file; .*: save it again"):
        model.load_adapter(tmp_path, "c")
    for text, message in (
        ("{", "broken JSON.*save it again"),
        ("{}", "'method': expected, but missing"),
    ):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(ValueError, match=f"adapter_config.json: {message}"):
            model.load_adapter(tmp_path, "c")


KEYS = ("method", "options", "widths", "layers", "backbone", "name", "revision", *vars(ADAPTER))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = RetrievalModel(build_clip())
    model.add_adapter("a", ADAPTER)
    model.save_adapter(folder := tmp_path_factory.mktemp("saved"), "a")
    return folder, (folder / "adapter_config.json").read_text()


@given(key=st.sampled_from((None, *KEYS)), value=any_json(*KEYS))
@example(key=None, value=[])
@example(key="backbone", value="mini")
@example(key="name", value=1)
@example(key="options", value=None)
@example(key="activation", value=[])
@example(key="bottleneck_dim", value=2**62)
@example(key="shared_dim", value=40)
def test_a_damaged_config_is_an_error_that_names_it(saved, key, value):
    """Any JSON in the place of one value, or of all: a config that can be read, or a ValueError."""
    folder, text = saved
    content = json.loads(text)
    for part in (content, content["options"], content["backbone"]):
        part |= {key: value} if key in part else {}
    (folder / "adapter_config.json").write_text(json.dumps(value if key is None else content))
    try:
        read_adapter(folder, SIZES)
    except Exception as error:
        assert type(error) is ValueError and str(folder) in str(error)
        assert "\n" not in str(error)


def test_the_same_weights_in_two_folders_are_one_backbone(
    toy_clip, toy_processor, tmp_path, monkeypatch
):
    for name in ("one", "other"):
        toy_clip.save_pretrained(tmp_path / name)
        toy_processor.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    trained = RetrievalModel(*load_backbone("one"))
    trained.add_adapter("a", ADAPTER)
    trained.save_adapter(tmp_path / "adapter", "a")
    monkeypatch.chdir("/")
    named = read_config(tmp_path / "adapter").backbone["name"]
    for backbone in (tmp_path / "one", tmp_path / "other", named):
        assert Path(backbone).is_dir()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            RetrievalModel(*load_backbone(backbone)).load_adapter(tmp_path / "adapter", "a")
        assert [str(one.message) for one in warned] == []
    other = {"name": "one", "revision": "0123456789ab"}
    change_json(tmp_path / "adapter" / "adapter_config.json", backbone=other)
    with pytest.warns(UserWarning, match="trained on .*0123456789ab"):
        trained.load_adapter(tmp_path / "adapter", "b")


@pytest.mark.parametrize("changed", [False, True])
def test_killed_between_its_two_files_an_adapter_is_whole_or_not_there(
    model, tmp_path, monkeypatch, changed
):
    """New weights under the old config are the newer adapter of a run, unless the config is another
    one.
    """
    model.save_adapter(tmp_path, "a")
    name = "gelu" if changed else "a"
    if changed:
        model.add_adapter("gelu", AdapterConfig(4, 8, activation="gelu"))
    model.adapters[name].requires_grad_(False).shared_weight.add_(1)
    replace = Path.replace

    def killed_after_the_weights(file, target):
        replace(file, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed_after_the_weights)
    with pytest.raises(KeyboardInterrupt):
        model.save_adapter(tmp_path, name)
    if changed:
        with pytest.raises(FileNotFoundError, match=r"adapter_config\.json: no such file"):
            model.load_adapter(tmp_path, "c")
    else:
        again = model.load_adapter(tmp_path, "c")
        assert same_state(again.state_dict(), model.adapters["a"].state_dict())


# ---- the authors' format


PARTS = (
    "visual_adapter_down",
    "visual_adapter_up_unique",
    "text_adapter_down",
    "text_adapter_up_unique",
)
THEIRS = [
    f"{part}_{kind}" for part in (*PARTS, "vt_adapter_up_share") for kind in ("weight", "bias")
]
OFFICIAL_STATE = numbers("state_dict")  # CLIP and adapter, keys without "clip."


class Dangerous:
    def __reduce__(self):
        return (print, ("code in a checkpoint was run",))


@pytest.mark.parametrize("prefix", ["", "clip."])
def test_every_layout_of_a_state_dict_and_of_files(prefix, tmp_path):
    """Their checkpoint.pth also holds the optimiser, the epoch and the parsed arguments."""
    state = {prefix + key: value for key, value in OFFICIAL_STATE.items()}
    args = argparse.Namespace(lr=1e-5, datatype="msrvtt", adapter=True)
    content = {
        "model": state,
        "optimizer": {"state": {}},
        "scheduler": None,
        "epoch": 4,
        "args": args,
    }
    pth, safetensors = tmp_path / "checkpoint.pth", tmp_path / "model.safetensors"
    torch.save(content, pth)
    save_file(state, safetensors)
    for source in (state | {"loss_fct.scale": torch.ones(1)}, content, pth, str(pth), safetensors):
        config, adapter = from_official(source)
        assert config == AdapterConfig(bottleneck_dim=8, shared_dim=16) and set(adapter) == set(
            OFFICIAL
        )
        assert all(
            torch.equal(adapter[key], OFFICIAL_STATE[theirs]) for key, theirs in OFFICIAL.items()
        )
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_round_trip_of_theirs_is_exact():
    model = parity_model()
    back = to_official(model, "official")
    assert same_state(back, {f"clip.{key}": OFFICIAL_STATE[key] for key in THEIRS})
    own = {p.data_ptr() for p in model.adapters["official"].parameters()}
    assert not own & {value.data_ptr() for value in back.values()}


@given(st.integers(1, 6), st.integers(0, 32))
def test_round_trip_of_ours_is_exact_for_every_size(bottleneck_dim, shared_dim):
    model = RetrievalModel(build_clip())
    config = AdapterConfig(bottleneck_dim, shared_dim)
    state = model.add_adapter("a", config).state_dict()
    theirs = to_official(model, "a")
    # their code registers no shared tensors without sharing, nor own ones for a text tower that is
    # all shared
    empty = {0: "vt_adapter_up_share", 32: "text_adapter_up_unique"}.get(shared_dim, "-")
    assert set(theirs) == {f"clip.{key}" for key in THEIRS if not key.startswith(empty)}
    again, adapter = from_official(theirs)
    assert again == config and same_state(adapter, dict(state))
    model.add_adapter("b", again, adapter)


@pytest.mark.parametrize("key", THEIRS)
def test_a_missing_or_misshaped_key_is_named(key):
    value = OFFICIAL_STATE[key]
    without = {name: other for name, other in OFFICIAL_STATE.items() if name != key}
    for wrong in (
        torch.cat([value] * 9, dim=1),
        value[None],
        value.narrow(-1, 0, value.shape[-1] - 1),
        torch.full_like(value, torch.nan),
        None,
    ):
        with pytest.raises(ValueError, match=key):
            from_official(without if wrong is None else without | {key: wrong})


def test_what_is_no_adapter_says_so_and_no_code_in_it_is_run(tmp_path, capsys):
    torch.save({"model": {}}, tmp_path / "other.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    torch.save({"model": {}, "args": Dangerous()}, tmp_path / "code.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
    for name, content in (
        ("hello.pth", b"hello world"),
        ("table.pth", b"table"),
        ("junk.pth", b"junk"),
    ):
        (tmp_path / name).write_bytes(content)  # torch raises another error for each
    for source, said in (
        (
            {"ln_final.weight": torch.ones(3)},
            "the state dict: visual_adapter_down_weight is missing",
        ),
        (tmp_path / "other.pth", r"other\.pth: visual_adapter_down_weight is missing"),
        (tmp_path / "nowhere.pth", r"No such file .*nowhere\.pth"),
        (tmp_path / "code.pth", "code.pth cannot be read: .*nothing in it was run"),
        *(
            (tmp_path / f, f"{f} cannot be read")
            for f in ("tensor.pth", "broken.pth", "broken.safetensors")
        ),
        *(
            (tmp_path / f"{word}.pth", f"{word}.pth cannot be read")
            for word in ("hello", "table", "junk")
        ),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            from_official(source)
    assert capsys.readouterr().out == ""


def test_what_has_no_official_form():
    model = RetrievalModel(build_clip(vision_layers=4, text_layers=2))
    model.add_adapter("deep", AdapterConfig(2, 4))
    attach(model, "CoOp", "prompts")
    model.add_adapter("relu", AdapterConfig(2, 4, activation="relu"))
    for name, said in (
        ("relu", "'relu': the authors' format has no .*activation='relu'"),
        ("deep", "'deep': the authors' format has no .*'text': 2"),
        ("other", "no adapter 'other'"),
        ("prompts", "'prompts': the authors' format has no CoOp"),
    ):
        with pytest.raises(ValueError, match=said):
            to_official(model, name)
