"""The pre-training recipe on invented drawings: tokenizer, batches, views, loss, resuming after a kill."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cma
from cma.pretraining import loop, small_clip
from cma.pretraining.augmentation import augment, recolour
from cma.pretraining.loop import PretrainConfig
from cma.pretraining.small_clip import ClipShape, build_model, build_tokenizer

CONFIG = PretrainConfig(
    steps=4, batch_size=8, warmup=1, mix=(("emoji", 0.5), ("mono", 0.5)),
    shape=ClipShape(image_size=24, patch_size=8, vision_width=128, text_width=64, layers=1, projection=32,
                    vocabulary=600, context=16),
)  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    concept: str
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    group: str


def corpus():
    names = ["red fox", "blue fox", "old house", "new house", "sun", "moon", "tree", "boat", "car", "café"]
    rows = [Drawing(name, (name, f"a {name}"), ("one", "two", "three"), "emoji") for name in names]
    rows += [Drawing(name, (name,), (), "mono") for name in names]
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), 24, 24, 4), dtype=np.uint8)
    return pixels, rows


def tokenizer():
    return build_tokenizer([text for row in corpus()[1] for text in row.captions], CONFIG.shape)


def test_end_token_is_last_and_pooling_sees_the_last_word():
    tokens = tokenizer()
    clip = build_model(CONFIG.shape, tokens).eval()
    assert tokens.eos_token_id == len(tokens) - 1 == clip.config.text_config.eos_token_id != 2
    model = cma.RetrievalModel(clip, small_clip.processor_for(clip, tokens))
    first, second = model.encode_text(["an old house", "an old boat"])
    assert not torch.allclose(first, second, atol=1e-4)


@given(st.text(min_size=1, max_size=30))
def test_any_text_is_tokenised_without_unknowns(text):
    tokens = TOKENS
    ids = tokens(text)["input_ids"]
    assert ids[0] == tokens.bos_token_id and ids[-1] == tokens.eos_token_id
    assert tokens.eos_token_id not in ids[1:-1]  # the unknown token is the end token


TOKENS = tokenizer()


def test_bundled_clip_reads_the_last_word():
    clip, processor = cma.load_backbone("mini")
    assert clip.config.text_config.eos_token_id == processor.tokenizer.eos_token_id != 2
    first, second = cma.RetrievalModel(clip, processor).encode_text(["a red apple", "a red car"])
    assert torch.cosine_similarity(first, second, dim=0) < 0.99


def test_bundled_clip_is_small_and_of_unequal_widths():
    folder = cma.backbone.MINI
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 25_000_000
    model = cma.RetrievalModel(*cma.load_backbone("mini"))
    assert model.widths["vision"] != model.widths["text"]
    assert model.layers["vision"] == model.layers["text"]
    assert model.clip.config.vision_config.hidden_act == "quick_gelu"


def test_drawings_of_one_concept_or_caption_share_the_target():
    logits = torch.randn(4, 4)
    concepts, texts = ["a", "a", "b", "c"], ["x", "y", "z", "z"]
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).double()
    rows = -(logits.double().log_softmax(1) * same / 2).sum(1).mean()
    columns = -(logits.double().log_softmax(0) * same / 2).sum(0).mean()
    found = loop.contrastive_loss(logits, concepts, texts)
    torch.testing.assert_close(found.double(), (rows + columns) / 2)


def test_batches_hold_each_concept_once():
    rows = corpus()[1]
    groups = {name: [[i] for i, row in enumerate(rows) if row.group == name] for name in ("emoji", "mono")}
    chosen = loop.sample_rows(groups, CONFIG, np.random.default_rng(1))
    assert len(chosen) == len(set(chosen)) == CONFIG.batch_size
    assert [rows[i].group for i in chosen].count("emoji") == 4


def test_captions_are_those_of_the_drawing():
    drawing, random = corpus()[1][0], np.random.default_rng(0)
    found = {loop.caption_of(drawing, random) for _ in range(200)}
    names, lists = found & {"red fox", "a red fox"}, found - {"red fox", "a red fox"}
    assert len(names) == 2
    assert all(set(text.replace(",", "").split()) <= {"one", "two", "three"} for text in lists) and lists


@pytest.mark.parametrize("step, rate", [(0, 0.25), (3, 1.0), (49, 1.0), (75, 0.5), (99, 0.02)])
def test_rate_warms_up_stays_and_decays(step, rate):
    config = PretrainConfig(steps=100, warmup=4, decay=0.5, learning_rate=1.0)
    assert loop.learning_rate(step, config) == pytest.approx(rate)


def test_patches_are_dropped_and_the_class_token_kept():
    dropper, tokens = loop.PatchDropper(), torch.arange(10.0).repeat(3, 1)[..., None]
    assert dropper(None, (), tokens) is tokens
    dropper.drop = 1 / 3
    kept = dropper(None, (), tokens)
    assert kept.shape == (3, 7, 1) and (kept[:, 0] == 0).all()
    assert all(len(row.unique()) == 7 for row in kept)


def test_views_are_opaque_pictures_and_seeded():
    rgba = torch.rand(5, 4, 24, 24)
    views = augment(rgba, 16, torch.Generator().manual_seed(3))
    assert views.shape == (5, 3, 16, 16) and views.min() >= 0 and views.max() <= 1
    torch.testing.assert_close(views, augment(rgba, 16, torch.Generator().manual_seed(3)), atol=0, rtol=0)
    assert not torch.equal(views, augment(rgba, 16, torch.Generator().manual_seed(4)))


def test_nothing_is_mirrored():
    left = torch.zeros(64, 4, 40, 40)
    left[:, 3, :, :16] = 1  # a black bar on the left
    views = augment(left, 40, torch.Generator().manual_seed(0)).mean(1)
    assert (views[:, 10:30, 5:15].mean((1, 2)) < views[:, 10:30, 25:35].mean((1, 2))).float().mean() > 0.9


def test_recolouring_keeps_the_shape():
    rgba = torch.rand(3, 4, 8, 8)
    coloured = recolour(rgba, torch.Generator().manual_seed(0))
    assert torch.equal(coloured[:, 3], rgba[:, 3])
    assert coloured[:, :3].flatten(2).std(-1).max() == 0


def test_a_killed_run_goes_on_as_if_unbroken(tmp_path, monkeypatch):
    pixels, rows = corpus()
    whole, _, log = loop.pretrain(pixels, rows, CONFIG, tmp_path / "whole", evaluate_every=2)
    assert [entry["step"] for entry in log] == [2, 4]

    rate, clock = loop.learning_rate, SimpleNamespace(monotonic=iter(range(0, 10**6, 1000)).__next__)
    monkeypatch.setattr(loop, "time", clock)  # every step is slow, so every step is checkpointed

    def killed(step, config):
        if step == 2:
            raise KeyboardInterrupt
        return rate(step, config)

    monkeypatch.setattr(loop, "learning_rate", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.pretrain(pixels, rows, CONFIG, tmp_path / "broken", evaluate_every=2)
    monkeypatch.setattr(loop, "learning_rate", rate)
    again, _, log = loop.pretrain(pixels, rows, CONFIG, tmp_path / "broken", evaluate_every=2)
    assert [entry["step"] for entry in log] == [2, 4]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_another_recipe_does_not_resume_a_checkpoint(tmp_path):
    pixels, rows = corpus()
    loop.pretrain(pixels, rows, CONFIG, tmp_path)
    with pytest.raises(ValueError, match="another recipe.*shape"):
        loop.pretrain(pixels, rows, replace(CONFIG, shape=replace(CONFIG.shape, projection=64)), tmp_path)
    loop.pretrain(pixels, rows, replace(CONFIG, steps=5), tmp_path)  # a longer run goes on


def test_export_is_loaded_like_any_other_clip(tmp_path):
    tokens = tokenizer()
    clip = build_model(CONFIG.shape, tokens).eval()
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "README.md").write_text("card")
    small_clip.export(clip, tokens, tmp_path / "clip")
    loaded, processor = cma.load_backbone(tmp_path / "clip")
    assert (tmp_path / "clip" / "README.md").read_text() == "card"
    assert processor.tokenizer("old boat")["input_ids"] == tokens("old boat")["input_ids"]
    weight = clip.visual_projection.weight
    assert torch.equal(loaded.visual_projection.weight, weight.half().float())
