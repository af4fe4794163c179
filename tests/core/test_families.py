"""Backbones beside CLIP: each embeds as transformers does, takes adapters and methods, trains."""

import io
from copy import deepcopy

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.nn import functional as F

from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.backbone import check_tokenizer, identity, load_backbone
from cma.families import FAMILIES
from cma.methods import NAMES, attach
from cma.patching import encoder_layers
from cma.similarity import text_conditioned
from cma.training import Batch, prepare, restore, train_step
from cma.training.step import batch_loss
from explorer.attention import explain, overlay
from tests.conftest import ADAPTER, one_line, same
from tests.methods.conftest import FRAMES, MASK, assert_bare, move
from tests.toy_families import KINDS, OTHERS, build_backbone, build_family_processor

TEXTS = ["a red cat", "two birds sing", "the small dog sits on the green grass", "a boat"]
PIXELS = FRAMES[:, 0]
REFUSED = {("siglip", "projection"), ("chinese_clip", "AdaptFormer")}
CONFIG = TrainConfig(lr=1e-2, weight_decay=0.0, similarity="text_conditioned")


def build(
    kind: str, method: str | None = None, dtype: torch.dtype = torch.float32
) -> RetrievalModel:
    """A toy backbone with its processor; the weights of `method` are large enough to matter."""
    model = RetrievalModel(build_backbone(kind).to(dtype), build_family_processor(kind))
    if method:
        attach(model, method, "m").to(dtype)
        move(model.adapters["m"])
    return model


def a_batch(model: RetrievalModel) -> Batch:
    return Batch(model.tokenize(TEXTS)[0], FRAMES.to(model.dtype), MASK, torch.arange(4))


def embed(model: RetrievalModel) -> list[torch.Tensor]:
    with torch.no_grad():
        return [
            model.encode_text(TEXTS),
            model.encode_videos(FRAMES, MASK),
            model.encode_images(PIXELS),
        ]


# ---- reading


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_without_adapter_are_those_of_transformers(kind):
    model, clip = build(kind), build_backbone(kind)
    padding = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
    given = model.processor.tokenizer(TEXTS, **padding, return_tensors="pt")
    mask = {"attention_mask": given["attention_mask"]} if kind == "chinese_clip" else {}
    with torch.no_grad():
        out = clip(input_ids=given["input_ids"], pixel_values=PIXELS, **mask)
        text = clip.get_text_features(given["input_ids"], **mask).pooler_output
        images = clip.get_image_features(PIXELS).pooler_output
        assert torch.equal(model.encode_text(TEXTS), text)
        assert torch.equal(model.encode_images(PIXELS), images)
        cosines = F.normalize(model.encode_text(TEXTS), dim=-1) @ F.normalize(images, dim=-1).T
        logits = model.logit_scale * cosines + getattr(clip, "logit_bias", 0.0)
    torch.testing.assert_close(logits, out.logits_per_text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_loads_by_its_model_type(kind, tmp_path):
    build_backbone(kind).save_pretrained(tmp_path)
    build_family_processor(kind).save_pretrained(tmp_path)
    model = RetrievalModel.from_pretrained(tmp_path)
    assert type(model.clip).__name__ == FAMILIES[kind].model and identity(model.clip)["revision"]
    assert same(embed(model), embed(build(kind)))
    assert (model.widths, model.layers) == ({"vision": 48, "text": 32}, {"vision": 3, "text": 3})
    picture = Image.linear_gradient("L").convert("RGB").resize((80, 50))
    torch.testing.assert_close(model.encode_images([picture]), build(kind).encode_images([picture]))
    half = RetrievalModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert (
        half.dtype
        == half.encode_text(TEXTS).dtype
        == half.encode_videos(FRAMES).dtype
        == torch.bfloat16
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_matters_and_the_captions_beside_do_not(kind):
    model = build(kind, "cross-modal adapter")
    alone, beside = model.encode_text(TEXTS[:1]), model.encode_text(TEXTS)[:1]
    torch.testing.assert_close(alone, beside)
    for other in ("the red cat", "a blue cat", "a red dog"):
        assert (model.encode_text([other]) - alone).abs().max() > 1e-3
    ids, _ = model.tokenize(TEXTS)
    padded = model.family.encode_text(model.clip, ids[:2])
    torch.testing.assert_close(model.encode_text(ids[:2]), padded)
    with pytest.warns(UserWarning, match="1 of 1 captions exceed 5 tokens"):
        cut = model.tokenize(["a red cat sits on the green grass"], max_words=5)[0]
    assert torch.equal(
        cut[:, :5], model.tokenize(["a red cat sits"[: 9 if model.family.starts else 14]])[0][:, :5]
    )


def test_siglip_reads_lower_case_and_padding():
    model = build("siglip")
    ids, _ = model.tokenize(["A Red CAT"])
    assert torch.equal(ids, model.tokenize(["a red cat"])[0]) and ids.shape == (1, 64)
    assert ids[0, 3:].eq(model.processor.tokenizer.pad_token_id).all()
    assert torch.equal(model.encode_text(ids), model.family.encode_text(model.clip, ids))
    unpadded = model.clip.get_text_features(ids[:, :4]).pooler_output
    assert F.cosine_similarity(unpadded, model.encode_text(ids)).item() < 0.99
    with pytest.raises(ValueError, match=r"SigLIP .*\[T, 64\], not \[1, 4\]"):
        model.encode_text(ids[:, :4])


def test_metaclips_end_is_2_and_not_the_highest_id():
    model = build("metaclip_2")
    ids, _ = model.tokenize(TEXTS)
    ends = model.family.ends(model.clip.config.text_config, ids)
    assert model.clip.config.text_config.eos_token_id == 2 and ids.max() > 2
    assert ids.gather(1, ends[:, None]).eq(2).all() and (ids.argmax(1) != ends).any()
    model.clip.config.text_config.eos_token_id = 5
    with pytest.raises(ValueError, match="eos_token_id is 5, .* id 2"):
        check_tokenizer(model.clip, model.processor.tokenizer)


def test_chinese_clip_needs_its_mask():
    model = build("chinese_clip")
    ids, _ = model.tokenize(TEXTS)
    unmasked = model.clip.get_text_features(ids).pooler_output
    assert F.cosine_similarity(unmasked, model.encode_text(ids))[3] < 0.999
    model.clip.config.text_config.pad_token_id = 7
    with pytest.raises(ValueError, match="id 2 and pads with 0"):
        RetrievalModel(model.clip, model.processor)


def test_text_conditioned_pooling_is_scaled_by_the_norms():
    text, frames = torch.randn(3, 8) * 4, torch.randn(2, 5, 8) * 0.3
    assert FAMILIES["clip"].comparable(text) is text
    for kind in OTHERS:
        ours = text_conditioned(*map(FAMILIES[kind].comparable, (text, frames)))
        units = F.normalize(frames, dim=-1)
        cosines = torch.einsum("td,vfd->tvf", F.normalize(text, dim=-1), units)
        pooled = torch.einsum("tvf,vfd->tvd", (100 * cosines / 5).softmax(-1), units)
        torch.testing.assert_close(ours, F.cosine_similarity(pooled, text[:, None], dim=-1))


def test_the_sigmoid_loss_is_that_of_transformers():
    model, config = build("siglip"), TrainConfig(loss="sigmoid", mask_same_item=False)
    batch = a_batch(model)._replace(frames=PIXELS[:, None], mask=MASK[:, :1])
    with torch.no_grad():
        theirs = model.clip(input_ids=batch.input_ids, pixel_values=PIXELS, return_loss=True).loss
        torch.testing.assert_close(batch_loss(model, batch, config), theirs)


# ---- adapters and methods


def test_in_a_post_norm_layer_the_adapter_joins_the_sublayer_before_the_norm():
    """x <- LN(x + z + adapter(z)), after the attention and after the MLP."""
    model = build("chinese_clip")
    adapter = model.add_adapter("a", ADAPTER)
    layer, x = encoder_layers(model.clip, "text")[1], torch.randn(2, 5, 32)
    with torch.no_grad():
        ours = layer(x)
        model.set_adapter(None)
        z = layer.attention.output.dense(layer.attention.self(x)[0])
        x = layer.attention.output.LayerNorm(x + z + adapter("text", 2, z))
        z = layer.output.dense(layer.intermediate(x))
        torch.testing.assert_close(ours, layer.output.LayerNorm(x + z + adapter("text", 3, z)))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("method", NAMES)
def test_a_method_trains_a_step_and_comes_off_bitwise_or_says_why_not(kind, method):
    model = build(kind)
    before, plain = deepcopy(model.clip.state_dict()), embed(model)
    try:
        attach(model, method, "m")
        optimizer = prepare(model, CONFIG)
    except ValueError as error:
        assert str(error).startswith(f"{method}: ") and "\n" not in str(error)
        assert (kind, method) in REFUSED or method == "zero-shot"
        assert method == "zero-shot" or "m" not in model.adapters
        return
    assert (kind, method) not in REFUSED
    for _ in range(2):
        loss, norm = train_step(model, optimizer, a_batch(model), 1e-2, CONFIG)
        assert loss > 0 and norm > 0
    trained = [p for p in model.trainable_parameters() if p.numel()]
    assert all(p.grad is not None for p in trained)
    with torch.no_grad():
        moved = [model.encode_text(TEXTS), model.encode_videos(FRAMES, MASK)]
    assert not same(moved, plain[:2])
    model.set_adapter(None)
    assert_bare(model, before)
    assert same(embed(model), plain)
    assert not any(p.requires_grad for p in model.clip.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_word_vectors_as_prompts_are_those_words(kind):
    """CoOp's vectors stand where the words would, with their positions, mask and pooling."""
    model = build(kind)
    expected = model.encode_text(["red green cat sits", "red green dog"])
    prompts = attach(model, "CoOp", "m", tokens=2)
    words = [model.processor.tokenizer.get_vocab()[word] for word in ("red", "green")]
    prompts.text.data = (
        model.clip.text_model.get_input_embeddings().weight[words].detach()[None].clone()
    )
    torch.testing.assert_close(model.encode_text(["cat sits", "dog"]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_follows_float32_and_is_given_back_bitwise(kind):
    model = build(kind)
    plain = embed(model)
    model.add_adapter("a", AdapterConfig(4, 8))
    losses = []
    for precision in ("float32", "bf16", "fp16"):
        config = CONFIG.merge({"precision": precision, "optimizer": "bert_adam"})
        optimizer = prepare(model, config)
        losses.append(train_step(model, optimizer, a_batch(model), 1e-5, config)[0])
        if precision == "fp16":
            assert model.dtype == model.encode_text(TEXTS).dtype == torch.float16
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=0.05)
    restore(model)
    model.set_adapter(None)
    assert same(embed(model), plain) and {p.dtype for p in model.clip.parameters()} == {
        torch.float32
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_explanation_weighs_each_word_and_patch(kind):
    model = build(kind, "cross-modal adapter")
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in noise]
    plain = embed(model)
    found = explain(model, "A red  cat", pictures)
    assert found.words == ("A", "red", "cat") and found.patches.shape == (2, 4, 4)
    assert found.word_weights.shape == (3,) and found.word_weights.max() == found.patches.max() == 1
    assert found.patches.min() >= 0 and found.patches.std() > 0 and found.word_weights.min() >= 0
    assert overlay(pictures[0], found.patches[0], model.processor).size == (60, 40)
    assert same(embed(model), plain)
    attach(model, "VPT", "v")
    with pytest.raises(ValueError, match="adds its own tokens"):
        explain(model, "a red cat", pictures)


# ---- what does not fit


def small(kind: str) -> torch.nn.Module:
    """A model of transformers, on no device."""
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
    }
    config = getattr(transformers, f"{kind}Config")
    with torch.device("meta"):
        return getattr(transformers, f"{kind}Model")(config(text_config=sizes, vision_config=sizes))


def test_a_backbone_that_does_not_fit_says_why(tmp_path):
    with torch.device("meta"):
        bert = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        half = transformers.CLIPTextModel(transformers.CLIPTextConfig(num_hidden_layers=1))
        eyes = transformers.CLIPForImageClassification(small("CLIP").config)
    for clip, said in (
        (bert, "a BertModel: a model of type 'bert'; expected a CLIP .* or "),
        (half, "a CLIPTextModel: a model of type 'clip_text_model'; expected a CLIP"),
        (eyes, r"a CLIPModel as RetrievalModel\(clip, …\), not a CLIPForImageClassification"),
        ("openai/clip", "a str: a model of type None; expected a CLIP"),
    ):
        with one_line((TypeError, ValueError), said):
            RetrievalModel(clip)
    for config, said in (
        (
            transformers.BertConfig(),
            "'bert'; expected a CLIP .*: how another reads is not in cma/families",
        ),
        (
            transformers.Siglip2Config(),
            "'siglip2'; .* NaFlex takes three tensors a picture; try google",
        ),
    ):
        config.save_pretrained(tmp_path)
        with one_line(ValueError, said) as error:
            load_backbone(tmp_path)
        assert str(tmp_path) in str(error.value)
    with pytest.raises(ValueError, match="NaFlex takes three tensors"):
        RetrievalModel(small("Siglip2"))


def test_the_tokenizer_of_siglip_itself(tmp_path):
    """`SiglipTokenizer` lower-cases and drops punctuation; it is slow, so it tells no places of
    tokens.
    """
    sentencepiece, learnt = pytest.importorskip("sentencepiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        **{"sentence_iterator": iter(TEXTS * 50), "model_writer": learnt, "vocab_size": 40},
        **{
            "unk_id": 2,
            "bos_id": -1,
            "eos_id": 1,
            "pad_id": 0,
            "hard_vocab_limit": False,
            "minloglevel": 2,
        },
    )
    (tmp_path / "spiece.model").write_bytes(learnt.getvalue())
    images = build_family_processor("siglip").image_processor
    processor = transformers.SiglipProcessor(
        images, transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    )
    processor.save_pretrained(tmp_path)
    build_backbone("siglip").save_pretrained(tmp_path)
    model = RetrievalModel.from_pretrained(tmp_path)
    ids, _ = model.tokenize(["A Red, Cat!", "a red cat"])
    assert (
        torch.equal(*ids)
        and ids.shape == (2, 64)
        and ids[0, -1] == processor.tokenizer.eos_token_id
    )
    with pytest.raises(ValueError, match="SiglipTokenizer cannot map tokens to words"):
        explain(model, "a red cat", [Image.new("RGB", (32, 32))])


def test_the_extra_of_siglips_tokenizer_is_named(tmp_path, monkeypatch):
    build_backbone("siglip").save_pretrained(tmp_path)
    build_family_processor("siglip").save_pretrained(tmp_path)

    def many_lines(*_, **__):
        raise ImportError("\nSiglipTokenizer requires\nthe SentencePiece library")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", many_lines)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"^sentencepiece: not installed; run `pip .*\[siglip\]'`$"
    ):
        load_backbone(tmp_path)
