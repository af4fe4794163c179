"""Where the prompts stand, what looks across frames, and what ties the towers."""

import pytest
import torch

from cma.methods import attach
from cma.patching import encoder_layers
from tests.conftest import CONTEXT, EOS, build_clip
from tests.methods.conftest import FRAMES, MASK, build, embed, token_ids


def gradients(model, output) -> dict[str, bool]:
    """Which tensors of the method `output` depends on."""
    model.zero_grad()
    output.square().sum().backward()
    return {
        n: p.grad is not None and bool(p.grad.any())
        for n, p in model.adapters["m"].named_parameters()
    }


@pytest.mark.parametrize("eos", [EOS, 2], ids=["by its id", "at the highest id"])
@pytest.mark.parametrize("method", ["CoOp", "VL-Prompt"])
@pytest.mark.parametrize(
    "length", [9, CONTEXT - 3, CONTEXT], ids=["short", "just too long", "full"]
)
def test_a_context_of_word_vectors_is_those_words(method, eos, length):
    options = {} if method == "CoOp" else {"tokens": 4, "depth": 1}
    model = build(method, clip=build_clip(eos_token_id=eos), **options)
    words = torch.tensor([7, 8, 9, 10])
    vectors = model.clip.text_model.get_input_embeddings().weight[words].detach()
    dict(model.adapters["m"].named_parameters())["text"].data = vectors[None].clone()
    captions = token_ids(length)
    longer = torch.cat([captions[:, :1], words.expand(4, -1), captions[:, 1:]], dim=1)[:, :CONTEXT]
    longer[~(longer == EOS).any(1), -1] = EOS  # a caption that is cut keeps its end
    with torch.no_grad():
        ours = model.encode_text(captions)
        model.set_adapter(None)
        torch.testing.assert_close(ours, model.encode_text(longer))
        assert not torch.allclose(ours, model.encode_text(captions), atol=1e-3)


def test_each_layer_sees_its_own_prompts_behind_the_patches():
    model, seen = build("VL-Prompt", moved=True, tokens=2, depth=2), []
    for tower in ("vision", "text"):
        for layer in encoder_layers(model.clip, tower):
            layer.layer_norm1.register_forward_pre_hook(
                lambda module, inputs: seen.append(inputs[0])
            )
    embed(model)
    text, vision = seen[:3], seen[3:]
    assert [x.shape[1] for x in vision] == [19] * 3 and [x.shape[1] for x in text] == [11] * 3
    method = model.adapters["m"]
    for i in range(2):
        assert torch.equal(vision[i][0, -2:], method.vision[i])
        assert i == 0 or torch.equal(text[i][0, 1:3], method.text[i])
    # beyond: what became of them
    assert not torch.allclose(vision[2][0, -2:], method.vision[1], atol=1e-3)


def test_maples_vision_prompts_hang_on_its_text_prompts():
    model = build("MaPLe", clip=build_clip(4, 2), tokens=3)
    from_vision = gradients(model, model.encode_images(FRAMES[:, 0]))
    # prompts, and two layers' couplings
    assert all(from_vision.values()) and len(from_vision) == 1 + 2 * 2
    from_text = gradients(model, model.encode_text(token_ids()))
    assert {name for name, used in from_text.items() if used} == {"text"}


def test_tied_towers_share_their_factors():
    model = build("MV-Adapter tying", moved=True, clip=build_clip(4, 3))
    for tower, embeddings in (
        ("text", model.encode_text(token_ids())),
        ("vision", model.encode_images(FRAMES[:, 0])),
    ):
        depends = gradients(model, embeddings)
        own = {name for name in depends if name.startswith((f"{tower}.", f"projections.{tower}."))}
        assert {name for name, used in depends.items() if used} == {"factors"} | own


def test_st_adapter_looks_at_neighbouring_frames_and_never_at_padding():
    model = build("ST-Adapter", moved=True, kernel=(3, 3, 3))
    with torch.no_grad():
        whole = model.encode_videos(FRAMES, MASK)
        torch.testing.assert_close(
            model.encode_videos(FRAMES[2:3, :2], MASK[2:3, :2]), whole[2:3, :2]
        )
        torch.testing.assert_close(model.encode_videos(FRAMES[3:, :1]), whole[3:, :1])
        other = FRAMES.clone()
        other[:, 2] = 0
        changed = model.encode_videos(other, MASK)
    assert not torch.allclose(changed[0, 1], whole[0, 1], atol=1e-4)  # its neighbour is another
    # for this clip the third frame is padding
    torch.testing.assert_close(changed[2, :2], whole[2, :2])
    with pytest.raises(ValueError, match="ST-Adapter: cannot do pictures, use encode_videos: its"):
        model.encode_images(FRAMES[:, 0])


def test_lora_is_a_low_rank_product_and_says_what_to_install(monkeypatch):
    model = build("LoRA", moved=True, rank=2, alpha=6.0, targets=("q_proj",))
    layer = encoder_layers(model.clip, "text")[1].self_attn
    x, wrapped = torch.randn(2, 32), layer.q_proj
    a, b = (getattr(wrapped, part)["default"].weight for part in ("lora_A", "lora_B"))
    added = wrapped(x)
    model.set_adapter(None)
    torch.testing.assert_close(added, layer.q_proj(x) + 3 * x @ a.T @ b.T)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"peft: not installed; run .*\[methods\]"):
        attach(model, "LoRA", "another")
