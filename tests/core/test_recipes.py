"""The recipes hold the paper's settings."""

from pathlib import Path

import pytest

from cma.data import RetrievalDataset
from cma.recipes import MANY, RECIPES, STEPS, recipe
from data_prep.benchmarks import BENCHMARKS
from tests.conftest import one_line

PAPER = {  # r, d_s, tokens, frames, epochs, pooling
    "msrvtt": (8, 16, 32, 12, 5, "text_conditioned"),
    "msvd": (16, 16, 32, 12, 5, "text_conditioned"),
    "vatex": (16, 64, 32, 12, 5, "text_conditioned"),
    "didemo": (8, 16, 64, 64, 5, "text_conditioned"),
    "activitynet": (16, 512, 64, 64, 20, "text_conditioned"),
    "flickr30k": (8, 16, 32, 1, 5, "mean_pooled"),
    "coco": (8, 16, 32, 1, 5, "mean_pooled"),
}


def test_there_is_one_for_each_benchmark():
    assert set(RECIPES) == {*BENCHMARKS, "mini-flickr30k", "mini-msrvtt"} >= PAPER.keys()
    assert {name for name, one in RECIPES.items() if one.paper} == set(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name):
    chosen = recipe(name)
    config, adapter = chosen.train_config("paper"), chosen.adapter_config()
    found = (
        adapter.bottleneck_dim,
        adapter.shared_dim,
        config.max_words,
        config.max_frames,
        config.epochs,
    )
    assert (*found, config.similarity) == PAPER[name]
    assert (config.lr, config.batch_size, config.seed, config.temperature) == (1e-5, 128, 42, 5.0)
    assert (config.weight_decay, config.warmup, config.max_grad_norm) == (0.2, 0.1, 1.0)
    assert (config.optimizer, config.epoch_unit, config.select_on) == (
        "bert_adam",
        "captions",
        "test",
    )
    assert (config.precision, config.gradient_divisor, config.mask_same_item) == ("fp16", 4, False)
    assert (adapter.activation, adapter.dropout, adapter.init_std) == ("quick_gelu", 0.0, 0.01)


@pytest.mark.parametrize("name", RECIPES)
def test_ours_are_chosen_on_validation_in_float32_or_with_bfloat16(name):
    config = recipe(name).train_config()
    assert (config.precision, config.optimizer, config.select_on) == ("float32", "adamw", "val")
    assert (config.gradient_divisor, config.mask_same_item) == (1, True) and config.lr > 1e-5
    for variant in ("float32", None):
        assert recipe(name).train_config(variant) == config
    bf16 = recipe(name).train_config("bf16")
    assert bf16 == config.merge({"precision": "bf16", "name": f"{name}-bf16"})


def test_unknown_names_are_errors_and_no_recipe_of_the_paper_is_invented():
    with pytest.raises(ValueError, match="no benchmark 'msr' has a recipe.*msrvtt"):
        recipe("msr")
    with one_line(TypeError, r"expected a dataset, such as that of one split, .*; found \{'train'"):
        recipe({"train": "what from_pairs returns without ['train']"})
    with pytest.raises(
        ValueError, match="recipe of coco has no variant 'fp16'.*paper, float32, bf16"
    ):
        recipe("coco").train_config("fp16")
    for name in RECIPES.keys() - PAPER.keys():
        with pytest.raises(ValueError, match=f"{name} has no variant 'paper'"):
            recipe(name).train_config("paper")


def test_few_items_get_settings_of_their_own_and_many_the_recipe(capsys):
    flickr30k = recipe("flickr30k")
    assert flickr30k.train_config(items=MANY) == flickr30k.train_config()
    few = flickr30k.train_config(items=438)
    assert (few.batch_size, few.lr, few.epochs, few.epoch_unit) == (128, 0.003, 72, "items")
    for items in (1, 2, 7, 80, 160, 400, 1600):
        config = flickr30k.train_config("bf16", items=items)
        steps = config.epochs * max(1, items // config.batch_size)
        assert STEPS <= steps < 2 * STEPS and 2 <= config.batch_size <= max(2, items // 3)
        assert (config.select_on == "val") == (items >= 400) and config.precision == "bf16"
    assert "99 items: with fewer than 100 a gain was not measured" not in capsys.readouterr().out
    flickr30k.train_config(items=99)
    assert "99 items: with fewer than 100 a gain was not measured" in capsys.readouterr().out
    for items, variant in ((0, "float32"), (100, "paper")):
        with pytest.raises(ValueError, match="expected 1 or more, not 'paper'"):
            flickr30k.train_config(variant, items=items)


def test_a_run_is_named_after_its_dataset():
    about = ("video", {}, "msrvtt", "train", ())
    mine = RetrievalDataset(Path("memory"), "my clips: 2026/27", *about)
    assert recipe(mine).train_config() == recipe("msrvtt").train_config().merge(
        {"name": "my clips- 2026-27-float32"}
    )
