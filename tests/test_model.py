import json
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file

from cma import checkpoints
from cma.adapter import AdapterConfig
from cma.backbone import load_backbone
from cma.model import RetrievalModel
from cma.patching import attached
from cma.similarity import mean_pooled, text_conditioned
from tests.any_json import any_json
from tests.conftest import EOS, SOS, build_clip

CONFIG = AdapterConfig(4, 6, init_std=0.3)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture
def model(toy_clip, toy_processor):
    torch.manual_seed(0)
    model = RetrievalModel(toy_clip, toy_processor)
    model.add_adapter("a", CONFIG)
    model.add_adapter("b", CONFIG)
    return model


@pytest.fixture
def ids():
    ids = torch.randint(1, SOS, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = SOS, EOS
    return ids


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# ---- embeddings


def test_embeddings_without_adapter_are_clips(model, ids, pixels):
    with torch.no_grad():
        out = model.clip(input_ids=ids, pixel_values=pixels[:, 0])
        text, image = model.encode_text(ids), model.encode_images(pixels[:, 0])
    normalize = torch.nn.functional.normalize
    torch.testing.assert_close(normalize(text, dim=-1), out.text_embeds)
    torch.testing.assert_close(normalize(image, dim=-1), out.image_embeds)
    logits = model.logit_scale * mean_pooled(text, image[:, None])
    torch.testing.assert_close(logits, out.logits_per_text)


def test_frames_of_a_video_are_images(model, pixels):
    model.set_adapter("a")
    frames = model.encode_videos(pixels, torch.ones(2, 3))
    assert frames.shape == (2, 3, 32)
    torch.testing.assert_close(frames[1], model.encode_images(pixels[1]))


def test_captions_that_differ_in_their_last_word_embed_differently(model):
    one, other = model.encode_text(["a red cat sits", "a red cat eats"])
    assert (one - other).abs().max() > 0.01


def test_padding_does_not_change_an_embedding(model):
    model.set_adapter("a")
    alone = model.encode_text(["a cat"])
    beside = model.encode_text(["a cat", "a small bird sings on a tree in the night"])[:1]
    torch.testing.assert_close(alone, beside)


def test_pictures_of_any_mode(model):
    pictures = [
        Image.new(mode, size, 90) for mode, size in (("L", (50, 40)), ("RGB", (9, 64)), ("P", (64, 9)))
    ]
    assert model.encode_images(pictures).shape == (3, 32)


def test_a_picture_with_a_rotation_mark_is_seen_upright(model, tmp_path):
    picture = Image.new("RGB", (40, 60), "white")
    picture.paste("red", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter turn
    picture.rotate(90, expand=True).save(tmp_path / "p.png", exif=exif)
    picture.save(tmp_path / "upright.png")
    with Image.open(tmp_path / "p.png") as marked, Image.open(tmp_path / "upright.png") as upright:
        torch.testing.assert_close(model.encode_images([marked]), model.encode_images([upright]))
        assert marked.size == (60, 40)  # what the caller holds stays as it is


def test_text_is_tokens_and_cut_captions_are_counted_and_told_once(model):
    long = "a man and a woman walking with a dog on the beach at night with a boat"
    with pytest.warns(UserWarning, match="1 of 2 captions exceed 16 tokens"):
        ids, cut = model.tokenize(["a cat", long])
    assert cut == model.cut == 1
    assert ids.shape == (2, 16) and ids[:, 0].tolist() == [SOS, SOS]
    assert ids[1, -1] == EOS and EOS not in ids[1, :-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        short, cut = model.tokenize(["a cat", "a small bird sings"], max_words=4)
    assert short.shape == (2, 4) and cut == model.cut == 1
    assert short[1].tolist() == [*ids[1, :1].tolist(), *model.tokenize(["a small"])[0][0, 1:3].tolist(), EOS]
    assert model.tokenize(["a cat"], max_words=99)[1] == model.cut == 0


@pytest.mark.parametrize("texts", [["a cat", " \n"], ["a cat", ""]])
def test_blank_caption_is_named(model, texts):
    with pytest.raises(ValueError, match="caption 1 is blank"):
        model.encode_text(texts)


def test_bad_inputs_are_named(model, pixels, ids):
    for texts in ("a cat", ["a cat", None]):
        with pytest.raises(TypeError, match="list of captions"):
            model.encode_text(texts)
    with pytest.raises(ValueError, match="no captions"):
        model.encode_text([])
    with pytest.raises(ValueError, match="max_words"):
        model.tokenize(["a cat"], max_words=2)
    with pytest.raises(ValueError, match="input_ids must be"):
        model.encode_text(ids[0])
    with pytest.raises(ValueError, match=r"pixels must be \[V, 3, H, W\]"):
        model.encode_images(pixels)
    with pytest.raises(ValueError, match=r"pixels must be \[V, F, 3, H, W\]"):
        model.encode_videos(pixels[:, 0], torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"mask must be \[2, 3\]"):
        model.encode_videos(pixels, torch.ones(3, 2))


def test_without_processor_tensors_only(toy_clip, ids):
    model = RetrievalModel(toy_clip)
    assert model.encode_text(ids).shape == (3, 32)
    for call in (
        lambda: model.encode_text(["a cat"]),
        lambda: model.encode_images([Image.new("RGB", (9, 9))]),
    ):
        with pytest.raises(ValueError, match="no processor"):
            call()


# ---- adapters


def test_switching_adapters_needs_no_loading(model, ids):
    plain = model.encode_text(ids)
    embeddings = {}
    for name in ("a", "b"):
        model.set_adapter(name)
        embeddings[name] = model.encode_text(ids)
    assert not torch.allclose(embeddings["a"], embeddings["b"], atol=1e-3)
    model.set_adapter("a")
    assert torch.equal(model.encode_text(ids), embeddings["a"])
    model.set_adapter(None)
    assert torch.equal(model.encode_text(ids), plain)
    assert model.active is None and model.trainable_parameters() == []


def test_an_adapter_acts_at_any_strength(model, ids):
    plain = model.encode_text(ids)
    model.set_adapter("a")
    adapted = model.encode_text(ids)
    model.set_adapter("a", 0.5)
    half = model.encode_text(ids)
    assert not torch.allclose(half, adapted, atol=1e-3) and not torch.allclose(half, plain, atol=1e-3)
    assert (half - plain).norm() < (adapted - plain).norm()
    other = RetrievalModel(model.clip)  # its zero-shot embeddings come between
    assert torch.equal(other.encode_text(ids), plain)
    assert torch.equal(model.encode_text(ids), half)
    model.set_adapter("a", 0)
    assert torch.equal(model.encode_text(ids), plain)
    model.set_adapter("a")
    assert model.scale == 1.0 and torch.equal(model.encode_text(ids), adapted)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale must be a number"):
            model.set_adapter("a", wrong)


def test_one_clip_under_two_models(model, ids):
    plain = model.encode_text(ids)
    model.set_adapter("a")
    adapted = model.encode_text(ids)
    other = RetrievalModel(model.clip)  # wrapped again: no adapter acts
    assert attached(model.clip) is None
    assert torch.equal(other.encode_text(ids), plain)
    assert torch.equal(model.encode_text(ids), adapted)  # each model brings its own
    assert torch.equal(other.encode_text(ids), plain)


def test_training_touches_the_active_adapter_only(model, ids, pixels):
    clip_before = {key: value.clone() for key, value in model.clip.state_dict().items()}
    logits = model.clip(input_ids=ids, pixel_values=pixels[:, 0]).logits_per_image
    other = [p.clone() for p in model.adapters["b"].parameters()]
    model.set_adapter("a")
    model.train()
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=0.1)
    for _ in range(3):
        similarity = text_conditioned(
            model.encode_text(ids[:2]), model.encode_videos(pixels), torch.ones(2, 3)
        )
        optimizer.zero_grad()
        similarity.trace().backward()
        optimizer.step()
    model.set_adapter(None)
    after = model.clip.state_dict()
    assert list(after) == list(clip_before)
    assert all(torch.equal(after[key], value) for key, value in clip_before.items())
    assert all(p.grad is None for p in model.clip.parameters())
    assert torch.equal(model.clip(input_ids=ids, pixel_values=pixels[:, 0]).logits_per_image, logits)
    assert all(torch.equal(p, q) for p, q in zip(model.adapters["b"].parameters(), other, strict=True))


def test_every_adapter_tensor_gets_gradient_and_the_shared_ones_from_both_towers(model, ids, pixels):
    model.set_adapter("a")
    adapters = model.adapters["a"]
    shared = [adapters.shared_weight, adapters.shared_bias]
    for output in (model.encode_text(ids), model.encode_images(pixels[:, 0])):
        for gradient in torch.autograd.grad(output.square().sum(), shared, retain_graph=True):
            assert (gradient.flatten(1).abs().sum(1) > 0).all()
    (model.encode_text(ids).sum() + model.encode_videos(pixels).sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.trainable_parameters())


def test_train_switches_adapter_dropout_but_never_clip(model, ids):
    model.add_adapter("dropout", AdapterConfig(4, 6, dropout=0.5, init_std=0.3))
    model.set_adapter("dropout")
    assert torch.equal(model.encode_text(ids), model.encode_text(ids))  # a new model is in eval mode
    model.train()
    assert not any(module.training for module in model.clip.modules())
    assert not torch.equal(model.encode_text(ids), model.encode_text(ids))
    model.eval()
    assert torch.equal(model.encode_text(ids), model.encode_text(ids))


def test_names_in_use_unknown_or_unusable(model):
    with pytest.raises(ValueError, match="'a' exists already"):
        model.add_adapter("a", CONFIG)
    with pytest.raises(ValueError, match="no adapter 'c'; there are: a, b"):
        model.set_adapter("c")
    for name in ("a.b", "", "train"):
        with pytest.raises(ValueError, match="cannot be used"):
            model.add_adapter(name, CONFIG)
    assert list(model.adapters) == ["a", "b"]


def test_given_weights_are_checked_by_name(model):
    state = model.adapters["a"].state_dict()
    missing = {key: value for key, value in state.items() if key != "text.up_bias"}
    for wrong, key in (
        (missing, "text.up_bias"),
        (state | {"text.extra": torch.zeros(1)}, "text.extra"),
        (state | {"shared_bias": torch.zeros(6, 7)}, "shared_bias"),
    ):
        with pytest.raises(ValueError, match=key):
            model.add_adapter("c", CONFIG, wrong)
    model.add_adapter("c", CONFIG, state)
    assert all(torch.equal(value, state[key]) for key, value in model.adapters["c"].state_dict().items())
    assert model.adapters["c"].shared_bias.data_ptr() != state["shared_bias"].data_ptr()


def test_unequal_depth_works_and_trains(ids, pixels):
    model = RetrievalModel(build_clip(vision_layers=4, text_layers=2))
    model.add_adapter("a", CONFIG)
    plain = model.encode_text(ids)
    model.set_adapter("a")
    assert not torch.allclose(model.encode_text(ids), plain)
    (model.encode_text(ids).sum() + model.encode_videos(pixels).sum()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.trainable_parameters())


# ---- precision and devices


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["float32", "bf16 backbone", "autocast"])
def test_precisions_and_devices(toy_clip, ids, pixels, device, mode):
    reference = RetrievalModel(toy_clip)
    state = reference.add_adapter("a", AdapterConfig(4, 6, init_std=0.1)).state_dict()
    reference.set_adapter("a")
    expected = mean_pooled(reference.encode_text(ids), reference.encode_videos(pixels), torch.ones(2, 3))

    model = RetrievalModel(build_clip().to(torch.bfloat16 if mode == "bf16 backbone" else torch.float32))
    model.add_adapter("a", AdapterConfig(4, 6), state)
    model.to(device).set_adapter("a")
    with torch.autocast(device, dtype=torch.bfloat16, enabled=mode == "autocast"):
        text, frames = model.encode_text(ids), model.encode_videos(pixels)
        similarity = mean_pooled(text, frames, torch.ones(2, 3))
    assert text.dtype == frames.dtype == (torch.float32 if mode == "float32" else torch.bfloat16)
    assert similarity.dtype == torch.float32 and similarity.device.type == device
    torch.testing.assert_close(similarity.cpu(), expected, atol=1e-5 if mode == "float32" else 0.03, rtol=0)
    similarity.sum().backward()
    for parameter in model.trainable_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.device.type == device


# ---- on disk


def test_saved_adapter_loads_as_it_was(model, ids, tmp_path):
    model.set_adapter("a")
    expected = model.encode_text(ids)
    model.save_adapter("a", tmp_path / "new" / "folder")
    model.save_adapter("a", tmp_path / "new" / "folder")  # an existing folder is overwritten
    assert sorted(file.name for file in (tmp_path / "new" / "folder").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    fresh = RetrievalModel(build_clip())
    fresh.load_adapter(tmp_path / "new" / "folder", "again")
    fresh.set_adapter("again")
    assert torch.equal(fresh.encode_text(ids), expected)
    assert fresh.adapters["again"].config == CONFIG


def test_adapter_config_on_disk(model, tmp_path):
    model.clip.config.name_or_path = "some/clip"
    model.save_adapter("a", tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved == {
        "adapter": {
            "bottleneck_dim": 4,
            "shared_dim": 6,
            "activation": "quick_gelu",
            "dropout": 0.0,
            "init_std": 0.3,
        },
        "widths": {"vision": 48, "text": 32},
        "layers": {"vision": 3, "text": 3},
        "backbone": {"name": "some/clip", "revision": None},
    }
    with pytest.warns(UserWarning, match="trained on .*some/clip"):
        RetrievalModel(build_clip()).load_adapter(tmp_path, "a")


def change(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": {"vision": 768, "text": 512}}, r"widths .*768.* do not fit .*48"),
        ({"layers": {"vision": 12, "text": 12}}, r"layers .*12.* do not fit .*3"),
        ({"adapter": {"bottleneck_dim": 4, "rank": 4}}, "'rank'"),
        ({"adapter": {"bottleneck_dim": 4}}, "shared_dim"),
        ({"adapter": {**vars(CONFIG), "activation": "swish"}}, "'swish'"),
    ],
)
def test_config_that_does_not_fit_names_file_and_key(model, tmp_path, changes, message):
    model.save_adapter("a", tmp_path)
    change(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        model.load_adapter(tmp_path, "c")
    assert str(tmp_path / "adapter_config.json") in str(error.value)


def test_weights_that_do_not_fit_name_file_and_key(model, tmp_path):
    model.save_adapter("a", tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    state = load_file(file)
    missing = {key: value for key, value in state.items() if key != "shared_weight"}
    for wrong, key in (
        (missing, "shared_weight"),
        (state | {"vision.gate": torch.zeros(2)}, "vision.gate"),
        (state | {"text.down_bias": torch.zeros(6, 5)}, "text.down_bias"),
    ):
        save_file(wrong, file)
        with pytest.raises(ValueError, match=key) as error:
            model.load_adapter(tmp_path, "c")
        assert str(file) in str(error.value)
    assert "c" not in model.adapters


def test_files_missing_or_no_safetensors(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="adapter_config.json: no such file"):
        model.load_adapter(tmp_path, "c")
    model.save_adapter("a", tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    file.unlink()
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors"):
        model.load_adapter(tmp_path, "c")
    file.write_bytes(b"PK\x03\x04 not one")
    with pytest.raises(ValueError, match="adapter_model.safetensors is no safetensors file"):
        model.load_adapter(tmp_path, "c")
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="adapter_config.json: broken JSON.*save it again"):
        model.load_adapter(tmp_path, "c")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match="'adapter': expected, but missing"):
        model.load_adapter(tmp_path, "c")


KEYS = ("adapter", "widths", "layers", "backbone", "name", "revision", *vars(CONFIG))
WIDTHS, LAYERS = {"vision": 48, "text": 32}, {"vision": 3, "text": 3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = RetrievalModel(build_clip())
    model.add_adapter("a", CONFIG)
    model.save_adapter("a", folder := tmp_path_factory.mktemp("saved"))
    return folder, (folder / "adapter_config.json").read_text()


def failure(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from((None, *KEYS)), value=any_json(*KEYS))
@example(key=None, value=[])
@example(key="backbone", value="mini")
@example(key="name", value=1)
@example(key="adapter", value=None)
@example(key="activation", value=[])
@example(key="bottleneck_dim", value=2**62)
@example(key="shared_dim", value=40)
def test_a_damaged_config_is_an_error_that_names_it(saved, key, value):
    """Any JSON in the place of one value, or of all: a config that can be read, or a ValueError."""
    folder, text = saved
    content = json.loads(text)
    for part in (content, content["adapter"], content["backbone"]):
        part |= {key: value} if key in part else {}
    (folder / "adapter_config.json").write_text(json.dumps(value if key is None else content))
    for error in (
        failure(checkpoints.trained_on, folder),
        failure(checkpoints.read_adapter, folder, WIDTHS, LAYERS),
    ):
        assert error is None or (type(error) is ValueError and str(folder) in str(error))


def test_the_same_weights_in_two_folders_are_one_backbone(toy_clip, toy_processor, tmp_path, monkeypatch):
    for name in ("one", "other"):
        toy_clip.save_pretrained(tmp_path / name)
        toy_processor.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    trained = RetrievalModel(*load_backbone("one"))
    trained.add_adapter("a", CONFIG)
    trained.save_adapter("a", tmp_path / "adapter")
    monkeypatch.chdir("/")
    for backbone in (tmp_path / "one", tmp_path / "other", checkpoints.trained_on(tmp_path / "adapter")):
        assert Path(backbone).is_dir()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            RetrievalModel(*load_backbone(backbone)).load_adapter(tmp_path / "adapter", "a")
        assert [str(one.message) for one in warned] == []
    change(tmp_path / "adapter", backbone={"name": "one", "revision": "0123456789ab"})
    with pytest.warns(UserWarning, match="trained on .*0123456789ab"):
        trained.load_adapter(tmp_path / "adapter", "b")


def test_a_folder_as_a_backbone_is_not_asked_of_the_hub(saved, monkeypatch):
    """A relative path that an earlier version wrote, read in another folder, looks like a hub id."""
    folder, text = saved
    (folder / "adapter_config.json").write_text(text)
    change(folder, backbone={"name": "clips/mine", "revision": "0123456789ab"})
    asked = []
    monkeypatch.setattr("huggingface_hub.model_info", lambda name, **_: asked.append(name))
    error = failure(lambda: load_backbone(checkpoints.trained_on(folder)))
    assert asked == [] and isinstance(error, FileNotFoundError)
    assert "clips/mine: no such folder" in str(error)
    change(folder, backbone={"name": "some/clip", "revision": "0" * 40})
    assert checkpoints.trained_on(folder) == "some/clip"


def test_a_write_that_fails_leaves_the_adapter_that_was_there(model, ids, tmp_path, monkeypatch):
    model.save_adapter("a", tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    write = Path.write_bytes

    def half(file, content):
        write(file, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        model.save_adapter("b", tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert load_file(tmp_path / "adapter_model.safetensors")


def test_killed_between_its_two_files_an_adapter_is_not_taken_for_whole(model, tmp_path, monkeypatch):
    model.save_adapter("a", tmp_path)
    model.add_adapter("gelu", AdapterConfig(4, 6, activation="gelu"))
    replace = Path.replace

    def killed_after_the_weights(file, target):
        replace(file, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed_after_the_weights)
    with pytest.raises(KeyboardInterrupt):
        model.save_adapter("gelu", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json: no such file"):
        model.load_adapter(tmp_path, "c")  # the new weights would fit the old config, but not its activation
