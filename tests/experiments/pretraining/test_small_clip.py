"""The tokenizer and the CLIP that pre-training starts from, and the bundled one that came of it."""

import torch

import cma
from experiments.pretraining import small_clip
from experiments.pretraining.small_clip import build_model
from tests.experiments.pretraining.conftest import CONFIG, TOKENS


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
