import json
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from cma.adapter import AdapterConfig
from cma.config import ReadConfig
from cma.media import MediaError
from cma.model import RetrievalModel
from cma.patching import patch_of
from cma.similarity import mean_pooled
from tests.conftest import ADAPTER, EOS, SOS, build_clip, one_line, same, same_state
from tests.methods.conftest import FRAMES, embed, hooks, move, token_ids

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture
def ids():
    return token_ids()[:3]


@pytest.fixture
def pixels():
    return FRAMES[:2]


# ---- embeddings


def test_frames_of_a_video_are_images_and_pictures_have_any_mode(model, pixels):
    model.set_adapter("a")
    frames = model.encode_videos(pixels, torch.ones(2, 3))
    assert frames.shape == (2, 3, 32)
    torch.testing.assert_close(frames[1], model.encode_images(pixels[1]))
    sizes = {"L": (50, 40), "RGB": (9, 64), "P": (64, 9)}
    assert model.encode_images([Image.new(*one, 90) for one in sizes.items()]).shape == (3, 32)


def test_the_last_word_matters_and_padding_does_not(model):
    model.set_adapter("a")
    alone = model.encode_text(["a cat"])
    beside = model.encode_text(["a cat", "a small bird sings on a tree in the night"])[:1]
    torch.testing.assert_close(alone, beside)
    assert (alone - model.encode_text(["a dog"])).abs().max() > 0.01


def test_text_is_tokens_and_cut_captions_are_counted_and_told_once(model):
    long = "a man and a woman walking with a dog on the beach at night with a boat"
    with pytest.warns(UserWarning, match="1 of 2 captions exceed 16 tokens"):
        ids, cut = model.tokenize(["a cat", long])
    assert cut == 1
    assert ids.shape == (2, 16) and ids[:, 0].tolist() == [SOS, SOS]
    assert ids[1, -1] == EOS and EOS not in ids[1, :-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        short, cut = model.tokenize(["a cat", "a small bird sings"], max_words=4)
    assert short.shape == (2, 4) and cut == 1
    assert short[1].tolist() == [
        *ids[1, :1].tolist(),
        *model.tokenize(["a small"])[0][0, 1:3].tolist(),
        EOS,
    ]
    assert model.tokenize(["a cat"], max_words=99)[1] == 0


def test_half_a_character_is_read_as_a_question_mark(model):
    assert torch.equal(model.encode_text(["a cat \ud800"]), model.encode_text(["a cat ?"]))


def test_one_text_and_paths_of_pictures_are_taken(model, tmp_path):
    assert torch.equal(model.encode_text("a cat"), model.encode_text(["a cat"]))
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    expected = model.encode_images([Image.open(path)])
    for images in (path, str(path), [path], Image.open(path)):
        assert torch.equal(model.encode_images(images), expected)
    with pytest.raises(MediaError, match=r"gone\.png"):
        model.encode_images([path, tmp_path / "gone.png"])


def test_the_papers_adapter_is_the_default(model):
    assert model.add_adapter("one").options == AdapterConfig()
    assert model.add_adapter("two", bottleneck_dim=4).options == AdapterConfig(bottleneck_dim=4)


def test_bad_inputs_are_named(model, pixels, ids):
    with pytest.raises(TypeError, match="list of captions"):
        model.encode_text(["a cat", None])
    picture = Image.new("RGB", (9, 9))
    for images in (np.zeros((1, 9, 9, 3)), None, [picture, None]):
        with pytest.raises(TypeError, match="expected paths or PIL pictures, or .*; found "):
            model.encode_images(images)
    bare = RetrievalModel(model.clip)
    assert torch.equal(bare.encode_text(ids), model.encode_text(ids))
    for call, said in (
        (lambda: bare.encode_text(["a cat"]), "no processor"),
        (lambda: bare.encode_images([picture]), "no processor"),
        (lambda: model.encode_text([]), "no captions"),
        (lambda: model.encode_text(["a cat", " \n"]), "caption 1 is blank"),
        (lambda: model.tokenize(["a cat"], max_words=2), "max_words"),
        (lambda: model.encode_text(ids[0]), "input_ids must be"),
        (lambda: model.encode_images([]), "no images"),
        (lambda: model.encode_images(pixels[:0, 0]), r"not torch.float32 \[0, 3, "),
        (lambda: model.encode_images(pixels[:, 0, :1]), r"pixels must be float \[V .*, 3, H, W\]"),
        (
            lambda: model.encode_videos(pixels[:, 0], torch.ones(2, 3)),
            r"not torch.float32 \[\d+, 32, 32\]",
        ),
        (lambda: model.encode_videos(pixels, torch.ones(3, 2)), r"mask must be \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    with pytest.raises(ValueError, match="clip is a CLIPProcessor: .*; expected a CLIP"):
        RetrievalModel(model.processor, model.clip)


# ---- adapters


def test_an_adapter_acts_at_any_strength(model, ids):
    plain = model.encode_text(ids)
    model.set_adapter("a")
    adapted = model.encode_text(ids)
    model.set_adapter("a", 0.5)
    half = model.encode_text(ids)
    assert 1e-3 < (half - plain).norm() < (adapted - plain).norm()
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


def test_using_lasts_as_long_as_its_block(model):
    model.set_adapter("b", 0.5)
    model.train()
    with pytest.raises(KeyError), model.using("a"):
        assert (model.active, model.scale, model.training) == ("a", 1.0, False)
        assert not torch.is_grad_enabled()
        raise KeyError
    assert (model.active, model.scale, model.training) == (
        "b",
        0.5,
        True,
    ) and torch.is_grad_enabled()


def test_train_switches_adapter_dropout_but_never_clip(model, ids):
    model.add_adapter("dropout", AdapterConfig(4, 6, dropout=0.5, init_std=0.3))
    # a new model is in eval mode
    assert torch.equal(model.encode_text(ids), model.encode_text(ids))
    model.train()
    assert not any(module.training for module in model.clip.modules())
    assert not torch.equal(model.encode_text(ids), model.encode_text(ids))
    model.eval()
    assert torch.equal(model.encode_text(ids), model.encode_text(ids))


def test_names_in_use_unknown_or_unusable(model):
    with pytest.raises(ValueError, match="'a' cannot be used: .* in use"):
        model.add_adapter("a", ADAPTER)
    with pytest.raises(ValueError, match="no adapter 'c'; there are: a, b"):
        model.set_adapter("c")
    for name in ("a.b", "", "train"):
        with pytest.raises(ValueError, match="cannot be used"):
            model.add_adapter(name, ADAPTER)
    with pytest.raises(TypeError, match="such as cma.AdapterConfig; found dict {'shared_dim': 8}"):
        model.add_adapter("c", {"shared_dim": 8})
    assert list(model.adapters) == ["a", "b"] and model.active is None


def test_what_is_added_acts_and_what_is_removed_does_not(model, ids):
    plain = model.encode_text(ids)
    model.add_adapter("c", ADAPTER)
    assert model.active == "c" and not torch.equal(model.encode_text(ids), plain)
    model.remove_adapter("a")  # another one
    assert model.active == "c" and list(model.adapters) == ["b", "c"]
    model.remove_adapter("c")
    assert (
        model.active is None
        and patch_of(model.clip).method is None
        and model.trainable_parameters() == []
    )
    assert torch.equal(model.encode_text(ids), plain)
    with pytest.raises(ValueError, match="no adapter 'c'; there are: b"):
        model.remove_adapter("c")
    model.add_adapter("c", ADAPTER)


def test_numbers_that_cannot_be_are_refused_in_one_line(model, tmp_path, ids):
    state = model.adapters["a"].state_dict()
    spoilt = state["shared_bias"].clone()
    spoilt[0, 0] = torch.nan
    open_ended = ids.clone()
    open_ended[1] = SOS - 1
    for call, said in (
        (lambda: model.add_adapter("c", AdapterConfig(2**62)), "cannot be built from shapes"),
        (lambda: model.add_adapter("c", ADAPTER, state | {"shared_bias": spoilt}), "not finite"),
        (lambda: model.save_adapter("", "a"), "the folder's name is empty"),
        (lambda: model.encode_text(open_ended), r"input_ids\[1\]: no end token"),
    ):
        with one_line(ValueError, said) as error:
            call()
        assert len(str(error.value)) < 400
    assert list(model.adapters) == ["a", "b"]


def test_a_method_is_added_by_its_name_or_its_options(model):
    lora = model.add_adapter("by name", "LoRA", seed=3, rank=2)
    assert type(model.add_adapter("by options", lora.options)) is type(lora)
    again = model.add_adapter("again", lora.options, seed=3, alpha=4.0)
    assert (again.options.rank, again.options.alpha) == (2, 4.0)
    assert same(again.parameters(), lora.parameters())
    with pytest.raises(TypeError, match="options of one, .*; found BottleneckOptions"):
        model.add_adapter("c", model.add_adapter("n", "AdaptFormer").options)


# ---- threads

NAMES = ("cross-modal adapter", "LoRA", "full fine-tuning")


def test_adapters_are_merged_to_their_weighted_mean(model, ids, tmp_path):
    move(model.adapters["a"])
    states = [model.adapters[name].state_dict() for name in ("a", "b")]
    merged = model.average_adapters(["a", "b"], [3, 1], "c")
    for key, value in merged.state_dict().items():
        torch.testing.assert_close(value, 0.75 * states[0][key] + 0.25 * states[1][key])
    acts = model.encode_text(ids)
    model.save_adapter(tmp_path / "c", "c")
    model.load_adapter(tmp_path / "c", "d")
    assert torch.equal(model.encode_text(ids), acts)
    model.average_adapters(["a", "d"], [1, 0], "e")  # one that was loaded, too
    assert same_state(model.adapters["e"].state_dict(), states[0])


def test_how_media_were_read_is_kept_if_all_were_read_so(model):
    model.adapters["a"].reading = model.adapters["b"].reading = ReadConfig(max_frames=3)
    model.add_adapter("other", ADAPTER)
    assert model.average_adapters(["a", "b"], [1, 1], "c").reading == ReadConfig(max_frames=3)
    assert model.average_adapters(["a", "other"], [1, 1], "d").reading is None


def test_adapters_that_differ_in_more_than_their_numbers_are_not_merged(model, tmp_path):
    model.add_adapter("lora", "LoRA", rank=2)
    model.add_adapter("wider", ADAPTER, bottleneck_dim=5)
    model.save_adapter(tmp_path / "far", "a")
    about = tmp_path / "far" / "adapter_config.json"
    config = json.loads(about.read_text())
    config["backbone"]["revision"] = "another"
    about.write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="trained on"):
        model.load_adapter(tmp_path / "far", "far")
    before = list(model.adapters)
    for names, weights, said in (
        (["a", "lora"], [1, 1], "adapter 'lora': .*one method"),
        (["a", "wider"], [1, 1], "adapter 'wider': .*'bottleneck_dim': 5.*the same options"),
        (["a", "far"], [1, 1], "adapter 'far': trained on .*another.*this backbone"),
        (["a", "gone"], [1, 1], "no adapter 'gone'"),
        (["a", "b"], [1], "expected 2 numbers"),
        (["a", "b"], [2, -1], "expected 2 numbers"),
        (["a", "b"], [0, 0], "not all 0"),
        (["a", "b"], [1, float("nan")], "expected 2 numbers"),
        ([], [], "expected 0 numbers"),
    ):
        with one_line(ValueError, said):
            model.average_adapters(names, weights, "c")
    assert list(model.adapters) == before


def test_threads_that_switch_ask_add_and_remove_get_what_one_thread_gets(model):
    for name in NAMES:
        move(model.add_adapter(name, name, seed=1))

    wanted, names = {}, (None, "a", *NAMES)
    for name in names:
        model.set_adapter(name)
        wanted[name] = embed(model)
    model.set_adapter(None)
    before = dict(model.clip.named_parameters())
    values = {name: value.clone() for name, value in before.items()}
    state = model.adapters["a"].state_dict()

    def use(number):
        random = Random(number)
        for step in range(10):
            name, own = random.choice(names), f"{number}-{step}"
            action = random.randrange(5)
            if action == 0:
                model.set_adapter(name)
                text = embed(model)[0]
                assert any(torch.equal(text, each) for each, _ in wanted.values())
            elif action == 1:
                model.add_adapter(own, ADAPTER, state)
                model.remove_adapter(own)
            elif action == 2:
                with model.lock:
                    model.set_adapter(name)
                    assert model.active == name and same(embed(model), wanted[name])
            else:
                with model.using(name):
                    assert model.active == name and same(embed(model), wanted[name])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(use, range(3)))
    finally:
        sys.setswitchinterval(interval)
    assert list(model.adapters) == ["a", "b", *NAMES] and not model.training
    model.set_adapter(None)
    assert hooks(model) == 0 and same(embed(model), wanted[None])
    after = dict(model.clip.named_parameters())
    assert list(after) == list(before)
    assert all(after[key] is before[key] and torch.equal(after[key], values[key]) for key in before)


def test_what_acts_in_one_thread_is_not_seen_in_another(model, ids):
    model.set_adapter("a")
    adapted, found = model.encode_text(ids), []
    other = threading.Thread(target=lambda: found.extend(model.encode_text(ids) for _ in range(3)))
    other.start()
    while other.is_alive():  # as a training does, which lets the lock go only between its steps
        with model.using(None):
            time.sleep(1e-3)
    assert len(found) == 3 and all(torch.equal(one, adapted) for one in found)


# ---- precision and devices


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["float32", "bf16 backbone", "autocast"])
def test_precisions_and_devices(toy_clip, ids, pixels, device, mode):
    reference = RetrievalModel(toy_clip)
    state = reference.add_adapter("a", AdapterConfig(4, 6, init_std=0.1)).state_dict()
    expected = mean_pooled(
        reference.encode_text(ids), reference.encode_videos(pixels), torch.ones(2, 3)
    )

    model = RetrievalModel(
        build_clip().to(torch.bfloat16 if mode == "bf16 backbone" else torch.float32)
    )
    model.add_adapter("a", AdapterConfig(4, 6), state)
    model.to(device)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=mode == "autocast"):
        text, frames = model.encode_text(ids), model.encode_videos(pixels)
        similarity = mean_pooled(text, frames, torch.ones(2, 3))
    assert text.dtype == frames.dtype == (torch.float32 if mode == "float32" else torch.bfloat16)
    assert similarity.dtype == torch.float32 and similarity.device.type == device
    torch.testing.assert_close(
        similarity.cpu(), expected, atol=1e-5 if mode == "float32" else 0.03, rtol=0
    )
    similarity.sum().backward()
    for parameter in model.trainable_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.device.type == device


@pytest.mark.parametrize(
    ("shape", "at_once", "sizes"), [((5, 1), 2, [2, 2, 1]), ((3, 4), 6, [4, 4, 4])]
)
def test_on_a_cpu_few_frames_or_one_clip_pass_the_encoder_at_once(
    model, monkeypatch, shape, at_once, sizes
):
    """Embeddings and gradient are those of all at once, and each clip keeps its own mask."""
    frames, mask, seen = torch.randn(*shape, 3, 32, 32), torch.ones(shape, dtype=torch.long), []
    mask[0, 1:] = 0
    adapter = model.add_adapter("new", AdapterConfig(4, 8))
    vision = model.clip.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1

    def embed(count):
        monkeypatch.setattr("cma.model.CACHE", count * 4 * tokens * vision.intermediate_size)
        assert model.frames_at_once == count
        seen.clear()
        embeddings = model.encode_videos(frames, mask)
        return embeddings, *torch.autograd.grad(
            embeddings.square().sum(), list(adapter.vision.parameters())
        )

    model.clip.vision_model.register_forward_pre_hook(lambda *_: seen.append(adapter.frame_mask))
    whole = embed(99)
    assert len(seen) == 1
    parts = embed(at_once)
    assert [mask_of_part.numel() for mask_of_part in seen] == sizes
    assert torch.equal(torch.cat(seen), mask)
    torch.testing.assert_close(parts, whole)
