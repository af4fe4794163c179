"""What only notebooks use: names of runs, embeddings that are kept, and what guessing reaches."""

import dataclasses
from unittest.mock import patch

import pytest
import torch
from helpers import (
    KEPT,
    OURS,
    ZERO,
    chance_recall,
    embedded,
    gains,
    loads,
    name_by_recipe,
    recall_ceiling,
    run_name,
    trained_on,
)
from hypothesis import given
from hypothesis import strategies as st

import cma
import explorer
from cma.config import TrainConfig
from cma.data import load
from cma.recipes import RECIPES, recipe
from cma.training import encode
from tests.toy_data import write_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(write_images(tmp_path_factory.mktemp("toy") / "data", {"test": 10}), "test")


SETTINGS = st.dictionaries(
    st.sampled_from("abc"), st.text() | st.integers() | st.none(), min_size=3
)


@given(SETTINGS, SETTINGS, SETTINGS)
def test_runs_have_one_name_exactly_where_their_settings_are_equal(one, other, usual):
    first, second = run_name("base", one, usual), run_name("base", other, usual)
    assert (first == second) == (
        {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}
    )
    assert first == run_name("base", dict(reversed(one.items())), usual)
    assert (first == "base") == (one == usual)
    assert TrainConfig(name=first).name == first and len(first) < 150 and not first.endswith(".")


def test_a_run_name_can_be_read():
    usual = {"seed": 42, "lr": 0.005, "backbone": "mini"}
    assert run_name("a-run", usual | {"seed": 7, "lr": 0.002}, usual) == "a-run,lr=0.002,seed=7"
    path = run_name("a-run", usual | {"backbone": "../clips/small"}, usual)
    assert path.startswith("a-run,backbone=..-clips-small,")


@pytest.mark.parametrize("name", RECIPES)
def test_only_a_run_of_the_recipes_own_settings_has_the_plain_name(name):
    own = recipe(name)
    config = own.train_config().merge({"name": "x", "workers": 0, "cache": False, "runs_dir": "y"})
    assert (
        name_by_recipe(own, "base", config.merge({"if_exists": "replace"}), own.backbone) == "base"
    )
    others = [
        ({"seed": 7}, None),
        ({"epochs": 7}, None),
        ({"eval_items": 24}, None),
        ({}, "some/clip"),
    ]
    names = {
        name_by_recipe(own, "base", config.merge(o), clip or own.backbone) for o, clip in others
    }
    assert len(names) == 4 and "base" not in names


def test_chance_and_a_ceiling_that_reads_case_and_blanks_as_the_tokenizer_does(dataset):
    assert chance_recall(dataset) == pytest.approx(10)
    assert chance_recall(dataset, 20) == 100
    pair = zip(dataset.items, ["A cat", "a  cat "], strict=False)
    items = tuple(dataclasses.replace(item, captions=(caption,)) for item, caption in pair)
    assert recall_ceiling(dataclasses.replace(dataset, items=items)) == 50


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=1, max_size=4))
def test_the_ceiling_is_what_the_best_answer_to_every_sentence_reaches(dataset, captions):
    items = tuple(
        dataclasses.replace(dataset.items[i], captions=tuple(words))
        for i, words in enumerate(captions)
    )
    small = dataclasses.replace(dataset, items=items)
    hits = sum(
        max(words.count(sentence) for words in captions)
        for sentence in {w for ws in captions for w in ws}
    )
    assert recall_ceiling(small) == pytest.approx(100 * hits / sum(map(len, captions)))


def test_embeddings_of_a_split_are_computed_once_and_again_for_other_weights(dataset, tmp_path):
    model = cma.RetrievalModel.from_pretrained("mini")
    for name, seed in (("one", 1), ("two", 2)):
        model.add_adapter(name, cma.AdapterConfig(init_std=0.1), seed=seed)
    gallery = explorer.Gallery(model, dataset, TrainConfig(max_frames=1), tmp_path)
    part = explorer.Gallery(model, dataset.subset(4, 7), TrainConfig(max_frames=1), tmp_path)
    embedded(part)  # an index of other items, in another order
    for name in (None, "one", "two"):
        model.set_adapter(name)
        wanted = encode(model, dataset, TrainConfig(max_frames=1))
        model.set_adapter("one")
        with patch.object(model, "encode_text", side_effect=model.encode_text) as texts:
            for _ in range(2):
                for found, right in zip(embedded(gallery, name), wanted, strict=True):
                    torch.testing.assert_close(found, right)
        assert texts.call_count == 1 and model.active == "one"
    model.add_adapter("three", cma.AdapterConfig(), seed=3)
    for _ in range(5):  # an adapter that is trained on: the files of older weights go
        next(model.get_adapter("three").parameters()).data += 0.01
        embedded(gallery, "three")
    assert len(list(tmp_path.glob("texts-*"))) == KEPT


def test_half_of_an_offline_benchmark_is_trained_on_unless_asked_otherwise(dataset):
    def used(name="mini-flickr30k", train_items=None, **changed):
        config = recipe(name).train_config().merge(changed)
        return len(trained_on(dataset, recipe(name), config, train_items))

    assert used() == 5 and used(train_items=3) == 3
    assert used(eval_items=10) == used(epochs=2) == used("flickr30k", epochs=1) == 10


def test_an_adapter_that_fits_is_loaded_and_of_one_that_does_not_the_reason_is_told(
    tmp_path, capsys
):
    model = cma.RetrievalModel.from_pretrained("mini")
    model.add_adapter("one", seed=1)
    model.save_adapter(tmp_path / "fits", "one")
    model.save_adapter(tmp_path / "broken", "one")
    settings = tmp_path / "broken" / "adapter_config.json"
    settings.write_text(
        settings.read_text("utf-8").replace('"revision": "', '"revision": "0'), "utf-8"
    )
    assert not loads(model, tmp_path / "absent", "two") and capsys.readouterr().out == ""
    assert not loads(model, tmp_path / "broken", "two") and "two" not in model.adapters
    assert "broken is skipped: " in capsys.readouterr().out
    for _ in range(2):  # a cell may run again
        assert loads(model, tmp_path / "fits", "two") and model.active == "two"
    assert capsys.readouterr().out == "two: fits\n" * 2


def test_the_table_of_gains_is_paired_with_zero_shot():
    ranks = {ZERO: torch.tensor([1, 2, 1, 3]), OURS: torch.tensor([1, 1, 1, 1])}
    lines = gains(ranks, torch.arange(4), {OURS: "this run"}, {})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["", "trained", "R@1 in %", "minus zero-shot, points"]
    assert cells[2][:2] == [ZERO, "–"] and cells[2][2].startswith("50.0 [") and cells[2][3] == "–"
    assert cells[3][:3] == [OURS, "this run", "100.0 [100.0, 100.0]"]
    assert cells[3][3].startswith("+50.0 [+")
    assert gains(ranks, torch.arange(4), {}, {}, 10)[2].count("100.0") == 3
