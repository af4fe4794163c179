"""The overlay against an explicit attention written out here, and against pictures whose answer is
known.
"""

import math
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F
from transformers import AutoTokenizer

from cma.backbone import MINI
from cma.patching import encoder_layers, patch_of
from explorer.attention import by_word, crop_box, explain, overlay
from tests.conftest import EOS, SOS

TEXT = "A red cat,  and two small Birds!"
TOWERS = ("vision", "text")


@pytest.fixture
def frames():
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in noise]


def forward(model, frames, text=TEXT):
    """The cosines [F], with the graph."""
    with torch.enable_grad():
        sentence = model.encode_text(model.tokenize([text])[0])
        return F.cosine_similarity(sentence, model.encode_images(frames))


class Naive:
    """Stands in for the forward of one `self_attn`, with A as a tensor of its own that gets a
    gradient.
    """

    def __init__(self, sublayer, causal):
        self.sublayer, self.causal = sublayer, causal

    def __call__(self, hidden_states, attention_mask=None, **_):
        length, heads = hidden_states.shape[1], self.sublayer.num_heads
        q, k, v = (
            getattr(self.sublayer, f"{name}_proj")(hidden_states).unflatten(-1, (heads, -1))
            for name in "qkv"
        )
        scores = torch.einsum("nihd,njhd->nhij", q, k) / math.sqrt(q.shape[-1])
        if self.causal:
            scores = scores + torch.full((length, length), -torch.inf).triu(1)
        self.a = scores.softmax(-1)
        if not self.a.requires_grad:
            self.a.requires_grad_()
        self.a.retain_grad()
        return self.sublayer.out_proj(torch.einsum("nhij,njhd->nihd", self.a, v).flatten(2)), None


# ---- relevance


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("adapter", [None, "a"])
def test_relevance_is_the_papers(model, frames, monkeypatch, kernel, adapter):
    model.set_adapter(adapter)
    model.clip.set_attn_implementation(kernel)
    weights = torch.tensor([0.7, 0.3, 0.0]) if adapter else None
    ours = explain(model, TEXT, frames, weights)
    assert ours.patches.min() >= 0 and ours.patches.max() == 1
    assert ours.words == ("A", "red", "cat,", "and", "two", "small", "Birds!")
    weights = torch.full((3,), 1 / 3) if weights is None else weights
    explicit = {tower: [] for tower in TOWERS}
    for tower, naive in explicit.items():
        for layer in encoder_layers(model.clip, tower):
            naive.append(Naive(layer.self_attn, causal=tower == "text"))
            monkeypatch.setattr(layer.self_attn, "forward", naive[-1])

    def relevance(tower, y):
        y.backward()
        r = torch.eye(explicit[tower][0].a.shape[-1])
        for layer in explicit[tower]:
            r = r + (layer.a.grad * layer.a.detach()).clamp(min=0).mean(1) @ r
        return r

    expected = relevance("vision", forward(model, frames).sum())[:, 0, 1:].reshape(3, 4, 4)
    torch.testing.assert_close(ours.patches, expected / expected.max(), rtol=1e-3, atol=1e-5)
    row = relevance("text", forward(model, frames) @ weights)[0, -1, 1:-1]
    tokens = model.processor.tokenizer(TEXT, return_offsets_mapping=True)
    words = by_word(TEXT, tokens["offset_mapping"][1:-1], row)
    torch.testing.assert_close(ours.word_weights, words / words.max(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.cosines, forward(model, frames).detach())


# ---- nothing is left behind


def state(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [len(getattr(module, kind)) for module in model.modules() for kind in kinds]
    parameters = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    kernels = [
        getattr(model.clip.config, f"{tower}_config")._attn_implementation for tower in TOWERS
    ]
    return hooks, parameters, modes, model.active, patch_of(model.clip).method, kernels


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("adapter", [None, "a"])
def test_nothing_is_left_behind(model, frames, monkeypatch, adapter, fails):
    model.set_adapter(adapter)
    model.train()
    model.clip.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    with torch.no_grad():
        before = state(model), model.encode_images(frames), model.encode_text([TEXT])
        with monkeypatch.context() as patch, pytest.raises(TypeError) if fails else nullcontext():
            if fails:
                patch.setattr(encoder_layers(model.clip, "vision")[-1].mlp, "forward", None)
            explain(model, TEXT, frames)
        assert not torch.is_grad_enabled()
        assert state(model) == before[0]
        assert torch.equal(model.encode_images(frames), before[1])
        assert torch.equal(model.encode_text([TEXT]), before[2])


def test_bad_input_is_named(model, frames):
    with pytest.raises(ValueError, match="blank"):
        explain(model, "  ", frames)
    with pytest.raises(ValueError, match="no frames"):
        explain(model, TEXT, [])
    with pytest.raises(ValueError, match=r"weights must be \[3\]"):
        explain(model, TEXT, frames, torch.ones(2))


# ---- words


@pytest.fixture(scope="session")
def tokenizers(toy_processor):
    return {"mini": AutoTokenizer.from_pretrained(MINI), "toy": toy_processor.tokenizer}


@pytest.mark.parametrize("which", ["mini", "toy"])
@given(
    text=st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from(" \t\n'é,.")
    )
)
@example("  A  red CAT,  sits… on the café's table!! ")
@example("two birds: don't (ever) \u201ctouch\u201d them.\n")
@example("e\u0301te\u0301 à Zürich, ﬁne İstanbul")
@example("🎉🎉 party 👩‍👩‍👧 time🎂")
@example("漢字 かな")
def test_every_token_goes_to_its_word(tokenizers, which, text):
    chosen = tokenizers[which]
    encoded = chosen(text, return_offsets_mapping=True, verbose=False)
    tokens = chosen.convert_ids_to_tokens(encoded["input_ids"])[1:-1]
    # the toy's token of a lone blank
    ones = torch.tensor([float(token != "Ġ") for token in tokens])
    counts = by_word(text, encoded["offset_mapping"][1:-1], ones)
    assert counts.tolist() == [
        sum(token != "Ġ" for token in chosen.tokenize(word)) for word in text.split()
    ]


def test_words_that_were_cut_weigh_nothing(model, frames):
    long = "a red cat sits on the green grass and two small birds sing in a tall tree by the water"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, short = explain(model, long, frames), explain(model, long, frames, max_words=5)
        ids = model.tokenize([long])[0][0]
    assert ids[0] == SOS and ids[-1] == EOS and len(ids) == 16
    seen = len(model.processor.tokenizer.decode(ids[1:-1]).split())
    assert 5 < seen < len(whole.words)
    for one, words in ((whole, seen), (short, 3)):
        assert one.words == tuple(long.split())
        assert (one.word_weights[words:] == 0).all() and (one.word_weights[: words - 1] > 0).any()
    torch.testing.assert_close(
        short.word_weights[:3], explain(model, "a red cat", frames).word_weights
    )


# ---- the heat map


@pytest.mark.parametrize(
    "size", [(64, 64), (96, 64), (50, 131), (33, 32), (301, 64), (20, 16), (12, 9)]
)
@pytest.mark.parametrize("patch", [(0, 0), (1, 2), (3, 3)])
def test_the_hot_patch_lies_where_clip_saw_it(toy_processor, size, patch):
    """CLIP's own preparation of a picture with one white cell, placed by the overlay, lights that
    patch.
    """
    box = crop_box(size, toy_processor)
    side = (box[2] - box[0]) / 4
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
    assert box[2] - box[0] == box[3] - box[1] == min(size)
    row, column = patch
    corner = (round(box[0] + column * side), round(box[1] + row * side))
    picture = Image.new("L", size)
    picture.paste(255, (*corner, round(corner[0] + side), round(corner[1] + side)))
    seen = toy_processor.image_processor(images=[picture.convert("RGB")], return_tensors="pt")
    cells = F.avg_pool2d(seen["pixel_values"], 8)[0].mean(0)
    assert cells.argmax() == row * 4 + column
    heat = torch.zeros(4, 4)
    heat[patch] = 1
    shown = np.asarray(overlay(Image.new("RGB", size), heat, toy_processor)).astype(int).sum(-1)
    assert shown.shape == (size[1], size[0])
    inside = shown[box[1] : box[3], box[0] : box[2]]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    assert y // side == row and x // side == column


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
@pytest.mark.parametrize("size", [(1, 1), (1, 64), (400, 1)])
def test_pictures_of_any_mode_and_shape(toy_processor, mode, size):
    shown = overlay(Image.new(mode, size), torch.ones(4, 4), toy_processor)
    assert shown.mode == "RGB" and shown.size == size
