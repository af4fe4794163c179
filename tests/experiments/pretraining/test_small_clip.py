"""The tokenizer and the CLIP that pre-training starts from, and the bundled one that came of it."""

import torch

import cma


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
