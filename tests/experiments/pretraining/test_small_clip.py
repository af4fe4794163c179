"""The tokenizer and the CLIP that pre-training starts from, and the bundled one that came of it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

import cma
from experiments.pretraining import small_clip
from experiments.pretraining.small_clip import build_model
from tests.experiments.pretraining.conftest import CONFIG, TOKENS


def test_end_token_is_last_and_pooling_sees_the_last_word():
    clip = build_model(CONFIG.shape, TOKENS).eval()
    assert TOKENS.eos_token_id == len(TOKENS) - 1 == clip.config.text_config.eos_token_id != 2
    model = cma.RetrievalModel(clip, small_clip.processor_for(clip, TOKENS))
    first, second = model.encode_text(["an old house", "an old boat"])
    assert not torch.allclose(first, second, atol=1e-4)


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_tokenised_without_unknowns(text):
    ids = TOKENS(text)["input_ids"]
    assert ids[0] == TOKENS.bos_token_id and ids[-1] == TOKENS.eos_token_id
    assert TOKENS.eos_token_id not in ids[1:-1]  # the unknown token is the end token


def test_the_bundled_clip_is_small_has_unequal_widths_and_reads_the_last_word():
    assert sum(file.stat().st_size for file in cma.backbone.MINI.iterdir()) <= 25_000_000
    clip, processor = cma.load_backbone("mini")
    model = cma.RetrievalModel(clip, processor)
    assert model.widths["vision"] != model.widths["text"]
    assert model.layers["vision"] == model.layers["text"]
    assert clip.config.vision_config.hidden_act == "quick_gelu"
    assert clip.config.text_config.eos_token_id == processor.tokenizer.eos_token_id != 2
    first, second = model.encode_text(["a red apple", "a red car"])
    assert torch.cosine_similarity(first, second, dim=0) < 0.99


def test_export_is_loaded_like_any_other_clip(tmp_path):
    clip = build_model(CONFIG.shape, TOKENS).eval()
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "README.md").write_text("card")
    small_clip.export(clip, TOKENS, tmp_path / "clip")
    loaded, processor = cma.load_backbone(tmp_path / "clip")
    assert (tmp_path / "clip" / "README.md").read_text() == "card"
    assert processor.tokenizer("old boat")["input_ids"] == TOKENS("old boat")["input_ids"]
    weight = clip.visual_projection.weight
    assert torch.equal(loaded.visual_projection.weight, weight.half().float())
