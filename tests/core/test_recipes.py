"""The recipes hold the paper's settings."""

import pytest

from cma.recipes import RECIPES, recipe

PAPER = {  # r, d_s, tokens, frames, epochs, pooling
    "msrvtt": (8, 16, 32, 12, 5, "text_conditioned"),
    "msvd": (16, 16, 32, 12, 5, "text_conditioned"),
    "vatex": (16, 64, 32, 12, 5, "text_conditioned"),
    "didemo": (8, 16, 64, 64, 5, "text_conditioned"),
    "activitynet": (16, 512, 64, 64, 20, "text_conditioned"),
    "flickr30k": (8, 16, 32, 1, 5, "mean_pooled"),
    "coco": (8, 16, 32, 1, 5, "mean_pooled"),
}
OURS = ("rsicd", "rsitmd", "mini-flickr30k", "mini-msrvtt")


def test_there_is_one_for_each_benchmark():
    assert set(RECIPES) == {*PAPER, *OURS}


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
    assert recipe(name).train_config("float32") == config
    bf16 = recipe(name).train_config("bf16")
    assert bf16 == config.merge({"precision": "bf16", "name": f"{name}-bf16"})


def test_unknown_names_are_errors_and_no_recipe_of_the_paper_is_invented():
    with pytest.raises(ValueError, match="no benchmark 'msr' has a recipe.*msrvtt"):
        recipe("msr")
    with pytest.raises(
        ValueError, match="recipe of coco has no variant 'fp16'.*paper, float32, bf16"
    ):
        recipe("coco").train_config("fp16")
    for name in OURS:
        with pytest.raises(
            ValueError, match=f"{name} has no variant 'paper': expected one of float32, bf16"
        ):
            recipe(name).train_config("paper")
